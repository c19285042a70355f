"""The buses of the simulated PN532: each port has the methods of MicroPython's class for its bus.

Without `wait` a transfer takes no time. With it (`clock.move`), it takes `byte_ms` a byte, which
is what a real bus makes the caller wait; a UART has buffers, so there the bytes are late instead.
"""

import math
from collections import deque
from collections.abc import Callable

from tools.pn532.chip import Chip

I2C_BYTE_MS = 0.09
"""100 kHz: nine bits."""
SPI_BYTE_MS = 0.008
"""1 MHz."""
UART_BYTE_MS = 10 / 115.2
"""115200 baud, 8N1."""
WAKE_MS = 1.0
STUCK_MS = 10.0
"""After so long the host's I2C gives up on a line that does not move."""

MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Nack(OSError):
    """The addressed device did not acknowledge."""

    def __init__(self):
        super().__init__(19, "no acknowledge on the bus")


class Port:
    """What all buses share: the account of transfers."""

    def __init__(self, chip: Chip, wait: Callable[[float], object] | None, byte_ms: float):
        self.chip = chip
        self.wait = wait
        self.byte_ms = byte_ms
        self.transfers = 0
        self.longest = 0
        """Bytes of the longest transfer."""
        self.spent_ms = 0.0
        """Time that callers waited for transfers."""

    def _spend(self, count: int, more_ms: float = 0.0) -> None:
        self.transfers += 1
        self.longest = max(self.longest, count)
        self._pass(count * self.byte_ms + more_ms)

    def _pass(self, milliseconds: float) -> None:
        if self.wait is not None:
            self.spent_ms += milliseconds
            self.wait(milliseconds)

    def renew(self) -> None:
        """The host sets its side of the bus up anew."""


class I2CPort(Port):
    """The chip on I2C. A read begins with the status byte (01 ready, 00 busy), the frame follows.

    A read of the status byte alone leaves the frame where it is; a longer one takes it, whatever
    part of it was read (NACK makes the chip send it again). `stretch_ms`: how long the chip holds
    the clock in each transfer; `nack_busy`: it does not acknowledge while it has nothing to say.
    """

    def __init__(self, chip: Chip, address: int = 0x24, wait=None, byte_ms: float = I2C_BYTE_MS):
        super().__init__(chip, wait, byte_ms)
        self.address = address
        self.stretch_ms = 0.0
        self.nack_busy = False

    def renew(self) -> None:
        """Nine clock pulses: a chip in the middle of a byte lets go of the data line."""
        self.chip.stuck = False

    def select(self, address: int, count: int = 0) -> None:
        """The host begins a transfer of so many bytes. Raises Nack, or OSError on a held bus."""
        if self.chip.stuck:
            self._spend(0, STUCK_MS)
            raise OSError(110, "the bus is held")
        if address != self.address or not self.chip.alive:
            self._spend(1)
            raise Nack
        self._spend(1 + count, self.stretch_ms)
        if self.chip.asleep:  # its own address wakes it, but is not acknowledged yet
            self.chip.asleep = False
            raise Nack

    def writeto(self, address: int, data) -> int:
        """One write transaction. Raises Nack (an OSError), as machine.I2C does."""
        with self.chip.lock:
            self.select(address, len(data))
            self.chip.receive(bytes(data))
            return len(data)

    def readfrom(self, address: int, count: int) -> bytes:
        """One read transaction of `count` bytes. Raises Nack."""
        with self.chip.lock:
            self.select(address, count)
            if not self.chip.ready():
                if self.nack_busy:
                    raise Nack
                return bytes(count)
            data = b"\x01" + (self.chip.take() if count > 1 else b"")
            return data[:count].ljust(count, b"\x00")

    def readfrom_into(self, address: int, buffer) -> None:
        """One read transaction that fills `buffer`. Raises Nack."""
        buffer[:] = self.readfrom(address, len(buffer))


class SPIPort(Port):
    """The chip on SPI, least significant bit first: 01 writes a frame, 02 reads the status, 03
    reads a frame; the first transfer after the selection carries the code and gets zeros.

    `lsb_first` says what the host's bus does; where it sends the most significant bit first, the
    chip sees each byte mirrored. After a start and after a power-down the chip sleeps until it is
    selected for WAKE_MS.
    """

    def __init__(
        self, chip: Chip, lsb_first: bool = False, wait=None, byte_ms: float = SPI_BYTE_MS
    ):
        super().__init__(chip, wait, byte_ms)
        self.lsb_first = lsb_first
        self._boots = 0
        self._hears_at = math.inf
        self._selected = False
        self._sent = bytearray()
        self._frame: bytes | None = None

    def cs(self, level: int) -> None:
        """The host drives the line NSS; 0 selects the chip."""
        with self.chip.lock:
            if level:
                if self._selected and self._sent[:1] == b"\x01":
                    self.chip.receive(bytes(self._sent[1:]))
                self._selected = False
                if self.chip.now() < self._hears_at:
                    self._boots = 0  # too short to wake it
                return
            if not self._selected and self.chip.alive:
                if self._boots != self.chip.boots or self.chip.asleep:
                    self._boots = self.chip.boots
                    self.chip.asleep = False
                    self._hears_at = self.chip.now() + WAKE_MS
                self._sent.clear()
                self._frame = None
                self._selected = True

    def exchange(self, out: bytes) -> bytes:
        """Shift bytes out and in."""
        with self.chip.lock:
            self._spend(len(out))
            if self.lsb_first:
                return self._shift(out)
            return self._shift(out.translate(MIRROR)).translate(MIRROR)

    def _shift(self, out: bytes) -> bytes:
        chip, sent = self.chip, self._sent
        if chip.stuck:
            return bytes(len(out))
        hears = self._boots == chip.boots and chip.now() >= self._hears_at
        if not self._selected or not hears or not chip.alive:
            return b"\xff" * len(out)  # nobody drives the line
        begin = len(sent) == 0
        sent += out
        if begin or sent[0] == 0x01:
            return bytes(len(out))
        if sent[0] == 0x02:
            return bytes((chip.ready(),)) * len(out)
        if sent[0] != 0x03:
            return bytes(len(out))
        if self._frame is None:
            self._frame = chip.take()
        back, self._frame = self._frame[: len(out)], self._frame[len(out) :]
        return back.ljust(len(out), b"\x00")

    def write(self, data) -> None:
        """As machine.SPI."""
        self.exchange(bytes(data))

    def readinto(self, buffer, write: int = 0) -> None:
        """As machine.SPI."""
        buffer[:] = self.exchange(bytes((write,)) * len(buffer))


class UARTPort(Port):
    """The chip on its high-speed UART. It sends each frame when it is ready, byte by byte with
    `gap_ms` in between; after a start and after a power-down it sleeps until 55 comes.
    """

    def __init__(self, chip: Chip, byte_ms: float = UART_BYTE_MS):
        super().__init__(chip, None, byte_ms)
        self.gap_ms = 0.0
        self._boots = 0
        self._hears_at = math.inf
        self._line: deque[tuple[float, int]] = deque(maxlen=256)
        self._free_at = 0.0

    def _pump(self) -> None:
        """Put the frames that are ready by now on the line."""
        chip = self.chip
        now = chip.now()
        while (due := chip.due()) <= now:
            at = max(due, self._free_at)
            for byte in chip.take():
                at += self.byte_ms + self.gap_ms
                if not chip.stuck:
                    self._line.append((at, byte))
            self._free_at = at

    def any(self) -> int:
        """As machine.UART: how many bytes can be read at once."""
        with self.chip.lock:
            self._pump()
            if not self._line:
                return 0
            now = self.chip.now()
            return sum(at <= now for at, _ in self._line)

    def readinto(self, buffer) -> int | None:
        """As machine.UART with timeout=0: what is there, at most the buffer; None for nothing."""
        with self.chip.lock:
            self._spend(0)
            count = min(self.any(), len(buffer))
            for i in range(count):
                buffer[i] = self._line.popleft()[1]
            return count or None

    def write(self, data) -> int:
        """As machine.UART: into its buffer, without waiting."""
        chip = self.chip
        with chip.lock:
            self._spend(len(data))
            self._pump()
            on_wire = len(data) * self.byte_ms
            if self._boots != chip.boots or chip.asleep:
                if chip.alive and 0x55 in data:
                    self._boots = chip.boots
                    chip.asleep = False
                    self._hears_at = chip.now() + on_wire + WAKE_MS
            elif chip.now() >= self._hears_at:
                chip.receive(bytes(data), on_wire)
            return len(data)
