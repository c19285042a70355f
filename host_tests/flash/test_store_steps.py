"""No step of the store keeps the board waiting: what each asks of the flash is bounded."""

import json

import pytest
from conftest import run_micropython

KB = 1024
# Starting has no steps: nothing else runs yet.
STARTS = ("first_open", "open")


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
        assert row["read_bytes"] <= 64 * KB and row["reads"] <= 1500, row
        # A directory block written anew, and in the worst case moved: that is littlefs alone.
        assert row["call_erases"] <= 2 and row["call_read_bytes"] <= 160 * KB, row
    worst = max(rows, key=lambda row: row["read_bytes"] * (row["operation"] not in STARTS))
    call = max(row["call_read_bytes"] for row in rows)
    tell(
        f"{chip}: a step reads {worst['read_bytes']} bytes at most ({worst['operation']}), "
        f"a call that erases {call}"
    )
