"""Rules: globs with their traps, compiling, first match, and the last good file."""

import json

from ram_fs import RamFs
from rpc_rig import Rig, error_of

from tapauth.rpc import rule_file, rules
from tapauth.rpc.records import RecordFile
from tapauth.rpc.setup import load_rules

NUKE = "/v1/Nuke.Launch"


def match(pattern, text, is_id=False):
    program = rule_file.compile_glob(pattern, is_id)
    return rules.Matcher().glob(program, 0, len(program), text.encode())


def test_trap_one_star_does_not_cross_a_slash():
    assert not match("*", NUKE)
    assert match("**", NUKE)
    assert match("/v1/*", NUKE)
    assert match("/v1/**", NUKE)
    assert not match("*.Launch", NUKE)
    assert match("**.Launch", NUKE)
    assert not match("*", "//h/device_1", True)
    assert match("//h/*", "//h/device_1", True)
    assert match("//*/*", "//h/device_1", True)
    assert not match("//h/*", "//h/a/b", True)


def test_trap_case_counts():
    assert not match("/v1/nuke.*", NUKE)
    assert not match("/V1/Nuke.*", NUKE)
    assert match("/v1/Nuke.*", NUKE)


def test_globs():
    for pattern, text, expected in (
        ("abc", "abc", True),
        ("abc", "abcd", False),
        ("abc", "ab", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("?", "", False),
        ("?", "\u20ac", True),
        ("??", "\u20ac", False),
        ("a*c", "ac", True),
        ("a*c", "abbbc", True),
        ("a*c", "ab/bc", False),
        ("a**c", "ab/bc", True),
        ("a***c", "ab/bc", True),
        ("*a*b*c", "xaxbxc", True),
        ("*a*b*c", "xaxcxb", False),
        ("**/b*c", "a/b/bxc", True),
        ("**a*b/c", "ab/ab/c", True),
        ("**a/**b*c", "a/a/b/bc", True),
        ("**", "", True),
        ("a|b,c", "a", True),
        ("a|b,c", "b", True),
        ("a|b,c", "c", True),
        ("a|b,c", "a|b", False),
        ("a$", "a", True),
        ("a$|b*$", "bc", True),
        ("a%2Ab", "a*b", True),
        ("a%2Ab", "axb", False),
        ("%7C%2c%24", "|,$", True),
        ("%E2%82%AC*", "\u20acx", True),
        ("\u20ac?", "\u20ac\u20ac", True),
    ):
        assert match(pattern, text) == expected, (pattern, text)


def test_a_pathological_pattern_answers_within_the_bound():
    subject = "a" * 128
    for pattern in ("*a" * 40 + "b", "**a" * 30 + "b", "**a*a" * 18 + "b", "?*" * 40 + "b"):
        program = rule_file.compile_glob(pattern)
        matcher = rules.Matcher()
        assert not matcher.glob(program, 0, len(program), subject.encode())
        assert matcher.steps >= 0
    # When the bound is reached nobody is let through, also behind a rule that would allow.
    evil = {"cmd": "**a*a*a*a*a*/b", "allow": False}
    compiled = rule_file.compile_rules(json.dumps([evil] * 60 + [{"allow": True}]))
    error = error_of(rules.decide, compiled, "//h/x", "//h/y", "a" * 900)
    assert isinstance(error, rules.RuleError)
    rig = Rig([evil] * 60 + [{"allow": True}])
    args = {"src": "//h/x", "dst": "//h/y", "cmd": "a" * 900}
    assert rig.status("Auth.AuthorizeCommand", args) == 500


def decide(rule_list, src, dst, cmd):
    return rules.decide(rule_file.compile_rules(json.dumps(rule_list)), src, dst, cmd)


def test_the_first_match_wins_and_no_match_denies():
    listed = [
        {"src": "//h/device_*", "dst": "//h/missilecontrol", "cmd": "/v1/Nuke.*", "allow": False},
        {"src": "//h/user_joe", "dst": "//h/device_*", "cmd": "**", "allow": True},
        {"src": "//h/device_*", "allow": True},
    ]
    assert decide(listed, "//h/device_1", "//h/missilecontrol", NUKE) == (False, 0)
    assert decide(listed, "//h/device_1", "//h/missilecontrol", "/v1/Hello") == (True, 2)
    assert decide(listed, "//h/user_joe", "//h/device_9", NUKE) == (True, 1)
    assert decide(listed, "//h/user_joe", "//h/missilecontrol", NUKE) == (False, -1)
    assert decide([], "//h/a", "//h/b", NUKE) == (False, -1)
    assert decide([{"allow": True}], "//h/a", "//h/b", NUKE) == (True, 0)
    assert decide([{"allow": False}, {"allow": True}], "//h/a", "//h/b", NUKE) == (False, 0)


def test_one_bad_rule_refuses_the_whole_file():
    good = {"allow": True}
    for bad, why in (
        ("x", "an object"),
        (None, "an object"),
        ({}, "allow"),
        ({"allow": 1}, "allow"),
        ({"allow": None}, "allow"),
        ({"allow": True, "source": "**"}, "unknown member"),
        ({"allow": True, "src": None}, "src"),
        ({"allow": True, "cmd": ""}, "cmd"),
        ({"allow": True, "cmd": "x" * 97}, "cmd"),
        ({"allow": True, "cmd": "a||b"}, "empty"),
        ({"allow": True, "cmd": "a,"}, "empty"),
        ({"allow": True, "cmd": "$"}, "empty"),
        ({"allow": True, "cmd": "a$b"}, "$"),
        ({"allow": True, "cmd": "a b"}, "blank"),
        ({"allow": True, "cmd": "a%2"}, "escape"),
        ({"allow": True, "cmd": "%zz"}, "escape"),
        ({"allow": True, "cmd": "%ff"}, "escape"),
        ({"allow": True, "cmd": "%fb"}, "escape"),
        # Globs that match no ID, ever: as deny rules they would be void.
        ({"allow": True, "src": "//H/x"}, "lower case"),
        ({"allow": True, "dst": "//h"}, "path"),
        ({"allow": True, "src": "//h/cloud.dispatcher"}, "component"),
        ({"allow": True, "src": "//h/a|//h/b.*"}, "component"),
    ):
        error = error_of(rule_file.compile_rules, json.dumps([good, bad, good]))
        assert isinstance(error, rules.RuleError), bad
        assert "rule 2" in str(error) and why in str(error), str(error)
    for text in ("", "{", "{}", "null", "5", '"x"', "[" * 5000, b"\xff", json.dumps([good] * 65)):
        assert isinstance(error_of(rule_file.compile_rules, text), rules.RuleError)
    assert isinstance(error_of(rule_file.compile_rules, " " * 9000 + "[]"), rules.RuleError)
    assert len(rule_file.compile_rules(json.dumps([good] * 64))) == 64


ALLOW = '[{"allow": true}]'


class Told:
    """A log that keeps its errors."""

    def __init__(self):
        self.lines = []

    def error(self, part, text, *values):
        self.lines.append(text.format(*values))


def taken(fs, text):
    """The rules of a board on whose flash this rule file is, and what it says."""
    log = Told()
    loaded = rules.Rules(RecordFile(fs, "/r"))
    fs.files["/rules.json"] = bytearray(text.encode())
    load_rules(loaded, fs, "/rules.json", log)
    return loaded, log.lines


def test_the_last_good_rules_stay():
    fs = RamFs()
    none = rules.Rules(RecordFile(fs, "/r"))
    assert isinstance(error_of(none.allows, "//h/a", "//h/b", "x"), rules.RuleError)
    loaded, said = taken(fs, ALLOW)
    assert loaded.allows("//h/a", "//h/b", "x") and not said
    # Also over a restart: they are on flash.
    loaded, said = taken(fs, '[{"allow": false}, {}]')
    assert loaded.allows("//h/a", "//h/b", "x")
    assert len(said) == 1 and "the last good rules stay: rule 2" in said[0], said
    # Written only when they change.
    writes = fs.writes
    again, said = taken(fs, ALLOW)
    assert again.allows("//h/a", "//h/b", "x") and not said
    assert fs.writes == writes
    loaded, said = taken(fs, "[]")
    assert not loaded.allows("//h/a", "//h/b", "x") and not said
    assert not rules.Rules(RecordFile(fs, "/r")).allows("//h/a", "//h/b", "x")


ARGS = {"src": "//h/a", "dst": "//h/b", "cmd": "x"}


def test_the_rule_file_of_a_board():
    rig = Rig([{"allow": True}])
    assert rig.result("Auth.AuthorizeCommand", ARGS) is True
    rig.fs.files["/rules.json"] = b'[{"allow": false}, {"al'
    rig.restart()
    assert rig.result("Auth.AuthorizeCommand", ARGS) is True
    assert any("rules.json is refused" in line for line in rig.lines)
    # Taken away on purpose: nothing is allowed any more.
    rig.fs.files["/rules.json"] = b"[]"
    rig.restart()
    assert rig.result("Auth.AuthorizeCommand", ARGS) is False
    del rig.fs.files["/rules.json"]
    rig.restart()
    assert rig.result("Auth.AuthorizeCommand", ARGS) is False


def test_a_lost_rule_file_is_not_taken_for_no_rules():
    rig = Rig([{"allow": True}])
    del rig.fs.files["/rules.json"]
    for _ in range(2):
        rig.restart()
        entry = rig.call("Auth.AuthorizeCommand", ARGS)
        assert entry["status"] == 500 and "rules.json is lost: put it back" in entry["status_msg"]
        assert any("rules.json is lost" in line for line in rig.lines)
    # Nor when what the board kept of it is damaged as well.
    for end in ("", ".copy"):
        rig.fs.files["/rpc_rules" + end] = bytearray(b"damaged")
    rig.restart()
    assert rig.status("Auth.AuthorizeCommand", ARGS) == 500
    rig.fs.files["/rules.json"] = b'[{"allow": true}]'
    rig.restart()
    assert rig.result("Auth.AuthorizeCommand", ARGS) is True


def test_damaged_rules_do_not_give_way_to_older_ones():
    rig = Rig([{"allow": True}])
    rig.fs.files["/rules.json"] = b"[]"
    rig.restart()
    assert rig.result("Auth.AuthorizeCommand", ARGS) is False
    rig.fs.files["/rules.json"] = b"damaged too"
    for end in ("", ".copy"):
        rig.fs.files["/rpc_rules" + end] = bytearray(b"damaged")
    rig.restart()
    assert rig.status("Auth.AuthorizeCommand", ARGS) == 500
    assert any("rpc_rules is damaged" in line for line in rig.lines)


def test_a_bad_first_rule_file_is_an_error_and_no_permission():
    rig = Rig(b"[")
    assert rig.status("Auth.AuthorizeCommand", ARGS) == 500
    assert rig.status("Hello") == 0


def test_a_deny_rule_with_a_long_name_denies():
    """Whose length was that of a separator never matched: what it denied was allowed."""
    for size in range(246, 385):
        # 96 characters at most, so of four bytes.
        name = "\U0001f697" * (size // 4) + "a" * (size % 4)
        if len(name) > 96:
            continue
        for pattern, text in ((name, name), (name + "**", name + "/now"), ("x|" + name, name)):
            if len(pattern) <= 96:
                assert match(pattern, text), size
                assert not match(pattern, "b" + text[1:]), size
        denied = [{"cmd": name, "allow": False}, {"allow": True}]
        compiled = rule_file.compile_rules(json.dumps(denied))
        assert rules.decide(compiled, "//h/a", "//h/b", name) == (False, 0), size


def test_the_longest_rules_are_there_after_the_next_start():
    glob = "\U0001f697" * 96
    rig = Rig(rules=[{"src": glob, "dst": glob, "cmd": glob, "allow": True}])
    rig.lines.clear()
    rig.restart()
    assert rig.lines == [] and rig.service.problem == ""
