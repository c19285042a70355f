"""The names of MicroPython that stand for the firmware's own on boards."""

import ast
import re
import subprocess

import pytest

from tools.build import AS_SOURCE, module_name, sources
from tools.compile.program import program
from tools.compile.rom_names import micropython_names, names_of_image, rom_names
from tools.compile.short_names import rename
from tools.emulator.install import HOME
from tools.paths import micropython

PROGRAM = """
import gc
from helper import given_back, Settings

LIMIT = const(3)
_INNER = const(4)

class Refused(ValueError):
    pass

class Machine:
    def take_effects(self, first_one, second_one=LIMIT):
        local_one = first_one + second_one + _INNER
        self.shown_one = given_back(local_one, given_name=1)
        Settings(any_name=gc.collect(far_name=1))
        return f"{self.printed_one}" if gc.mem_alloc() else None

    def set_level(self, level_name, value):
        setattr(self, "set_" + level_name, value)
        return getattr(self, "asked_for"), getattr(self, level_name)

    def asked_for(self):
        raise Refused("a text with shown_one in it")
"""
HELPER = """
class Settings:
    def __init__(self, **values):
        self.values_seen = values

def given_back(value_given, given_name):
    return value_given
"""
TEXTS = {"program": PROGRAM, "helper": HELPER}
KEPT = "acosh(boot_word)\n"


def test_what_nobody_else_can_ask_for_gets_a_name_that_costs_nothing():
    table = rom_names(TEXTS, [KEPT, "LIMIT"])
    assert {"Machine", "take_effects", "first_one", "second_one", "shown_one"} <= set(table)
    assert {"given_back", "value_given", "given_name", "values_seen"} <= set(table)
    everywhere, here = micropython_names()
    assert set(table.values()) <= set(everywhere + here)
    assert len(set(table.values())) == len(table)
    words = set(re.findall(r"\w+", PROGRAM + HELPER + KEPT))
    assert not words & set(table.values())


@pytest.mark.parametrize(
    "name",
    [
        "LIMIT",  # a word of a text that stays
        "_INNER",  # the compiler makes no name of it
        "Refused",  # a log tells it
        "printed_one",  # in an f-string
        "set_level",  # begins as a name that is made
        "asked_for",  # a string
        "any_name",  # a keyword of what may make a dict of it
        "far_name",  # a keyword of what is not of these texts
        "helper",  # a module
        "mem_alloc",  # MicroPython's
        "local_one",  # no board keeps it
        "__init__",
    ],
)
def test_what_somebody_may_ask_for_stays(name):
    assert name not in rom_names(TEXTS, [KEPT, "LIMIT"])


def test_a_name_that_cannot_be_told_ends_the_build():
    for call in ('getattr(a, f"x{b}")', "setattr(a, b(), 1)", 'hasattr(a, b + "x")'):
        with pytest.raises(SystemExit, match="cannot be told"):
            rom_names({"m": call + "\n"}, [])


def test_a_public_constant_stays_one():
    """Of `_name = const(1)` the compiler would make no global, for nobody to import."""
    crowd = "".join(f"NAME_{number} = const({number})\n" for number in range(1500))
    table = rom_names({"crowd": crowd}, [])
    assert len(table) == 1500 and len(set(table.values())) == 1500
    assert not any(name.startswith("_") for name in table.values())
    ast.parse(rename(crowd, table))


def test_the_program_is_renamed_as_a_whole():
    """That it works is seen by the tests of the charger, which run it."""
    texts = program().texts
    trees = [ast.parse(text) for text in texts.values()]
    words = {it.attr for tree in trees for it in ast.walk(tree) if isinstance(it, ast.Attribute)}
    everywhere, here = micropython_names()
    assert len(words & {*everywhere, *here}) > 500
    assert not words & {"take_effects", "enqueue", "look_up", "deauthorized"}
    for name, text in texts.items():
        compile(text, name, "exec")
    assert set(map(module_name, texts)) < set(map(module_name, sources()))
    assert not set(texts) & set(AS_SOURCE)


def test_the_names_cost_nothing_in_the_unix_port(tmp_path):
    everywhere, here = micropython_names()
    assert len(everywhere) > 700 and len(here) > 700 and not set(everywhere) & set(here)
    listed = tmp_path / "names"
    listed.write_text("\n".join(everywhere) + "\n")
    script = (
        "import micropython\nclass C: pass\n"
        f"for line in open({str(listed)!r}): setattr(C, line.strip(), 1)\n"
        "micropython.qstr_info(1)\n"
    )
    done = subprocess.run(
        [micropython(), "-X", "heapsize=4m", "-c", script], capture_output=True, text=True
    )
    new = set(re.findall(r"^Q\((.+)\)$", done.stdout, re.M))
    assert not done.stderr and new, done.stderr
    assert not new & set(everywhere)


def test_the_names_are_those_of_the_pico_ws_image():
    images = list(HOME.glob("*PICO_W*v1.27.0.uf2"))
    if not images:
        pytest.skip("the emulator is not installed, which has the image")
    found = names_of_image(images[0].read_bytes())
    everywhere, here = micropython_names()
    assert {*everywhere, *here} <= found
