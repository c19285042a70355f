"""How big the firmware is, on flash and in RAM, held against the ceilings in ceilings.json.

    python -m tools.size [--lower]

Every file of the firmware and its libraries is compiled for both architectures of our boards;
the idle heap is what a started firmware holds, measured in MicroPython's 64-bit Unix port, where
objects weigh about twice what they weigh on a board. For each board: its slot, what that takes of
its flash, and the .mpy that it has loaded by its own configuration when it is idle. Rows also go
to build/size.json. Ends with 1 when something is over its ceiling. A ceiling goes down (--lower
brings all of them down to what is measured, and gives one to what has none), or the commit that
raises it says why.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tools.bench.rows import row, write_rows
from tools.build import AS_SOURCE, compile_file, sources
from tools.charger import DesktopCharger
from tools.compile.board_size import BoardSize, measure
from tools.firmware import board_names
from tools.paths import BUILD

ARCHITECTURES = ("armv6m", "xtensawin")
CEILINGS = Path(__file__).with_name("ceilings.json")


def module_sizes(architecture: str, scratch: Path) -> dict[str, int]:
    """Bytes of .mpy by path on the board."""
    sizes = {}
    for name, source in sources().items():
        if name in AS_SOURCE:
            continue
        target = scratch / architecture / (name.removesuffix(".py") + ".mpy")
        compile_file(source, target, name, "-march=" + architecture)
        sizes[name] = target.stat().st_size
    return sizes


def idle_heap() -> dict[str, int]:
    """The first health report of a firmware that has just connected: heap figures in bytes."""
    reports = []

    def look(topic: str, payload: bytes) -> None:
        if topic.endswith("/health"):
            reports.append(json.loads(payload))

    with tempfile.TemporaryDirectory() as folder:
        flash = Path(folder) / "flash.img"
        with DesktopCharger(
            flash=flash, overrides={"health_interval_s": 1}, on_message=look
        ) as it:
            it.wait_until_up()
            it.wait_for(lambda: len(reports) >= 3, 10)
    return reports[-1]


# Columns of a board's line: what it is, and whether ceilings.json holds it.
BOARD_COLUMNS = (("slot", True), ("flash", True), ("idle", True), ("free", False))


def board_rows(sizes: dict[str, BoardSize], ceilings: dict, rows: list[dict]) -> list[str]:
    """Print and collect what was measured of the boards. Returns what is over its ceiling."""
    print(
        f"\n{'bytes, by board':20}{'slot':>9}{'on flash':>10}{'% of free':>11}{'slots fit':>11}"
        f"{'idle .mpy':>11}   ceilings: slot, flash, idle"
        "\n(free: beside the boot part and a full list of cards)"
    )
    failed = []
    for board, size in sizes.items():
        allowed = ceilings["boards"].get(board, {})
        share = 100 * size.flash / size.free
        print(
            f"{board:20}{size.slot:9}{size.flash:10}{share:11.1f}{size.slots:11}{size.idle:11}   "
            + " ".join(str(allowed.get(name, "-")) for name, held in BOARD_COLUMNS if held)
        )
        for name, held in BOARD_COLUMNS:
            value = getattr(size, name)
            rows.append(row("size", board, name, value, "bytes"))
            if held and value > allowed.get(name, 0):
                failed.append(f"{board}: {name} is {value}, its ceiling {allowed.get(name, 0)}")
        rows.append(row("size", board, "slots", size.slots, ""))
        if size.slots < 2:
            failed.append(f"{board}: two slots do not fit beside a full list of cards")
    return failed


def lower_boards(ceilings: dict, sizes: dict[str, BoardSize]) -> None:
    """Bring the boards' ceilings down to what was measured."""
    old = ceilings["boards"]
    ceilings["boards"] = {
        board: {
            name: min(getattr(size, name), old.get(board, {}).get(name, getattr(size, name)))
            for name, held in BOARD_COLUMNS
            if held
        }
        for board, size in sizes.items()
    }


def lower(ceilings: dict, measured: dict[str, int], heap: int) -> None:
    """Write the ceilings anew: each the lesser of itself and what is measured."""
    old = ceilings["mpy_bytes"]
    ceilings["mpy_bytes"] = {
        name: min(size, old.get(name, size)) for name, size in measured.items()
    }
    # The heap differs by some hundred bytes from run to run.
    ceilings["idle_heap_bytes"] = min(ceilings["idle_heap_bytes"], heap + 1000)
    CEILINGS.write_text(json.dumps(ceilings, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make size", description=__doc__)
    parser.add_argument("--lower", action="store_true", help="bring the ceilings down")
    arguments = parser.parse_args()
    ceilings = json.loads(CEILINGS.read_text())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        by_architecture = {name: module_sizes(name, Path(folder)) for name in ARCHITECTURES}
    print(
        f"{'bytes of .mpy':44}" + "".join(f"{name:>11}" for name in ARCHITECTURES) + "   ceiling"
    )
    failed = []
    measured = {}
    names = sorted(by_architecture[ARCHITECTURES[0]])
    for name in [*names, "total"]:
        values = [
            sum(sizes.values()) if name == "total" else sizes[name]
            for sizes in by_architecture.values()
        ]
        measured[name] = max(values)
        ceiling = ceilings["mpy_bytes"].get(name)
        print(f"{name:44}" + "".join(f"{value:11}" for value in values) + f"{ceiling or '-':>10}")
        for architecture, value in zip(ARCHITECTURES, values, strict=True):
            rows.append(row("size", name, "mpy_" + architecture, value, "bytes"))
        if ceiling is None:
            failed.append(f"{name} has no ceiling in {CEILINGS.name}")
        elif max(values) > ceiling:
            failed.append(f"{name} is {max(values)} bytes, its ceiling is {ceiling}")
    for name in ceilings["mpy_bytes"]:
        if name != "total" and name not in names:
            failed.append(f"{name} has a ceiling but is gone: remove it from {CEILINGS.name}")
    report = idle_heap()
    used = report["heap_used_after_gc"]
    ceiling = ceilings["idle_heap_bytes"]
    print(f"{'heap of the idle firmware, 64-bit':44}{used:22}{ceiling:10}")
    rows.append(row("size", "idle firmware, 64-bit heap", "heap_used", used, "bytes"))
    if used > ceiling:
        failed.append(f"the idle firmware uses {used} bytes of heap, its ceiling is {ceiling}")
    sizes = measure(board_names())
    failed += board_rows(sizes, ceilings, rows)
    write_rows(BUILD / "size.json", rows)
    if arguments.lower:
        lower_boards(ceilings, sizes)
        lower(ceilings, measured, used)
        return 0
    for line in failed:
        print("over the ceiling: " + line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
