"""The PN532 on its high-speed UART: 115200 baud, 8N1. The chip sends frames unasked."""

from tapauth.compat import const
from tapauth.reader.pn532 import Transport

_LONGEST = const(64)
_PER_LOOK = const(64)
"""Bytes taken in one look: a line that babbles must not hold the loop."""
_PIECE = const(16)
_START = const(3)  # bytes before the length: 00 00 FF
_HEAD = const(5)  # with the length and its checksum
_AROUND = const(7)  # bytes of a frame beside its data
_NO_DATA = const(6)  # bytes of an ACK
_NO_LENGTH = const(0xFF)  # the sum of the two bytes that an ACK has in place of the length


class HSUTransport(Transport):
    """`open_bus()` returns a machine.UART whose reads do not wait (timeout=0).

    Frames come in fragments and are put together here; all other bytes are skipped.
    """

    def __init__(self, open_bus):
        super().__init__(open_bus)
        self.cheap_looks = True
        self._frame = bytearray(_LONGEST)
        self._frame[2] = 0xFF
        self._scratch = memoryview(bytearray(_PIECE))
        self._count = 0  # bytes of the frame that are there
        self._total = 0  # its bytes, once its length is

    def _put(self, byte: int) -> None:
        """Add a byte to the frame: 00 00 FF, length, its checksum, data, checksum, 00."""
        frame = self._frame
        count = self._count
        if count < _START:  # these three are in `frame` already
            if byte == frame[count]:
                count += 1
            elif byte:  # a further 00 before the FF changes nothing
                self.noise += count + 1
                count = 0
        else:
            frame[count] = byte
            count += 1
            if count == _HEAD:
                # A length and its checksum add up to 0.
                check = (frame[3] + byte) & 0xFF
                self._total = _NO_DATA if check == _NO_LENGTH else frame[3] + _AROUND
                if check not in (0, _NO_LENGTH) or not frame[3] | check or self._total > _LONGEST:
                    # No frame after all, but its last bytes may be the beginning of one.
                    self.noise += 3
                    self._count = 0
                    self._put(frame[3])
                    self._put(byte)
                    return
        self._count = count

    def _wait_ready(self, timeout) -> bool:
        """Take what has come; True when a frame is complete. Never waits."""
        for _ in range(_PER_LOOK // _PIECE):
            # No frame is shorter than an ACK, so so many may be taken before the length is known.
            missing = (_NO_DATA if self._count < _HEAD else self._total) - self._count
            if missing <= 0:
                break
            # Never beyond this frame: the next one stays in the UART's buffer.
            got = self._take(missing)
            for i in range(got):
                self._put(self._scratch[i])
            if not got:
                break
        return self._count >= _HEAD and self._count >= self._total

    def _take(self, most: int) -> int:
        """Read at most `most` bytes and a piece into the scratch. Returns how many came."""
        most = min(most, self._bus.any(), _PIECE)
        return (self._bus.readinto(self._scratch[:most]) or 0) if most else 0

    def _read_data(self, count: int) -> bytearray:
        data = bytearray(count)
        length = min(count, self._total)
        data[:length] = self._frame[:length]
        self._count = 0
        return data

    def _write_data(self, framebytes) -> None:
        # Bytes that came before are no answer to this.
        self._count = 0
        for _ in range(32):  # a buffer of a UART, twice
            if not self._take(_PIECE):
                break
        self._bus.write(framebytes)

    def wake(self) -> int:
        """The chip's UART wakes at the edges of 55; the rest gives it the time."""
        self._bus.write(b"\x55\x55" + bytes(14))
        return 3
