"""The auth service on MicroPython: commands per second and heap per command, as JSON rows.

    python -m tools.bench.rpc

The rates are of this machine's 64-bit MicroPython, for comparison with themselves; a board is
slower, and its objects weigh about half.
"""

import json
import os
import subprocess
import sys

from tools.build import build
from tools.paths import IMAGE, ROOT, micropython
from tools.rows import row

SUITE = "rpc"


def rows() -> list[dict]:
    """Build the firmware, run the board's side and return what it measured."""
    build()
    path = [str(IMAGE), str(IMAGE / "lib"), ".frozen"]
    done = subprocess.run(
        [micropython(), "-X", "heapsize=400k", "tools/bench/rpc_on_board.py"],
        cwd=ROOT,
        env={**os.environ, "MICROPYPATH": ":".join(path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise SystemExit(f"the board's side failed:\n{done.stdout}{done.stderr}")
    found = []
    for line in done.stdout.splitlines():
        case, metric, value, unit = line.split()
        found.append(row(SUITE, case, metric, int(value), unit))
    return found


if __name__ == "__main__":
    if len(sys.argv) != 1:
        raise SystemExit(__doc__)
    print(json.dumps(rows(), indent=1))
