"""Runs the tests of one module of host_tests/logic on MicroPython; conftest.py reads the output.

A line per test: `PASS name`, or `FAIL name` followed by the traceback, closed by `END`.
"""

import gc
import sys

import micropython  # noqa: F401  (fails at once on CPython: this runner is not for it)

gc.threshold(8192)  # as boot.py does on a board
# The tests as the build makes them: with literals in the place of the firmware's constants.
sys.path.extend(["build/logic", "host_tests/logic/rigs"])
module = __import__(sys.argv[1])
for name in sorted(dir(module)):
    if not name.startswith("test_"):
        continue
    gc.collect()
    try:
        getattr(module, name)()
    except Exception as error:
        print("FAIL", name)
        sys.print_exception(error, sys.stdout)
        print("END")
    else:
        print("PASS", name)
