"""Lookups leave nothing on the heap; what the store holds does not grow with its cards."""

import re

from conftest import run_micropython


def test_100_000_lookups_in_a_heap_of_66k(tmp_path, tell):
    folder = str(tmp_path)
    filled = run_micropython("host_tests/on_micropython/store_heap.py", "fill", folder)
    assert filled.returncode == 0, filled.stdout + filled.stderr
    done = run_micropython("host_tests/on_micropython/store_heap.py", "look", folder, heap="66k")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"known (\d+) unknown (\d+) growth (\d+) held (\d+)", done.stdout)
    assert found, done.stdout
    known, unknown, growth, held = (int(n) for n in found.groups())
    assert known + unknown == 100_000 and known > 40_000 and unknown > 40_000
    assert growth == 0
    # 64-bit: a board's objects are half that size, its buffers the same. The code that opens
    # the store is forgotten; the names that it brought stay, and are there before.
    assert held <= 3072
    tell(f"{done.stdout.splitlines()[0]}")
