"""Raspberry Pi Pico 2 W (README.md shows the wiring)."""

from hal.chip import Chip
from hal.nic import Wifi

_chip = Chip(
    spi=(0, 18, 19, 16, 17),
    uart=(1, 8, 9),
    i2c=(0, 4, 5),
    lamp=(20, 21, 22),
    evses=((10, 11, 12), (13, 14, 15)),
    lsb_first=False,
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
