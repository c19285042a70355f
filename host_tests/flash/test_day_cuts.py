"""No power cut takes the day that the board has kept."""

import pytest
from conftest import run_micropython


@pytest.mark.parametrize("chip", ("esp32", "rp2"))
def test_a_day_that_was_kept_is_there_after_every_cut(chip, tell):
    done = run_micropython("host_tests/on_micropython/day_cuts.py", chip, heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cut points" in done.stdout
    tell(f"power cuts while a day is kept, {chip}: {done.stdout.strip()}")
