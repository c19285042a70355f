"""No power cut during an update leaves a board that does not start a whole firmware."""

import ast
import re

import pytest
from conftest import run_micropython

from tools.deploy import boot_order
from tools.firmware import boot_part, limits_of
from tools.paths import ROOT

NAMES = (
    "update",
    "confirm",
    "fall_back",
    "again",
    "rollback",
    "damaged",
    "first",
    "keys",
    "clean_up",
)


@pytest.mark.parametrize("chip", ("esp32", "rp2"))
@pytest.mark.parametrize("name", NAMES)
def test_every_cut_leaves_a_whole_firmware(chip, name, tell):
    done = run_micropython("host_tests/on_micropython/update_cuts.py", chip, name, heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.match(r"(\d+) cut points", done.stdout)
    assert found and int(found[1]) >= 3, done.stdout
    tell(f"power cuts, {chip}, {name}: {done.stdout.strip()}")


@pytest.mark.parametrize("chip", ("esp32", "rp2"))
def test_a_damaged_slot_is_not_started(chip, tell):
    done = run_micropython("host_tests/on_micropython/update_damage.py", chip, heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "full flash: started" in done.stdout
    count = done.stdout.count("refused:")
    tell(f"damaged slots, {chip}: {count} refused; {done.stdout.splitlines()[0]}")


def test_the_boot_part_is_put_in_place_in_the_order_that_was_cut():
    rig = (ROOT / "host_tests" / "on_micropython" / "update_rig.py").read_text()
    files = re.search(r"BOOT_FILES = (\(.*?\))", rig, re.S)
    assert files
    assert list(ast.literal_eval(files[1])) == boot_order(boot_part("pico-w", limits_of("pico-w")))
