"""Run the benchmarks side by side and print one table.

    python -m tools.bench [SUITE ...]

Suites that measure the firmware itself run in MicroPython, the others here. The rows also go to
build/bench.json. A suite that fails shows what it printed beside its rows.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from tools.bench.rows import show, write_rows
from tools.build import build
from tools.paths import BUILD, IMAGE, LIBS, ROOT, micropython

HERE = Path(__file__).parent
# Suite to the heap of its MicroPython, or None for what runs on CPython.
SUITES: dict[str, str | None] = {
    "auth_core": "192k",
    "link": None,
    "reader": None,
    "store": None,
    "tap": None,
    "rpc": "400k",
    "kdf": "192k",
    "server": None,
    "objects": None,
}


def command(suite: str) -> list[str]:
    """The command line of a suite."""
    heap = SUITES[suite]
    if heap is None:
        return [sys.executable, "-m", "tools.bench." + suite]
    return [micropython(), "-X", "heapsize=" + heap, str(HERE / (suite + ".py"))]


def run(suite: str) -> list[dict]:
    """The rows of a suite. Raises SystemExit with its output when it fails or has none."""
    boards_path = (IMAGE, IMAGE / "lib", ".frozen")
    # On CPython the reader's library needs stand-ins for what MicroPython has built in.
    desk_path = (ROOT, LIBS, ROOT / "host_tests" / "rigs" / "cpython")
    environment = {
        **os.environ,
        "MICROPYPATH": ":".join(map(str, boards_path)),
        "PYTHONPATH": os.pathsep.join(map(str, desk_path)),
    }
    done = subprocess.run(
        command(suite), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not rows:
        raise SystemExit(f"{suite} failed:\n{done.stdout}{done.stderr}")
    return rows


def main() -> None:
    wanted = sys.argv[1:] or list(SUITES)
    for suite in wanted:
        if suite not in SUITES:
            raise SystemExit(f"no suite {suite!r}; there are: {', '.join(SUITES)}")
    build()
    rows: list[dict] = []
    for number, suite in enumerate(wanted, 1):
        print(f"[{number}/{len(wanted)}] {suite}", file=sys.stderr, flush=True)
        found = run(suite)
        for row in found:
            show(row)
        rows += found
    write_rows(BUILD / "bench.json", rows)


if __name__ == "__main__":
    main()
