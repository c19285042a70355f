"""No step of the store keeps the board waiting: what each asks of the flash is bounded."""

import json

import pytest
from conftest import run_micropython

KB = 1024
# Starting has no steps: nothing else runs yet.
STARTS = ("first_open", "open")
MOST_READ = {"esp32": (72 * KB, 1700), "rp2": (56 * KB, 1200)}
"""(bytes, reads) of a step at most. An ESP32's littlefs reads 128 bytes at a time, an RP2's 1 KB;
the most is where a list takes its place, which littlefs writes into a full directory block.
"""


@pytest.mark.parametrize("chip", ("esp32", "rp2"))
def test_a_tap_never_waits_for_more_than_one_erase_and_a_bounded_read(chip, tell):
    done = run_micropython("host_tests/on_micropython/store_steps.py", chip, "3000", heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) > 14
    for row in rows:
        name = row["operation"]
        if name in STARTS:
            assert row["read_bytes"] <= 192 * KB, row
            continue
        assert row["erasing_calls"] <= 1, row
        most_bytes, most_reads = MOST_READ[chip]
        assert row["read_bytes"] <= most_bytes and row["reads"] <= most_reads, row
        # A directory block written anew, and in the worst case moved: that is littlefs alone.
        assert row["call_erases"] <= 2 and row["call_read_bytes"] <= 160 * KB, row
    worst = max(rows, key=lambda row: row["read_bytes"] * (row["operation"] not in STARTS))
    call = max(row["call_read_bytes"] for row in rows)
    tell(
        f"{chip}: a step reads {worst['read_bytes']} bytes at most ({worst['operation']}), "
        f"a call that erases {call}"
    )
