"""What rp2040py 0.3.6 lacks of the chip. It works through names that are the emulator's own, so
its version is pinned.
"""

import random

from rp2040py.peripherals.peripheral import BasePeripheral

ROSC = 0x40060
"""The ring oscillator's address, as the emulator counts them."""
RANDOM_BIT, STATUS = 0x1C, 0x18
ENABLED_AND_STABLE = 0x80001000
CTRL_AT_RESET = 0xAA0
TX_EMPTY = 1 << 4


class RingOscillator(BasePeripheral):
    """With its random bit: os.urandom would give the same bytes for ever."""

    def read_uint32(self, offset):
        if offset == RANDOM_BIT:
            return random.getrandbits(1)
        return ENABLED_AND_STABLE if offset == STATUS else CTRL_AT_RESET

    def write_uint32(self, offset, value):
        pass


def disarm_at_reset(watchdog) -> None:
    """A chip that was reset has its watchdog off; the emulator leaves it on."""
    trigger = watchdog.on_watchdog_trigger

    def triggered():
        watchdog._enable = watchdog.timer.enable = watchdog.alarm.enable = False
        trigger()

    watchdog.on_watchdog_trigger = triggered


def report_abort_at_once(i2c) -> None:
    """A refused address empties the FIFO, and the chip says so; without that MicroPython waits for
    its time-out and raises another error.
    """
    abort = i2c._abort

    def aborted(reason):
        abort(reason)
        i2c._set_interrupts(TX_EMPTY)

    i2c._abort = aborted


def repair(mcu) -> None:
    """Mend a chip that has not started yet."""
    mcu.peripherals[ROSC] = RingOscillator(mcu, "ROSC")
    disarm_at_reset(mcu.watchdog)
    for i2c in mcu.i2c:
        report_abort_at_once(i2c)
