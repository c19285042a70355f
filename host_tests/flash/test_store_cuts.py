"""No power cut loses an acknowledged change of the token store or leaves half of one."""

import re

import pytest
from conftest import run_micropython

NAMES = (
    "first_start",
    "put",
    "put_new_parent",
    "delete",
    "learn",
    "clear_cache",
    "new_day",
    "journal_full",
    "update_small",
    "update_large",
    "settings",
    "merge",
    "full_list",
)


@pytest.mark.parametrize("chip", ("esp32", "rp2"))
@pytest.mark.parametrize("name", NAMES)
def test_every_cut_leaves_a_whole_state(chip, name, tell):
    done = run_micropython("host_tests/on_micropython/store_cuts.py", chip, name, heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.match(r"(\d+) cut points", done.stdout)
    assert found and int(found[1]) >= 3, done.stdout
    tell(f"{chip} {name}: {done.stdout.strip()}")
