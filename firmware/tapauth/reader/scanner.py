"""Runs the reader chip: set-up, search for cards, recovery. One small step at a time.

This is a machine that is stepped: step() does what is next, with two bus transfers at most, never
waits, and returns after how many milliseconds to call again. Its phases, in their order:

    RESET         hold the chip in reset, where the line to RSTPDN is wired
    RELEASE       let it run, and set the board's bus up
    WAKE          begin to wake a chip that sleeps
    ABORT         end the command that the chip may be busy with
    SEND          send the next command
    AWAIT_ACK     look for the chip's ACK: it has the command
    AWAIT_ANSWER  look for the answer, and go back to SEND with the next command

The commands are those of the set-up, once, and then searches for ever. When a search has found a
card, the field goes off for a moment before the next one.

A search makes the chip try for a fraction of a second and always ends with an answer, cards or
none. So silence is a failure, absence of a card is something the chip said, and a chip that forgot
its set-up (a brown-out) shows itself by a search that does not end.

Every failure is the same, whatever failed: no ACK, no answer, a broken frame, a failed transfer.
The first two in a row go back to WAKE, which does the whole set-up anew. The third goes back to
RESET, which also frees a bus that is held, and the reader is lost; so on, for ever. Only a search
that ended proves that all is well: it ends the row of failures, and a lost reader is back.

In a conflict the chip's word wins over the IRQ line, whose wire may be broken: a search that
should have ended is asked for on the bus. Time in which the reader does not work is no absence of
a card (Taps.blind()). An error of the receiver of events is not one of the reader.
"""

from tapauth.compat import const
from tapauth.core.taps import read_targets

LOST = "lost"
"""Event: the reader does not work. Value: the last failure."""
BACK = "back"
"""Event: the reader works again, or for the first time after LOST. Value: None."""

# The chip's commands and their parameters, by the names of its manual (NXP UM0701-02).
_GET_FIRMWARE_VERSION = const(0x02)
_SET_PARAMETERS = const(0x12)
_SAM_CONFIGURATION = const(0x14)
_RF_CONFIGURATION = const(0x32)
_IN_LIST_PASSIVE_TARGET = const(0x4A)

_NORMAL_MODE = const(1)
_SAM_TIMEOUT = const(20)  # times 50 ms; used in another mode only
_USE_IRQ = const(1)
_AUTOMATIC_ATR_RES = const(0x04)  # and no automatic RATS: only the UID is wanted
_FIELD = const(1)
_OFF = const(0)
_MAX_RETRIES = const(5)
_ATR_RETRIES = const(0xFF)  # this one and the next are the chip's defaults
_PSL_RETRIES = const(1)
_SEARCH_RETRIES = const(40)  # so a search takes some 0.2 s
_TWO_CARDS = const(2)
_TYPE_A_106_KBIT = const(0)

# (command, parameters, longest answer in bytes)
_SETUP = (
    (_SAM_CONFIGURATION, bytes((_NORMAL_MODE, _SAM_TIMEOUT, _USE_IRQ)), 0),
    # The one answer of the set-up that has data in it: such frames come whole over this bus.
    (_GET_FIRMWARE_VERSION, b"", 4),
    (_SET_PARAMETERS, bytes((_AUTOMATIC_ATR_RES,)), 0),
    (_RF_CONFIGURATION, bytes((_MAX_RETRIES, _ATR_RETRIES, _PSL_RETRIES, _SEARCH_RETRIES)), 0),
)
# Two cards with UIDs of 10 bytes make the longest answer.
_SEARCH = (_IN_LIST_PASSIVE_TARGET, bytes((_TWO_CARDS, _TYPE_A_106_KBIT)), 31)
# A card that answered is deaf to the next request unless the field drops in between.
_FIELD_OFF = (_RF_CONFIGURATION, bytes((_FIELD, _OFF)), 0)

_RESET = const(0)
_RELEASE = const(1)
_WAKE = const(2)
_ABORT = const(3)
_SEND = const(4)
_AWAIT_ACK = const(5)
_AWAIT_ANSWER = const(6)

_LOOK_MS = const(2)
"""Between looks for an ACK or for the answer to a command that takes no time."""
_CHEAP_LOOK_MS = const(10)
"""Between looks during a search that cost no transfer."""
_SEARCH_MS = const(400)
"""A search has ended by then, whatever the IRQ line says: its wire may be broken."""
_FIRST_LOOKS_MS = const(20)
"""Between looks in the beginning of a search, when a card that is there answers."""
_FIELD_OFF_MS = const(30)
"""The field stays off for so long after a card was found; every card forgets in it."""
_ACK_MS = const(50)
_HOLD_MS = const(20)
"""The chip is held in reset for so long."""
_START_MS = const(50)
"""The chip starts within this time."""
_ABORT_MS = const(5)
_ANSWER_MS = const(100)
_RETRY_MS = const(100)
_LOST_RETRY_MS = const(1000)
_FAILURES = const(3)


class Scanner:
    """The step machine of one reader.

    `on_event(event, value, now)` gets the events of tapauth.core.taps and LOST and BACK of here.
    `heartbeat_ms` is the longest silence of the chip before it is asked whether it lives.
    """

    def __init__(
        self,
        transport,
        taps,
        on_event,
        reset_pin=None,
        poll_ms: int = 50,
        heartbeat_ms: int = 2000,
    ):
        self._transport = transport
        self._taps = taps
        self._on_event = on_event
        self._reset_pin = reset_pin
        self._poll_ms = poll_ms
        self._heartbeat_ms = heartbeat_ms
        self._phase = _RESET
        self._setup = 0
        self._command = _SETUP[0]  # the one under way, or next
        self._sent = 0  # when it was sent, ms
        self._failures = 0
        self._events: list[tuple] = []
        self.is_lost = False
        self.bus_errors = 0
        """Failed commands: no ACK, no answer, a broken frame, a failed transfer."""
        self.resets = 0
        """Recoveries after the first start."""
        self.outages = 0

    @property
    def noise(self) -> int:
        """Bytes on the bus that belonged to no frame."""
        return self._transport.noise

    def step(self, now: int) -> int:
        """Do what is next; `now` in milliseconds. Returns in how many to call again.

        Raises only what `on_event` raises.
        """
        try:
            delay = self._advance(now)
        except (OSError, RuntimeError, IndexError, ValueError) as error:
            delay = self._failed(str(error), now)
        # Out here, so that an error of the receiver is not taken for one of the reader.
        while self._events:
            event, value = self._events[0]
            told = True
            try:
                self._on_event(event, value, now)
            except MemoryError:
                # A condition is told again when the task was restarted. A driver taps again.
                told = event not in (LOST, BACK)
                raise
            finally:
                if told:
                    self._events.pop(0)
        return delay

    def _advance(self, now: int) -> int:
        if self._phase == _AWAIT_ANSWER:
            return self._await_answer(now)
        if self._phase == _AWAIT_ACK:
            return self._await_ack(now)
        if self._phase == _SEND:
            code, parameters, _ = self._command
            self._transport.start(code, parameters)
            self._sent = now
            self._phase = _AWAIT_ACK
            return _LOOK_MS
        return self._restart()

    def _restart(self) -> int:
        """The phases before SEND."""
        self._setup = 0
        self._command = _SETUP[0]
        if self._phase == _RESET:
            self._phase = _RELEASE
            if self._reset_pin is not None:
                self._reset_pin(0)
                return _HOLD_MS
        if self._phase == _RELEASE:
            if self._reset_pin is not None:
                self._reset_pin(1)
            self._transport.open()
            self._phase = _WAKE  # after it, for _failed(): without a bus there is nothing to wake
            return _START_MS
        if self._phase == _WAKE:
            self._phase = _ABORT
            return self._transport.wake()
        self._phase = _SEND
        try:
            self._transport.abort()
        except OSError:
            pass  # the command that follows fails too, and is counted
        return _ABORT_MS

    def _await_ack(self, now: int) -> int:
        if not self._transport.take_ack():
            if now - self._sent >= _ACK_MS:
                raise RuntimeError("no ACK")
            return _LOOK_MS
        self._phase = _AWAIT_ANSWER
        return self._pause(now)

    def _pause(self, now: int) -> int:
        """How long to leave the chip alone before the next look for its answer."""
        if self._command is not _SEARCH:
            return _LOOK_MS
        if self._transport.cheap_looks:
            return _CHEAP_LOOK_MS
        # A card present from the start is found in the first looks; a later one at poll_ms.
        return _FIRST_LOOKS_MS if now - self._sent < 50 else self._poll_ms

    def _await_answer(self, now: int) -> int:
        command = self._command
        # An IRQ line that says "nothing yet" saves the transfer, while that can be true.
        if command is _SEARCH and now - self._sent < _SEARCH_MS and self._transport.idle():
            return self._pause(now)
        code, _, longest = command
        data = self._transport.answer(code, longest)
        if data is None:
            limit = self._heartbeat_ms if command is _SEARCH else _ANSWER_MS
            if now - self._sent >= limit:
                raise RuntimeError("no answer")
            return self._pause(now)
        self._phase = _SEND
        if command is _SEARCH:
            return self._searched(data, now)
        if command is _FIELD_OFF:
            self._command = _SEARCH
            return _FIELD_OFF_MS
        self._setup += 1
        self._command = _SETUP[self._setup] if self._setup < len(_SETUP) else _SEARCH
        return 0

    def _searched(self, data, now: int) -> int:
        uids = read_targets(data)  # raises ValueError: then it is a failure as any other
        self._command = _FIELD_OFF if uids else _SEARCH
        self._failures = 0
        if self.is_lost:
            self._events.append((BACK, None))  # first: without memory for it nothing has changed
            self.is_lost = False
        event = self._taps.observe(uids, self._sent, now)
        if event is not None:
            self._events.append(event)
        return 0

    def _failed(self, reason: str, now: int) -> int:
        self.bus_errors += 1
        self._failures += 1
        self._taps.blind()  # a card that is not seen now is not absent
        if self._failures < _FAILURES:
            if self._phase != _RELEASE:  # there the board could not set the bus up
                self._phase = _WAKE
            return _RETRY_MS
        self._phase = _RESET
        self.resets += 1
        if self.is_lost:
            return _LOST_RETRY_MS
        self._events.append((LOST, reason))  # first, as in _searched()
        self.is_lost = True
        self.outages += 1
        return 0
