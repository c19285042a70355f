"""WebSocket frames of peers that keep to RFC 6455, and of peers that do not."""

import asyncio

from tapauth.local.websocket import WebSocket, WebSocketError

MASK = b"\x11\x22\x33\x44"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode, data=b"", final=True, mask=MASK, reserved=0):
    size = len(data)
    head = bytes((final << 7 | reserved | opcode,))
    flag = 0x80 if mask else 0
    if size < 126:
        head += bytes((flag | size,))
    elif size < 65536:
        head += bytes((flag | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((flag | 127,)) + size.to_bytes(8, "big")
    if not mask:
        return head + data
    return head + mask + bytes([byte ^ mask[i % 4] for i, byte in enumerate(data)])


class Wire:
    """A pipe with the bytes that a peer sends, and what is sent to it."""

    def __init__(self, data):
        self.data = data
        self.sent = b""

    async def readexactly(self, count):
        if len(self.data) < count:
            raise OSError(104)
        data, self.data = self.data[:count], self.data[count:]
        return data

    async def awrite(self, data):
        self.sent += data


def talk(data):
    """(messages, how it ended, what was sent, frames counted) for the bytes of a peer."""
    wire = Wire(data)
    socket = WebSocket(wire)
    messages = []
    frames = []

    async def heard():
        frames.append(1)

    async def run():
        while True:
            messages.append(await socket.receive(heard))

    try:
        asyncio.run(run())
    except OSError:
        end = "cut"
    except WebSocketError as error:
        end = error.args
    return messages, end, wire.sent, len(frames)


def test_messages_arrive_whole_however_they_were_cut():
    long = "x\u00e4\u20ac\U0001f50c" * 30
    data = long.encode()
    for size in (3, 7, 125, 126, 255, 256, 257, 500):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        stream = b""
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            stream += frame(0 if number else TEXT, piece, last)
            stream += frame(PING, b"between") + frame(PONG)
        messages, end, sent, frames = talk(stream + frame(TEXT) + frame(TEXT, b"{}"))
        assert messages == [long, "", "{}"] and end == "cut"
        assert sent == (b"\x8a\x07between") * len(pieces)
        # Each frame counts, so that none is a way around the rate of messages.
        assert frames == 3 * len(pieces) + 2
    assert talk(frame(TEXT, b"x" * 4096))[0] == ["x" * 4096]
    assert talk(frame(TEXT, b"abc", mask=bytes(4)))[0] == ["abc"]


def test_a_peer_that_breaks_the_protocol_is_told_how():
    for stream, code in (
        (frame(TEXT, b"x", mask=b""), 1002),
        (frame(CLOSE, b"", mask=b""), 1002),
        (frame(TEXT, b"x", reserved=0x40), 1002),
        (frame(TEXT, b"x", reserved=0x10), 1002),
        (frame(PING, b"x", reserved=0x20), 1002),
        (frame(0, b"x"), 1002),
        (frame(TEXT, b"x", False) + frame(TEXT, b"y"), 1002),
        (frame(PING, b"x", False), 1002),
        (frame(CLOSE, b"", False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(BINARY, b"x"), 1003),
        (frame(TEXT, b"x" * 4097), 1009),
        (frame(TEXT, b"x" * 4000, False) + frame(0, b"x" * 97), 1009),
        (frame(TEXT, b"x" * 4096, False) + frame(0, b"", False) + frame(0, b"x"), 1009),
        # The head alone is enough to refuse what follows.
        (b"\x81\xff" + (70_000).to_bytes(8, "big"), 1009),
        (b"\x81\xff" + b"\x7f" + b"\xff" * 7, 1009),
        (b"\x81\xff" + b"\x80" + b"\x00" * 7, 1002),
        # A length in more bytes than it needs.
        (b"\x81\xfe\x00\x05", 1002),
        (b"\x81\xff" + (65535).to_bytes(8, "big"), 1002),
    ):
        messages, end, sent, _ = talk(stream)
        assert messages == [] and end == (code, False), (stream[:20], end)
        assert sent == b""
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        assert talk(frame(opcode, b"x"))[1] == (1002, False)


def test_text_is_strict_utf_8_or_none():
    for good in (b"\x7f", b"\xc2\x80", b"\xe0\xa0\x80", b"\xed\x9f\xbf", b"\xee\x80\x80"):
        assert talk(frame(TEXT, b"a" + good))[0] == ["a" + good.decode()]
    for good in (b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf", b"\xe1\xa0\xa0\xc2\xa0"):
        assert talk(frame(TEXT, good + b"a"))[0] == [good.decode() + "a"]
    for bad in (
        b"\x80",
        b"\xff",
        b"\xc3",
        b"\xc3a",
        b"\xe2\x82",
        b"\xc0\xaf",  # a slash, written too long
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",  # half of a pair
        b"\xed\xbf\xbf",
        b"\xf0\x80\x80\xaf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",  # beyond the last character
        b"\xf5\x80\x80\x80",
        b"\xe1\xa0\xa0\xe0\x80\x80",
        b"\xe0\xa0\xa0\xe0\x80\x80",
    ):
        for data in (bad, b"{}" + bad, "\u20ac".encode() + bad):
            assert talk(frame(TEXT, data))[1] == (1007, False), data
    # Characters may be cut anywhere: they count when the message is whole.
    euro = "\u20ac".encode()
    assert talk(frame(TEXT, euro[:1], False) + frame(0, euro[1:]))[0] == ["\u20ac"]
    assert talk(frame(TEXT, euro[:1], False) + frame(0, euro[1:2]))[1] == (1007, False)


def test_a_close_is_answered_with_its_own_code():
    for data, code in (
        (b"", 0),
        (b"\x03\xe8", 1000),
        (b"\x03\xe9bye", 1001),
        (b"\x0f\xa0", 4000),
        (b"\x03", 1002),
        (b"\x03\xed", 1002),  # 1005 is for use inside programs only
        (b"\x03\xee", 1002),
        (b"\x03\xf7", 1002),
        (b"\x00\x00", 1002),
        (b"\x13\x88", 1002),
        (b"\x03\xe8\xff", 1007),
    ):
        assert talk(frame(CLOSE, data) + frame(TEXT, b"late"))[:2] == ([], (code, True)), data


def test_what_is_sent_is_framed_by_its_size():
    async def run():
        wire = Wire(b"")
        socket = WebSocket(wire)
        for size, head in ((0, b"\x81\x00"), (125, b"\x81\x7d"), (126, b"\x81\x7e\x00\x7e")):
            wire.sent = b""
            await socket.send("x" * size)
            assert wire.sent == head + b"x" * size
        wire.sent = b""
        await socket.ping()
        await socket.close(1002)
        await socket.close(0)
        assert wire.sent == b"\x89\x00" + b"\x88\x02\x03\xea" + b"\x88\x00"

    asyncio.run(run())


def test_the_end_of_the_stream_ends_it_at_any_byte():
    stream = frame(TEXT, b"x" * 300)
    for cut in range(0, len(stream), 7):
        assert talk(stream[:cut])[:2] == ([], "cut")
