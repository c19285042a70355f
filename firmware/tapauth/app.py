"""The composition root: makes every part, joins them, and starts the tasks. Nothing else knows
more than its own room.
"""

import asyncio
import os

from tapauth import __version__
from tapauth.cards import CardList
from tapauth.compat import Clock, unload
from tapauth.core import taps
from tapauth.core.auth import Authorizer
from tapauth.core.settings import AuthSettings
from tapauth.everest import AuthConsumer
from tapauth.evse.mqtt import MqttEvses
from tapauth.health import Health
from tapauth.link.mqtt import Link
from tapauth.log import LEVELS, Log
from tapauth.reader import scanner, service
from tapauth.station import Station
from tapauth.supervisor import Supervisor

import board


class App:
    """All the parts of one board, joined by a checked configuration."""

    def __init__(self, settings: dict, clock, log):
        base = settings["base_topic"]
        self.log = log
        self._clock = clock
        self.reader_stall = service.Stall()
        self.supervisor = Supervisor(clock, log, board.watchdog(settings["watchdog_ms"]))
        status = base + "/status"
        self.link = Link(settings["mqtt"], clock, log, self._message, self._link_up, status)
        core = Authorizer(AuthSettings(**settings["auth"]), settings["evses"])
        self.station = Station(core, clock, log, [CardList("/cards.json", log)])
        self.evses = MqttEvses(base, log, self.link, self.station.session_event)
        self.consumer = AuthConsumer(settings["everest"], clock, self.link)
        self.health = Health(
            base + "/health",
            settings["health_interval_s"],
            clock,
            self.supervisor,
            self.link,
            self.counters,
        )
        self.link.subscribe(self.evses.subscription)
        self.station.connect(self._status, self.evses.command)
        self.scanner, self.taps = service.open_reader(board, settings["reader"], self._card)

        add = self.supervisor.add
        add("reader", self._scan)
        add("mqtt", self.link.run, 15_000)
        add("auth timers", self.station.timers)
        add("heartbeat", self.consumer.heartbeats)
        add("health", self.health.run)

    async def _scan(self, beat) -> None:
        await service.run(self.scanner, self._clock, beat, self.reader_stall)

    def _card(self, event: str, value, now: int) -> None:
        """The reader has something to tell."""
        if event == taps.TOKEN:
            self.station.provide_token(value)
        elif event == scanner.LOST:
            self.log.error("reader", "lost: {}", value)
        elif event == scanner.BACK:
            self.log.info("reader", "works again")
        else:
            self.log.warning("reader", "{}", value or event)

    def _status(self, token: dict, status: str, messages: list) -> None:
        if status == "UsedToStart":
            self.taps.started(token["id_token"]["value"], self._clock.now())
        self.consumer.status(token, status, messages)

    def _message(self, topic: str, payload: bytes) -> None:
        self.evses.message(topic, payload)

    def _link_up(self) -> None:
        self.consumer.link_up()
        self.health.publish()

    def counters(self) -> dict:
        """What was refused, lost or skipped so far."""
        counters = {
            "taps": self.taps.taps,
            "cards_refused": self.taps.refused,
            "reader_errors": self.scanner.bus_errors,
            "reader_resets": self.scanner.resets,
            "reader_stall_us": self.reader_stall.longest_us,
            "evse_refused": self.evses.refused,
        }
        counters.update(self.link.counters())
        return counters


def main() -> None:
    """Start the firmware; returns only when its configuration is refused."""
    clock = Clock()
    log = Log(clock, os.urandom(16))
    # Needed once, and its tables are large.
    from tapauth import config

    try:
        settings = config.load()
    except config.ConfigError as error:
        log.error("config", "{}", str(error))
        log.error("config", "nothing is started: mend /config.json and restart")
        return
    unload("tapauth.config")
    del config
    log.level = LEVELS.index(settings["log_level"])
    log.info("app", "TapAuth {} on {}", __version__, settings["board_id"])
    asyncio.run(App(settings, clock, log).supervisor.run())
