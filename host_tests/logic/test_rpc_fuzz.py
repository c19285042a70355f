"""10,000 mutated frames: no crash, no malformed answer, and none that tells whether an ID exists
by itself (how many of others are remembered can tell: docs/rpc.md).

Two boards get the same frames. They differ in one thing: only one knows the device that the
frames name, always with a wrong key. Any difference in their answers would tell.
"""

import gc
import json

from rpc_rig import BACKEND_KEY, DEVICE, DISPATCHER, HOST, REGISTRY, Random, Rig

from tapauth.compat import mem_alloc
from tapauth.rpc.service import MAX_REPLY, RpcPeer

FRAMES = 10_000
# Made at once, while there is room: MicroPython keeps them in a table that grows in large steps.
CHARS = [chr(code) for code in range(256)]
FEW = 12

AUTHENTICATE = {
    "cmd": "/v1/Auth.Authenticate",
    "id": 123,
    "args": {"id": DEVICE, "credentials": {"psk": "wrong"}},
}
AUTHORIZE = {
    "cmd": "/v1/Auth.AuthorizeCommand",
    "id": 2,
    "args": {"cmd": "/v1/Nuke.Launch", "dst": HOST + "/misslecontrol", "src": DEVICE},
}
TOKENS = ("GenerateToken", "GetToken", "ListToken", "RevokeToken")
BACKEND_FRAMES = [
    {"v": 1, "src": DISPATCHER, "dst": REGISTRY, "key": BACKEND_KEY, "cmds": [AUTHENTICATE]},
    {"v": 1, "src": DISPATCHER, "key": BACKEND_KEY, "cmds": [AUTHORIZE, AUTHENTICATE]},
    {
        "v": 1,
        "src": DISPATCHER,
        "key": BACKEND_KEY,
        "cmds": [
            {"cmd": "/v1/Auth." + name, "id": at + 1, "args": {"host": "app.com"}, "timeout": 5}
            for at, name in enumerate(TOKENS)
        ],
    },
    {
        "v": 2,
        "src": DISPATCHER,
        "key": BACKEND_KEY,
        "id": 5,
        "tag": "t",
        "method": "/v1/Auth.Authenticate",
        "args": {"id": DEVICE, "credentials": {"cert": "MIIB"}},
        "deadline": 1_900_000_000,
    },
]
OTHER_FRAMES = [
    {"v": 1, "src": DEVICE, "key": "wrong", "cmds": [{"cmd": "/v1/Hello", "id": 1}]},
    {"src": DEVICE, "key": "wrong", "id": 1, "method": "/v1/Auth.ListToken"},
    {"v": 1, "src": DEVICE, "resp": [{"id": 1, "status": 0, "resp": True}]},
]
ODD = (
    "null", "true", "0", "-1", "1e999", "1.5", "9007199254740992", '""', '"\\u0000"', '"\\ud800"',
    "[]", "{}", "[[[[[[[[[[]]]]]]]]]]", '{"a":{"a":{}}}', '"' + "x" * 300 + '"', '"%"', '"//h/x"',
)  # fmt: skip


def mutate(text, random):
    """The text of a frame with one to three things wrong with it."""
    for _ in range(1 + random.below(3)):
        at = random.below(len(text) + 1)
        kind = random.below(7)
        if kind == 0:  # a character is another one
            text = text[:at] + CHARS[32 + random.below(95)] + text[at + 1 :]
        elif kind == 1:  # a piece is missing
            text = text[:at] + text[at + 1 + random.below(FEW) :]
        elif kind == 2:  # a piece is there twice
            text = text[:at] + text[at - random.below(FEW) :]
        elif kind == 3:  # it ends early
            text = text[:at]
        elif kind == 4:  # bytes that are no text
            text = text[:at] + CHARS[128 + random.below(128)] + text[at:]
        else:  # a value is another one
            colon = text.find(":", at)
            end = colon + 1
            while end < len(text) and text[end] not in ",}]":
                end += 1
            if colon >= 0:
                text = text[: colon + 1] + ODD[random.below(len(ODD))] + text[end:]
    return text


def raw(text):
    """A byte for each character."""
    data = bytearray(len(text))
    for at, char in enumerate(text):
        data[at] = ord(char) & 255
    return bytes(data)


def fuzz(frames, count, clock_step, random):
    knows, does_not = Rig([{"allow": True}]), Rig([{"allow": True}])
    # One device each, so that their tables are alike in size.
    knows.add(DEVICE, psk="the right key", cert="MA==")
    does_not.add(HOST + "/another", psk="the right key", cert="MA==")
    for rig in (knows, does_not):
        rig.log.level = 9
        rig.lines.clear()
    texts = [json.dumps(frame) for frame in frames]
    answered = 0
    for number in range(count):
        if number % 100 == 0:
            gc.collect()  # as the supervisor does
        text = mutate(texts[random.below(len(texts))], random)
        # Half the odd characters go in as UTF-8, half as bytes that are none.
        data = text.encode() if random.below(2) else raw(text)
        peers = RpcPeer(), RpcPeer()
        replies = knows.service.handle(data, peers[0]), does_not.service.handle(data, peers[1])
        assert replies[0] == replies[1], (data, replies)
        assert peers[0].close == peers[1].close and peers[0].reply_to == peers[1].reply_to
        knows.clock.advance(clock_step)
        does_not.clock.advance(clock_step)
        if replies[0] is not None:
            answered += 1
            assert len(replies[0].encode()) <= MAX_REPLY
            answer = json.loads(replies[0])
            assert isinstance(answer["src"], str) and answer["v"] in (1, 2)
            for entry in answer.get("resp", ()):
                assert sorted(entry) in (
                    ["id", "status"],
                    ["id", "resp", "status"],
                    ["id", "status", "status_msg"],
                ), entry
    assert knows.service.invalid == does_not.service.invalid
    # Some frames were still good enough for an answer, and some were not.
    assert count // 20 < answered < count * 19 // 20, answered
    assert knows.lines == does_not.lines == []


def test_frames_of_the_backend():
    fuzz(BACKEND_FRAMES, FRAMES * 7 // 10, 7_000, Random(3))


def test_frames_of_somebody_without_the_key():
    fuzz(OTHER_FRAMES, FRAMES * 3 // 10, 7_000, Random(4))


def test_no_text_of_strangers_stays_in_memory():
    # MicroPython interns single characters and keeps them: a way to fill the heap for ever.
    rig = Rig([{"allow": True}])
    rig.log.level = 9

    def send(start, count):
        for number in range(start, start + count):
            # Not by chr(), which would keep it itself.
            char = bytes((0xE5, 0x80 + number // 64, 0x80 + number % 64)).decode()
            args = {"host": char, "src": "//h/" + char, "dst": "//h/" + char, "cmd": char}
            args["id"] = "//h/%" + char
            command = {"cmd": char, "id": 1, char: char, "args": args}
            frame = {"v": 1, "src": "//h/" + char, "key": char, "cmds": [command], char: char}
            rig.service.handle(json.dumps(frame), RpcPeer())
            frame["key"] = BACKEND_KEY
            frame["src"] = DISPATCHER
            for name in ("Authenticate", "AuthorizeCommand", "GetToken"):
                command["cmd"] = "/v1/Auth." + name
                rig.service.handle(json.dumps(frame), RpcPeer())
            frame["src"] = "//" + char + "/x"
            rig.service.handle(json.dumps(frame), RpcPeer())
        gc.collect()
        return mem_alloc()

    before = send(0, 100)
    assert send(100, 800) - before < 1000
