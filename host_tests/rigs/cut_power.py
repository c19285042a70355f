"""Runs host_tests/on_micropython/power_cuts.py."""

import re

from conftest import run_micropython

CHIPS = ("esp32", "rp2")


def cut_power(chip: str, module: str, name: str) -> tuple[int, str]:
    """Cut a scenario everywhere. Returns the cut points and what the rig says of them.

    Raises AssertionError when a start found what it must not.
    """
    script = "host_tests/on_micropython/power_cuts.py"
    done = run_micropython(script, chip, module, name, heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^((\d+) cut points in .*)", done.stdout, re.M)
    assert found, done.stdout
    return int(found[2]), found[1]
