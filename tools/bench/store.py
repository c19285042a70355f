"""The token store beside its alternatives, on MicroPython (store_board.py).

python -m tools.bench.store [--table] [COUNT ...]
"""

import argparse
import json
import os
import subprocess
import sys

from tools.build import build
from tools.paths import BUILD, IMAGE, ROOT, micropython

COUNTS = (100, 1000, 10_000, 50_000)
STEPS_FROM = 10_000
"""Fewer cards than this tell nothing about the worst step."""
PEERS = BUILD / "bench"
REQUIREMENTS = ROOT / "tools" / "requirements" / "bench.txt"


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


def _run(*arguments: str) -> list[dict]:
    """The JSON lines that a script prints on MicroPython. Raises SystemExit on failure."""
    path = [str(IMAGE), ".frozen", str(ROOT / "host_tests" / "on_micropython"), str(PEERS)]
    done = subprocess.run(
        [micropython(), "-X", "heapsize=400m", *arguments],
        cwd=ROOT,
        env={**os.environ, "MICROPYPATH": ":".join(path)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"the benchmark failed:\n{done.stdout}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure(count: int, chip: str) -> list[dict]:
    """The rows of one number of cards on one chip's flash. Raises SystemExit on failure."""
    return _run("tools/bench/store_board.py", str(count), chip)


def steps(count: int, chip: str) -> list[dict]:
    """What the worst step of each operation asks of the flash. Raises SystemExit on failure.

    "call": one call of littlefs that erases, as when it writes a directory block anew.
    """
    found = []
    for row in _run("host_tests/on_micropython/store_steps.py", chip, str(count)):
        case = f"step {row.pop('operation')}/{count}" + ("" if chip == "esp32" else "/" + chip)
        row["steps_that_erase_in_1000"] = round(1000 * row["erasing_steps"] / row["steps"], 1)
        del row["steps"], row["erasing_steps"]
        for metric, value in row.items():
            unit = "bytes" if "bytes" in metric else metric.rpartition("_")[2]
            part = {"suite": "store", "case": case, "metric": metric}
            found.append({**part, "value": value, "unit": unit})
    return found


def rows(counts=COUNTS) -> list[dict]:
    """All rows: ESP32's flash for every count, RP2's for what a Pico W is to hold."""
    fetch_peers()
    build()
    found = []
    for count in counts:
        print(f"token store, {count} cards", file=sys.stderr, flush=True)
        chips = ("esp32", "rp2") if count <= 10_000 else ("esp32",)
        for chip in chips:
            found += measure(count, chip)
            if count >= STEPS_FROM:
                found += steps(count, chip)
    return found


def table(found: list[dict]) -> str:
    """The rows as text, a metric per line and a column per store, for each number of cards."""
    lines = []
    stores = [row for row in found if not row["case"].startswith("step ")]
    for count in sorted({int(row["case"].split("/")[1]) for row in stores}):
        mine = [row for row in stores if int(row["case"].split("/")[1]) == count]
        cases = sorted(
            {row["case"] for row in mine}, key=lambda case: ("tapauth" not in case, case)
        )
        names = [case.replace(f"/{count}", "") for case in cases]
        lines += ["", f"{count} cards".ljust(32) + "".join(name.rjust(20) for name in names)]
        for metric in dict.fromkeys(row["metric"] for row in mine):
            values = {row["case"]: row["value"] for row in mine if row["metric"] == metric}
            cells = "".join(str(values.get(case, "-")).rjust(20) for case in cases)
            lines.append(metric.ljust(32) + cells)
    worst = [row for row in found if row not in stores]
    metrics = list(dict.fromkeys(row["metric"] for row in worst))
    if worst:
        lines += ["", "worst step".ljust(40) + "".join(name.rjust(26) for name in metrics)]
    for case in dict.fromkeys(row["case"] for row in worst):
        values = {row["metric"]: row["value"] for row in worst if row["case"] == case}
        cells = "".join(str(values[name]).rjust(26) for name in metrics)
        lines.append(case.removeprefix("step ").ljust(40) + cells)
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
