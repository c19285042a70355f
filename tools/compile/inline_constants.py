"""Integers that several modules share, as literals in the compiled firmware only.

The compiler puts a private `_X = const(1)` in its place, and it costs nothing. A public one costs
a board a name, a global of its module, and in each module that uses it a global, an import and
look-ups. Lines stay where they are.
"""

import ast
import re
from functools import cache


@cache
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))


def _constant(node: ast.stmt) -> tuple[str, int] | None:
    """(name, value) of `NAME = const(integer)`."""
    if (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "const"
        and isinstance(node.value.args[0], ast.Constant)
        and type(node.value.args[0].value) is int
    ):
        return node.targets[0].id, node.value.args[0].value
    return None


def _needed_names(tree: ast.Module) -> set[str]:
    """Names that must stay names in a module: a literal cannot stand there, or is not found."""
    needed = set()
    defined = [pair[0] for node in tree.body if (pair := _constant(node))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):  # module.NAME, and NAME.method()
            needed.add(node.attr)
            if isinstance(node.value, ast.Name):
                needed.add(node.value.id)
        elif isinstance(node, ast.JoinedStr):  # its positions are right from Python 3.12 on only
            needed.update(name.id for name in ast.walk(node) if isinstance(name, ast.Name))
        elif isinstance(node, ast.arg):
            needed.add(node.arg)
        elif isinstance(node, ast.alias) and node.asname:
            needed.update((node.name, node.asname))
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            if node.id in defined:
                defined.remove(node.id)
            else:
                needed.add(node.id)  # not always the same, or another one
    return needed


def shared_constants(texts: dict[str, str]) -> dict[str, dict[str, int]]:
    """Module to its public integer constants, to be used as literals."""
    trees = {module: ast.parse(text) for module, text in texts.items()}
    needed = set().union(*[_needed_names(tree) for tree in trees.values()])
    return {
        module: {
            name: value
            for name, value in filter(None, [_constant(node) for node in tree.body])
            if not name.startswith("_") and name not in needed
        }
        for module, tree in trees.items()
    }


def with_literals(
    text: str, module: str, constants: dict[str, dict[str, int]], strangers: list[str]
) -> str:
    """The source of `module` with literals in the place of constants.

    `strangers` are the texts of what is not compiled so: a name that one of them mentions, beside
    its module, stays in that module.
    """
    tree = ast.parse(text)
    own = constants.get(module, {})
    values = dict(own)
    # Positions count the bytes of a line.
    lines = [line.encode() for line in text.split("\n")]
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            theirs = constants.get(node.module or "", {})
            names = [alias.name for alias in node.names]
            if any(name in theirs for name in names):
                values.update({name: theirs[name] for name in names if name in theirs})
                imports.append((node, [name for name in names if name not in theirs]))
    uses = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in values
    ]
    for use in sorted(uses, key=lambda use: use.col_offset, reverse=True):
        line = lines[use.lineno - 1]
        literal = str(values[use.id]).encode()
        lines[use.lineno - 1] = line[: use.col_offset] + literal + line[use.end_col_offset :]
    for node, kept in imports:
        assert node.end_lineno
        shorter = f"from {node.module} import {', '.join(kept)}" if kept else "pass"
        lines[node.lineno - 1] = lines[node.lineno - 1][: node.col_offset] + shorter.encode()
        lines[node.lineno : node.end_lineno] = [b""] * (node.end_lineno - node.lineno)
    known = module.rpartition(".")[2]
    mentioned: set[str] = set()
    for stranger in strangers:
        if known in stranger:
            mentioned |= _words(stranger)
    for statement in tree.body:
        pair = _constant(statement)
        if pair and pair[0] in own and pair[0] not in mentioned:
            lines[statement.lineno - 1] = b""
    return "\n".join([line.decode() for line in lines])
