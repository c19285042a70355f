"""WIZnet W5100S-EVB-Pico: RP2040 with wired Ethernet (README.md shows the wiring)."""

import network

from hal.chip import Chip
from hal.nic import Lan

_chip = Chip(
    spi=(1, 10, 11, 12, 13),
    uart=(1, 8, 9),
    i2c=(0, 4, 5),
    lamp=(0, 1, 3),
    evses=((14, 15, 22), (26, 27, 28)),
    lsb_first=False,
)
_nic = Lan(network.WIZNET5K)

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
