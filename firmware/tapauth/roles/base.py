"""The work of every board, whatever its role: its tasks, and the words between its parts.

The parts are made by start.py. A role (standalone.py, attached.py) adds its own.
"""

import tapauth_slot

from tapauth.cards.vault import Vault
from tapauth.compat import SYSTEM_ERRORS, TYPE_CHECKING, Clock, const, forget, late, sleep_ms
from tapauth.console import Console
from tapauth.core import taps
from tapauth.errors import COMMUNICATION_FAULT, VENDOR_WARNING, Errors
from tapauth.feedback import ACCEPTED, FAULT, OFFLINE, READING, REFUSED, Feedback
from tapauth.feedback import run as run_feedback
from tapauth.health import Health
from tapauth.json_in import load
from tapauth.link.mqtt import Link
from tapauth.log import Log
from tapauth.network import Network
from tapauth.reader import scanner, task
from tapauth.supervisor import Supervisor
from tapauth.wallclock import WallClock, save_day

import board

if TYPE_CHECKING:  # of modules that are loaded only where they are wanted
    from tapauth.config_trial import ConfigTrial
    from tapauth.local.interface import LocalInterface
    from tapauth.local.tail import Tail
    from tapauth.pinning.pins import Pins
    from tapauth.rpc.service import Service

_TICK_MS = const(50)
_ERRORS_BYTES = const(2048)
_HOUR_MS = const(3_600_000)
_WELL_MS = const(120_000)  # a start that has run for so long was no failure
_NO_TIME_MS = const(600_000)
# The driver is shown this for a token's status. Other statuses come long after the tap.
_SHOWN = {
    "UsedToStart": ACCEPTED,
    "UsedToStop": ACCEPTED,
    "UsedToReauthorize": ACCEPTED,
    "Accepted": READING,  # a plug-in is waited for
    "Rejected": REFUSED,
    "TimedOut": REFUSED,
}


class App:
    """All the parts of one board, joined by a checked configuration. A role fills in:

    `apis`: parts with `subscriptions`, `message(topic, payload)`, `link_up()` and `tick(now)`;
    `commands`: the part that obeys the local interface, see there;
    `provide_token(token)`: a token of the reader is judged; `time_known(unix, now)`.
    """

    settings: dict  # what start.py leaves of the configuration: see _KEPT there
    clock: Clock
    log: Log
    trial: "ConfigTrial | None" = None  # of a configuration on trial
    pins: "Pins | None" = None  # where code can be used from flash
    tail: "Tail | None" = None  # the newest lines of the log, where somebody may ask for them
    local: "LocalInterface | None" = None
    rpc: "Service | None" = None  # the cloud auth service
    console: Console
    feedback: Feedback
    supervisor: Supervisor
    network: Network
    link: Link
    errors: Errors
    wallclock: WallClock
    vault: Vault
    health: Health
    scanner: scanner.Scanner
    taps: taps.Taps
    reader_stall: task.Stall
    time_topic: str

    def __init__(self):
        # start.py makes the parts.
        self.apis: list = []
        self.refused = 0
        self.retained = 0
        self._day_due = self._refusal_due = self._time_set = 0
        self._missed = 0  # of late.failures, those that the log has told

    def add_tasks(self) -> None:
        """Hand the role's own tasks to the supervisor."""

    def close(self) -> None:
        """However the firmware ends: nothing charges any more that only it would stop."""

    def charging(self) -> list:
        """The EVSEs that charge and that a restart would stop, or leave without their board."""
        return []

    def restart(self) -> None:
        """Restart the board, as somebody wants."""
        if self.pins:
            self.pins.well()
        board.reset()

    def allow_pinning(self) -> str:
        """Let the next start pin again, after one that failed. Returns what to tell."""
        if not self.pins:
            return "another chip"
        with late("begin"):
            from tapauth.pinning import begin

        forget(begin)
        return begin.allow()

    def busy(self) -> bool:
        """Whether a restart would end somebody's charging."""
        return bool(self.charging())

    def provide_token(self, token: dict) -> None:
        """The reader has a token, and the role decides or hands it on. Each role must."""
        raise NotImplementedError

    def time_known(self, unix_seconds: int, now: int) -> None:
        """The time of day was set."""

    def console_status(self) -> dict:
        """The answer to `status` on the serial console."""
        with late("board_status"):
            from tapauth import board_status

        forget(board_status)  # the call below lives as long as it runs
        return board_status.report(self)

    def counters(self) -> dict:
        """Counts of all that was refused, lost or skipped so far."""
        counters = {
            "reader_stall_us": self.reader_stall.longest_us,
            "late_load_failures": late.failures,
            "messages_refused": self.refused + sum([api.refused for api in self.apis]),
            "messages_retained": self.retained,
            "network_outages": self.network.outages,
            "time_refused": self.wallclock.refused,
        }
        if self.pins:
            counters["pinned_functions"] = self.pins.counts.functions
            counters["pinned_bytes"] = self.pins.counts.bytes
            counters["pinning_failures"] = self.pins.failures
            counters["pinning_failed_start"] = int(self.pins.has_failed)
        counters.update(self.link.counters())
        counters.update(task.counters(self.scanner, self.taps))
        counters["cards"] = self.vault.counters()
        return counters

    # A new firmware on trial.

    async def try_firmware(self, beat) -> None:
        """The task of a firmware on trial."""
        with late("update"):
            from tapauth import update

        trial = update.FirmwareTrial(
            boot=tapauth_slot,
            settings=self.settings["update"],
            log=self.log,
            healthy=self._is_healthy,
            restarts=self.supervisor.restarts,
            busy=self.busy,
            restart=self.restart,
        )
        await update.run(trial, self.clock, beat)

    def _is_healthy(self) -> bool:
        """Whether the board does all that it should, at this moment."""
        if not self.link.connected and not self.settings["update"]["without_broker"]:
            return False
        return not self.scanner.is_lost and not self.supervisor.stalled(self.clock.now())

    # The reader.

    async def scan(self, beat) -> None:
        """The task of the reader."""
        await task.run(self.scanner, self.clock, beat, self.reader_stall)

    def card(self, event: str, value, now: int) -> None:
        """The reader has something: see reader/scanner.py."""
        if event == taps.TOKEN:
            self.supervisor.hold_collection()
            self.feedback.show(READING, now)
            try:
                if not (self.local and self.local.tap(value)):
                    self.provide_token(value)
            except MemoryError as error:  # the driver may tap again, and the reader goes on
                self.feedback.show(REFUSED, now)
                self.log.error("reader", "a card could not be handled: {}", error)
        elif event in (scanner.LOST, scanner.BACK):
            lost = event == scanner.LOST
            self.feedback.condition(FAULT, lost, now)
            text = "the card reader does not answer: " + (value or "")
            self.errors.set(
                lost, COMMUNICATION_FAULT, "Card reader lost", origin="reader", message=text
            )
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

    async def show_feedback(self, beat) -> None:
        """The task of the lamps."""
        await run_feedback(self.feedback, self.clock, beat)

    # The link.

    def message(self, topic: str, payload: bytes, retained: bool) -> None:
        """The link has a message."""
        try:
            if topic == self.time_topic:
                self._take_time(payload, retained)
            elif retained:
                # Nobody says this now: a broker repeats it at each connect.
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

    def link_up(self) -> None:
        """The link is there, again or for the first time."""
        self.errors.publish()
        self.health.publish()
        for api in self.apis:
            try:
                api.link_up()
            except MemoryError as error:
                self.log.error("app", "a part missed that the link is there: {}", error)

    async def tick(self, beat) -> None:
        """The task of the APIs and of what comes due."""
        while True:
            beat()
            now = self.clock.now()
            self.feedback.condition(OFFLINE, not self.link.connected, now)
            if self.pins and now >= _WELL_MS:
                self.pins.well()
            if now >= self._day_due:
                self._day_due = now + _HOUR_MS
                self._keep_day()
            self._tell_missing()
            if self.errors.unsent and self.link.make_room(_ERRORS_BYTES):
                self.errors.publish()
            for api in self.apis:
                try:
                    api.tick(now)
                except MemoryError as error:  # it stays due, and the others' turn comes
                    self.log.error("app", "not done yet: {}", error)
            await sleep_ms(_TICK_MS)

    def _tell_missing(self) -> None:
        """Say what could not be loaded; not at that moment, when there is no memory for it."""
        if self._missed != late.failures:
            self._missed = late.failures
            self.log.error(
                "app", "no memory to load {}; {} times so far", late.missing, late.failures
            )

    async def watch_trial(self, beat) -> None:
        """The task of a configuration on trial."""
        if self.trial:
            await self.trial.watch(self.restart, self.busy, beat)

    # The time of day.

    async def keep_time(self, beat) -> None:
        """The task that asks NTP."""
        with late("ntp"):
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

    def time_refused(self) -> None:
        """A time of day cannot be right. Its sender may repeat it often: the log tells it now and
        then, and it is an error only while no other source sets the clock.
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
            self.errors.set(True, VENDOR_WARNING, "Time refused", origin="clock", message=text)

    def _keep_day(self) -> None:
        day = self.wallclock.day_to_keep()
        try:
            if day:
                save_day(day)
                self.wallclock.note_kept(day)
        except SYSTEM_ERRORS as error:
            self.log.error("clock", "the day could not be kept ({})", error)

    def clock_set(self, unix_seconds: int, now: int) -> None:
        """The time of day was set."""
        self.errors.set(False, VENDOR_WARNING, "Clock not set", "clock")
        self._time_set = now
        self.errors.set(False, VENDOR_WARNING, "Time refused", "clock")
        board.set_clock(unix_seconds)
        self.time_known(unix_seconds, now)
