"""Names that MicroPython has already, in the place of the firmware's own, on boards only.

A name costs a board its letters and 7 bytes in the table of names, for ever; the names of its
built-ins and of the modules in its image lie in flash and cost nothing. So where the program as a
whole is known, its names become those: whether a method is `take_effects` or `acosh` is the same
to everything that calls it by either. What is left over gets short names.

    python -m tools.compile.rom_names UF2

prints the names in an image for RP2, as NAMES holds them.
"""

# Theory of operation. One table serves all modules of a board: a name is the same name wherever it
# stands, be it a global, an attribute, a parameter or a local variable, so nothing has to be known
# of scopes and types, and no two names become one. A name must stay when something outside of the
# texts may ask for it:
#
# - MicroPython itself, or one of its modules: then it is in NAMES. That is also how a method that
#   asyncio, a stream or a file system calls is known.
# - A text that is not renamed, as the boot part: whatever words are in it.
# - A string: getattr() with a name from a table, from JSON, or made with a prefix. Any string that
#   is a name keeps it, and any name that begins with a string that getattr() is given a part of.
# - A keyword of a call whose function may make a dict of it: one with `**`, or not of these texts.
# - A name in an f-string, whose place Python tells from 3.12 on only; a module; a class that is
#   raised, for a log tells its name.
#
# The NAMES that take their places must not occur anywhere in the program, not even in a string.

import ast
import builtins
import keyword
import re
import struct
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import TypeGuard

from tools.compile.bundles import bindings, global_uses
from tools.compile.short_names import BUILT_IN, letters

NAMES = Path(__file__).with_name("rom_names.txt")
_FLASH = 0x10000000
_POOL = 100
"""So many pointers to texts in a row are a table of names."""
_IS_NAME = re.compile(r"[A-Za-z_]\w*")


def micropython_names() -> tuple[list[str], list[str]]:
    """The names in every image that was looked at, and those in the Pico W's only."""
    everywhere, _, here = NAMES.read_text().partition("\n\n")
    return everywhere.split(), here.split()


def names_of_image(uf2: bytes) -> set[str]:
    """The names in an image for RP2: what its tables of names lead to, but names with __."""
    blocks = [uf2[at : at + 512] for at in range(0, len(uf2), 512)]
    pieces = {struct.unpack_from("<I", one, 12)[0]: one[32:288] for one in blocks}
    flash = b"".join(pieces[address] for address in sorted(pieces))

    def text(pointer: int) -> str | None:
        begin = pointer - _FLASH
        end = flash.find(b"\0", begin, begin + 80) if 0 <= begin < len(flash) else -1
        if end < 0 or not all(byte == 10 or 32 <= byte < 127 for byte in flash[begin:end]):
            return None
        return flash[begin:end].decode()

    found: set[str] = set()
    row: list[str] = []
    for (pointer,) in struct.iter_unpack("<I", flash[: len(flash) // 4 * 4]):
        name = text(pointer)
        if name is not None:
            row.append(name)
            continue
        if len(row) > _POOL:
            found.update(row)
        row = []
    return {name for name in found if _IS_NAME.fullmatch(name) and not name.startswith("__")}


def _prefixes(tree: ast.AST) -> Iterator[str]:
    """What getattr() and its like are given to begin a name with."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "setattr", "hasattr", "delattr")
            and not isinstance(node.args[1], ast.Constant | ast.Name)
        ):
            part = node.args[1]
            if (
                isinstance(part, ast.BinOp)
                and isinstance(part.left, ast.Constant)
                and isinstance(part.left.value, str)
            ):
                yield part.left.value
            else:
                raise SystemExit(f"which name is meant cannot be told: {ast.unparse(node)}")


def _raised(trees: Iterable[ast.Module]) -> set[str]:
    """Classes of exceptions."""
    classes = [it for tree in trees for it in ast.walk(tree) if isinstance(it, ast.ClassDef)]
    found = {name for name, it in vars(builtins).items() if isinstance(it, type)}
    found = {name for name in found if issubclass(getattr(builtins, name), BaseException)}
    while True:
        new = {
            it.name
            for it in classes
            if any(isinstance(base, ast.Name) and base.id in found for base in it.bases)
        }
        if new <= found:
            return found
        found |= new


def _kept_in_memory(tree: ast.Module) -> Iterator[str]:
    """The names that a board keeps: those of local variables are not among them."""
    for use in global_uses(tree):
        yield use.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ClassDef):
            yield from sorted(bindings(node))


def _called(call: ast.Call) -> str:
    """The last name of what is called."""
    return ast.unparse(call.func).rpartition(".")[2]


def _exact(trees: Iterable[ast.Module]) -> set[str]:
    """Functions and classes that know each keyword that they are given."""
    found: set[str] = set()
    others: set[str] = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                (others if node.args.kwarg else found).add(node.name)
            elif isinstance(node, ast.ClassDef):
                made = [it for it in node.body if isinstance(it, ast.FunctionDef)]
                first = next((it for it in made if it.name == "__init__"), None)
                (found if first and not first.args.kwarg else others).add(node.name)
    return found - others


def _is_private(target: ast.expr) -> TypeGuard[ast.Name]:
    return isinstance(target, ast.Name) and target.id.startswith("_")


def _staying(trees: list[ast.Module], names: set[str]) -> set[str]:
    """Which of the names somebody may ask for by another way than these texts' code."""
    stay = _raised(trees)
    exact = _exact(trees)
    for tree in trees:
        for prefix in _prefixes(tree):
            stay.update(name for name in names if name.startswith(prefix))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                stay.add(node.value)
            elif isinstance(node, ast.FormattedValue):
                stay.update(re.findall(r"\w+", ast.unparse(node)))
            elif isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("const("):
                # The compiler makes no global of one with _, and no name.
                stay.update(it.id for it in node.targets if _is_private(it))
            elif isinstance(node, ast.Call) and _called(node) not in exact:
                stay.update(it.arg for it in node.keywords if it.arg)
            elif isinstance(node, ast.ImportFrom):
                stay.update((node.module or "").split("."))
            elif isinstance(node, ast.Import):
                stay.update(word for alias in node.names for word in alias.name.split("."))
    return stay


def rom_names(texts: dict[str, str], kept: Iterable[str]) -> dict[str, str]:
    """Name to what takes its place in all `texts`, by module; `kept` are texts that stay as they
    are. Names of modules that come first get the best ones.
    """
    everywhere, here = micropython_names()
    trees = [ast.parse(text) for text in texts.values()]
    ordered = list(dict.fromkeys(chain.from_iterable(map(_kept_in_memory, trees))))
    words = {word for text in chain(texts.values(), kept) for word in re.findall(r"\w+", text)}
    stay = _staying(trees, set(ordered)).union(everywhere, here, BUILT_IN, dir(builtins))
    stay.update(word for text in kept for word in re.findall(r"\w+", text))
    stay.update(keyword.kwlist, *(name.split(".") for name in texts))
    # No name with _: of `_name = const(1)` the compiler would make no global.
    names = chain(
        (name for name in everywhere if not hasattr(builtins, name)),
        # On other boards they may cost what any name costs: the shortest first.
        sorted(here, key=len),
        (name for name in map(letters, count()) if name not in everywhere and name not in here),
    )
    unfit = words.union(keyword.kwlist)
    free = (name for name in names if name not in unfit and not name.startswith("_"))
    changing = [name for name in ordered if name not in stay and not name.startswith("__")]
    return dict(zip(changing, free, strict=False))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print("\n".join(sorted(names_of_image(Path(sys.argv[1]).read_bytes()))))
