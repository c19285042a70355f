"""The rules of docs/architecture.md: which room may import which, and that no import goes round.
And names: a module's and a class's exists once.

TABLE is the whole of the imports. A failing test says which row to change; change a row only when
the import is right. Imports inside functions count like any other, and so do modules that a file
loads with __import__() by their names.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.build import AS_SOURCE, sources, used_text
from tools.firmware import board_names, board_sources
from tools.paths import BOARDS, FIRMWARE

# Room or module (the longest name that fits counts) to what it may import, beside its own room,
# tapauth.compat and FREE: rooms, modules and what comes from outside. Names are below tapauth.
TABLE = {
    # Shared leaves.
    "__init__": "",
    "compat": "asyncio io micropython socket time traceback",
    "json_in": "",
    "topics": "json_in",
    "errors": "",
    "log": "topics",
    "crypto": "os",
    "small_file": "os",
    "fitting": "cutting",
    "cutting": "",
    # What decides: without I/O, and nothing but const, forget and late of compat.
    "core": "",
    # Edges: each knows its own library, the core's shapes and leaves.
    "reader": "core.taps adafruit_pn532",
    "link": "core.effects json_in supervisor topics wallclock __init__"
    " asyncio os socket ssl umqtt",
    "evse": "core.effects fitting json_in",
    "everest": "core.effects core.evse core.shapes errors fitting json_in os",
    "rpc": "crypto json_in small_file wallclock",
    "local": "cards.codec config_edit core.shapes json_in local.login asyncio microdot os ssl",
    "local.login": "crypto json_in small_file",
    "local.names": "cards config config_edit config_trial local local.login",
    # What the roles are made of beside the edges.
    "cards": "core.shapes core.timestamps crypto errors json_in os tapauth_slot",
    "station": "core.effects core.evse",
    "feedback": "",
    "network": "",
    "ntp": "os socket",
    "wallclock": "core.timestamps small_file __init__",
    "supervisor": "asyncio",
    "health": "__init__",
    "update": "",
    "console": "asyncio select",
    "board_status": "__init__ os tapauth_slot",
    "config": "json_in topics",
    "config_edit": "json_in",
    "config_trial": "small_file",
    # Looks at the memory of a chip itself; it exists on those chips only.
    "pinning": "builtins machine os rp2 tapauth_slot uctypes vfs",
    # The composition root: it alone knows several rooms, and the board.
    "app": "core.shapes pinning.begin start asyncio",
    "start": "cards config config_trial console core errors everest evse feedback health link"
    " local local.interface log network reader roles rpc small_file station supervisor wallclock"
    " __init__ board os tapauth_slot",
    "roles": "board_status cards config_trial console core.taps errors everest evse feedback"
    " health json_in link local local.interface log network ntp pinning reader rpc station"
    " supervisor update wallclock board tapauth_slot",
    "local.interface": "crypto local local.login local.names local.wiring small_file",
    "local.wiring": "cards config config_trial local local.login rpc os",
}
FREE = {"array", "binascii", "collections", "gc", "hashlib", "json", "random", "struct", "sys"}
"""Modules of Python that touch nothing outside: anybody but the core may import them."""
EDGES = ("reader", "link", "evse", "everest", "rpc", "local")
COMPOSITION_ROOT = ("app", "start", "roles", "local.interface", "local.wiring")
BY_NAME_ONLY = ("local.names",)
"""It knows other rooms' modules by name, to have them met: it calls none of them."""
AROUND = {
    # The boot part starts the firmware of a slot, which asks it which slot that is. It is in
    # memory before, and the firmware is not imported but started: it never returns to be used.
    ("tapauth_slot", "tapauth.app"),
    # Half of the boot part, loaded once and forgotten before the firmware starts. It reads the
    # slots' record with the half that stays.
    ("tapauth_slot", "tapauth_boot"),
}
"""The imports that may close a circle."""
CALLED_AT_IMPORT = {
    *("const", "bytes", "object", "int.from_bytes", "namedtuple", "staticmethod", "type"),
    *("forget", "time.gmtime", "parse_rfc3339", "__file__.rpartition"),
    # They make values: shapes and tables, an error that needs no memory later, a context.
    *("_changing", "_enum", "_text", "_shape", "_command", "ProtocolError", "LateImports"),
    "_closure",  # of the pinner, which is never pinned
    # A board's pins and network, by their numbers; nothing is begun.
    *("Chip", "Wifi", "Lan"),
}
"""All that a module may call while it is imported. None of it leaves code that waits or is called
later: a generator, a coroutine, a task, a timer, an interrupt.
"""
SHARED_NAMES = ("evse", "login")
"""Of rooms that have a module of the same name: core/evse.py and evse/, local/login/login.py."""

PACKAGE = FIRMWARE / "tapauth"
PATHS = {
    ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
    for root in (FIRMWARE, FIRMWARE / "boot", FIRMWARE / "shims")
    for path in sorted((PACKAGE if root == FIRMWARE else root).rglob("*.py"))
}
"""Module to its file, of all the firmware."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def _parts(node: ast.AST, types: bool) -> Iterator[ast.AST]:
    """All that is in a node; `types`: also below `if TYPE_CHECKING:`, which never runs."""
    for child in ast.iter_child_nodes(node):
        if types or not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _parts(child, types)


def _imports(tree: ast.Module, types: bool = True) -> Iterator[str]:
    """Every module that a file imports, anywhere in it."""
    parts = list(_parts(tree, types))
    loads_by_name = any(isinstance(node, ast.Name) and node.id == "__import__" for node in parts)
    for node in parts:
        if isinstance(node, ast.Import):
            yield from [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "relative imports hide who imports whom"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in PATHS else node.module
        elif loads_by_name and isinstance(node, ast.Constant) and node.value in PATHS:
            yield node.value


TREES = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}
IMPORTS = {name: set(_imports(tree)) for name, tree in TREES.items()}
"""Module to the modules that it imports, if only for its annotations."""


def short(module: str) -> str:
    """A module's name as TABLE has it."""
    return "__init__" if module == "tapauth" else module.removeprefix("tapauth.")


def is_in(module: str, name: str) -> bool:
    return module == name or module.startswith(name + ".")


def row_of(module: str) -> str:
    """The row that holds a module, both as TABLE names them; "" without one."""
    return max([row for row in TABLE if is_in(module, row)], key=len, default="")


def uses() -> Iterator[tuple[str, str, str]]:
    """(module, its row, what it imports from another row) as TABLE names them."""
    for module, imported in IMPORTS.items():
        if not is_in(module, "tapauth"):
            continue
        row = row_of(short(module))
        for one in sorted(imported - FREE - {"tapauth.compat"}):
            if row_of(short(one)) != row or not is_in(one, "tapauth"):
                yield short(module), row, short(one)


def allows(entry: str, imported: str) -> bool:
    """Whether a word of TABLE allows this import: a row's own modules, or one module."""
    if entry in TABLE and imported != entry:
        return row_of(imported) == entry
    return is_in(imported, entry)


def test_each_module_has_a_row_and_each_row_its_modules():
    assert len(PATHS) > 90
    modules = [short(module) for module in PATHS if is_in(module, "tapauth")]
    packages = [short(name) for name, path in PATHS.items() if path.name == "__init__.py"]
    assert [one for one in modules if not row_of(one)] == [], "they have no row in TABLE"
    held = {row_of(one) for one in modules if one not in packages or one == "__init__"}
    assert [row for row in TABLE if row not in held] == [], "nothing has these rows of TABLE"


def test_each_import_is_allowed():
    wrong = [
        f"{module} imports {imported}: not in the row of {row}"
        for module, row, imported in uses()
        if not any(allows(entry, imported) for entry in TABLE.get(row, "").split())
    ]
    assert not wrong, "\n".join(wrong)


def test_each_allowance_is_used():
    unused = [
        f"nothing in {row} imports {entry}"
        for row, entries in TABLE.items()
        for entry in entries.split()
        if not any(used == row and allows(entry, imported) for _, used, imported in uses())
    ]
    assert not unused, "\n".join(unused)


def test_a_package_imports_nothing():
    # Else one of its modules cannot be had without those that it imports.
    for module, imported in IMPORTS.items():
        if PATHS[module].name == "__init__.py":
            assert imported == set(), f"{module} imports {imported}"


def test_only_the_composition_root_knows_several_rooms_and_the_board():
    for row, entries in TABLE.items():
        if row in COMPOSITION_ROOT or row in BY_NAME_ONLY:
            continue
        for entry in entries.split():
            room = entry.partition(".")[0]
            assert entry != "board", f"{row} imports the board"
            assert room not in EDGES or room == row.partition(".")[0], f"{row} imports {entry}"
            assert entry not in COMPOSITION_ROOT, f"{row} imports {entry}"


def test_the_core_does_no_io():
    for module, imported in IMPORTS.items():
        if is_in(module, "tapauth.core"):
            strange = [one for one in imported if not is_in(one, "tapauth.core")]
            assert set(strange) <= {"tapauth.compat"}, f"{module} imports {strange}"
            for node in ast.walk(TREES[module]):
                if isinstance(node, ast.ImportFrom) and node.module == "tapauth.compat":
                    assert {alias.name for alias in node.names} <= {"const", "forget", "late"}, (
                        module
                    )


BEFORE_THE_TASKS = ("app", "start", "reader.task", "rpc.setup")
"""Modules whose late imports are made at the start, which want of memory ends."""


def _late_imports() -> Iterator[tuple[str, str, bool]]:
    """(module, what it imports in a function, whether in a `late` that names it)."""
    for module, tree in TREES.items():
        told = set()
        for node in _parts(tree, types=False):
            if isinstance(node, ast.With) and ast.unparse(node.items[0]).startswith("late("):
                imports = (ast.Import, ast.ImportFrom)
                inside = [one for one in ast.walk(node) if isinstance(one, imports)]
                names = ".".join(_imports(ast.Module(inside, []))).split(".")
                names += [alias.name for one in inside for alias in one.names]
                name = node.items[0].context_expr.args[0]
                if isinstance(name, ast.Constant) and name.value in names:
                    told.update(inside)
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import | ast.ImportFrom):
                        for imported in _imports(ast.Module([node], [])):
                            yield module, imported, node in told


def test_a_late_import_says_what_it_is_that_there_may_be_no_memory_for():
    seen = set()
    for module, imported, told in _late_imports():
        if short(module) in BEFORE_THE_TASKS or not is_in(module, "tapauth"):
            continue
        if is_in(imported, "microdot") or is_in(imported, "tapauth"):
            seen.add(imported)
            # One is there: it is the class of a part that runs.
            assert told or imported == "tapauth.rpc.service", f"{module} imports {imported} late"
    assert {"tapauth.cards.rewrite", "tapauth.local.http", "tapauth.ntp"} <= seen


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, however far around."""

    def reached(start: str) -> set[str]:
        found, ahead = set(), [start]
        while ahead:
            for one in graph.get(ahead.pop(), ()):
                if one not in found:
                    found.add(one)
                    ahead.append(one)
        return found

    ahead_of = {module: reached(module) for module in graph}
    groups = {
        tuple(sorted(one for one in ahead_of[module] if module in ahead_of.get(one, ())))
        for module in graph
        if module in ahead_of[module]
    }
    return sorted([list(group) for group in groups])


def _graph(without: set[tuple[str, str]]) -> dict[str, set[str]]:
    return {
        module: {
            one
            for one in _imports(tree, types=False)
            if one in PATHS and (module, one) not in without
        }
        for module, tree in TREES.items()
    }


def test_a_circle_is_found_however_long():
    assert circles({"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": set()}) == [
        ["a", "b", "c"]
    ]


def test_no_import_goes_round():
    found = [", ".join(group) for group in circles(_graph(AROUND))]
    assert not found, "they import each other:\n" + "\n".join(found)


@pytest.mark.parametrize("closing", sorted(AROUND), ids=lambda pair: pair[1])
def test_what_may_close_a_circle_does(closing):
    assert circles(_graph(AROUND - {closing})) != circles(_graph(AROUND))


def _loaded_with(*modules: str) -> set[str]:
    """These modules, and all that come into memory with them: not what functions import."""
    found: set[str] = set()
    to_see = set(modules)
    while to_see:
        found |= to_see
        tops = [
            ast.Module([node for node in TREES[one].body if not hasattr(node, "body")], [])
            for one in to_see
        ]
        to_see = {one for top in tops for one in _imports(top) if one in PATHS} - found
    return found


@pytest.mark.parametrize("role", ["standalone", "attached"])
def test_a_shut_door_leaves_no_code_of_what_is_behind_it(role):
    interface = "tapauth.local.interface"
    stay = _loaded_with("tapauth.app", "tapauth.start", "tapauth.roles." + role, interface)
    parts = next(
        node
        for node in TREES[interface].body
        if isinstance(node, ast.FunctionDef) and node.name == "_parts"
    )
    forgotten = set(_imports(ast.Module(parts.body, [])))
    wiring = _loaded_with("tapauth.local.wiring") - {"tapauth.local.wiring"}  # it forgets itself
    behind = (_loaded_with(*forgotten) | wiring) - stay
    packages = {one for one in behind if PATHS[one].name == "__init__.py"}
    assert behind - packages == forgotten


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What of a module runs while it is imported: all but the bodies of its functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            defaults = [one for one in child.args.kw_defaults if one]
            for part in [*child.decorator_list, *child.args.defaults, *defaults]:
                yield part
                yield from _run_at_import(part)
        elif not isinstance(child, ast.Lambda):
            yield child
            yield from _run_at_import(child)


def test_no_code_waits_when_an_import_is_over():
    """After an import the pinner turns the pointers to a module's bytecode; a generator that waits
    has one of its own, which nobody could turn.
    """
    texts = {name: used_text(name, path) for name, path in sources().items()}
    for name in board_names():
        if name != "desktop":  # nothing is pinned there
            texts.update({str(path): path.read_text() for path in board_sources(name).values()})
    called = set()
    for name, text in texts.items():
        if name in AS_SOURCE:
            continue  # it is not of a slot
        tree = ast.parse(text)
        waits = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.AsyncFunctionDef)
            or isinstance(node, ast.FunctionDef)
            and any(isinstance(one, ast.Yield | ast.YieldFrom) for one in ast.walk(node))
        }
        for node in _run_at_import(tree):
            assert not isinstance(node, ast.GeneratorExp), f"{name}:{node.lineno}"
            if isinstance(node, ast.Call):
                function = ast.unparse(node.func)
                called.add(function)
                assert function in CALLED_AT_IMPORT, f"{name}:{node.lineno} calls {function}"
                assert function not in waits, f"{name}:{node.lineno}"
    assert called == CALLED_AT_IMPORT, CALLED_AT_IMPORT - called


def _twins(named: list[tuple[str, str]]) -> list[str]:
    """What occurs twice among (name, where it is)."""
    places: dict[str, list[str]] = {}
    for name, place in named:
        places.setdefault(name, []).append(place)
    return [f"{name}: {', '.join(where)}" for name, where in places.items() if len(where) > 1]


def test_a_name_of_a_module_exists_once():
    named = [(module.rpartition(".")[2], module) for module in PATHS]
    found = [one for one in _twins(named) if one.partition(":")[0] not in SHARED_NAMES]
    assert not found, "\n".join(found)
    assert len(_twins(named)) == len(SHARED_NAMES), "SHARED_NAMES has more than there are"


def test_a_name_of_a_class_exists_once():
    # Functions may share theirs: they are known by their module's.
    found = _twins(
        [
            (node.name, module)
            for module, tree in TREES.items()
            for node in tree.body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        ]
    )
    assert not found, "\n".join(found)


def test_a_board_knows_nothing_of_the_firmware():
    for path in sorted(BOARDS.rglob("*.py")):
        for one in _imports(ast.parse(path.read_text())):
            assert not is_in(one, "tapauth"), f"{path} imports {one}"


def test_a_module_that_a_text_names_is_there():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and str(node.value).startswith("tapauth."):
                name = str(node.value).rstrip(".")
                assert name in PATHS or name == "tapauth", f"{path}:{node.lineno}: {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_implementations_differ_in_compat_only(path: Path):
    if path.name == "compat.py":
        return
    text = path.read_text()
    assert "sys.implementation" not in text
    assert "sys.platform" not in text
    assert "ImportError" not in text


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_memory_is_needed_to_see_that_there_is_none(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Tuple):
            names = [ast.unparse(one) for one in node.type.elts]
            assert "MemoryError" not in names, f"line {node.lineno}: see compat.SYSTEM_ERRORS"
