"""What a change did to the sizes, and the file that has it said for each change."""

import json
import subprocess
import sys

import pytest
import yaml

from tools.bench.rows import row, write_rows
from tools.compile.size_diff import sizes, table
from tools.paths import ROOT

BASE = [
    row("size", "tapauth/app.py", "mpy_armv6m", 300, "bytes"),
    row("size", "tapauth/app.py", "mpy_xtensawin", 310, "bytes"),
    row("size", "tapauth/gone.py", "mpy_armv6m", 1200, "bytes"),
    row("size", "tapauth/same.py", "mpy_armv6m", 5, "bytes"),
    row("size", "total", "mpy_armv6m", 1505, "bytes"),
    row("size", "idle firmware, 64-bit heap", "heap_used", 239_008, "bytes"),
    row("size", "pico-w", "slot", 211_956, "bytes"),
]
NEW = [
    row("size", "tapauth/app.py", "mpy_armv6m", 290, "bytes"),
    row("size", "tapauth/app.py", "mpy_xtensawin", 309, "bytes"),
    row("size", "tapauth/new.py", "mpy_armv6m", 40, "bytes"),
    row("size", "tapauth/same.py", "mpy_armv6m", 5, "bytes"),
    row("size", "total", "mpy_armv6m", 335, "bytes"),
    row("size", "idle firmware, 64-bit heap", "heap_used", 240_000, "bytes"),
    row("size", "pico-w", "slot", 211_956, "bytes"),
]


def test_what_differs_is_shown_the_heap_first(tmp_path):
    write_rows(tmp_path / "base.json", BASE)
    write_rows(tmp_path / "new.json", NEW)
    command = [sys.executable, "-m", "tools.compile.size_diff"]
    files = [str(tmp_path / "base.json"), str(tmp_path / "new.json")]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "| what | metric | base | now | bytes |",
        "|---|---|--:|--:|--:|",
        "| idle firmware, 64-bit heap | heap_used | 239,008 | 240,000 | +992 |",
        "| total | mpy | 1,505 | 335 | -1,170 |",
        "| tapauth/app.py | mpy | 310 | 309 | -1 |",
        "| tapauth/gone.py | mpy | 1,200 | - | -1,200 |",
        "| tapauth/new.py | mpy | - | 40 | +40 |",
    ]


def test_nothing_differs_from_itself(tmp_path):
    write_rows(tmp_path / "base.json", BASE)
    same = sizes(tmp_path / "base.json")
    assert table(same, same) == "No size differs from the base's."


@pytest.mark.parametrize("text", ["", "5", "[1]", '[{"case": "x"}]'])
def test_what_is_no_size_file_is_told(tmp_path, text):
    path = tmp_path / "size.json"
    path.write_text(text)
    with pytest.raises(SystemExit, match=r"size\.json is no build/size\.json"):
        sizes(path)


def test_the_hosted_file_calls_what_runs_anywhere():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands[0] == ".ci/run"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert "tools.compile.size_diff" in commands[1]
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    assert json.dumps(steps).count("build/size.json") == 3
