"""A broker at the other end of a scripted stream, in moved time: all that it says is exact."""

import asyncio
import json

from tapauth import config, log
from tapauth.compat import MICROPYTHON, forget
from tapauth.link import mqtt

from moved_clock import MovedClock

DEFAULTS = config.parse(json.dumps({"board_id": "b", "mqtt": {"host": "10.0.0.1"}}))["mqtt"]
if MICROPYTHON:
    # As on a board: its tables are large, and nobody needs them any more.
    forget(config)
    del config
TURNS = 12
"""Turns of the event loop that any reaction is done in."""


def packets(data) -> list:
    """The (type byte, body) of each MQTT packet in a stream that must hold whole ones only."""
    found = []
    at = 0
    while at < len(data):
        kind = data[at]
        length = shift = 0
        while True:
            at += 1
            length |= (data[at] & 0x7F) << shift
            shift += 7
            if not data[at] & 0x80:
                break
        at += 1
        assert at + length <= len(data), "half a packet"
        found.append((kind, bytes(data[at : at + length])))
        at += length
    return found


def message(topic: str, payload: bytes, packet_id: int = 0, flags: int = 0) -> bytes:
    """A PUBLISH packet of fewer than 128 bytes; with QoS 1 when it has a packet id."""
    body = len(topic).to_bytes(2, "big") + topic.encode()
    if packet_id:
        body += packet_id.to_bytes(2, "big")
        flags |= 2
    body += payload
    return bytes((0x30 | flags, len(body))) + body


def payload_of(body: bytes) -> bytes:
    """The payload in the body of a PUBLISH with QoS 1, its packet id cut off."""
    return body[4 + (body[0] << 8 | body[1]) :]


def id_of(body: bytes) -> int:
    """The packet id in the body of a PUBLISH with QoS 1."""
    at = 2 + (body[0] << 8 | body[1])
    return body[at] << 8 | body[at + 1]


class Stream:
    """Both ends of a connection: the link's stream, and say(), take() and so on for the test."""

    def __init__(self):
        self.transport = self
        self.sent = bytearray()
        self.writes = 0
        self.full = False
        self.closed = False
        self._news = asyncio.Event()
        self._data = b""
        self._ended = False
        self._pause = False

    # The test's end.

    def say(self, data: bytes) -> None:
        self._data += data
        self._news.set()

    def say_nothing_readable(self) -> None:
        """Be readable without a byte for the reader, as TLS is while it shakes hands."""
        self._pause = True
        self._news.set()

    def cut(self) -> None:
        """Hang up, after what was said."""
        self._ended = True
        self._news.set()

    def take(self) -> list:
        """What the link sent since the last call, as packets."""
        data, self.sent = self.sent, bytearray()
        return packets(data)

    # The link's end, on both interpreters.

    async def read(self, count: int) -> bytes:
        while not self._data and not self._ended:
            self._news.clear()
            await self._news.wait()
        data, self._data = self._data[:count], self._data[count:]
        return data

    async def readinto(self, buffer):
        if self._pause:
            self._pause = False
            return None
        data = await self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data) -> None:
        self.writes += 1
        self.sent += data

    async def drain(self) -> None:
        while self.full:
            await asyncio.sleep(0)

    async def wait_closed(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Scene:
    """A link, the streams that it opened, and the time."""

    def __init__(self, settings: dict):
        mqtt_settings = dict(DEFAULTS)
        mqtt_settings.update(settings)
        self.clock = MovedClock(1000)
        self.streams: list[Stream] = []
        self.attempts: list[int] = []
        self.refusing = False
        self.lines: list[str] = []
        self.messages: list[tuple[str, bytes]] = []
        self.retained: list[tuple[str, bool]] = []
        self.greetings: list = []
        self.ups = 0
        self.link = mqtt.Link(
            mqtt_settings,
            self.clock,
            log.Log(self.clock, b"", write=self.lines.append),
            self._take,
            self._up,
            "base/status",
        )

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        self.messages.append((topic, payload))
        self.retained.append((topic, retained))

    def _up(self) -> None:
        self.ups += 1

    async def open(self, host, port, **options):
        self.attempts.append(self.clock.now())
        if self.refusing:
            raise OSError(111)
        self.streams.append(Stream())
        return self.streams[-1], self.streams[-1]

    async def sleep(self, ms: int) -> None:
        """Stands in for the link's sleep_ms: time passes when the test says so."""
        until = self.clock.ms + ms
        await asyncio.sleep(0)
        while self.clock.ms < until:
            await asyncio.sleep(0)

    async def pass_ms(self, ms: int = 0) -> None:
        """Let time pass in steps of 50 ms, and whatever is due happen."""
        while True:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if ms <= 0:
                return
            self.clock.advance(min(ms, 50))
            ms -= 50

    async def connect(self) -> Stream:
        """Wait for the next connection and welcome it. Returns its stream.

        What the link sends after the welcome is in `greetings`, as packets.
        """
        count = len(self.streams)
        for _ in range(1000):
            if len(self.streams) > count:
                break
            await self.pass_ms(50)
        stream = self.streams[-1]
        await self.pass_ms(50)
        assert stream.take()[0][0] == 0x10
        stream.say(b"\x20\x02\x00\x00")
        await self.pass_ms()
        self.greetings = stream.take()
        for kind, body in self.greetings:
            if kind == 0x82:
                stream.say(b"\x90\x03" + body[:2] + b"\x01")
        await self.pass_ms()
        assert self.link.connected, self.lines
        self.greetings += stream.take()
        return stream


def play(script, **settings) -> None:
    """Run the coroutine function `script(scene)` against a link with such settings."""
    scene = Scene(settings)

    async def main():
        running = asyncio.create_task(scene.link.run(lambda: None))
        try:
            await script(scene)
        finally:
            running.cancel()

    real = asyncio.open_connection, mqtt.sleep_ms
    asyncio.open_connection, mqtt.sleep_ms = scene.open, scene.sleep
    try:
        asyncio.run(main())
    finally:
        asyncio.open_connection, mqtt.sleep_ms = real
