"""Bundles: modules that are one on a board mean there what they mean in the sources."""

import re
import subprocess

import pytest

from tools.build import module_name, sources
from tools.compile.board_size import loaded_when_idle
from tools.compile.bundles import Bundler
from tools.compile.program import BUNDLES, program, source_line
from tools.desk.broker import EmbeddedBroker
from tools.firmware import board_names, board_texts, compile_modules
from tools.paths import micropython

LOW = """
import gc
from binascii import hexlify as shown

_LIMIT = 3
NAME = "low"
step = 1

def _own(value):
    return value + _LIMIT

def add(value, step=5):
    global total
    total = _own(value) + step
    return total

def name_of(thing):
    return f"{NAME} {thing}"

total = 0
"""
HIGH = """
import gc
from binascii import unhexlify as shown

from room import low
from room.low import add as plus
from room.low import name_of

_LIMIT = 30

def _own(value):
    step = _LIMIT
    return plus(value) + step + low.step

class High:
    step = 7
    doubled = step * 2

    def add(self, low_value):
        found = [_own(plus) for plus in (low_value,)]
        return found[0] + self.step

    def plus(self, gc=gc):
        def inner(total):
            nonlocal gc
            gc = gc is not None
            return total + low.total, gc
        return inner(1)

def seen():
    try:
        return shown("6869"), open, name_of("x")
    except ValueError as low_error:
        return low_error
"""
USER = """
from room import high, low
from room.high import High, _own
from room.low import add as plus, total as before

def late():
    from room.high import seen
    return seen()[0]

print(before, High().add(1), High.doubled, High().plus(), plus(1), low.add(2, step=1), low.total)
print(high._own(1), _own(1), late(), low.name_of(low.NAME), low.shown(b"a"))
print(high.seen()[1] is open)
"""
TEXTS = {"room": "", "room.low": LOW, "room.high": HIGH, "user": USER}
ONE = {"room": ("room", "room.low", "room.high")}


def run(folder, texts: dict[str, str]) -> str:
    for module, text in texts.items():
        is_package = any(name.startswith(module + ".") for name in TEXTS)
        path = folder / (module.replace(".", "/") + ("/__init__.py" if is_package else ".py"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = subprocess.run(
        [micropython(), "-c", "import user"], cwd=folder, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def test_a_bundle_does_what_its_members_do(tmp_path):
    apart = run(tmp_path / "apart", TEXTS)
    bundled = Bundler(TEXTS, ONE).texts()
    assert set(bundled) == {"room", "user"}
    assert apart.count("\n") == 3 and "Error" not in apart
    assert run(tmp_path / "one", bundled) == apart


def test_lines_lie_together_and_an_import_is_made_once():
    text = Bundler(TEXTS, ONE).texts()["room"]
    lengths = [max(1, TEXTS[name].count("\n")) for name in ONE["room"]]
    assert text.count("\n") == sum(lengths)
    assert text.splitlines()[sum(lengths[:2]) :].index("class High:") == HIGH.splitlines().index(
        "class High:"
    )
    assert text.count("import gc") == 1 and "room" not in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("from room import low\nthem = [low]\n", "used for more than what is in it"),
        ("from room import low\ndef f():\n    low.total = 1\n", "set from elsewhere"),
        ('NAME = "high"\ntext = f"{NAME}"\n', "also means"),
    ],
)
def test_what_could_mean_something_else_is_refused(text, reason):
    with pytest.raises(SystemExit, match=reason):
        Bundler({**TEXTS, "room.high": text}, ONE).texts()


def test_an_import_does_not_overwrite_a_global():
    """`room.later` becomes `later` in the globals of `room` when it is imported."""
    low = "def later():\n    return 1\n"
    texts = {"room": "", "room.low": low, "room.later": "x = 1\n"}
    texts["user"] = "import room.later\nfrom room.low import later\n"
    texts = Bundler(texts, {"room": ("room", "room.low")}).texts()
    found = re.search(r"def (\w+)\(", texts["room"])
    assert found and found[1] != "later"
    assert texts["user"].endswith(f"from room import {found[1]} as later\n")


def test_a_door_leads_into_the_bundle(tmp_path):
    user = "from room.low import total, name_of\nprint(total, name_of('it'))\n"
    doors = {"room.low": ("total", "name_of")}
    texts = Bundler({**TEXTS, "user": "import door\n"}, ONE, doors).texts()
    assert set(texts) == {"room", "room.low", "user"} and texts["room.low"].count("\n") == 2
    folder = tmp_path / "doors"
    run(folder, texts)
    (folder / "door.py").write_text(user)
    assert run(folder, {}) == "0 low it\n"


def test_another_module_may_not_call_a_variable_as_a_member_whose_names_change():
    user = "from room import high\n\ndef f(high):\n    return high._own\n"
    with pytest.raises(SystemExit, match="may be something else"):
        Bundler({**TEXTS, "user": user}, ONE).texts()
    Bundler({**TEXTS, "user": user.replace("_own", "seen")}, ONE).texts()


def test_members_come_after_what_they_import():
    texts = Bundler({"room": "", "room.low": "x = 1\n", "user": "from room.low import x\n"}, ONE)
    assert texts.texts()["user"] == "from room import x\n"
    # The firmware's: a bundle runs from its first line to its last, so that each must.
    found = program().texts
    for bundle in BUNDLES:
        path = next(name for name in sources() if module_name(name) == bundle)
        compile(found[path], path, "exec")
    assert not any(path.endswith(("core/evse.py", "roles/base.py")) for path in found)


def test_a_bundle_holds_nothing_that_an_idle_board_has_not_loaded():
    paths = {module_name(name): name.removesuffix(".py") + ".mpy" for name in sources()}
    with EmbeddedBroker() as broker:
        loaded = loaded_when_idle("pico-w", broker.port)
    for members in BUNDLES.values():
        assert [name for name in members if paths[name] not in loaded] == []


def test_a_boards_line_leads_to_the_sources(tmp_path):
    sizes = {name: path.read_text() for name, path in sources().items()}
    text = sizes["tapauth/core/shapes.py"]
    line = 1 + text[: text.index("def check_id_token")].count("\n")
    before = [
        sizes[name].count("\n")
        for name in ("tapauth/core/__init__.py", "tapauth/core/timestamps.py")
    ]
    shown = f'  File "tapauth.core", line {sum(before) + line}, in acos\n'
    own = board_texts("pico-w")
    assert source_line(shown, own) == f'  File "tapauth.core.shapes", line {line}, in acos\n'
    for other in ("no traceback", '  File "tapauth.start", line 3, in x'):
        assert source_line(other, own) == other
    inner = own["hal.chip"].count("\n") + 12
    assert list(own) == ["hal.chip", "hal.nic", "board"]
    assert source_line(f'File "board", line {inner}', own) == 'File "hal.nic", line 12'
    # That line of the board's own text is that function.
    board = program().texts["tapauth/core/__init__.py"].splitlines()
    assert board[sum(before) + line - 1].startswith("def ")


def test_every_board_has_the_bundles(tmp_path):
    modules = compile_modules(board_names()[0], tmp_path)
    assert {"tapauth/__init__.mpy", "tapauth/core/__init__.mpy", "tapauth/station.mpy"} <= set(
        modules
    )
    assert "tapauth/core/evse.mpy" not in modules and "tapauth/compat.mpy" not in modules
