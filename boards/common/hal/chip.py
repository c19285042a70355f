"""What a microcontroller board offers the firmware, by the pins that its board.py names.

What each function must do: boards/README.md. A pin is its GPIO number; None is not wired.
"""

from time import gmtime, sleep_us  # type: ignore[attr-defined]

import machine
from machine import I2C, SPI, UART, WDT, Pin


class Chip:
    """`spi` is (id, sck, mosi, miso, cs), `uart` (id, tx, rx), `i2c` (id, sda, scl), each None
    where the board has no room for it; `lamp` the pins of green, red and buzzer; `evses` for
    each EVSE (plugged, enable, fault). `lsb_first` tells whether its SPI can send the least
    significant bit first: ESP32 can, RP2 cannot.
    """

    def __init__(self, spi, uart, i2c, lamp, evses, lsb_first: bool):
        self._wiring = {"spi": spi, "uart": uart, "i2c": i2c}
        self._lamp = [None if pin is None else Pin(pin, Pin.OUT, value=0) for pin in lamp]
        self._evses = evses
        self._lsb_first = lsb_first

    def reader_bus(self, config: dict):
        name = config["bus"]
        wiring = self._wiring[name]
        if wiring is None:
            raise OSError(19, "this board has no " + name + " for the reader")
        number, *pins = [Pin(pin) if i else pin for i, pin in enumerate(wiring)]
        if name == "uart":
            return UART(number, 115_200, tx=pins[0], rx=pins[1], rxbuf=256, timeout=0)
        if name == "i2c":
            _free_bus(pins[0], pins[1])
            return I2C(number, sda=pins[0], scl=pins[1], freq=100_000, timeout=10_000)
        sck, mosi, miso, cs = pins
        cs.init(Pin.OUT, value=1)
        bus = SPI(
            number,
            baudrate=1_000_000,
            firstbit=SPI.LSB if self._lsb_first else SPI.MSB,
            sck=sck,
            mosi=mosi,
            miso=miso,
        )
        return bus, cs, self._lsb_first

    def reset_pin(self, config: dict):
        pin = config["reset_pin"]
        return Pin(pin, Pin.OUT, value=1) if pin >= 0 else None

    def irq_pin(self, config: dict):
        pin = config["irq_pin"]
        return Pin(pin, Pin.IN) if pin >= 0 else None

    def watchdog(self, timeout_ms: int):
        return WDT(timeout=timeout_ms)

    def lamp(self, pattern: str, outputs: int):
        for bit, pin in enumerate(self._lamp):
            if pin is not None:
                pin(outputs >> bit & 1)

    def evse_lines(self, evse_id: int, config: dict):
        if evse_id > len(self._evses):
            return None
        plugged, enable, fault = self._evses[evse_id - 1]
        # Off before it drives: `value` is set before the pin becomes an output.
        output = Pin(enable, Pin.OUT, value=1 if config["enable_low"] else 0)
        return Pin(plugged, Pin.IN, Pin.PULL_UP), output, Pin(fault, Pin.IN, Pin.PULL_UP)

    def unique_id(self) -> bytes:
        return machine.unique_id()

    def set_clock(self, unix_seconds: int):
        # ESP32 counts from the year 2000, RP2 from 1970.
        epoch = 0 if gmtime(0)[0] == 1970 else 946_684_800
        year, month, day, hour, minute, second, weekday = gmtime(unix_seconds - epoch)[:7]
        machine.RTC().datetime((year, month, day, weekday, hour, minute, second, 0))

    def reset(self):
        machine.reset()


def _free_bus(sda, scl) -> None:
    """Pulse SCL until a chip that holds SDA lets go of it."""
    sda.init(Pin.IN, Pin.PULL_UP)
    scl.init(Pin.OPEN_DRAIN, value=1)
    for _ in range(9):
        if sda():
            return
        scl(0)
        sleep_us(10)
        scl(1)
        sleep_us(10)
