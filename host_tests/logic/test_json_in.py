"""JSON that comes in: only what is JSON in UTF-8, and the same on both interpreters."""

import json
import random

from tapauth.json_in import MAX_DEPTH, decode, load

CAR = "\U0001f697"


def refused(data) -> bool:
    """Whether load() refuses; anything but a ValueError goes on up."""
    try:
        load(data)
    except ValueError:
        return True
    return False


def test_a_member_without_its_value_does_not_become_a_request_for_everything():
    for text in (
        b'{"payload":{"evse_id":}}',
        b'{"payload":{"evse_id"}}',
        b'{"payload":{"evse_id" 1}}',
        b'{"payload":{5}}',
        b'{"payload":{"evse_id":},"x":1}',
        b'{"payload":{}',
        b'{"payload":{]}',
        b'{"payload":{}}}',
        b'{"payload":{,}}',
        b'{"payload":{}}\0junk',
        b'{"payload" {}}',
        b'{"payload","x":{}}',
    ):
        assert refused(text), text


def test_what_is_no_json_is_refused():
    for text in (
        b"",
        b" ",
        b"nul",
        b"True",
        b"truex",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[1:2]",
        b"[1}",
        b"[true false]",
        b'["a""b"]',
        b'["a" "b"]',
        b'["a":1]',
        b'{"a":1,}',
        b'{"a":1 "b":2}',
        b'{"a":1,2}',
        b'{"a":{},2}',
        b'{"a":1,{}}',
        b'{"a":[1],[2]}',
        b'{"a","b"}',
        b"{1:2}",
        b"{[]:1}",
        b"{null:1}",
        b'{"a"::1}',
        b'{"a":1,,"b":2}',
        b"{k0}",
        b"{m}",
        b"[v]",
        b"k",
        b"1,2",
        b"[1],[2]",
        b'"a","b"',
        b"1 2",
        b",1",
        b":1",
        b"1,",
        b"[]]",
        b"]",
        b"{}[]",
        b"\0" + b"1",
        b"1\0",
        b"\x0b1",
        b"\xef\xbb\xbf1",
        b"'a'",
        b'"abc',
        b'abc"',
        b'"a" b"',
        b'"abc\\"',
        b'"a\0b"',
        b'[1\\"]',
        b"[\\u0031]",
        b"01",
        b"-01",
        b"[00]",
        b'{"a":-007}',
        b"+1",
        b"1.",
        b".5",
        b"-.5",
        b"1.2.3",
        b"1e",
        b"1e+",
        b"-",
        b"--1",
        b"1-1",
        b"0x10",
        b"1_0",
        b"1j",
        b'"\\q"',
        b'"\\x41"',
        b'"\\u12"',
        b'"\\u12g4"',
        b'"\\u=83d\\u=e97"',
        b'"\\U0041"',
    ):
        assert refused(text), text
        alone = text in (b"", b" ", b"1,2", b"[1],[2]", b'"a","b"')
        assert refused(b"[" + text + b"]") != alone, text


def test_what_is_json_comes_out_as_it_went_in():
    for text, value in (
        (b"0", 0),
        (b"-0", 0),
        (b" \n\t\r-17 ", -17),
        (b"18446744073709551615", 2**64 - 1),
        (b"[0, 10, 101, 1.05, 2.5e+1, 1e05, 1E-05, -0.0]", [0, 10, 101, 1.05, 25, 1e5, 1e-5, 0]),
        (b"true", True),
        (b"[null,false]", [None, False]),
        (b'""', ""),
        (b"[]", []),
        (b"[{},[],[[]]]", [{}, [], [[]]]),
        (b'{"a":"b"}', {"a": "b"}),
        (b'{ "a" : [ "b" , 1 ] , "c" : { } }', {"a": ["b", 1], "c": {}}),
        (b'{"a":{"b":[1,{"c":2},3]},"d":4}', {"a": {"b": [1, {"c": 2}, 3]}, "d": 4}),
        (b'"{\\"a\\":}"', '{"a":}'),
        (b'"kmv 01 , : [ { truefalse"', "kmv 01 , : [ { truefalse"),
        (b'["\\\\","\\"","\\\\\\"\\/\\n"]', ["\\", '"', '\\"/\n']),
        (b'{"\\"":1,"k":"\\\\"}', {'"': 1, "k": "\\"}),
        (b'"\\u00e4\\u20ac\\u0000\\uFFFD"', "\xe4\u20ac\0\ufffd"),
        ('"\xe4\u20ac\ud7ff\ue000"'.encode(), "\xe4\u20ac\ud7ff\ue000"),
        (b'"a\nb\x01"', "a\nb\x01"),
        (b'{"a":1,"b":2,"a":3}', {"a": 3, "b": 2}),
    ):
        assert load(text) == value, text
        assert load(text.decode()) == value, text
        assert load(b'{"x":[' + text + b"]}") == {"x": [value]}, text


def test_a_character_that_is_escaped_as_a_pair_is_one_character():
    for text in (b'"\\ud83d\\ude97"', b'"\\uD83D\\uDE97"', f'"{CAR}"'.encode()):
        assert load(text) == CAR
        assert load(text).encode() == b"\xf0\x9f\x9a\x97"
    text = b'{"\\ud83d\\ude97":["\\ud800\\udc00 \\udbff\\udfff","\\\\ud83d","\\\\\\ud83d\\ude97"]}'
    assert load(text) == {CAR: ["\U00010000 \U0010ffff", "\\ud83d", "\\" + CAR]}


def test_half_a_pair_is_refused():
    for text in (
        b'"\\ud83d"',
        b'"\\ude97"',
        b'"\\uDE97\\uD83D"',
        b'"\\ud83d\\ud83d"',
        b'"\\ud83d \\ude97"',
        b'"\\ud83d\\\\ude97"',
        b'"\\ud83d\\u0041"',
        b'"\\ud83d\\n"',
        b'"\\\\\\ud83d"',
        b'{"\\udfff":1}',
        b'"\\ud83d\\ude97\\ud83d"',
    ):
        assert refused(text), text


def test_bytes_that_are_not_utf_8_are_refused():
    for data in (
        b"\xff",
        b"\x80",
        b"\xc3",
        b"\xe2\x82",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xed\xa0\xbd",
        b"\xed\xb2\x80",
        b"\xed\xa0\xbd\xed\xba\x97",
        b"\xf0\x80\x80\xaf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xf8\x88\x80\x80\x80",
    ):
        for around in (b"", "\xe4".encode() * 100):
            assert refused(b'"' + around + data + around + b'"'), data
            assert refused(b'{"' + around + data + b'":1}'), data
            try:
                decode(around + data)
            except ValueError:
                pass
            else:
                raise AssertionError(data)
    text = "a\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"
    assert decode(text.encode()) == text


def test_depth_and_digits_are_bounded():
    for start, end in ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"b":2},{"a":', b"}]")):
        inner = b"1"
        for _ in range(MAX_DEPTH // (2 if len(start) > 8 else 1)):
            inner = start + inner + end
        assert not refused(inner) or len(start) > 8, inner  # too much for the memory
        assert refused(b"[" + inner + b"]"), inner
        assert refused(b'{"x":' + inner + b"}"), inner
    for deep in (b"[" * 4096, b'{"a":' * 800, b"[" * 2048 + b"]" * 2048, b"[[]," * 1000):
        assert refused(deep)
    assert refused(b"[" + b"0," * 1100 + b"0]")
    assert load(b"9" * 40) == int("9" * 40)
    for number in (b"9" * 41, b"1" * 4096, b"0." + b"3" * 40, b"1e" + b"9" * 4000):
        assert refused(number)
        assert refused(b'{"a":' + number + b"}")


def test_long_messages_are_read_whole():
    value = [{f"name {at}": "\xe4" * (at % 5), "b": [at, None]} for at in range(60)]
    text = json.dumps(value)
    assert load(text) == value
    assert load(text.encode()) == value
    assert refused(text[:-1])
    for text in (b'"' * 4096, b'["a' * 1000, b"\\" * 4096, b'"' + b"\\u" * 2000):
        assert refused(text)


def test_noise_and_damage_are_refused_or_read_as_json_and_nothing_else():
    random.seed(4)
    text = b'{"headers":{"replyTo":"a/\\ud83d\\ude97"},"payload":[{"evse_id":1.5e3},null,"\\\\"]}'
    marks = b'{}[]:,"\\ud8 01-.e\xed\xa0k'
    for _ in range(3000):
        data = bytearray(text)
        for _ in range(random.getrandbits(2) + 1):
            at = random.getrandbits(8) % len(data)
            what = random.getrandbits(2)
            if what == 0:
                data = data[:at] + data[at + 1 :]
            elif what == 1:
                data[at] = marks[random.getrandbits(8) % len(marks)]
            else:
                mark = marks[random.getrandbits(8) % len(marks)]
                data = data[:at] + bytes((mark,)) + data[at:]
        data = bytes(data)
        try:
            value = load(data)
        except ValueError:
            continue
        # A value that was read can be told again, to anybody.
        assert load(json.dumps(value)) == value, data
        json.dumps(value).encode().decode()
