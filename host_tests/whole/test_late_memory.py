"""Modules that come late, on MicroPython, in heaps that have and have not room for them."""

import ast

from conftest import run_micropython

from tools.paths import FIRMWARE

HERE_ONLY = ("tapauth.local.certificate", "tapauth.link.tls", "tapauth.pinning")
"""Without what is behind them the Unix port has nothing to load: MbedTLS, which needs no heap of
ours, and an RP2."""


def late_modules() -> list[str]:
    """The firmware's own modules that are imported in a `with late(...)`, as the sources say."""
    found = set()
    for path in sorted((FIRMWARE / "tapauth").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.With) and ast.unparse(node.items[0]).startswith("late("):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.ImportFrom) and inner.module.startswith("tapauth"):
                        for alias in inner.names:
                            name = f"{inner.module}.{alias.name}"
                            if (FIRMWARE / (name.replace(".", "/") + ".py")).exists():
                                found.add(name)
                            else:
                                found.add(inner.module)
    return sorted(name for name in found if not name.startswith(HERE_ONLY))


def test_a_module_for_which_there_is_no_room_is_told_and_leaves_nothing_behind(tell):
    modules = late_modules()
    assert len(modules) > 25
    done = run_micropython("host_tests/on_micropython/late_memory.py", *modules, heap="512k")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(modules)
    for line in lines:
        assert " 0 told" not in line, line
    tell("; ".join(lines))
