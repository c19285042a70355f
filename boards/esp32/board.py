"""A generic ESP32 module (README.md shows the wiring)."""

from hal.chip import Chip
from hal.nic import Wifi

_chip = Chip(
    spi=(2, 18, 23, 19, 5),
    uart=(2, 17, 16),
    i2c=(0, 21, 22),
    lamp=(27, 2, 15),
    evses=((32, 25, 33), (13, 26, 14)),
    lsb_first=True,
)
_nic = Wifi()

reader_bus = _chip.reader_bus
reset_pin = _chip.reset_pin
irq_pin = _chip.irq_pin
watchdog = _chip.watchdog
lamp = _chip.lamp
evse_lines = _chip.evse_lines
unique_id = _chip.unique_id
set_clock = _chip.set_clock
reset = _chip.reset
connect_network = _nic.connect_network
network_up = _nic.network_up
