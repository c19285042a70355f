"""The rules of docs/architecture.md: who may import whom."""

import ast

import pytest

from tools.paths import FIRMWARE

PACKAGE = FIRMWARE / "tapauth"
MODULES = sorted(PACKAGE.rglob("*.py"))
EDGES = ("reader", "link", "evse", "api", "rpc", "server")
ROOT_MODULES = ("app.py", "start.py", "local/interface.py", "local/wiring.py", "roles")


def imports(path) -> set[str]:
    """Every module that a file imports, anywhere in it; `from a import b` counts as a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who imports whom"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_the_modules_are_there():
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=lambda p: p.name)
def test_the_core_does_no_io(path):
    allowed = ("tapauth.core", "tapauth.compat.const", "tapauth.compat.forget")
    for name in imports(path) - {"tapauth.compat", "tapauth"}:
        assert name.startswith(allowed), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_composition_root_knows_the_rooms(path):
    room = path.relative_to(PACKAGE).parts[0]
    if room in ROOT_MODULES:
        return
    for name in imports(path):
        assert name != "board", "only app.py imports the board"
        assert name not in ("tapauth.app", "tapauth.roles")
        for edge in EDGES:
            if room != edge:
                assert not name.startswith("tapauth." + edge), f"{path} reaches into {edge}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_implementations_differ_in_compat_only(path):
    if path.name == "compat.py":
        return
    text = path.read_text()
    assert "sys.implementation" not in text
    assert "sys.platform" not in text
    assert "ImportError" not in text


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_memory_is_needed_to_see_that_there_is_none(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Tuple):
            names = [ast.unparse(one) for one in node.type.elts]
            assert "MemoryError" not in names, f"line {node.lineno}: see compat.SYSTEM_ERRORS"
