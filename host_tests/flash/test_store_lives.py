"""A store keeps its word, whatever happens in its life, and whenever the power goes."""

import os
import re

import pytest
from conftest import run_micropython

CUTS = int(os.environ.get("TAPAUTH_LIVES", "2000"))
LIFE = 500
"""Cuts in one life."""


@pytest.mark.parametrize("chip", ("esp32", "rp2"))
def test_no_life_of_cuts_loses_a_change_or_accepts_what_was_withdrawn(chip, tell):
    cuts = changes = 0
    for seed in range(CUTS // 2 // LIFE):
        arguments = (chip, str(LIFE), str(seed))
        done = run_micropython(
            "host_tests/on_micropython/store_lives.py", *arguments, heap="64m", timeout=3600
        )
        assert done.returncode == 0, (arguments, done.stdout + done.stderr)
        found = re.match(r"(\d+) cuts in (\d+) changes", done.stdout)
        assert found, done.stdout
        cuts += int(found[1])
        changes += int(found[2])
    tell(f"{chip}: {cuts} power cuts in {changes} changes, none lost or half done")
