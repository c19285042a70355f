"""The reader as a task: builds it from the configuration, and calls it when it wants to be."""

import asyncio

from tapauth.compat import ticks_diff, ticks_us
from tapauth.core.taps import Taps
from tapauth.reader.pn532_i2c import I2CTransport
from tapauth.reader.scanner import Scanner


def open_reader(board, config: dict, on_event) -> tuple:
    """(Scanner, Taps) for the configuration's section "reader".

    `board` is the board's module (boards/README.md). `on_event(event, value, now)` must return
    quickly. Raises ValueError for a bus there is no transport for.
    """
    if config.get("bus", "i2c") != "i2c":
        raise ValueError("reader.bus")
    irq = board.irq_pin(config)
    transport = I2CTransport(board.reader_bus(config), config.get("address", 0x24), irq)
    taps = Taps(
        config.get("removal_ms", 2000),
        config.get("restart_guard_ms", 3000),
        config.get("uppercase", False),
    )
    scanner = Scanner(
        transport,
        taps,
        on_event,
        board.reset_pin(config),
        irq is not None,
        config.get("poll_ms", 50),
        config.get("heartbeat_ms", 2000),
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
        await asyncio.sleep(delay / 1000)
