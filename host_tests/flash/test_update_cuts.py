"""No power cut during an update leaves a board that does not start a whole firmware."""

import re

import pytest
from conftest import run_micropython
from cut_power import CHIPS, cut_power

from tapauth.board_status import BOOT_FILES
from tools.board import on_board
from tools.firmware import board_names, boot_part, limits_of

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
# The boot part is replaced: that of the last release or this one, by this, a newer or an older.
BOOT_NAMES = (
    "boot_a",
    "boot_b",
    "boot_only",
    "boot_newer",
    "boot_back",
    "boot_half",
    "boot_first",
    "boot_deploy",
)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", NAMES)
def test_every_cut_leaves_a_whole_firmware(chip, name, tell):
    points, said = cut_power(chip, "update_cuts", name)
    assert points >= 3
    tell(f"power cuts, {chip}, {name}: {said}")


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", BOOT_NAMES)
def test_every_cut_leaves_a_boot_part_that_starts(chip, name, tell):
    points, said = cut_power(chip, "boot_cuts", name)
    assert points >= 3
    tell(f"power cuts, {chip}, {name}: {said}")


@pytest.mark.parametrize("chip", CHIPS)
def test_a_damaged_slot_is_not_started(chip, tell):
    done = run_micropython("host_tests/on_micropython/update_damage.py", chip, heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "full flash: started" in done.stdout
    count = done.stdout.count("refused:")
    tell(f"damaged slots, {chip}: {count} refused; {done.stdout.splitlines()[0]}")


@pytest.mark.parametrize("chip", CHIPS)
def test_what_runs_is_never_given_out_to_be_written(chip, tell):
    done = run_micropython("host_tests/on_micropython/slot_to_write.py", chip, heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^states: (\d+)", done.stdout, re.M)
    assert found, done.stdout
    tell(f"slots to write, {chip}: {found[1]} states of the record and what runs")


@pytest.mark.parametrize("old, new", (("before", "now"), ("now", "newer"), ("before", "newer")))
def test_every_mixture_of_two_boot_parts_starts_either_slot(old, new, tell):
    script = "host_tests/on_micropython/boot_mixtures.py"
    done = run_micropython(script, old, new, heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^(\d+) mixtures of (\d+) files", done.stdout, re.M)
    assert found and int(found[1]) == 2 ** int(found[2]), done.stdout
    assert int(found[2]) == 6 or "objections: all" in done.stdout
    tell(f"boot parts, {old} and {new}: {found[0]}")


def test_the_boot_parts_files_are_known_by_name():
    """To the board's code in the order in which they are put in place, to the status sorted."""
    for name in board_names():
        assert set(boot_part(name, limits_of(name))) <= set(on_board.BOOT_FILES)
    assert set(boot_part("pico-w", limits_of("pico-w"))) == set(on_board.BOOT_FILES)
    assert on_board.BOOT_FILES[-1] == "main.py"
    assert sorted(on_board.BOOT_FILES) == list(BOOT_FILES)
