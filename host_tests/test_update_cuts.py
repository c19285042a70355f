"""No power cut during an update leaves a board that does not start a whole firmware."""

import re

import pytest
from conftest import run_micropython

NAMES = ("update", "confirm", "fall_back", "again", "rollback", "first", "clean_up")


@pytest.mark.parametrize("chip", ("esp32", "rp2"))
@pytest.mark.parametrize("name", NAMES)
def test_every_cut_leaves_a_whole_firmware(chip, name, capsys):
    done = run_micropython("host_tests/update_cuts.py", chip, name, heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.match(r"(\d+) cut points", done.stdout)
    assert found and int(found[1]) >= 3, done.stdout
    with capsys.disabled():
        print(f"\n  {chip} {name}: {done.stdout.strip()}", end="")


@pytest.mark.parametrize("chip", ("esp32", "rp2"))
def test_a_damaged_slot_is_not_started(chip, capsys):
    done = run_micropython("host_tests/update_damage.py", chip, heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "full flash: started" in done.stdout
    with capsys.disabled():
        count = done.stdout.count("refused:")
        print(f"\n  {chip}: {count} damages refused; {done.stdout.splitlines()[0]}", end="")
