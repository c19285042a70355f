"""A simulated PN532 that fails on demand.

    chip = FaultyChip(clock.now)
    chip.fail("checksum")              # the next answer
    chip.fail("silence", 3000)         # for three seconds

A card that flickers is a property of the card: `chip.place(uid, flicker_ms=70)`.
"""

import math
from collections import deque

from tools.pn532.chip import ACK, Chip

FAULTS = {
    "silence": "takes no command and says nothing; its bus still works",
    "garbage": "bytes of no frame come before a frame",
    "checksum": "an answer's checksum is wrong",
    "no ack": "a command is not acknowledged, but carried out",
    "late": "an answer comes seconds later, whatever the chip was told in the meantime",
    "reset": "the chip starts anew (again and again) and forgets what it was told",
    "power": "the supply is gone",
    "stuck": "the bus's data line is held until the chip is reset, or the host clears the bus",
}
GARBAGE = b"\xa5\x00\x00\xff\x3c\x00"
LATE_MS = 2500.0


class FaultyChip(Chip):
    """`failures` counts the faults that were asked for."""

    def __init__(self, *arguments):
        self._until: dict[str, float] = {}
        self._next_end = math.inf
        self._late: deque[tuple[float, bytes]] = deque()
        self.failures = 0
        super().__init__(*arguments)

    def fail(self, kind: str, milliseconds: float = 0.0) -> None:
        """Begin a fault. With a time it lasts so long, without one it strikes once: the next
        frame, or at once. Power and silence need a time; a held bus without one stays held.
        """
        with self.lock:
            if kind not in FAULTS or kind in ("power", "silence") and not milliseconds:
                raise ValueError(kind)
            self._settle()
            self.failures += 1
            if milliseconds or kind not in ("stuck", "reset"):
                self._until[kind] = self.now() + milliseconds if milliseconds else math.inf
            self._next_end = min(self._until.values(), default=math.inf)
            if kind == "power":
                self.power(False)
            elif kind == "stuck":
                self.stuck = True
            elif kind == "reset":
                self._boot(self.now())

    def mend(self) -> None:
        """End all faults."""
        with self.lock:
            for kind in self._until:
                self._until[kind] = 0.0
            self._next_end = 0.0
            self._settle()

    def _settle(self) -> None:
        """End what is over by now."""
        now = self.now()
        for kind in [kind for kind, until in self._until.items() if until <= now]:
            del self._until[kind]
            if kind == "power":
                self.power(True)
            elif kind == "stuck":
                self.stuck = False
            elif kind == "reset":
                self._boot(now)
        self._next_end = min(self._until.values(), default=math.inf)

    def _boot(self, at: float) -> None:
        super()._boot(at)
        self._late.clear()

    def _strikes(self, kind: str) -> bool:
        until = self._until.get(kind)
        if until is None:
            return False
        if until == math.inf:
            del self._until[kind]
        return True

    @property
    def alive(self) -> bool:
        if self.now() >= self._next_end:
            self._settle()
        return "reset" not in self._until and super().alive

    def receive(self, data: bytes, on_wire: float = 0.0) -> None:
        if self.alive and self._strikes("silence"):
            return
        super().receive(data, on_wire)

    def due(self) -> float:
        while self._late and self._late[0][0] <= self.now():
            self._out.appendleft(self._late.popleft())
        return math.inf if "silence" in self._until else super().due()

    def _send(self, at: float, data: bytes) -> None:
        if data == ACK:
            if self._strikes("no ack"):
                return
        elif self._strikes("checksum"):
            data = data[:-2] + bytes((data[-2] ^ 0x10, data[-1]))
        elif self._strikes("late"):
            self._late.append((at + LATE_MS, data))
            return
        super()._send(at, GARBAGE + data if self._strikes("garbage") else data)
