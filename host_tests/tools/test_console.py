"""What a person can type, and what the terminal shows."""

import pytest

from tools.desk.console import Screen, obey, parse_uid, summary


class Charger:
    """Notes what was done to the simulated parts."""

    config = {"evses": [1, 1]}

    def __init__(self):
        self.done = []
        self.chip = self
        self.evses = self

    def __getattr__(self, name):
        return lambda *arguments: self.done.append((name, *arguments))


@pytest.mark.parametrize(
    "text", ["04a1b2c3d4e5f6", "04A1B2C3D4E5F6", "04:a1:b2:c3:d4:e5:f6", "04 A1 B2 C3 D4 E5 F6"]
)
def test_a_uid_in_any_common_writing(text):
    assert parse_uid(text) == bytes.fromhex("04a1b2c3d4e5f6")


@pytest.mark.parametrize("text", ["", "04", "04a1b2c3d", "zz" * 4, "04a1b2c3d4", "00" * 11])
def test_what_is_no_uid_is_refused(text):
    with pytest.raises(ValueError, match="hex digits"):
        parse_uid(text)


def test_commands_reach_the_parts():
    charger = Charger()
    for line in ("tap 9c3a5501", "LIFT", " plug 1 ", "start 2", "stop 2", "unplug 1"):
        obey(charger, line)
    assert charger.done == [
        ("place", bytes.fromhex("9c3a5501")),
        ("lift",),
        ("plug", 1),
        ("start", 2),
        ("stop", 2),
        ("unplug", 1),
    ]


@pytest.mark.parametrize("line", ["plug", "plug 0", "plug 3", "plug one", "tap", "fly", "lift 1"])
def test_nonsense_is_answered_with_advice(line):
    charger = Charger()
    with pytest.raises(ValueError):
        obey(charger, line)
    assert charger.done == []


def test_messages_are_one_readable_line():
    lines = []
    screen = Screen(lambda text, flush: lines.append(text))
    screen.message(
        "everest_api/1/auth_consumer/auth_api/e2m/token_validation_status",
        b'{"token":{"id_token":{"value":"04a1","type":"ISO14443"},"connectors":[1],'
        b'"parent_id_token":{"value":"F","type":"Local"}},"status":"UsedToStart","messages":[]}',
    )
    screen.message("x", b"\xff\x00")
    assert lines[0].endswith("token_validation_status  UsedToStart  card 04a1  group F  EVSE 1")
    assert lines[1].endswith(r"x  b'\xff\x00'")
    assert summary("x", b'{"a":\n 1}') == '{"a":1}'
