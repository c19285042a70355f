"""The core's cost on MicroPython, as the benchmark measures it."""

import json

from conftest import run_micropython

from tools.paths import ROOT


def test_no_heap_growth_over_ten_thousand_taps():
    done = run_micropython(str(ROOT / "tools" / "bench" / "auth_core.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    values = {(row["case"], row["metric"]): row["value"] for row in rows}
    assert values["10000 taps", "heap growth"] == 0
    # Refused: P, response to two EVSEs, R. Starts: P, A, response, S. Stops: P, stop, X.
    assert values["10000 taps", "effects per session"] == 11
    for case in ("starts", "stops", "refused", "duplicate"):
        assert values[case, "time per token"] > 0
        assert 0 <= values[case, "allocated per token"] < 4096
