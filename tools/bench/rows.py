"""Measurements as rows: what `make bench` and `make size` print and write."""

import json
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

    def what(it: dict) -> tuple:
        return it["suite"], it["case"], it["metric"]

    new = {what(it) for it in rows}
    old = json.loads(path.read_text()) if path.exists() else []
    write_rows(path, [it for it in old if what(it) not in new] + rows)
