"""What a change did to the sizes: two files of `make size`, side by side, as a Markdown table.

    python -m tools.compile.size_diff BASE.json NEW.json

A line for each figure that differs: the idle heap and the total first, then the boards, then the
modules, of which the greater of the architectures' sizes counts. Bytes.
"""

import json
import sys
from pathlib import Path

Sizes = dict[tuple[str, str], int]
"""(what, metric) to bytes."""


def sizes(path: Path) -> Sizes:
    """The figures of a file that `make size` wrote. Raises SystemExit when it is none."""
    found: Sizes = {}
    try:
        for row in json.loads(path.read_text()):
            metric = "mpy" if row["metric"].startswith("mpy_") else row["metric"]
            key = (row["case"], metric)
            found[key] = max(row["value"], found.get(key, 0))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} is no build/size.json: {error!r}") from None
    return found


def _place(key: tuple[str, str]) -> tuple[int, str, str]:
    case, metric = key
    if metric == "heap_used":
        return 0, case, metric
    if case == "total":
        return 1, case, metric
    return (3 if metric == "mpy" else 2), case, metric


def table(base: Sizes, new: Sizes) -> str:
    """The lines that differ, or a sentence that none does."""
    lines = []
    for key in sorted({*base, *new}, key=_place):
        before, after = base.get(key), new.get(key)
        if before != after:
            difference = f"{(after or 0) - (before or 0):+,}"
            shown = ["-" if value is None else f"{value:,}" for value in (before, after)]
            lines.append(f"| {' | '.join([*key, *shown, difference])} |")
    if not lines:
        return "No size differs from the base's."
    return "\n".join(["| what | metric | base | now | bytes |", "|---|---|--:|--:|--:|", *lines])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    print(table(sizes(Path(sys.argv[1])), sizes(Path(sys.argv[2]))))
