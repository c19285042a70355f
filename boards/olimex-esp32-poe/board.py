"""Olimex ESP32-POE and ESP32-POE-ISO: ESP32 with wired Ethernet (README.md shows the wiring)."""

import network
from machine import Pin

from hal.chip import Chip
from hal.nic import Lan

_chip = Chip(
    spi=None,
    uart=(1, 13, 16),
    i2c=(0, 13, 16),
    lamp=(14, 15, None),
    evses=((32, 33, 4),),
    lsb_first=True,
)


def _lan():
    return network.LAN(
        mdc=Pin(23),
        mdio=Pin(18),
        power=Pin(12),
        phy_type=network.PHY_LAN8720,
        phy_addr=0,
        ref_clk=Pin(17),
        ref_clk_mode=Pin.OUT,
    )


_nic = Lan(_lan)

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
