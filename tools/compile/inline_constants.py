"""Constants that several modules share, as literals in the compiled firmware only.

The compiler puts a private `_X = const(1)` in its place, and it costs nothing. A public one costs
a board a name, a global of its module, and in each module that uses it a global, an import and
look-ups. So each `NAME` and `module.NAME` becomes its value, an import that only brought such
values goes, and so does a definition that nothing mentions any more. Lines stay where they are.

That is for what const() marks: integers, and strings that are names to MicroPython anyhow (up to
INTERNED characters). Of a longer string or a tuple each module would get a copy.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from tools.compile.shared_strings import INTERNED

_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)
Constants = dict[str, dict[str, int | str]]
"""Module to its public constants."""


@cache
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))


def _constant(node: ast.stmt) -> tuple[str, int | str] | None:
    """(name, value) of `NAME = const(value)`."""
    if not (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and not node.targets[0].id.startswith("_")
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "const"
    ):
        return None
    try:
        value = ast.literal_eval(node.value.args[0])
    except ValueError:
        return None  # of other constants
    fits = type(value) is int or isinstance(value, str) and len(value) <= INTERNED
    return (node.targets[0].id, value) if fits else None


def _bound(tree: ast.Module) -> Counter[str]:
    """How often each name is given a value in a module, in whichever scope, but by imports."""
    found = Counter[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found[node.id] += 1
        elif isinstance(node, ast.arg):
            found[node.arg] += 1
        elif isinstance(node, _NAMED) and node.name:
            found[node.name] += 1
    return found


def shared_constants(texts: dict[str, str]) -> Constants:
    """The constants of these modules: what is given its value once."""
    constants = {}
    for module, text in texts.items():
        tree = ast.parse(text)
        bound = _bound(tree)
        pairs = [pair for node in tree.body if (pair := _constant(node))]
        constants[module] = {name: value for name, value in pairs if bound[name] == 1}
    return constants


@dataclass
class _Module:
    """What one module makes of constants."""

    tree: ast.Module
    values: list[tuple[ast.expr, int | str]] = field(default_factory=list)
    """Uses of a constant, and its value."""
    imports: list[tuple[ast.ImportFrom, list[ast.alias]]] = field(default_factory=list)
    """Imports that bring what need not be brought, and what of them stays."""
    mentioned: set[tuple[str, str]] = field(default_factory=set)
    """(module, constant) that stays a name here; ("", name): of whichever module."""


def _imported(tree: ast.Module, modules: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(name here, module, name there) of each import, with "" for the last when it is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                origin = (inner, "") if inner in modules else (node.module or "", alias.name)
                yield alias.asname or alias.name, *origin
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name, alias.name, ""


def _look(text: str, module: str, constants: Constants) -> _Module:
    """Find what a literal can stand for in a module."""
    found = _Module(ast.parse(text))
    bound = _bound(found.tree)
    own = constants.get(module, {})
    meanings: dict[str, set[tuple[str, str]]] = {name: {(module, name)} for name in own}
    for here, origin, name in _imported(found.tree, constants):
        meanings.setdefault(here, set()).add((origin, name))

    def meaning(name: str) -> tuple[str, str]:
        """Where a name is from, everywhere in the module: (module, name), (module, "") of a whole
        module, or ("", "") when that differs.
        """
        means = meanings.get(name, set())
        given = bound[name] - (name in own)
        return next(iter(means)) if len(means) == 1 and not given else ("", "")

    names: set[str] = set()

    def look(node: ast.AST, fixed: bool) -> None:
        """`fixed`: the place of what is in an f-string is right from Python 3.12 on only."""
        fixed = fixed or isinstance(node, ast.JoinedStr)
        if isinstance(node, ast.Attribute):
            origin, name = meaning(node.value.id) if isinstance(node.value, ast.Name) else ("", "")
            value = constants.get(origin, {}).get(node.attr) if not name else None
            read = isinstance(node.ctx, ast.Load) and node.lineno == node.end_lineno
            if value is not None and read and not fixed:
                found.values.append((node, value))
                return
            found.mentioned.add(("" if value is None else origin, node.attr))
            fixed = True  # 7.real is no Python
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            origin, name = meaning(node.id)
            value = constants.get(origin, {}).get(name)
            if value is not None and not fixed:
                found.values.append((node, value))
            else:
                names.add(node.id)
                found.mentioned.update(meanings.get(node.id, ()))
        for child in ast.iter_child_nodes(node):
            look(child, fixed)

    look(found.tree, False)
    used = {ast.unparse(node).partition(".")[0] for node, _ in found.values}
    for node in ast.walk(found.tree):
        if isinstance(node, ast.ImportFrom):
            stay = []
            for alias in node.names:
                here = alias.asname or alias.name
                if here in names or here not in used:
                    stay.append(alias)
            if len(stay) < len(node.names):
                found.imports.append((node, stay))
            for alias in stay:
                found.mentioned.add((node.module or "", alias.name))
    return found


def kept_names(
    texts: dict[str, str], constants: Constants, strangers: Iterable[str]
) -> set[tuple[str, str]]:
    """(module, constant) of what must stay defined.

    `strangers` are the texts of what is not compiled so: a name that one of them mentions, beside
    its module, stays in that module.
    """
    mentioned = set().union(*[_look(text, it, constants).mentioned for it, text in texts.items()])
    kept = set()
    for module, values in constants.items():
        known = module.rpartition(".")[2]
        words = set().union(*[_words(text) for text in strangers if known in text])
        for name in values:
            if (module, name) in mentioned or ("", name) in mentioned or name in words:
                kept.add((module, name))
    return kept


def with_literals(text: str, module: str, constants: Constants, kept: set[tuple[str, str]]) -> str:
    """The source of `module` with literals in the place of constants, and without definitions that
    are not in `kept`.
    """
    found = _look(text, module, constants)
    # Positions count the bytes of a line.
    lines = [line.encode() for line in text.split("\n")]
    for use, value in sorted(found.values, key=lambda it: it[0].col_offset, reverse=True):
        line = lines[use.lineno - 1]
        literal = f"({value})" if isinstance(value, int) and value < 0 else repr(value)
        assert use.end_col_offset
        lines[use.lineno - 1] = (
            line[: use.col_offset] + literal.encode() + line[use.end_col_offset :]
        )
    for node, stay in found.imports:
        assert node.end_lineno
        listed = ", ".join(ast.unparse(alias) for alias in stay)
        shorter = f"from {node.module} import {listed}" if listed else "pass"
        lines[node.lineno - 1] = lines[node.lineno - 1][: node.col_offset] + shorter.encode()
        lines[node.lineno : node.end_lineno] = [b""] * (node.end_lineno - node.lineno)
    for statement in found.tree.body:
        pair = _constant(statement)
        if pair and pair[0] in constants.get(module, ()) and (module, pair[0]) not in kept:
            assert statement.end_lineno
            lines[statement.lineno - 1 : statement.end_lineno] = [b""] * (
                statement.end_lineno - statement.lineno + 1
            )
    return "\n".join([line.decode() for line in lines])
