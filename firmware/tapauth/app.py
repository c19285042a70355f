"""The composition root: makes every part, joins them, and starts the tasks. Nothing else knows
more than its own room.

App has what every board needs; the two roles (tapauth.roles) add theirs.
"""

import asyncio
import os

import tapauth_slot

from tapauth import __version__
from tapauth.compat import Clock, const, sleep_ms, unix_time, unload
from tapauth.console import Console
from tapauth.core import taps
from tapauth.errors import COMMUNICATION_FAULT, VENDOR_ERROR, VENDOR_WARNING, Errors
from tapauth.feedback import ACCEPTED, FAULT, OFFLINE, READING, REFUSED, Feedback
from tapauth.feedback import run as run_feedback
from tapauth.health import Health
from tapauth.json_in import load
from tapauth.link.mqtt import Link
from tapauth.log import LEVELS, Log
from tapauth.network import Network
from tapauth.reader import scanner, service
from tapauth.supervisor import Backoff, Supervisor
from tapauth.vault import Vault
from tapauth.wallclock import WallClock, load_day, save_day

import board

_TICK_MS = const(50)
_ERRORS_BYTES = const(2048)
_HOUR_MS = const(3_600_000)
_NO_TIME_MS = const(600_000)
# What the driver is shown for a token's status; the others come long after the tap.
_SHOWN = {
    "UsedToStart": ACCEPTED,
    "UsedToStop": ACCEPTED,
    "UsedToReauthorize": ACCEPTED,
    "Accepted": READING,  # a plug-in is waited for
    "Rejected": REFUSED,
    "TimedOut": REFUSED,
}


def _none_yet():
    """None, where something of a module that is loaded late comes in."""
    return


class App:
    """All the parts of one board, joined by a checked configuration. A role fills in:

    `apis`: parts with `subscriptions`, `message(topic, payload)`, `link_up()` and `tick(now)`;
    `provide_token(token)`: what becomes of a token of the reader; `time_known(unix, now)`.
    """

    def __init__(self, settings: dict, clock, log, trial=None, tail=None):
        base = settings["base_topic"]
        self.settings = settings
        self.clock = clock
        self.log = log
        self.apis: list = []
        self.refused = 0
        self.retained = 0
        self._time_topic = base + "/time"
        self.trial = trial
        self.tail = tail
        self.local = _none_yet()
        self._rpc = _none_yet()
        self.console = Console(self._console_status, log)
        self._restarts = 0
        self.reader_stall = service.Stall()
        self.feedback = Feedback(board.lamp)
        self.feedback.condition(OFFLINE, True, clock.now())
        self.supervisor = Supervisor(clock, log, board.watchdog(settings["watchdog_ms"]))
        self.network = Network(board, settings["network"], log, Backoff())
        status = base + "/status"
        self.link = Link(settings["mqtt"], clock, log, self._message, self._link_up, status)
        self.errors = Errors(base + "/errors", log, self.link)
        self._day_due = self._refusal_due = self._time_set = 0
        self.wallclock = WallClock(clock, self._time_known, self._time_refused, load_day())
        self.vault = Vault(
            settings["cards"],
            settings["auth"]["accept_expiry_without_clock"],
            self.wallclock,
            self.errors,
            log,
        )
        self.health = Health(
            base + "/health",
            settings["health_interval_s"],
            clock,
            self.supervisor,
            self.link,
            self.counters,
        )
        self.scanner, self.taps = service.open_reader(board, settings["reader"], self._card)

    def start(self) -> None:
        """Subscribe, and hand the tasks to the supervisor."""
        if self.settings["rpc"]["address"]:
            self._serve_rpc()
        for api in self.apis:
            for name in api.subscriptions:
                self.link.subscribe(name)
        self._start_clock(self.settings["clock"])
        add = self.supervisor.add
        add("network", self.network.run, 30_000)
        add("reader", self._scan)
        add("mqtt", self.link.run, 15_000)
        add("apis", self._tick)
        add("cards", self.vault.run)
        add("health", self.health.run)
        add("feedback", self._show_feedback)
        add("console", self.console.run)
        if self.trial:
            add("trial", self._watch_trial)
        if tapauth_slot.on_trial():
            add("update", self._try_firmware)

    def close(self) -> None:
        """However the firmware ends: nothing charges any more that only it would stop."""

    def charging(self) -> list:
        """The EVSEs that charge and that a restart would stop, or leave without their board."""
        return []

    def busy(self) -> bool:
        """Whether a restart would end somebody's charging."""
        return bool(self.charging())

    def provide_token(self, token: dict) -> None:
        """The reader has a token."""
        raise NotImplementedError

    def time_known(self, unix_seconds: int, now: int) -> None:
        """The time of day was set."""

    def _console_status(self) -> dict:
        from tapauth import board_status

        unload("tapauth.board_status")  # what is under way lives as long as it runs
        return board_status.report(self)

    def counters(self) -> dict:
        """What was refused, lost or skipped so far."""
        counters = {
            "reader_stall_us": self.reader_stall.longest_us,
            "messages_refused": self.refused + sum([api.refused for api in self.apis]),
            "messages_retained": self.retained,
            "network_outages": self.network.outages,
            "time_refused": self.wallclock.refused,
        }
        counters.update(self.link.counters())
        counters.update(service.counters(self.scanner, self.taps))
        counters["cards"] = self.vault.counters()
        return counters

    def evse_lines(self) -> list:
        """The lines of each EVSE; main() has seen that the board has them."""
        count = len(self.settings["evses"])
        return [board.evse_lines(i + 1, self.settings["lines"]) for i in range(count)]

    # A new firmware on trial.

    async def _try_firmware(self, beat) -> None:
        from tapauth import update

        trial = update.Trial(
            tapauth_slot,
            self.settings["update"],
            self.log,
            self._healthy,
            self.busy,
            board.reset,
        )
        await update.run(trial, self.clock, beat)

    def _healthy(self) -> bool:
        online = self.link.connected or self.settings["update"]["without_broker"]
        supervisor = self.supervisor
        restarts = sum([task.restarts for task in supervisor.tasks])
        steady = restarts == self._restarts and not supervisor.stalled(self.clock.now())
        self._restarts = restarts
        return online and steady and not self.scanner.is_lost

    # The reader.

    async def _scan(self, beat) -> None:
        await service.run(self.scanner, self.clock, beat, self.reader_stall)

    def _card(self, event: str, value, now: int) -> None:
        if event == taps.TOKEN:
            self.feedback.show(READING, now)
            if not (self.local and self.local.tap(value)):
                self.provide_token(value)
        elif event in (scanner.LOST, scanner.BACK):
            lost = event == scanner.LOST
            text = "the card reader does not answer: " + (value or "")
            self.errors.set(lost, COMMUNICATION_FAULT, "Card reader lost", "reader", text)
            self.feedback.condition(FAULT, lost, now)
        else:
            self.log.warning("reader", "{}", value or event)
            self.feedback.show(REFUSED, now)

    def fate(self, token: dict, status: str) -> None:
        """A role tells what became of a token: for the driver, and for the reader's rules."""
        now = self.clock.now()
        self.log.info("auth", "{}: {}", token, status)
        if self.local:
            self.local.token_status(token, status)
        if status in _SHOWN:
            self.feedback.show(_SHOWN[status], now)
        if status == "UsedToStart":
            self.taps.started(token["id_token"]["value"], now)

    async def _show_feedback(self, beat) -> None:
        await run_feedback(self.feedback, self.clock, beat)

    # The link.

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        try:
            if topic == self._time_topic:
                self._take_time(payload, retained)
            elif retained:
                # Whoever said it did not say it now: a broker repeats it at each connect.
                self.retained += 1
                self.log.debug("app", "a retained message was left aside")
            else:
                for api in self.apis:
                    if api.message(topic, payload):
                        break
        except Exception as error:  # whatever a message does, the link and the others go on
            self.refused += 1
            self.log.error("app", "a message could not be handled: {}", error)
            self.log.trace(error)

    def _link_up(self) -> None:
        self.errors.publish()
        self.health.publish()
        for api in self.apis:
            api.link_up()

    async def _tick(self, beat) -> None:
        while True:
            beat()
            now = self.clock.now()
            self.feedback.condition(OFFLINE, not self.link.connected, now)
            if now >= self._day_due:
                self._day_due = now + _HOUR_MS
                self._keep_day()
            if self.errors.unsent and self.link.has_room(_ERRORS_BYTES):
                self.errors.publish()
            for api in self.apis:
                api.tick(now)
            await sleep_ms(_TICK_MS)

    def _serve_rpc(self) -> None:
        """The cloud auth service; it is not loaded when it is not configured."""
        from tapauth.rpc.mqtt import MqttRpc
        from tapauth.rpc.setup import Flash, open_service

        settings = self.settings["rpc"]
        try:
            rpc = open_service(settings, Flash(), self.clock, unix_time, os.urandom, self.log)
        except (ValueError, OSError) as error:
            text = "the auth service is not started: " + str(error)
            self.errors.set(True, VENDOR_ERROR, "Auth service not started", "rpc", text)
        else:
            self._rpc = rpc
            if rpc.problem:
                self.errors.set(True, VENDOR_ERROR, "Auth service data lost", "rpc", rpc.problem)
            self.apis.append(MqttRpc(rpc, self.link, self.settings["base_topic"]))
        del open_service, Flash
        unload("tapauth.rpc.setup")

    def serve_locally(self, commands) -> None:
        """The console page and its commands, where they are configured; see tapauth.local."""
        if not self.settings["server"]["enabled"]:
            return
        from tapauth.local import Local

        self.local = Local(self, commands, self._rpc)
        self.console.obey = self.local.door.obey
        self.errors.on_change = self.local.errors_changed
        self.supervisor.add("local server", self.local.door.run, 15_000)

    async def _watch_trial(self, beat) -> None:
        await self.trial.watch(board.reset, self.busy, beat)

    # The time of day.

    def _start_clock(self, settings: dict) -> None:
        source = settings["source"]
        if source == "system":
            self.wallclock.set(unix_time())
        if source != "none" and self.wallclock.unix() is None:
            self._clock_unset(True)
        if source == "mqtt":
            self.link.subscribe(self._time_topic)
        elif source == "ntp":
            self.supervisor.add("clock", self._keep_time)

    async def _keep_time(self, beat) -> None:
        from tapauth import ntp

        await ntp.keep_time(self.settings["clock"]["ntp_host"], self.wallclock, self.log, beat)

    def _take_time(self, payload: bytes, retained: bool) -> None:
        before = self.wallclock.refused
        try:
            # A retained time is late by as long as it was kept.
            right = self.wallclock.set_from(load(payload), retained)
        except ValueError:
            right = False
        if not right:
            self.refused += 1
            if self.wallclock.refused == before:
                self.log.warning("clock", "time refused: neither RFC 3339 text nor Unix seconds")

    def _time_refused(self) -> None:
        """A time of day cannot be right. As whoever sends it may do so often, this is told now
        and then, and an error only while no other source sets the clock.
        """
        now = self.clock.now()
        wallclock = self.wallclock
        text = (
            f"a time of day was refused: it is {wallclock.floor()} at least, and the clock says: "
            f"{wallclock.text()}. Mend what sends the time, or restart a board that is wrong"
        )
        if now >= self._refusal_due:
            self._refusal_due = now + _HOUR_MS
            self.log.warning("clock", "{}", text)
        if wallclock.unix() is None or now - self._time_set > _NO_TIME_MS:
            self.errors.set(True, VENDOR_WARNING, "Time refused", "clock", text)

    def _keep_day(self) -> None:
        day = self.wallclock.day_to_keep()
        try:
            if day:
                save_day(day)
        except OSError as error:
            self.log.error("clock", "the day could not be kept ({})", error)

    def _clock_unset(self, active: bool) -> None:
        text = "the time of day is not known: cards with an expiry are refused"
        self.errors.set(active, VENDOR_WARNING, "Clock not set", "clock", text)

    def _time_known(self, unix_seconds: int, now: int) -> None:
        self._clock_unset(False)
        self._time_set = now
        self.errors.set(False, VENDOR_WARNING, "Time refused", "clock", "")
        board.set_clock(unix_seconds)
        self.time_known(unix_seconds, now)


def make(settings: dict, clock, log, trial=None, tail=None) -> App:
    """The board in its role; the other role's code is not loaded."""
    if settings["role"] == "standalone":
        from tapauth.roles.standalone import Standalone

        return Standalone(settings, clock, log, trial, tail)
    from tapauth.roles.attached import AttachedBoard

    return AttachedBoard(settings, clock, log, trial, tail)


def _begin_trial(log):
    """A configuration that nobody confirmed goes before it is read; see tapauth.trial."""
    from tapauth.trial import Trial

    trial = Trial()
    try:
        state = trial.begin()
        if state:
            log.warning("config", "new configuration: {}", state)
    except OSError as error:
        log.error("config", "the trial of a configuration failed ({})", error)
    return trial


def main() -> None:
    """Start the firmware; returns only when its configuration is refused."""
    clock = Clock()
    log = Log(clock, os.urandom(16))
    trial = _begin_trial(log)
    # Needed once, and its tables are large.
    from tapauth import config

    try:
        settings = config.load()
    except config.ConfigError as error:
        log.error("config", "{}", str(error))
        log.error("config", "nothing is started: mend /config.json and restart")
        return
    if settings["evse_io"] == "lines" and not board.evse_lines(
        len(settings["evses"]), settings["lines"]
    ):
        log.error("config", "evses: this board has no lines for so many; nothing is started")
        return
    tail = None
    if settings["server"]["enabled"]:
        from tapauth.server.tail import Tail

        tail = Tail()
        log.write_to(tail)
    if not trial.on:
        unload("tapauth.trial")
        trial = None
    unload("tapauth.config")
    del config
    log.level = LEVELS.index(settings["log_level"])
    log.info("app", "TapAuth {} on {}, {}", __version__, settings["board_id"], settings["role"])
    app = make(settings, clock, log, trial, tail)
    try:
        app.start()
        asyncio.run(app.supervisor.run())
    finally:
        while True:
            try:
                app.close()
                break
            except KeyboardInterrupt:
                pass  # a second Ctrl-C must not leave an EVSE on
