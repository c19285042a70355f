"""A generic ESP32-S3 module (README.md shows the wiring)."""

from hal.chip import Chip
from hal.nic import Wifi

_chip = Chip(
    spi=(1, 12, 11, 13, 10),
    uart=(1, 17, 18),
    i2c=(0, 8, 9),
    lamp=(1, 2, 38),
    evses=((4, 5, 6), (7, 15, 16)),
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
