"""What the build makes of names that only one module knows."""

from tools.build import private_names, sources
from tools.compile.short_names import rename, short_names

BASE = """
from tapauth.compat import const

_FREE = const(5)

class Base:
    def __init__(self, _given):
        self._first = _given + _FREE

    def second(self):
        return self._first
"""
CHILD = """
import _thread
from base import Base as Parent

class Child(Parent):
    def _third(self):
        return getattr(self, "_seventh", f"{self._fourth}") + self._fifth

    def _fifth(self):
        self._sixth = self._seventh = self._overridden = _thread
"""
STRANGER = """
class Stranger:
    def __init__(self):
        self._only, self.a, self._first = 1, 2, 3
"""
LIBRARY = "class Library:\n    def _overridden(self):\n        return 1\n"
SOURCES = {"base": BASE, "child": CHILD, "stranger": STRANGER}
CALLER = "Child().second(); Stranger().a; C"


def tables():
    return short_names(SOURCES, [LIBRARY], [CALLER])


def test_a_class_and_its_bases_get_different_names():
    names = tables()
    assert names["base"] == names["child"]
    assert set(names["base"]) == {"_given", "_first", "_third", "_fifth", "_sixth"}
    assert len(set(names["base"].values())) == 5


def test_modules_apart_share_their_names():
    names = tables()
    assert set(names["stranger"]) == {"_only", "_first"}
    assert set(names["stranger"].values()) < set(names["base"].values())


def test_names_that_somebody_else_may_know_stay():
    # In a string, in an f-string, of another module, of a library, and a compile-time constant.
    for name in ("_seventh", "_fourth", "_thread", "_overridden", "_FREE", "__init__"):
        assert name not in tables()["child"]


def test_parameters_that_nobody_gives_by_name_are_shortened():
    text = """
def first(unknown, called, fixed, outside, library):
    local = unknown
    return lambda inner: inner + local + called

class C:
    def second(self, attribute, known=1):
        "Not given by name: known, unknown."
        return self.attribute

first(1, called=2, **{"fixed": 3})
known_elsewhere = outside = 1
"""
    table = short_names(
        {"m": text}, ["f(library=1)"], ["g(first, outside=1)", "C.second(known_elsewhere)"]
    )["m"]
    assert set(table) == {"unknown", "inner", "known"}
    space: dict = {}
    exec(rename(text, table).partition("first(1")[0], space)
    assert space["first"](1, 2, 3, 4, 5)(10) == 13


def test_what_nobody_else_mentions_is_shortened():
    definer = """
LIMIT = shown = 1

class Machine:
    speed = 2

    def start(self):
        self.gear = self.read = self.state = self.speed + LIMIT
        self.gear.turn()

def run():
    return Machine()
"""
    user = "from definer import run\nrun().state\n"
    table = short_names({"definer": definer, "user": user}, [], ["it.shown"])["definer"]
    # Not what a file has too, another module uses, a caller mentions, or comes from elsewhere.
    assert set(table) == {"LIMIT", "Machine", "speed", "start", "gear"}
    space: dict = {}
    exec(rename(definer, table), space)
    assert type(space["run"]()).__name__ == table["Machine"]


def test_a_short_name_is_not_taken_twice():
    crowd = "class C:\n" + "".join(f"    _name{i} = _a = {i}\n" for i in range(60))
    table = short_names({"crowd": crowd}, ["_b = _c = 1"], [CALLER])["crowd"]
    assert len(table) == 61 == len(set(table.values()))
    assert not set(table.values()) & {"_a", "_b", "_c"}


def test_renamed_code_does_the_same_in_the_same_lines():
    names = tables()
    text = rename(STRANGER + BASE.replace("from", "#"), names["base"])
    assert [line.strip()[:5] for line in text.splitlines() if "self.a" in line] == ["self."]
    assert len(text.splitlines()) == len((STRANGER + BASE).splitlines())
    space: dict = {"const": int}
    exec(text, space)
    assert space["Base"](2).second() == 7
    assert "_first" not in vars(space["Base"](2))


def test_the_firmware_has_names_to_shorten_and_keeps_its_lines():
    names = private_names()
    assert sum(len(table) for table in names.values()) > 300
    for name, source in sources().items():
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        text = source.read_text()
        renamed = rename(text, names.get(module, {}))
        assert renamed.count("\n") == text.count("\n")
        compile(renamed, name, "exec")
