"""The reader as a task: builds it from the configuration, and calls it when it wants to be."""

from tapauth.compat import sleep_ms, ticks_diff, ticks_us
from tapauth.core.taps import Taps
from tapauth.reader.pn532_i2c import I2CTransport
from tapauth.reader.scanner import Scanner


def open_reader(board, config: dict, on_event) -> tuple:
    """(Scanner, Taps) for the checked section "reader" of the configuration.

    `board` is the board's module (boards/README.md). `on_event(event, value, now)` must return
    quickly.
    """
    irq = board.irq_pin(config)
    transport = I2CTransport(board.reader_bus(config), config["address"], irq)
    taps = Taps(config["removal_ms"], config["restart_guard_ms"], config["uppercase"])
    scanner = Scanner(
        transport,
        taps,
        on_event,
        board.reset_pin(config),
        irq is not None,
        config["poll_ms"],
        config["heartbeat_ms"],
    )
    return scanner, taps


class Stall:
    """The longest time that one step held the loop, in microseconds, transfers included."""

    def __init__(self):
        self.longest_us = 0


async def run(scanner: Scanner, clock, beat, stall: Stall | None = None) -> None:
    """Scan for ever. `clock.now()` is the time in milliseconds; `beat()` is called after each
    step, so that a supervisor sees the task move.
    """
    while True:
        begin = ticks_us()
        delay = scanner.step(clock.now())
        if stall is not None:
            stall.longest_us = max(stall.longest_us, ticks_diff(ticks_us(), begin))
        beat()
        await sleep_ms(delay)
