"""The PN532 on SPI: mode 0, at most 5 MHz, the least significant bit of each byte first."""

from tapauth.compat import const, late
from tapauth.reader.pn532 import READY, Transport

# The first byte of each transfer (NXP UM0701-02, 6.2.5).
_WRITE = const(1)
_STATUS = const(2)
_READ = const(3)


class SPITransport(Transport):
    """`open_bus()` returns a machine.SPI, the pin of the chip's NSS line, and whether the bus
    sends the least significant bit first by itself; where it does not, bytes are reversed here.
    """

    def open(self) -> None:
        self._bus, self._cs, lsb_first = self._open_bus()
        self._table = None
        if not lsb_first:
            with late("bits"):
                from tapauth.reader.bits import REVERSED

            self._table = REVERSED

    def _transfer(self, operation: int, count: int = 0, framebytes: bytes = b"") -> bytearray:
        """Select the chip, send what is to be done and a frame, read `count` bytes."""
        out = bytes((operation,)) + framebytes
        table = self._table
        if table:
            out = bytes([table[byte] for byte in out])
        data = bytearray(count)
        self._cs(0)
        try:
            self._bus.write(out)
            if count:
                self._bus.readinto(data)
        finally:
            self._cs(1)
        if table:
            for i in range(count):
                data[i] = table[data[i]]
        return data

    def _wait_ready(self, timeout) -> bool:
        """One look, whatever `timeout` says. A line that nobody drives reads FF or 00."""
        return self._transfer(_STATUS, 1)[0] == READY

    def _read_data(self, count: int) -> bytearray:
        return self._transfer(_READ, count)

    def _write_data(self, framebytes) -> None:
        self._transfer(_WRITE, framebytes=framebytes)

    def wake(self) -> int:
        """The chip wakes when it is selected; the next transfer ends the selection."""
        self._cs(0)
        return 2
