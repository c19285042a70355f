"""Modules that live and die together, as one module of the compiled firmware only.

A module costs a board its dict, a table of its names, three entries in the table of all names
(its own, its file's, that in its package), an entry for each name that it imports, and its own
copy of strings that others have too. A source tree of small files is for its readers; on a board
those of a room that are loaded as long as the firmware runs are one module, a bundle.

What the members call by one name and mean differently gets another name; imports among them go;
all other modules import from the bundle. Each member's lines lie together and in their order:
place() tells which of them a line of the bundle is.
"""

# Theory of operation. Whatever a member's code finds in the globals of its module has a meaning:
#
# - what the member defines itself: (member, name);
# - what it imports from another member: the meaning of that name there;
# - what it imports from outside: (origin, name), the same for all that import it;
# - what is nowhere defined: a built-in, whose name is fixed.
#
# In the bundle each meaning has a name of its own: the one that its definer calls it by, unless
# another meaning has it or a function that uses it binds it; then a new one. A name in an f-string
# is fixed, because Python tells the place of what is in one from 3.12 on only; two that are fixed
# and mean different things end the build, which says where.
#
# Only names of globals change, found by the scopes of Python: an attribute, a parameter or a local
# variable of the same name is left alone. Annotations are no code to MicroPython, and are not
# looked at. A member that is used as an object (`evse.key_of`) becomes the name in it (`key_of`).

import ast
import builtins
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from tools.compile.short_names import letters

Meaning = tuple[str, str]
"""(module, name); ("", name) of a built-in; (module, "") of a module."""
Bundles = dict[str, tuple[str, ...]]
"""Module that a bundle is on a board to its members, in the order of their imports."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)
_SCOPES = (*_FUNCTIONS, *_COMPREHENSIONS, ast.ClassDef)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that are code on a board, without annotations."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST):
                yield part


def _own_parts(scope: ast.AST) -> Iterator[ast.AST]:
    """What runs in a scope itself, without that of scopes in it; those nodes themselves too."""
    for part in _inside(scope):
        yield part
        if not isinstance(part, _SCOPES):
            yield from _own_parts(part)


def bindings(scope: ast.AST) -> set[str]:
    """Names that a scope binds for itself."""
    found, elsewhere = set(), set()
    for part in _own_parts(scope):
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
            found.add(part.id)
        elif isinstance(part, ast.arg):
            found.add(part.arg)
        elif isinstance(part, _NAMED) and part.name:
            found.add(part.name)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name.partition(".")[0] for alias in part.names)
        elif isinstance(part, ast.Global | ast.Nonlocal):
            elsewhere.update(part.names)
    return found - elsewhere


@dataclass
class _Use:
    """A place where a module's code names a global."""

    name: str
    node: ast.AST
    bound: frozenset[str]
    """What the functions around it bind."""
    fixed: bool
    """In an f-string."""


def global_uses(tree: ast.Module) -> list[_Use]:
    """All uses of globals, definitions and imports of whole modules among them."""
    found = []

    def look(node: ast.AST, bound: frozenset[str], here: frozenset[str], fixed: bool) -> None:
        """`bound` by functions around, `here` by a class, for its own code only."""
        fixed = fixed or isinstance(node, ast.JoinedStr)
        name = None
        if isinstance(node, ast.Name):
            name = node.id
        elif isinstance(node, _NAMED):
            name = node.name
        if name and name not in bound and name not in here:
            found.append(_Use(name, node, bound | here, fixed))
        if isinstance(node, ast.Global):
            found.extend(_Use(name, node, frozenset(), fixed) for name in node.names)
        if isinstance(node, _SCOPES):
            inner = frozenset(bindings(node))
            # What a function is given by default, and a class's bases, belong to the scope around.
            outside: list[ast.AST] = []
            for field_name in ("decorator_list", "bases", "keywords"):
                outside += getattr(node, field_name, ())
            if isinstance(node, _FUNCTIONS):
                outside += [*node.args.defaults, *[it for it in node.args.kw_defaults if it]]
            for part in outside:
                look(part, bound, here, fixed)
            for part in _inside(node):
                if part in outside or isinstance(part, ast.arguments):
                    continue
                if isinstance(node, ast.ClassDef):
                    look(part, bound, inner, fixed)
                else:
                    look(part, bound | inner, frozenset(), fixed)
            return
        for part in _inside(node):
            look(part, bound, here, fixed)

    for part in tree.body:
        look(part, frozenset(), frozenset(), False)
    return found


@dataclass
class _Module:
    """A module before it is put into a bundle, or that imports from one."""

    name: str
    text: str
    tree: ast.Module = field(init=False)
    uses: list[_Use] = field(init=False)
    variables: set[str] = field(init=False)
    """Whatever is bound in some scope by something else than an import."""
    imports: dict[str, Meaning] = field(default_factory=dict)
    """What the imports that run first bring, by the name here."""
    objects: dict[str, str] = field(default_factory=dict)
    """Name here of each module that is imported as an object, in whichever scope, to its own."""

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Constant):
                # The compiler leaves that out, and it may import what nothing brings.
                dropped = node.orelse if node.test.value else node.body
                dropped[:] = [ast.copy_location(ast.Pass(), dropped[0])] if dropped else []
        self.uses = global_uses(self.tree)
        self.variables = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self.variables.add(node.id)
            elif isinstance(node, ast.arg):
                self.variables.add(node.arg)
            elif isinstance(node, _NAMED) and node.name:
                self.variables.add(node.name)


class Bundler:
    """Texts of modules by name; `bundles` says what becomes one. `doors` has members that can be
    imported by their own name nevertheless, each with the names that are found there.

    Raises SystemExit when a bundle cannot mean what its members do.
    """

    def __init__(
        self,
        texts: dict[str, str],
        bundles: Bundles,
        doors: dict[str, tuple[str, ...]] | None = None,
    ):
        self._doors = doors or {}
        self._modules = {name: _Module(name, text) for name, text in texts.items()}
        self._bundles = {
            bundle: [name for name in members if name in texts]
            for bundle, members in bundles.items()
        }
        self._home = {name: bundle for bundle, them in self._bundles.items() for name in them}
        self._names: dict[str, dict[Meaning, str]] = {}
        words = {word for text in texts.values() for word in re.findall(r"\w+", text)}
        self._taken = words.union(keyword.kwlist, dir(builtins))
        for module in self._modules.values():
            self._read_imports(module)
        for bundle in self._bundles:
            self._names[bundle] = self._named(bundle)

    def texts(self) -> dict[str, str]:
        """The texts with bundles in the place of their members."""
        found = {}
        for name, module in self._modules.items():
            if name not in self._home:
                found[name] = self._rewritten(module, set())
        for bundle, members in self._bundles.items():
            brought: set[str] = set()
            parts = [self._rewritten(self._modules[name], brought) for name in members]
            found[bundle] = "".join(part if part.endswith("\n") else part + "\n" for part in parts)
        for door, names in self._doors.items():
            pairs = [(*self._name_at(self._meaning(door, name)), name) for name in names]
            found[door] = "".join(
                f"from {origin} import {it} as {name}\n" for origin, it, name in pairs
            )
        return found

    def _read_imports(self, module: _Module) -> None:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{module.name}: no relative imports"
                pairs = [(alias, (node.module or "", alias.name)) for alias in node.names]
            elif isinstance(node, ast.Import):
                pairs = [(alias, (alias.name, "")) for alias in node.names]
            else:
                continue
            for alias, (origin, name) in pairs:
                here = alias.asname or alias.name.partition(".")[0]
                if f"{origin}.{name}" in self._modules:
                    origin, name = f"{origin}.{name}", ""
                member = not name and origin in self._home
                if member and module.objects.setdefault(here, origin) != origin:
                    self._refuse(module.name, node, f"{here} is two modules")
                if node in module.tree.body:
                    module.imports[here] = (origin, name)

    def _meaning(self, module: str, name: str) -> Meaning:
        """What a module's global means."""
        it = self._modules.get(module)
        if it is None or not name:
            return module, name
        if name in it.imports:
            return self._meaning(*it.imports[name])
        return module, name

    def _named(self, bundle: str) -> dict[Meaning, str]:
        """The name of each meaning in a bundle."""
        # An import puts a module into the globals of its package.
        inside = [name for name in self._modules if name.rpartition(".")[0] == bundle]
        fixed: dict[str, Meaning] = {name.rpartition(".")[2]: (name, "") for name in inside}
        wanted: dict[Meaning, str] = {}
        bound: dict[Meaning, set[str]] = {}
        for name in self._bundles[bundle]:
            module = self._modules[name]
            own = bindings(module.tree)
            for here in module.imports:
                meaning = self._meaning(name, here)
                if self._home.get(meaning[0]) != bundle or meaning[1]:
                    wanted.setdefault(meaning, self._first_name(bundle, meaning, here))
            for here, use, meaning in self._seen(module):
                if meaning[0] == name and use.name not in own:
                    meaning = ("", here)
                if self._home.get(meaning[0]) == bundle and not meaning[1]:
                    self._refuse(name, use.node, f"{here} is used for more than what is in it")
                stays = not meaning[0] or use.fixed
                if stays and fixed.setdefault(here, meaning) != meaning:
                    self._refuse(name, use.node, f"{here} also means {fixed[here]}")
                wanted.setdefault(meaning, self._first_name(bundle, meaning, here))
                bound.setdefault(meaning, set()).update(use.bound)
        names = {meaning: name for name, meaning in fixed.items()}
        free = (name for i in count() if (name := letters(i).upper()) not in self._taken)
        given = set(fixed)
        for meaning, name in wanted.items():
            if meaning in names:
                continue
            if name in given or name in bound.get(meaning, ()):
                # The compiler makes no global of `_name = const(1)`: what has no _ gets none.
                name = "_" * meaning[1].startswith("_") + next(free)
            names[meaning] = name
            given.add(name)
        return names

    def _first_name(self, bundle: str, meaning: Meaning, here: str) -> str:
        """What a meaning is called if nothing is against it."""
        home = self._home.get(meaning[0], "")
        if home != bundle and home in self._names and meaning in self._names[home]:
            return self._names[home][meaning]
        return meaning[1] if home == bundle and meaning[1] else here

    def _seen(self, module: _Module) -> Iterator[tuple[str, _Use, Meaning]]:
        """(name, use, meaning) of each use, with those in other members for `member.name`."""
        bundle = self._home.get(module.name)
        objects = {
            id(use.node): use for use in module.uses if self._is_member(module, use, bundle)
        }
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and id(node.value) in objects:
                use = objects.pop(id(node.value))
                if not isinstance(node.ctx, ast.Load):
                    self._refuse(module.name, node, "a member's global is set from elsewhere")
                meaning = self._meaning(module.imports[use.name][0], node.attr)
                yield node.attr, _Use(use.name, node, use.bound, use.fixed), meaning
        for use in module.uses:
            if id(use.node) in objects or not self._is_member(module, use, bundle):
                yield use.name, use, self._meaning(module.name, use.name)

    def _is_member(self, module: _Module, use: _Use, bundle: str | None) -> bool:
        """Whether a use is of another member of the same bundle, as an object."""
        origin, name = module.imports.get(use.name, ("", ""))
        return bool(bundle) and self._home.get(origin) == bundle and not name

    def _name_at(self, meaning: Meaning) -> tuple[str, str]:
        """(module, name) of where a meaning is on a board."""
        home = self._home.get(meaning[0])
        if home is None:
            return meaning
        if not meaning[1]:
            return home, ""
        return home, self._names[home].get(meaning, meaning[1])

    def _rewritten(self, module: _Module, brought: set[str]) -> str:
        """The text for a board; `brought` is what members before it have imported already."""
        lines = [line.encode() for line in module.text.split("\n")]
        edits: list[tuple[int, int, int, str]] = []
        bundle = self._home.get(module.name)
        if bundle:
            names = self._names[bundle]
            for here, use, meaning in self._seen(module):
                name = names.get(meaning, here)
                if name != here or isinstance(use.node, ast.Attribute):
                    edits.append((*_place(lines, use.node, here), name))
        for node in ast.walk(module.tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in module.objects
                and self._home[module.objects[node.value.id]] != bundle
            ):
                origin = module.objects[node.value.id]
                names = self._names[self._home[origin]]
                name = names.get(self._meaning(origin, node.attr), node.attr)
                if name != node.attr:
                    if node.value.id in module.variables or node.lineno != node.end_lineno:
                        self._refuse(module.name, node, f"{node.value.id} may be something else")
                    assert node.end_lineno and node.end_col_offset
                    end = node.end_col_offset
                    edits.append((node.end_lineno, end - len(node.attr), end, name))
        for row, begin, end, name in sorted(edits, reverse=True):
            line = lines[row - 1]
            lines[row - 1] = line[:begin] + name.encode() + line[end:]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                text = self._import(module, node, brought)
                if text is None:
                    continue
                assert node.end_lineno
                lines[node.lineno - 1] = lines[node.lineno - 1][: node.col_offset] + text.encode()
                lines[node.lineno : node.end_lineno] = [b""] * (node.end_lineno - node.lineno)
        return "\n".join([line.decode() for line in lines])

    def _import(
        self, module: _Module, node: ast.Import | ast.ImportFrom, brought: set[str]
    ) -> str | None:
        """What stands for an import, None for itself."""
        bundle = self._home.get(module.name)
        first = bundle is not None and node in module.tree.body
        origins = [it.name for it in node.names]
        if isinstance(node, ast.ImportFrom):
            origins = [node.module or "", *[f"{node.module}.{name}" for name in origins]]
        if not first and not any(origin in self._home for origin in origins):
            return None
        statements: dict[str, list[str]] = {}
        for alias in node.names:
            here = alias.asname or alias.name.partition(".")[0]
            if isinstance(node, ast.Import):
                meaning = (alias.name, "")
            elif f"{node.module}.{alias.name}" in self._modules:
                meaning = (f"{node.module}.{alias.name}", "")
            else:
                meaning = self._meaning(node.module or "", alias.name)
            if first:
                if self._home.get(meaning[0]) == bundle:
                    continue
                here = self._names[bundle or ""][meaning]
                if here in brought:
                    continue
                brought.add(here)
            origin, name = self._name_at(meaning)
            if name:
                statements.setdefault(f"from {origin} import ", []).append(
                    name if name == here else f"{name} as {here}"
                )
            else:
                package, _, last = origin.rpartition(".")
                start = f"from {package} import " if package else "import "
                statements.setdefault(start, []).append(
                    last if last == here else f"{last} as {here}"
                )
        return "; ".join(start + ", ".join(them) for start, them in statements.items()) or "pass"

    def _refuse(self, module: str, node: ast.AST, reason: str) -> None:
        line = getattr(node, "lineno", 0)
        raise SystemExit(f"{module}, line {line}: this cannot go into a bundle: {reason}")


def _place(lines: list[bytes], node: ast.AST, name: str) -> tuple[int, int, int]:
    """(line, first byte, end) of a name that a node stands for."""
    row, begin = node.lineno, node.col_offset  # type: ignore[attr-defined]
    if isinstance(node, ast.Name | ast.Attribute):
        assert node.end_lineno == row and node.end_col_offset, "a name on one line"
        return row, begin, node.end_col_offset
    found = re.compile(rb"\b" + name.encode() + rb"\b").search(lines[row - 1], begin)
    assert found, f"{name} is not in its line"
    return row, *found.span()


def place(texts: dict[str, str], members: tuple[str, ...], line: int) -> tuple[str, int]:
    """(module, line there) of a line of a bundle of these members. Raises ValueError."""
    for name in members:
        if name in texts:
            length = texts[name].count("\n") + (not texts[name].endswith("\n"))
            if line <= length:
                return name, line
            line -= length
    raise ValueError("the bundle is not so long")
