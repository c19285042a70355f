"""What the build makes of integers that several modules share."""

import ast

from tools.build import module_name, sources, text_for_board
from tools.compile.inline_constants import shared_constants, with_literals

DEFINER = """from tapauth.compat import const
SIZE = const(7)
TOLD = const(8)
NAMED = const(9)
TWICE = const(SIZE * 2)
KNOWN = const(10)
CHANGED = const(1)
CHANGED = 2
"""
USER = """from definer import (
    SIZE,
    NAMED,
    TOLD,
    TWICE,
)
def f(data):
    return "größer", data[:SIZE], f"{TOLD}", TWICE
"""
OTHER = """import definer
from definer import KNOWN
x = definer.NAMED + KNOWN
"""
TEXTS = {"definer": DEFINER, "user": USER, "other": OTHER}


def of_board(module):
    constants = shared_constants(TEXTS)
    return with_literals(TEXTS[module], module, constants, ["from definer import KNOWN", "SIZE"])


def test_what_is_always_the_same_integer_needs_no_name():
    assert shared_constants(TEXTS)["definer"] == {"SIZE": 7, "KNOWN": 10}
    user = of_board("user").split("\n")
    assert user[0] == "from definer import NAMED, TOLD, TWICE"
    assert 'return "größer", data[:7], f"{TOLD}", TWICE' in user[7]


def test_lines_stay_where_they_are():
    for module, text in TEXTS.items():
        assert len(of_board(module).split("\n")) == len(text.split("\n"))
    assert of_board("definer").split("\n")[1] == ""
    assert "TWICE = const(7 * 2)" in of_board("definer").split("\n")[4]


def test_what_somebody_else_mentions_stays_in_its_module():
    assert "KNOWN = const(10)" in of_board("definer")
    assert of_board("other").split("\n")[1:3] == ["pass", "x = definer.NAMED + 10"]


def test_every_module_of_the_firmware_finds_what_it_imports():
    texts = {
        module_name(name): text_for_board(name, source)
        for name, source in sources().items()
        if name.startswith("tapauth/")
    }
    for module, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module in texts:
                for alias in node.names:
                    there = texts[node.module]
                    assert f"{node.module}.{alias.name}" in texts or alias.name in there, module
