"""A PN532 card reader chip, simulated byte by byte.

`Chip` is the chip behind its host interface: it takes the host's frames and queues its own, each
with the time at which it becomes readable. A front-end (tools/pn532/buses.py) speaks one bus and
has the methods of MicroPython's class for that bus, so that a driver can use it in the same
process; over a wire, `tools.desk.bench_link` calls the same methods. tools/pn532/faults.py makes a
chip that fails on demand.

    clock = Clock()                     # or no clock: real time
    chip = Chip(clock.now)
    bus = I2CPort(chip)                 # machine.I2C, as far as the driver uses it
    chip.place("04a1b2c3d4e5f6")
    clock.move(50)

Behaviour follows NXP's UM0701-02. Times are milliseconds. All public methods may be called from
any thread.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

ACK = b"\x00\x00\xff\x00\xff\x00"
NACK = b"\x00\x00\xff\xff\x00\x00"
SYNTAX_ERROR = b"\x00\x00\xff\x01\xff\x7f\x81\x00"
FIRMWARE = bytes((0x32, 0x01, 0x06, 0x07))

ACK_MS = 0.6
ANSWER_MS = 1.5
FIELD_ON_MS = 5.0
TRY_MS = 5.0
"""One attempt of InListPassiveTarget to activate a card."""
CASCADE_MS = 2.0
"""One level of anti-collision: a UID of 4 bytes has one, 7 two, 10 three."""
BOOT_MS = 5.0

FOREVER = 0xFF


class Clock:
    """A clock that stands still until it is moved. Times in milliseconds."""

    def __init__(self):
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def move(self, milliseconds: float) -> None:
        self._now += milliseconds


def real_time() -> float:
    """Milliseconds of the system's monotonic clock."""
    return time.monotonic() * 1000


def frame(data: bytes) -> bytes:
    """A normal information frame around `data` (which begins with the TFI byte)."""
    return (
        b"\x00\x00\xff"
        + bytes((len(data), -len(data) & 0xFF))
        + data
        + bytes((-sum(data) & 0xFF, 0x00))
    )


class Card:
    """A card in the field. `sak`, `atqa`, `ats` and `length` default to what its UID implies.

    With `flicker_ms` it answers for so long, is out of reach for so long, and so on.
    """

    def __init__(self, uid, sak=None, atqa=None, ats=b"", length=None, flicker_ms=0.0):
        self.uid = bytes.fromhex(uid) if isinstance(uid, str) else bytes(uid)
        self.levels = min(3, 1 + max(0, len(self.uid) - 4) // 3)
        self.sak = sak if sak is not None else (0x20 if ats else 0x08 if self.levels == 1 else 0)
        self.atqa = atqa if atqa is not None else bytes((0, 0x04 | (self.levels - 1) << 6))
        self.ats = ats
        self.length = len(self.uid) if length is None else length
        self.selected = False
        """Activated and not yet released: it lets one request pass before it answers again."""
        self.since = 0.0
        self.flicker_ms = flicker_ms

    def here(self, at: float) -> bool:
        """Whether it can be heard at this time."""
        passed = at - self.since
        return passed >= 0 and not (self.flicker_ms and passed // self.flicker_ms % 2)

    def target_data(self, number: int, with_ats: bool) -> bytes:
        """Tg, SENS_RES, SEL_RES, NFCIDLength, NFCID1 and, if asked for and existing, ATS."""
        data = bytes((number,)) + self.atqa + bytes((self.sak, self.length)) + self.uid
        if with_ats and self.sak & 0x20:
            data += bytes((len(self.ats) + 1,)) + self.ats
        return data


class Search:
    """A running InListPassiveTarget."""

    def __init__(self, at: float, wanted: int, tries: float):
        self.at = at
        """When the try under way began."""
        self.wanted = wanted
        self.left = tries


class Chip:
    """The chip and the cards in its field. `now` is a clock in milliseconds."""

    def __init__(self, now: Callable[[], float] = real_time):
        self.now = now
        self.lock = threading.RLock()
        self.cards: list[Card] = []
        self.commands: deque[bytes] = deque(maxlen=64)
        """The last commands taken, without frame and TFI."""
        self.resets = 0
        self.aborts = 0
        self.boots = 0
        self._powered = True
        self._held = False
        self._boot(-BOOT_MS)

    def _boot(self, at: float) -> None:
        self.boots += 1
        self.field_on = False
        self.asleep = False
        self.stuck = False
        """Holds the bus's data line in the middle of a transfer that went wrong."""
        self.retries = FOREVER
        self.parameters = 0x14
        self._awake_at = at + BOOT_MS
        self._out: deque[tuple[float, bytes]] = deque()
        self._last = b""
        self._search: Search | None = None
        self._command = 0
        for card in self.cards:
            card.selected = False

    # -- power and lines

    def power(self, on: bool) -> None:
        """Cut or restore the supply; the chip forgets everything it was told."""
        with self.lock:
            self._powered = on
            self._boot(self.now())

    def reset_line(self, level: int) -> None:
        """Drive the line RSTPDN: 0 holds the chip in reset, 1 lets it start."""
        with self.lock:
            if self._held == (not level):
                return
            self._held = not level
            if self._held:
                self.resets += 1
            self._boot(self.now())

    @property
    def alive(self) -> bool:
        """Powered, out of reset and started."""
        return self._powered and not self._held and self.now() >= self._awake_at

    def irq_line(self) -> int:
        """Level of the line IRQ: 0 while a frame waits for the host."""
        return 0 if self.ready() else 1

    # -- the field

    def place(self, uid, **about) -> None:
        """Bring a card (UID as hex text or bytes) into the field; `about`: see Card."""
        with self.lock:
            self._advance()
            card = Card(uid, **about)
            self.cards = [other for other in self.cards if other.uid != card.uid]
            card.since = self.now()
            self.cards.append(card)

    def lift(self, uid=None) -> None:
        """Take one card out of the field, or all of them."""
        with self.lock:
            self._advance()
            if uid is None:
                self.cards = []
            else:
                gone = Card(uid).uid
                self.cards = [card for card in self.cards if card.uid != gone]

    # -- host side, used by the front-ends

    def receive(self, data: bytes, on_wire: float = 0.0) -> None:
        """Take the bytes of one host frame, whose last is still `on_wire` milliseconds away.

        Bytes that are no sound frame are ignored.
        """
        with self.lock:
            self._advance()
            if not self.alive:
                return
            at = self.now() + on_wire
            start = data.find(b"\x00\xff")
            if start < 0:
                return
            body = data[start + 2 :]
            if body[:2] == ACK[3:5]:
                self.aborts += 1
                self._search = None
                self._out.clear()
            elif body[:2] == NACK[3:5]:
                if self._last:
                    self._out.appendleft((at + ACK_MS, self._last))
            else:
                content = self._content(body)
                if content is not None and content[:1] == b"\xd4" and len(content) > 1:
                    self._execute(content[1], content[2:], at)

    @staticmethod
    def _content(body: bytes) -> bytes | None:
        """TFI and data of an information frame, normal or extended, or None if it is broken."""
        if body[:2] == b"\xff\xff":
            length, check, head = int.from_bytes(body[2:4], "big"), sum(body[2:5]), 5
        else:
            length, check, head = (body + b"\x00")[0], sum(body[:2]), 2
        if check & 0xFF or len(body) < head + length + 1 or length == 0:
            return None
        if sum(body[head : head + length + 1]) & 0xFF:
            return None
        return body[head : head + length]

    def due(self) -> float:
        """When the first frame for the host is or was ready; infinite without one."""
        with self.lock:
            if not self.alive:
                return math.inf
            self._advance()
            return self._out[0][0] if self._out else math.inf

    def ready(self) -> bool:
        """Whether a frame waits for the host."""
        return self.due() <= self.now()

    def waiting(self) -> bytes:
        """The frame that waits for the host, and stays; b"" without one."""
        with self.lock:
            return self._out[0][1] if self.ready() else b""

    def take(self) -> bytes:
        """The waiting frame, which is gone then; b"" without one."""
        with self.lock:
            if not self.ready():
                return b""
            _, taken = self._out.popleft()
            if taken != ACK:
                self._last = taken
                self.asleep = self._command == 0x16
            return taken

    def _send(self, at: float, data: bytes) -> None:
        """A frame for the host, ready at this time."""
        self._out.append((at, data))

    # -- commands

    def _execute(self, command: int, args: bytes, now: float) -> None:
        """A new command ends the one before it, whose answer is lost."""
        self.commands.append(bytes((command,)) + args)
        self._command, self._search = command, None
        self._out.clear()
        self._send(now + ACK_MS, ACK)
        data = self._answer(command, args, now)
        if data is not None:
            answer = (
                frame(bytes((0xD5, command + 1)) + data) if data is not False else SYNTAX_ERROR
            )
            self._send(now + ANSWER_MS, answer)

    def _answer(self, command: int, args: bytes, now: float):
        """The answer's data; None when it comes later, False for a syntax error."""
        if command == 0x02:
            return FIRMWARE
        if command == 0x00:
            return args if args[:1] == b"\x00" else b"\x00"
        if command == 0x04:
            listed = [card for card in self.cards if card.selected]
            targets = b"".join(bytes((i + 1, 0, 0, 0x10)) for i in range(len(listed)))
            return bytes((0, self.field_on, len(listed))) + targets + b"\x80"
        if command == 0x12 and len(args) == 1:
            self.parameters = args[0]
            return b""
        if command == 0x14 and args and 1 <= args[0] <= 4:
            return b""
        if command == 0x16 and args:
            return b"\x00"
        if command == 0x32 and len(args) > 1:
            return self._configure_field(args[0], args[1:])
        if command == 0x4A and len(args) > 1 and 1 <= args[0] <= 2 and args[1] == 0:
            begin = now + ACK_MS + (0 if self.field_on else FIELD_ON_MS)
            self.field_on = True
            tries = math.inf if self.retries == FOREVER else self.retries + 1
            self._search = Search(begin, args[0], tries)
            return None
        if command in (0x44, 0x52) and len(args) == 1:
            for card in self.cards:
                card.selected = False
            return b"\x00"
        return False

    def _configure_field(self, item: int, values: bytes):
        if item == 0x01:
            self.field_on = bool(values[0] & 1)
            if not self.field_on:
                for card in self.cards:
                    card.selected = False
        elif item == 0x05:
            if len(values) != 3:
                return False
            self.retries = values[2]
        elif item not in (0x02, 0x04, 0x0A, 0x0B, 0x0C, 0x0D):
            return False
        return b""

    def _advance(self) -> None:
        """Let the search under way make all the tries that are over by now."""
        search = self._search
        now = self.now()
        if search is None or search.at + TRY_MS > now and search.left > 0 or not self.alive:
            return
        while search.at + TRY_MS <= now and search.left > 0:
            if not self.cards:  # nothing changes until a card comes: skip the empty tries
                over = min((now - search.at) // TRY_MS, search.left)
                search.at += over * TRY_MS
                search.left -= over
                continue
            began = search.at
            search.at += TRY_MS
            search.left -= 1
            heard = [card for card in self.cards if card.here(began) and not card.selected]
            for card in self.cards:
                card.selected = False
            if heard:
                self._found(heard[: search.wanted], search.at)
                return
        if search.left <= 0:
            self._search = None
            self._send(search.at, frame(b"\xd5\x4b\x00"))

    def _found(self, cards: list[Card], at: float) -> None:
        self._search = None
        data = bytes((0xD5, 0x4B, len(cards)))
        for number, card in enumerate(cards, 1):
            card.selected = True
            at += card.levels * CASCADE_MS
            data += card.target_data(number, bool(self.parameters & 0x10))
        self._send(at, frame(data))
