"""The charts in docs/authorization.md, drawn from the tables in the core's own modules.

    python -m tools.charts

writes each between its markers. The tables of a token and of an EVSE stand in the docstrings of
core/authorizer.py and core/evse.py, where they cost a board nothing; a test holds them against
what the core does. The table of a connector is the one that the core uses.
"""

import re
import sys
from collections.abc import Iterable
from typing import NamedTuple

from tapauth.core import authorizer, evse
from tools.paths import ROOT

DOCUMENT = ROOT / "docs" / "authorization.md"
_ROW = re.compile(r"(?m)^    (\w+)  +(\w+(?:, \w+)*) +-> (\w+(?:, \w+)*)$")
_CHART = re.compile(r"(?s)(<!-- chart of an? (\w+):[^\n]* -->\n).*?(<!-- end of chart -->)")


class Row(NamedTuple):
    """From `state`, each of the inputs may lead to each of the next states."""

    state: str
    inputs: tuple[str, ...]
    nexts: tuple[str, ...]


def table(text: str | None) -> list[Row]:
    """The rows `State  input, input -> State, State` of a docstring."""
    found = _ROW.findall(text or "")
    assert found, "no table"
    return [
        Row(state, tuple(inputs.split(", ")), tuple(nexts.split(", ")))
        for state, inputs, nexts in found
    ]


def ways(rows: Iterable[Row]) -> set[tuple[str, str, str]]:
    """Every (state, input, next state) of a table."""
    return {(row.state, one, other) for row in rows for one in row.inputs for other in row.nexts}


TOKEN = table(authorizer.__doc__)
EVSE = table(evse.__doc__)


def chart(rows: list[Row]) -> str:
    """A block for each state, with an arrow for each row; then the states that lead nowhere."""
    width = max(len(", ".join(row.inputs)) for row in rows) + 8
    lines: list[str] = []
    state = ""
    for row in rows:
        if row.state != state:
            lines += ["", row.state] if lines else [row.state]
            state = row.state
        label = f"   |-- {', '.join(row.inputs)} ".ljust(width, "-")
        lines.append(f"{label}--> {', '.join(row.nexts)}")
    begins = {row.state for row in rows}
    ends = [one for row in rows for one in row.nexts if one not in begins]
    if ends:
        lines += ["", "ends: " + ", ".join(dict.fromkeys(ends))]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def connector_chart() -> str:
    """What each event makes of each state; a dash where it changes nothing."""
    lines = [
        "| | " + " | ".join(evse.TRANSITIONS) + " |",
        "|---" * (1 + len(evse.TRANSITIONS)) + "|",
    ]
    for number, state in enumerate(evse.STATES):
        after = [evse.STATES[nexts[number]] for nexts in evse.TRANSITIONS.values()]
        cells = ["-" if name == state else name for name in after]
        lines.append(f"| **{state}** | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


CHARTS = {
    "token": lambda: chart(TOKEN),
    "EVSE": lambda: chart(EVSE),
    "connector": connector_chart,
}


def drawn(text: str) -> str:
    """A document with its charts drawn anew."""
    return _CHART.sub(lambda found: found[1] + "\n" + CHARTS[found[2]]() + "\n" + found[3], text)


def main() -> int:
    text = DOCUMENT.read_text()
    for name in CHARTS:
        assert re.search(rf"<!-- chart of an? {name}:", text), f"{DOCUMENT} has no chart of {name}"
    DOCUMENT.write_text(drawn(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
