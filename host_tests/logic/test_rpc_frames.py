"""The codec: both versions into one model and out of it."""

import json

from rpc_rig import error_of

from tapauth.rpc import frames


def parse(message, version=0):
    return frames.parse(json.dumps(message), version)


def refused(message, version=0):
    error = error_of(parse, message, version)
    assert isinstance(error, frames.Invalid), message
    return error


def commands(frame):
    return [frames.command(frame, element) for element in frame.commands]


V1 = {"v": 1, "src": "//h/a", "dst": "//h/b", "key": "k", "cmds": [{"cmd": "x", "id": 5}]}
V2 = {"v": 2, "src": "//h/a", "dst": "//h/b", "key": "k", "method": "x", "id": 5}


def test_both_versions_give_one_model():
    for message in (V1, V2):
        frame = parse(message)
        assert (frame.src, frame.dst, frame.key) == ("//h/a", "//h/b", "k")
        assert commands(frame) == [(5, "x")]
        assert frame.version == message["v"]


def test_the_version_is_told_by_the_members():
    assert parse({"src": "//h/a", "cmds": [{"cmd": "x"}]}).version == 1
    assert parse({"src": "//h/a", "resp": [{"id": 1, "status": 0}]}).version == 1
    assert parse({"method": "x", "id": 1}).version == 2
    assert parse({"id": 1, "result": 5}).version == 2
    refused({"src": "//h/a"})
    for version in (0, 3, True, "1", 1.0, None, [1]):
        refused({"v": version, "src": "//h/a", "cmds": [{"cmd": "x"}]})


def test_the_first_frame_fixes_the_version_of_a_connection():
    assert parse({"src": "//h/a", "cmds": [{"cmd": "x"}]}, 1).version == 1
    assert parse({"method": "x", "id": 1}, 2).version == 2
    assert refused(V2, 1).close == 1002
    assert refused(V1, 2).close == 1002
    refused({"method": "x", "id": 1}, 1)


def test_what_is_no_frame():
    for text in (
        "",
        "{",
        "[]",
        "null",
        "5",
        '"x"',
        "{}",
        "\x00",
        "[" * 4000,
        b'{"v":1,"src":"\xff"}',
    ):
        assert isinstance(error_of(frames.parse, text), frames.Invalid)
    for change in (
        {"src": None},
        {"src": 5},
        {"dst": None},
        {"dst": ["//h/b"]},
        {"cmds": None},
        {"cmds": {}},
        {"cmds": []},
        {"resp": 5},
    ):
        message = dict(V1)
        message.update(change)
        refused(message)
    without = dict(V1)
    del without["src"]
    refused(without)
    refused({"v": 1, "src": "//h/a"})
    refused({"v": 2, "method": "x", "id": 1, "result": 5})
    refused({"v": 2, "method": "x", "id": 1, "error": {"code": 5}})
    refused({"v": 2, "src": 5, "method": "x"})
    refused({"v": 2, "src": "//h/a"})


def test_responses_are_taken_and_commands_beside_them_too():
    assert commands(parse({"v": 1, "src": "//h/a", "resp": [{"id": 1, "status": 0}]})) == []
    both = {"v": 1, "src": "//h/a", "resp": [{"id": 1, "status": 0}], "cmds": [{"cmd": "x"}]}
    assert commands(parse(both)) == [(None, "x")]
    assert commands(parse({"v": 2, "src": "//h/a", "id": 1, "result": True})) == []
    assert commands(parse({"v": 2, "src": "//h/a", "id": 1})) == []


def test_ids():
    def shape(version, element):
        frame = frames.Frame(version, {}, [])
        try:
            return frames.command(frame, element)
        except frames.Invalid:
            return "invalid"

    for number in (1, 123, 2**31, 2**53 - 1):
        assert shape(1, {"cmd": "x", "id": number}) == (number, "x")
        assert shape(2, {"cmd": "x", "id": number}) == (number, "x")
    for number in (0, -1, 2**53, 1.0, 1e3, True, None, [], {}, ""):
        assert shape(1, {"cmd": "x", "id": number}) == "invalid", number
        assert shape(2, {"cmd": "x", "id": number}) == "invalid", number
    assert shape(1, {"cmd": "x", "id": "7"}) == "invalid"
    assert shape(2, {"cmd": "x", "id": "7"}) == ("7", "x")
    assert shape(2, {"cmd": "x", "id": "7" * 65}) == "invalid"
    assert shape(1, {"cmd": "x"}) == (None, "x")
    for element in (None, 5, "x", [], {}, {"id": 1}, {"cmd": None}, {"cmd": 5, "id": 1}):
        assert shape(1, element) == "invalid"


def test_version_2_requests_become_commands():
    whole = {"method": "x", "id": 1, "args": {"a": 1}, "timeout": 5, "deadline": 6}
    assert parse(whole).commands == [
        {"cmd": "x", "id": 1, "args": {"a": 1}, "timeout": 5, "deadline": 6}
    ]
    assert parse({"method": "x", "params": {"a": 1}}).commands == [{"cmd": "x", "args": {"a": 1}}]
    # `nr`: no response wanted.
    assert parse({"method": "x", "id": 1, "nr": True}).commands == [{"cmd": "x"}]
    assert parse({"method": "x", "id": 1, "nr": False}).commands == [{"cmd": "x", "id": 1}]


def answer(message, status, value):
    frame = parse(message)
    number = commands(frame)[0][0]
    text = frames.reply(frame, "//h/me", [frames.entry(frame.version, number, status, value)])
    return json.loads(text)


def test_replies():
    head = {"v": 1, "src": "//h/b", "dst": "//h/a"}

    def v1(**entry):
        return dict(head, resp=[dict(id=5, **entry)])

    assert answer(V1, 0, True) == v1(status=0, resp=True)
    assert answer(V1, 0, False) == v1(status=0, resp=False)
    assert answer(V1, 0, []) == v1(status=0, resp=[])
    assert answer(V1, 0, None) == v1(status=0)
    assert answer(V1, 404, 'say "x"') == v1(status=404, status_msg='say "x"')
    head = {"v": 2, "src": "//h/b", "dst": "//h/a", "id": 5}
    assert answer(V2, 0, {"a": "\u20ac\n"}) == dict(head, result={"a": "\u20ac\n"})
    assert answer(V2, 0, None) == head
    assert answer(V2, 404, "no") == dict(head, error={"code": 404, "message": "no"})
    assert answer({"method": "x", "id": "q"}, 0, 1) == {
        "v": 2,
        "src": "//h/me",
        "id": "q",
        "result": 1,
    }


def test_the_tag_comes_back_as_it_was():
    for tag in ("x", 5, {"a": [1, {"b": None}]}, [], False):
        assert answer(dict(V2, tag=tag), 0, 1)["tag"] == tag
    assert "tag" not in answer(V2, 0, 1)
    deep = "[" * 9 + "]" * 9
    refused_tag = '{"method":"x","id":1,"tag":' + deep + "}"
    assert isinstance(error_of(frames.parse, refused_tag), frames.Invalid)


def test_version_1_entries_share_a_frame():
    message = {"v": 1, "src": "//h/a", "cmds": [{"cmd": "x", "id": 1}, {"cmd": "y", "id": 2}]}
    frame = parse(message)
    text = frames.reply(
        frame, "//h/me", [frames.entry(1, 1, 0, True), frames.entry(1, 2, 1, "no")]
    )
    assert json.loads(text) == {
        "v": 1,
        "src": "//h/me",
        "dst": "//h/a",
        "resp": [{"id": 1, "status": 0, "resp": True}, {"id": 2, "status": 1, "status_msg": "no"}],
    }


def test_what_python_escapes_comes_back_as_it_was():
    car = "\U0001f697"
    pair = b'"\\ud83d\\ude97"'
    message = b'{"src":"//h/a","method":"x","id":' + pair + b',"tag":{' + pair + b":[" + pair
    frame = frames.parse(message + b"]}}")
    assert commands(frame) == [(car, "x")]
    text = frames.reply(frame, "//h/b", [frames.entry(2, car, 0, None)])
    answer = json.loads(text.encode().decode())
    assert answer["id"] == car
    assert answer["tag"] == {car: [car]}
    assert text.encode().count(b"\xf0\x9f\x9a\x97") in (0, 3)  # escaped, or UTF-8


def test_half_a_character_is_no_frame():
    for part in (
        b'"\\ud83d"',
        b'"\xed\xa0\xbd"',
        b'{"\\ude97":1}',
        b"{1:2}",
        b"[1e999]",
        b"[1 2]",
    ):
        message = b'{"src":"//h/a","method":"x","id":1,"tag":' + part + b"}"
        assert isinstance(error_of(frames.parse, message), frames.Invalid), part
