"""A tap's time on the emulated Pico W, phase by phase (tools/emulator/tap_phases.py), and how soon
a driver gets what a tap is for: the enable line, and the statuses.

The times are the board's own; nothing on the board measures them.
"""

import os
import statistics

import pytest
from brokers import BROKERS

from tools.bench.rows import add_rows
from tools.emulator.tap_phases import ASLEEP, MOMENTS, phases, rows_of, table, tapped_board
from tools.paths import BUILD

TAPS = int(os.environ.get("TAPAUTH_TAPS", "4"))
CARDS = int(os.environ.get("TAPAUTH_TAP_CARDS", "10000"))
LINE_MS = 60
LAST_STATUS_MS = 100


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Taps by their kind."""
    broker = BROKERS["mosquitto" if "mosquitto" in BROKERS else "embedded"]()
    broker.start()
    try:
        with tapped_board(tmp_path_factory.mktemp("taps"), CARDS, broker.port) as meter:
            return meter.run(TAPS, lambda text: print("  |", text, flush=True))
    finally:
        broker.stop()


def test_phases_of_a_tap(found):
    print(f"{TAPS} taps of each kind, {CARDS} cards in the store\n{table(found)}")
    add_rows(BUILD / "emu.json", rows_of(found))
    for taps in found.values():
        for tap in taps:
            moments = [tap.moments[name] for name in MOMENTS if name in tap.moments]
            assert moments[0] > 0 and tap.moments["answer is read"] >= tap.moments["answer waits"]
            # The samples account for all of the time, and know most of what they saw.
            whole = tap.moments["last status"] - tap.moments["answer waits"]
            assert abs(sum(tap.parts.values()) - whole) < 2
            assert tap.parts[ASLEEP] < whole / 2 and tap.parts["core"] > 1


def median(taps, phase):
    return statistics.median(phases(taps)[phase])


def test_the_enable_line_follows_the_card(found):
    for kind in ("start", "stop"):
        assert median(found[kind], "enable line") <= LINE_MS
    assert "enable line" not in phases(found["stranger"])


def test_the_last_status_leaves_soon(found):
    for kind, taps in found.items():
        assert median(taps, "last status") <= LAST_STATUS_MS, kind
