"""The PN532 on its high-speed UART: 115200 baud, 8N1. The chip sends frames unasked."""

from tapauth.compat import const
from tapauth.reader.pn532 import Transport

_LONGEST = const(64)
_PER_LOOK = const(64)
"""Bytes taken in one look: a line that babbles must not hold the loop."""


class HSUTransport(Transport):
    """`open_bus()` returns a machine.UART whose reads do not wait (timeout=0).

    Frames come in fragments and are put together here; what is no frame is skipped.
    """

    def __init__(self, open_bus):
        super().__init__(open_bus)
        self.cheap_looks = True
        self._frame = bytearray(_LONGEST)
        self._frame[2] = 0xFF
        self._scratch = memoryview(bytearray(16))
        self._count = 0
        self._total = 0

    def _put(self, byte: int) -> None:
        """Add a byte to the frame: 00 00 FF, length, its checksum, data, checksum, 00."""
        frame = self._frame
        count = self._count
        if count < 3:  # these three are in `frame` already
            if byte == frame[count]:
                count += 1
            elif byte:  # a further 00 before the FF changes nothing
                self.noise += count + 1
                count = 0
        else:
            frame[count] = byte
            count += 1
            if count == 5:
                check = (frame[3] + byte) & 0xFF
                # Lengths of an ACK or a NACK add up to FF instead: two bytes that mean no length.
                self._total = 6 if check == 0xFF else frame[3] + 7
                if check not in (0, 0xFF) or not frame[3] | check or self._total > _LONGEST:
                    # No frame after all, but its last bytes may be the beginning of one.
                    self.noise += 3
                    self._count = 0
                    self._put(frame[3])
                    self._put(byte)
                    return
        self._count = count

    def _wait_ready(self, timeout) -> bool:
        """Take what has come; True when a frame is complete. Never waits."""
        for _ in range(_PER_LOOK // 16):
            missing = (6 if self._count < 5 else self._total) - self._count
            if missing <= 0:
                break
            # Never beyond this frame: the next one stays in the UART's buffer.
            got = self._take(missing)
            for i in range(got):
                self._put(self._scratch[i])
            if not got:
                break
        return self._count >= 5 and self._count >= self._total

    def _take(self, most: int) -> int:
        """Read at most `most` and 16 bytes into the scratch. Returns how many came."""
        most = min(most, self._bus.any(), 16)
        return (self._bus.readinto(self._scratch[:most]) or 0) if most else 0

    def _read_data(self, count: int) -> bytearray:
        data = bytearray(count)
        length = min(count, self._total)
        data[:length] = self._frame[:length]
        self._count = 0
        return data

    def _write_data(self, framebytes) -> None:
        # What came before is no answer to this.
        self._count = 0
        for _ in range(32):
            if not self._take(16):
                break
        self._bus.write(framebytes)

    def wake(self) -> int:
        """The chip's UART wakes at the edges of 55; the rest gives it the time."""
        self._bus.write(b"\x55\x55" + bytes(14))
        return 3
