"""Short names for what only one module knows, in the compiled firmware only.

On a board every name costs RAM: its letters and an entry in MicroPython's table of names, which
grows by doubling. Nobody else knows a private name (`_name`), a parameter that is never given by
name, or what a module defines and no other text mentions (much of a library), so that every module
can use the same few short ones for its own. Lines stay where they are: a traceback still leads to
the right one.
"""

import array
import ast
import asyncio
import builtins
import io
import re
import socket
import tokenize
from itertools import count

PRIVATE = re.compile(r"_[A-Za-z]\w*")
# What a module may call on objects that it did not make the class of.
_FOREIGN = (
    *(builtins, str, bytes, bytearray, memoryview, int, float, list, tuple, dict, set, type),
    *(BaseException, array.array, io.StringIO, io.BytesIO, io.FileIO, socket.socket),
    *(asyncio.StreamReader, asyncio.StreamWriter, asyncio.Task, asyncio.Event, asyncio.Lock),
)
BUILT_IN = {name for owner in _FOREIGN for name in dir(owner)}


def _words(node: ast.AST) -> set[str]:
    """Names that must stay, for something else than their own module's code knows them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return set(re.findall(r"\w+", node.value))  # it may be for getattr()
    if isinstance(node, ast.FormattedValue):
        # Python's tokenizer sees what is in an f-string from 3.12 on only.
        return set(re.findall(r"\w+", ast.unparse(node)))
    if isinstance(node, ast.ImportFrom):
        names = [alias.name for alias in node.names]
        return {word for name in [node.module or "", *names] for word in name.split(".")}
    if isinstance(node, ast.Import):
        return {word for alias in node.names for word in alias.name.split(".")}
    if (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "const"
    ):
        return {node.targets[0].id}  # the compiler puts the value in its place: it costs nothing
    return set()


def _families(trees: dict[str, ast.Module]) -> dict[str, str]:
    """Module to the name of its family: modules whose classes inherit from one another.

    A class and its bases share the attributes of their instances, so that a family's private
    names must differ wherever they stand.
    """
    family = {name: name for name in trees}
    for name, tree in trees.items():
        bases = {
            node.id
            for part in ast.walk(tree)
            if isinstance(part, ast.ClassDef)
            for base in part.bases
            for node in ast.walk(base)
            if isinstance(node, ast.Name)
        }
        for part in ast.walk(tree):
            if (
                isinstance(part, ast.ImportFrom)
                and part.module in trees
                and bases & {alias.asname or alias.name for alias in part.names}
            ):
                old, new = family[name], family[part.module]
                family = {key: new if it == old else it for key, it in family.items()}
    return family


def _parameters(trees: list[ast.Module]) -> set[str]:
    """Names that are parameters in these modules, and nothing else there but local variables."""
    found, other = set(), set()

    def look(node: ast.AST, local: set[str]) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            given = {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}
            found.update(given)
            inner = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
            local = local | given | {one.id for one in inner if isinstance(one.ctx, ast.Store)}
        if isinstance(node, ast.Name) and node.id not in local:
            other.add(node.id)
        elif isinstance(node, ast.Attribute):
            other.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            other.add(node.name)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            other.update(node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            other.add(node.name)
        for child in ast.iter_child_nodes(node):
            look(child, local)

    for tree in trees:
        look(tree, set())
    return found - other - {"self"}


def _defined(tree: ast.Module) -> set[str]:
    """Functions, classes, attributes, and what is assigned outside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        if isinstance(node, ast.Module | ast.ClassDef):
            assigned = [part for part in node.body if isinstance(part, ast.Assign)]
            targets = [target for part in assigned for target in part.targets]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def _given_by_name(tree: ast.AST) -> set[str]:
    """Names that a call may give an argument by: keywords, and what is in strings, for `**`."""
    found = set()
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif id(node) not in docstrings:
            found |= _words(node)
    return found


def names_in(text: str) -> list[tokenize.TokenInfo]:
    """The names of a source, keywords of the language among them."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token for token in tokens if token.type == tokenize.NAME]


def letters(number: int) -> str:
    """0 to "a", 25 to "z", 26 to "aa"."""
    text = ""
    while number >= 0:
        text = chr(ord("a") + number % 26) + text
        number = number // 26 - 1
    return text


def short_names(
    sources: dict[str, str], kept: list[str], callers: list[str]
) -> dict[str, dict[str, str]]:
    """Module to {name that only it knows: short name}.

    `sources` maps a module's dotted name to its text. No name that occurs in `kept`, the texts of
    modules that keep their names, is changed, nor one that is not private and that these or
    `callers`, texts of others that call them, mention, nor a parameter that they give by name.
    Private names must be private: no module may use those of
    another (ruff's rule SLF001).
    """
    trees = {name: ast.parse(text) for name, text in sources.items()}
    stay = {word for text in kept for word in re.findall(r"\w+", text)}
    for tree in trees.values():
        for node in ast.walk(tree):
            stay |= _words(node)
    others = [ast.parse(text) for text in (*kept, *callers)]
    by_name = set().union(*map(_given_by_name, [*trees.values(), *others]))
    used: dict[str, set[str]] = {}
    family = _families(trees)
    for name, text in sources.items():
        used.setdefault(family[name], set()).update(token.string for token in names_in(text))
    taken = stay.union(*used.values())
    mentioned = BUILT_IN.union(*(re.findall(r"\w+", text) for text in callers), by_name)
    tables = {}
    for home, names in used.items():
        free = (short for number in count() if (short := "_" + letters(number)) not in taken)
        own = {name for name in names - stay if PRIVATE.fullmatch(name)}
        members = [tree for name, tree in trees.items() if family[name] == home]
        own |= {name for name in _parameters(members) - by_name if len(name) > 2}
        elsewhere = mentioned.union(*(those for it, those in used.items() if it != home))
        own |= set().union(*map(_defined, members)) - elsewhere - stay
        tables[home] = dict(zip(sorted(own), free, strict=False))
    return {name: tables[family[name]] for name in sources}


def rename(text: str, table: dict[str, str]) -> str:
    """The source with its names replaced."""
    lines = text.splitlines(keepends=True)
    for token in reversed(names_in(text)):
        if token.string in table:
            (row, begin), (_, end) = token.start, token.end
            line = lines[row - 1]
            lines[row - 1] = line[:begin] + table[token.string] + line[end:]
    return "".join(lines)
