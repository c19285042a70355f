"""The PN532 on I2C."""

from tapauth.reader.pn532 import READY, Transport


class I2CTransport(Transport):
    """`open_bus()` returns a machine.I2C or what behaves like one."""

    def __init__(self, open_bus, irq=None, address: int = 0x24):
        super().__init__(open_bus, irq)
        self._address = address
        self._status = bytearray(1)

    def _wait_ready(self, timeout) -> bool:
        """One look, whatever `timeout` says."""
        try:
            self._bus.readfrom_into(self._address, self._status)
        except OSError:
            return False  # a busy chip may leave its address unacknowledged
        return self._status[0] == READY

    def _read_data(self, count: int) -> bytearray:
        # The status byte comes before the data, again.
        data = bytearray(count + 1)
        self._bus.readfrom_into(self._address, data)
        if data[0] != READY:
            raise RuntimeError("not ready")
        return data[1:]

    def _write_data(self, framebytes) -> None:
        self._bus.writeto(self._address, framebytes)

    def wake(self) -> int:
        """The chip wakes by its address, and does not acknowledge it yet."""
        self._wait_ready(0)
        return 2
