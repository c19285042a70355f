"""The checker of rule files: the same verdict as the board's, and its reasons."""

import json

from tools import rules

RULES = [
    {"src": "//h/device_*", "dst": "//h/missilecontrol", "cmd": "/v1/Nuke.*", "allow": False},
    {"src": "//h/user_joe", "dst": "//h/device_*", "cmd": "**", "allow": True},
]


def run(tmp_path, capsys, listed, *words):
    file = tmp_path / "rules.json"
    file.write_text(listed if isinstance(listed, str) else json.dumps(listed))
    status = rules.main([words[0], str(file), *words[1:]])
    return status, capsys.readouterr()


def test_explain_names_the_rule_that_decides(tmp_path, capsys):
    def explain(*subjects):
        status, text = run(tmp_path, capsys, RULES, "explain", *subjects)
        return status, text.out.splitlines()[3:]

    launch = "/v1/Nuke.Launch"
    status, lines = explain("//h/device_1", "//h/missilecontrol", launch)
    assert status == 1
    assert lines == [f"rule 1: yes, {json.dumps(RULES[0])}", "denied"]
    status, lines = explain("//H/user_joe.phone", "//h/device%5F9", launch)
    assert status == 0
    assert lines == [
        "rule 1: no, src //h/user_joe is not //h/device_*",
        f"rule 2: yes, {json.dumps(RULES[1])}",
        "allowed",
    ]
    status, lines = explain("//h/user_joe", "//h/missilecontrol", "x")
    assert status == 1
    assert lines[-2:] == ["no rule matches", "denied"]
    assert lines[1] == "rule 2: no, dst //h/missilecontrol is not //h/device_*"


def test_check_refuses_what_the_board_refuses(tmp_path, capsys):
    status, text = run(tmp_path, capsys, RULES, "check")
    assert status == 0 and "2 of at most 64 rules, good" in text.out
    assert "warning" not in text.out
    for bad, why in (
        ("[", "JSON"),
        ([{}], "rule 1: allow"),
        ([{"allow": True, "src": ""}], "src"),
    ):
        status, text = run(tmp_path, capsys, bad, "check")
        assert status == 2 and why in text.err
    status, text = run(tmp_path, capsys, RULES, "explain", "device_1", "//h/x", "x")
    assert status == 2 and "not an address" in text.err
    assert rules.main(["check", str(tmp_path / "missing.json")]) == 2
    assert rules.main(["explain"]) == 2


def test_check_warns_of_the_traps(tmp_path, capsys):
    for listed, word in (
        ([{"cmd": "*", "allow": True}], "does not cross a slash"),
        ([{"src": "*", "allow": True}], "does not cross a slash"),
        ([{"src": "device_1", "allow": False}], "begin with //"),
        ([{"allow": False}, RULES[1]], "the rules behind it never decide"),
        ([RULES[0], RULES[0]], "is there twice"),
    ):
        status, text = run(tmp_path, capsys, listed, "check")
        assert status == 0
        assert text.out.startswith("warning: rule ") and word in text.out
