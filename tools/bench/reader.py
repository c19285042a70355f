"""How long a tap takes from the card in the field to its token, on each bus.

    python -m tools.bench.reader

The simulated chip on a clock that is moved: the chip's own times and those of the bus (I2C at
100 kHz, SPI at 1 MHz, UART at 115200 baud) are in it, those of a board's processor are not. A
card comes at any moment, 1000 times each.
"""

import json
import random

from tools.bench.rows import row
from tools.rigs.reader_rig import Rig, tap_latencies

CARDS = 1000
CASES: tuple[tuple[str, str, dict], ...] = (
    ("i2c", "polling", {}),
    ("i2c", "irq", {"irq": True}),
    ("spi", "polling", {}),
    ("spi", "irq", {"irq": True}),
    ("uart", "polling", {}),  # it has no use for the IRQ line: what comes is in its buffer
)
IDLE_MS = 60_000


def main() -> None:
    for bus, way, lines in CASES:
        case = f"{bus} {way}"
        rig = Rig(bus, **lines)
        took = tap_latencies(rig, random.Random(7), CARDS)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
            value = took[min(int(CARDS * share), CARDS - 1)]
            print(json.dumps(row("reader", case, "tap_to_token_" + name, round(value, 1), "ms")))
        if bus == "uart":
            continue
        rig.run(3000)
        spent = rig.port.spent_ms
        rig.run(IDLE_MS)
        busy = (rig.port.spent_ms - spent) / IDLE_MS * 100
        print(json.dumps(row("reader", case, "bus_busy_idle", round(busy, 2), "%")))


if __name__ == "__main__":
    main()
