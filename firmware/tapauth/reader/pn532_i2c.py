"""The PN532 on I2C."""

from tapauth.reader.pn532 import Transport


class I2CTransport(Transport):
    """`bus` is a machine.I2C or behaves like one; `irq` a machine.Pin input or None."""

    def __init__(self, bus, address: int = 0x24, irq=None):
        super().__init__(irq)
        self._bus = bus
        self._address = address
        self._status = bytearray(1)

    def _wait_ready(self, timeout) -> bool:
        """One look, whatever `timeout` says."""
        if self._irq is not None and self._irq():
            return False
        try:
            self._bus.readfrom_into(self._address, self._status)
        except OSError:
            return False  # a busy chip may leave its address unacknowledged
        return self._status[0] == 1

    def _read_data(self, count: int) -> bytearray:
        # The status byte comes before the data, again.
        data = bytearray(count + 1)
        self._bus.readfrom_into(self._address, data)
        if data[0] != 1:
            raise RuntimeError("not ready")
        return data[1:]

    def _write_data(self, framebytes) -> None:
        self._bus.writeto(self._address, framebytes)
