"""Benchmarks. Each module prints its rows as JSON, one object a line:

    python -m tools.bench.reader

The firmware's modules are importable here as they are in the tests.
"""

import sys

from tools.paths import FIRMWARE, LIBS, ROOT

sys.path[:0] = [str(FIRMWARE), str(ROOT / "host_tests" / "cpython"), str(LIBS)]
