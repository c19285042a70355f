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
