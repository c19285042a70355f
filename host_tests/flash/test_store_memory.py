"""A change for which there is too little memory is done or not, told, and keeps no other away."""

import pytest
from conftest import run_micropython

STEPS = {
    "put": 192,
    "delete": 192,
    "learn": 192,
    "put_flush": 900,
    "delete_nearly": 192,
    "learn_nearly": 192,
    "terms": 700,
    "merge": 700,
    "update": 700,
    "full_list": 700,
    "tidy": 192,
    "clear": 192,
    "setting": 192,
}
"""By how many bytes more than at the last try a change is tried again."""
TAKES_AWAY = ("delete", "delete_nearly", "learn", "learn_nearly")
LITTLE = 4000
"""Bytes of the 64-bit heap that suffice to take an acceptance away: no code is loaded for that."""


@pytest.mark.parametrize("case", STEPS)
def test_whatever_memory_is_left_a_change_is_whole_and_the_store_goes_on(case, tmp_path, tell):
    arguments = (str(tmp_path / "board"), case, str(STEPS[case]))
    done = run_micropython("host_tests/on_micropython/store_memory.py", *arguments, heap="320k")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 told" not in done.stdout or case in ("clear", "setting"), done.stdout
    tell(done.stdout.strip())
    if case in TAKES_AWAY:
        assert int(done.stdout.split()[-5]) < LITTLE, done.stdout
