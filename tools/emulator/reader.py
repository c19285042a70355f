"""Joins the simulated PN532 to the emulated chip's pins, by the bus that the board's wiring gives
it. The PN532 lives in the board's time.
"""

from rp2040py.gpio_pin import GPIOPinState

from tools.pn532.buses import I2CPort, SPIPort, UARTPort
from tools.pn532.chip import Chip

TICK_NS = 1_000_000
I2C_BIT_NS = 10_000
SPI_BYTE_NS = 8_000
FRAME_GAP_NS = 300_000
"""A UART line that is silent for so long is between two frames of the board."""


def later(mcu, nanoseconds: float, call) -> None:
    """Call in so much of the board's time."""
    mcu.clock.create_alarm(call).schedule(nanoseconds)


def is_low(state) -> bool:
    """Whether the board drives this pin low; one that it does not drive is pulled up outside."""
    return state == GPIOPinState.LOW


class I2CReader:
    """The PN532 on a hardware I2C."""

    def __init__(self, mcu, chip: Chip, number: int):
        self._mcu = mcu
        self._port = I2CPort(chip)
        self._chip = chip
        self._i2c = i2c = mcu.i2c[number]
        self._written = bytearray()
        self._data = b""
        self._given = 0
        i2c.on_start = lambda repeated: later(mcu, I2C_BIT_NS, i2c.complete_start)
        i2c.on_connect = self._connect
        i2c.on_write_byte = self._write
        i2c.on_read_byte = self._read
        i2c.on_stop = self._stop

    def _byte_passes(self, call) -> None:
        later(self._mcu, 9 * I2C_BIT_NS, call)

    def _connect(self, address: int, mode: int) -> None:
        self._end_write()
        try:
            self._port.select(address)
            here = True
        except OSError:
            here = False
        self._data = b"\x01" if here and self._chip.ready() else b"\x00"
        self._given = 0
        self._byte_passes(lambda: self._i2c.complete_connect(here))

    def _write(self, value: int) -> None:
        self._written.append(value)
        self._byte_passes(lambda: self._i2c.complete_write(True))

    def _read(self, _acknowledge: bool) -> None:
        # The status byte alone leaves the frame where it is.
        if self._given == 1 and self._data == b"\x01":
            self._data += self._chip.take()
        value = self._data[self._given] if self._given < len(self._data) else 0
        self._given += 1
        self._byte_passes(lambda: self._i2c.complete_read(value))

    def _end_write(self) -> None:
        if self._written:
            self._chip.receive(bytes(self._written))
            self._written.clear()

    def _stop(self) -> None:
        self._end_write()
        self._i2c.complete_stop()


class SPIReader:
    """The PN532 on a hardware SPI and a line for NSS."""

    def __init__(self, mcu, chip: Chip, number: int, select_pin: int):
        self._mcu = mcu
        self._port = SPIPort(chip)
        self._spi = mcu.spi[number]
        self._spi.on_transmit = self._transmit
        mcu.gpio[select_pin].add_listener(lambda new, old: self._port.cs(0 if is_low(new) else 1))

    def _transmit(self, value: int) -> None:
        answer = self._port.exchange(bytes((value & 0xFF,)))[0]
        later(self._mcu, SPI_BYTE_NS, lambda: self._spi.complete_transmit(answer))


class UARTReader:
    """The PN532 on a hardware UART."""

    def __init__(self, mcu, chip: Chip, number: int):
        self._port = UARTPort(chip)
        self._uart = mcu.uart[number]
        self._frame = bytearray()
        self._gap = mcu.clock.create_alarm(self._frame_ends)
        self._uart.on_byte = self._take

    def _take(self, value: int) -> None:
        self._frame.append(value)
        self._gap.schedule(FRAME_GAP_NS)

    def _frame_ends(self) -> None:
        self._port.write(bytes(self._frame))
        self._frame.clear()

    def tick(self) -> None:
        """Put on the line what has come from the chip by now."""
        came = bytearray(min(self._port.any(), self._uart.rx_fifo.size))
        if came:
            self._port.readinto(came)
            for value in came:
                self._uart.feed_byte(value)


class Reader:
    """The PN532 with all its lines. `wiring` names its bus and pins (tools/emulator/board.py),
    `on_frame(frame)` gets the frame that begins to wait for the board, and b"" when none does.
    """

    def __init__(self, mcu, wiring: dict, on_frame):
        self._mcu = mcu
        self._on_frame = on_frame
        self.chip = Chip(lambda: mcu.clock.nanos / 1e6)
        self._uart = None
        bus = wiring["bus"]
        if bus == "i2c":
            I2CReader(mcu, self.chip, wiring["number"])
        elif bus == "spi":
            SPIReader(mcu, self.chip, wiring["number"], wiring["select_pin"])
        else:
            self._uart = UARTReader(mcu, self.chip, wiring["number"])
        self._irq = mcu.gpio[wiring["irq_pin"]]
        self._waiting: bytes | None = None
        mcu.gpio[wiring["reset_pin"]].add_listener(
            lambda new, old: self.chip.reset_line(0 if is_low(new) else 1)
        )
        self._alarm = mcu.clock.create_alarm(self._tick)
        self._tick()

    def _tick(self) -> None:
        self._alarm.schedule(TICK_NS)
        if self._uart:
            self._uart.tick()
        waiting = self.chip.waiting()
        if waiting != self._waiting:
            self._waiting = waiting
            self._irq.set_input_value(not waiting)
            self._on_frame(waiting)
