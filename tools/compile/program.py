"""The firmware as a board runs it: modules that always run together are one, and names are free.

build/firmware, which tests and tools import from by the names of the sources, is not changed so.
"""

import ast
import contextlib
import json
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.build import (
    AS_SOURCE,
    module_name,
    parsing,
    sources,
    text_for_board,
    texts_folder,
)
from tools.compile.bundles import Bundler, Bundles, place
from tools.compile.rom_names import rom_names
from tools.compile.short_names import rename
from tools.paths import BOARDS, ROOT

BUNDLES: Bundles = {
    # Loaded before all others, and before any code can be used from flash: no more than must be.
    "tapauth": ("tapauth", "tapauth.compat"),
    # What needs nothing of the others.
    "tapauth.log": (
        "tapauth.json_in",
        "tapauth.topics",
        "tapauth.log",
        "tapauth.supervisor",
        "tapauth.network",
        "tapauth.errors",
        "tapauth.feedback",
        "tapauth.console",
        "tapauth.health",
    ),
    "tapauth.core": (
        "tapauth.core",
        "tapauth.core.timestamps",
        "tapauth.core.shapes",
        "tapauth.core.effects",
        "tapauth.core.taps",
    ),
    "tapauth.cards": (
        "tapauth.cards",
        "tapauth.cards.codec",
        "tapauth.cards.cards_file",
        "tapauth.cards.journal",
        "tapauth.cards.store",
        "tapauth.cards.vault",
    ),
    "tapauth.link": (
        "tapauth.link",
        "tapauth.link.framing",
        "tapauth.link.outbox",
        "tapauth.link.subscriptions",
        "tapauth.link.mqtt",
    ),
    "tapauth.reader": (
        "tapauth.reader",
        "tapauth.reader.scanner",
        "tapauth.reader.pn532",
        "tapauth.reader.task",
    ),
    "tapauth.roles": ("tapauth.roles", "tapauth.wallclock", "tapauth.roles.base"),
    # What a board that decides by itself has beside them.
    "tapauth.station": (
        "tapauth.core.choice",
        "tapauth.core.evse",
        "tapauth.core.settings",
        "tapauth.core.authorizer",
        "tapauth.fitting",
        "tapauth.everest.module",
        "tapauth.everest.consumer",
        "tapauth.station",
        "tapauth.roles.standalone",
    ),
}
"""Module on a board to those that are it there: what every board of a role has loaded for as long
as it runs, each after what it imports (host_tests/tools/test_bundles.py).
"""
DOORS: dict[str, tuple[str, ...]] = {"tapauth.cards.store": ("Store", "finish")}
"""Member of a bundle to what a tool imports from it on a board, whatever firmware either is of: a
module of that name is there too, which nothing else loads.
"""
ON_BOARDS = ("tools/cards.py", "tools/cardlist/store_target.py")
"""Tools that send a board code which calls its firmware: all words in their strings stay."""
LATE = ("tapauth.local", "tapauth.rpc", "microdot")
"""Not in every board's memory: the best names are for others."""


def _module_texts() -> dict[str, str]:
    """Module to its text by itself."""
    compiled = {name: path for name, path in sources().items() if name not in AS_SOURCE}
    return {module_name(name): text_for_board(name, path) for name, path in compiled.items()}


@dataclass
class Program:
    """What is compiled for boards."""

    texts: dict[str, str]
    """By path on the board, as in sources()."""
    names: dict[str, str]
    """What became of names, in `texts` and in a board's own modules."""


def program() -> Program:
    """The firmware's program. Kept for the same sources, as it takes seconds."""
    kept = texts_folder() / "program.json"
    with contextlib.suppress(FileNotFoundError):
        return Program(**json.loads(kept.read_text()))
    with parsing:
        found = _program()
    kept.parent.mkdir(parents=True, exist_ok=True)
    # Put in place whole, as two may build at once.
    with contextlib.suppress(FileNotFoundError):
        with tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False) as file:
            json.dump(asdict(found), file)
        Path(file.name).replace(kept)
    return found


def _program() -> Program:
    texts = Bundler(_module_texts(), BUNDLES, DOORS).texts()

    def rank(module: str) -> tuple[bool, bool, str]:
        return module.startswith(LATE), module not in BUNDLES, module

    texts = {module: texts[module] for module in sorted(texts, key=rank)}
    kept = [sources()[name].read_text() for name in AS_SOURCE]
    kept += [_strings((ROOT / name).read_text()) for name in ON_BOARDS]
    # Of a board's own modules only private names are surely nobody else's: a machine has others
    # than the one that the names are of.
    own = {str(path): path.read_text() for path in sorted(BOARDS.rglob("*.py"))}
    words = {word for text in own.values() for word in re.findall(r"\w+", text)}
    kept.append(" ".join(sorted(word for word in words if not word.startswith("_"))))
    names = rom_names({**texts, **own}, kept)
    paths = {module_name(name): name for name in sources()}
    return Program({paths[module]: rename(text, names) for module, text in texts.items()}, names)


def _strings(text: str) -> str:
    """What is in the strings of a source."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    return "\n".join(node.value for node in nodes if isinstance(node.value, str))


def on_board(name: str) -> str:
    """The file on a board that a file of build/firmware is in: itself, or its bundle's."""
    paths = {module_name(path): path.removesuffix(".py") + ".mpy" for path in sources()}
    for bundle, members in BUNDLES.items():
        if name in [paths[member] for member in members]:
            return paths[bundle]
    return name


def source_line(text: str, own: dict[str, str]) -> str:
    """A line of a board's traceback with the module and the line of the sources, where a bundle's
    are in it: `File "tapauth.core", line 300` becomes `File "tapauth.core.shapes", line 120`.
    `own` are the board's own modules (tools.firmware.board_texts).
    """
    found = re.search(r'File "([\w.]+)", line (\d+)', text)
    if not found or found[1] not in {"board", *BUNDLES}:
        return text
    members = BUNDLES.get(found[1], tuple(own))
    module, line = place({**_module_texts(), **own}, members, int(found[2]))
    return f'{text[: found.start()]}File "{module}", line {line}{text[found.end() :]}'
