"""Measurements as rows: what `make bench`, `make size` and `make test-emu` print and write.

python -m tools.bench.rows build/emu.json
"""

import json
import sys
from pathlib import Path


def row(suite: str, case: str, metric: str, value: float, unit: str) -> dict:
    """One measured value: which suite and case, what was measured, how much of which unit."""
    return {"suite": suite, "case": case, "metric": metric, "value": value, "unit": unit}


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write rows as a JSON array, replacing the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n")


def add_rows(path: Path, rows: list[dict]) -> None:
    """Write rows into such a file, in the place of those that measured the same there."""
    import fcntl  # not on Windows, where nothing adds rows

    def what(it: dict) -> tuple:
        return it["suite"], it["case"], it["metric"]

    new = {what(it) for it in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests in several processes add theirs
        old = json.loads(path.read_text()) if path.exists() else []
        write_rows(path, [it for it in old if what(it) not in new] + rows)


def show(it: dict) -> None:
    """Print a row."""
    value = it["value"]
    text = f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"
    print(f"{it['suite']:12} {it['case']:34} {it['metric']:30} {text:>14} {it['unit']}")


if __name__ == "__main__":
    for one in sorted(json.loads(Path(sys.argv[1]).read_text()), key=lambda it: it["case"]):
        show(one)
