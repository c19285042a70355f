"""The token store beside its alternatives, on MicroPython (store_board.py).

python -m tools.bench.store [--table] [COUNT ...]
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from tools.build import build
from tools.paths import BUILD, IMAGE, ROOT, micropython

COUNTS = (100, 1000, 10_000, 50_000)
PEERS = BUILD / "bench"
REQUIREMENTS = Path(__file__).parent.parent / "requirements-bench.txt"


def fetch_peers() -> None:
    """Install the peers for MicroPython, once."""
    if (PEERS / "chumicro_kvstore").exists():
        return
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    options = ["--no-deps", "--no-compile", "--require-hashes", "--target", str(PEERS)]
    done = subprocess.run(
        [*pip, *options, "-r", str(REQUIREMENTS)], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"cannot install the peers:\n{done.stdout}{done.stderr}")


def measure(count: int, chip: str) -> list[dict]:
    """The rows of one number of cards on one chip's flash. Raises SystemExit on failure."""
    path = [str(IMAGE), ".frozen", str(ROOT / "host_tests"), str(PEERS)]
    done = subprocess.run(
        [micropython(), "-X", "heapsize=400m", "tools/bench/store_board.py", str(count), chip],
        cwd=ROOT,
        env={**os.environ, "MICROPYPATH": ":".join(path)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"the benchmark failed:\n{done.stdout}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def rows(counts=COUNTS) -> list[dict]:
    """All rows: ESP32's flash for every count, RP2's for what a Pico W is to hold."""
    fetch_peers()
    build()
    found = []
    for count in counts:
        print(f"token store, {count} cards", file=sys.stderr, flush=True)
        found += measure(count, "esp32")
        if count <= 10_000:
            found += measure(count, "rp2")
    return found


def table(found: list[dict]) -> str:
    """The rows as text, a metric per line and a column per store, for each number of cards."""
    lines = []
    for count in sorted({int(row["case"].split("/")[1]) for row in found}):
        mine = [row for row in found if int(row["case"].split("/")[1]) == count]
        cases = sorted(
            {row["case"] for row in mine}, key=lambda case: ("tapauth" not in case, case)
        )
        names = [case.replace(f"/{count}", "") for case in cases]
        lines += ["", f"{count} cards".ljust(32) + "".join(name.rjust(20) for name in names)]
        for metric in dict.fromkeys(row["metric"] for row in mine):
            values = {row["case"]: row["value"] for row in mine if row["metric"] == metric}
            cells = "".join(str(values.get(case, "-")).rjust(20) for case in cases)
            lines.append(metric.ljust(32) + cells)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.store", description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=COUNTS)
    parser.add_argument("--table", action="store_true", help="a column per store, not rows")
    arguments = parser.parse_args()
    found = rows(arguments.counts)
    if arguments.table:
        print(table(found))
    else:
        for row in found:
            print(json.dumps(row))


if __name__ == "__main__":
    main()
