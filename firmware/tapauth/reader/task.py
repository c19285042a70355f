"""The reader as a task: builds it from the configuration, and calls it when it wants to be."""

from tapauth.compat import sleep_ms, ticks_diff, ticks_us
from tapauth.core.taps import Taps
from tapauth.reader.scanner import Scanner


def _transport(board, config: dict):
    """The configured transport; only its module is loaded."""

    def open_bus():
        return board.reader_bus(config)

    bus = config["bus"]
    if bus == "uart":
        from tapauth.reader.pn532_hsu import HSUTransport

        return HSUTransport(open_bus)
    irq = board.irq_pin(config)
    if bus == "spi":
        from tapauth.reader.pn532_spi import SPITransport

        return SPITransport(open_bus, irq)
    from tapauth.reader.pn532_i2c import I2CTransport

    return I2CTransport(open_bus, irq, config["address"])


def open_reader(board, config: dict, on_event) -> tuple:
    """(Scanner, Taps) for the checked section "reader" of the configuration.

    `board` is the board's module (boards/README.md); its bus is opened at the first step.
    `on_event(event, value, now)` must return quickly.
    """
    taps = Taps(config["removal_ms"], config["restart_guard_ms"], config["uppercase"])
    scanner = Scanner(
        transport=_transport(board, config),
        taps=taps,
        on_event=on_event,
        reset_pin=board.reset_pin(config),
        poll_ms=config["poll_ms"],
        heartbeat_ms=config["heartbeat_ms"],
    )
    return scanner, taps


def counters(scanner: Scanner, taps: Taps) -> dict:
    """Counts of the reader since the start, for the health report.

    `cards_refused` holds a count for each reason that came up.
    """
    return {
        "taps": taps.taps,
        "cards_refused": taps.refused,
        "reader_lost": scanner.is_lost,
        "reader_outages": scanner.outages,
        "reader_resets": scanner.resets,
        "reader_errors": scanner.bus_errors,
        "reader_noise": scanner.noise,
    }


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
