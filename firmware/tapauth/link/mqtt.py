"""The link to the broker: connect, subscribe, publish, keep alive, and come back after a loss.

umqtt.simple writes and reads the packets; this module does all the waiting, so that nothing
that the network does holds up the loop. The one call that MicroPython offers only in a blocking
form is the look-up of the broker's name: an address instead of a name avoids it.
"""

import asyncio
import random

from umqtt import simple

from tapauth.compat import const, read_into, sleep_ms
from tapauth.link.framing import (
    CONNACK,
    PINGRESP,
    PUBACK,
    PUBLISH,
    SUBACK,
    FrameSocket,
    ProtocolError,
)
from tapauth.supervisor import Backoff

_OUT_MAX = const(4096)
_CONNECT_TIMEOUT_MS = const(10_000)
_TICK_MS = const(250)
_REFUSALS = (
    "",
    "it does not speak MQTT 3.1.1",
    "it does not want this client id",
    "it is not ready",
    "wrong user or password",
    "not authorized",
)


class Link:
    """One MQTT session that heals itself.

    `settings` is the "mqtt" object of the configuration; `on_message(topic, payload)` gets a
    string and bytes; `on_up()` is called after each connect. `subscriptions` are topic filters,
    renewed with each connection. `connected` is true from the broker's welcome to its loss.
    """

    def __init__(self, settings: dict, clock, log, on_message, on_up):
        self.subscriptions: list[str] = []
        self.connected = False
        self.sessions = 0
        self.dropped = 0
        self._host = settings["host"]
        self._port = settings["port"]
        self._keepalive_ms = settings["keepalive_s"] * 1000
        self._clock = clock
        self._log = log
        self._on_message = on_message
        self._on_up = on_up
        self._frames = FrameSocket(settings["max_message_bytes"], _OUT_MAX)
        # umqtt makes its own socket, from the module that it imported: that is where ours goes in.
        simple.socket = self._frames
        self._client = simple.MQTTClient(
            settings["client_id"],
            self._host,
            self._port,
            settings["user"] or None,
            settings["password"] or None,
            keepalive=settings["keepalive_s"],
        )
        self._client.set_callback(self._arrived)
        self._to_send = asyncio.Event()
        self._backoff = Backoff(500, 30_000)
        self._lost: Exception | None = None
        self._heard = 0
        self._sent = 0
        self._pinged = 0
        self._welcomed = False

    @property
    def oversized(self) -> int:
        """Messages from the broker that were longer than allowed, and skipped."""
        return self._frames.oversized

    def publish(self, topic: str, payload: str, retain: bool = False) -> bool:
        """Hand a message over for sending. False: not connected or no room; counted as dropped."""
        if not self.connected:
            self.dropped += 1
            return False
        before = len(self._frames.out)
        try:
            self._client.publish(topic.encode(), payload.encode(), retain)
        except ProtocolError:
            # Half a packet must not go out.
            self._frames.out[before:] = b""
            self.dropped += 1
            return False
        self._to_send.set()
        return True

    def enqueue(self, topic, payload, keep=False):
        self.publish(topic, payload)

    async def run(self, beat) -> None:
        """Stay connected, for ever."""
        while True:
            beat()
            try:
                await self._session(beat)
            except (OSError, asyncio.TimeoutError, ProtocolError) as error:
                was_up = self.connected
                self.connected = False
                if isinstance(error, ProtocolError):
                    self._log.warning("mqtt", "connection dropped: {}", str(error))
                elif was_up or self._backoff.fresh():
                    self._log.warning(
                        "mqtt", "no connection to {}:{} ({})", self._host, self._port, error
                    )
            wait = self._backoff.next()
            # Jitter: after a power cut not every charger of a site calls at the same moment.
            wait += random.getrandbits(8) * wait // 1024
            while wait > 0:
                beat()
                await sleep_ms(min(wait, 1000))
                wait -= 1000

    async def _session(self, beat) -> None:
        frames = self._frames
        frames.reset()
        self._to_send.clear()
        self._lost = None
        self._welcomed = False
        # Hello: umqtt writes it and wants the answer at once; the true one is read below.
        frames.expect(b"\x20\x02\x00\x00")
        self._client.connect()
        opening = asyncio.open_connection(self._host, self._port)
        reader, writer = await asyncio.wait_for(opening, _CONNECT_TIMEOUT_MS // 1000)
        self._heard = self._sent = self._pinged = self._clock.now()
        self._to_send.set()
        tasks = (
            asyncio.create_task(self._guard(self._receive(reader))),
            asyncio.create_task(self._guard(self._send(writer))),
        )
        try:
            while self._lost is None:
                beat()
                self._keep_alive(self._clock.now())
                await sleep_ms(_TICK_MS)
            raise self._lost
        finally:
            self.connected = False
            for task in tasks:
                task.cancel()
            writer.close()

    async def _guard(self, part) -> None:
        try:
            await part
        except Exception as error:  # umqtt raises IndexError and AssertionError on odd bytes
            known = (OSError, ProtocolError)
            if not isinstance(error, known):
                self._log.trace(error)
                error = ProtocolError("the broker's bytes made no sense: " + type(error).__name__)
            self._lost = error

    async def _receive(self, reader) -> None:
        frames = self._frames
        while True:
            count = await read_into(reader, frames.room())
            if not count:
                raise ProtocolError("closed by the broker")
            self._heard = self._clock.now()
            frames.received(count)
            while True:
                kind = frames.next_frame()
                if not kind:
                    break
                self._take(kind)
                # A flood of messages must not keep the reader waiting.
                await sleep_ms(0)

    async def _send(self, writer) -> None:
        frames = self._frames
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            data, frames.out = frames.out, bytearray()
            writer.write(data)
            await writer.drain()
            self._sent = self._clock.now()

    def _take(self, kind: int) -> None:
        kind_only = kind & 0xF0
        if not self._welcomed:
            if kind != CONNACK:
                raise ProtocolError("the broker did not answer with CONNACK")
            self._welcome(self._frames.body())
        elif kind_only == PUBLISH:
            self._client.wait_msg()
            self._to_send.set()  # it may have written an acknowledgement
        elif kind == SUBACK:
            if self._frames.body()[2] & 0x80:
                self._log.error("mqtt", "the broker refused a subscription")
        elif kind not in (PINGRESP, PUBACK):
            raise ProtocolError(f"unexpected packet type {kind_only >> 4}")

    def _welcome(self, body: bytes) -> None:
        code = body[1]
        if code:
            reason = _REFUSALS[code] if code < len(_REFUSALS) else f"code {code}"
            raise ProtocolError("refused by the broker: " + reason)
        self._welcomed = True
        self._backoff.reset()
        self._client.pid = 0
        for topic in self.subscriptions:
            # As with the hello; the true answer comes by _take.
            packet_id = (self._client.pid + 1).to_bytes(2, "big")
            self._frames.expect(b"\x90\x03" + packet_id + b"\0")
            self._client.subscribe(topic.encode())
        self.connected = True
        self.sessions += 1
        self._log.info("mqtt", "connected to {}:{}", self._host, self._port)
        self._on_up()
        self._to_send.set()

    def _arrived(self, topic: bytes, payload: bytes) -> None:
        try:
            name = topic.decode()
        except UnicodeError:
            return
        self._on_message(name, payload)

    def _keep_alive(self, now: int) -> None:
        # A ping at a quarter of the keepalive leaves time for a second try; a peer that has been
        # silent for one and a half is gone (MQTT 3.1.1, 3.1.2.10).
        silent = now - self._heard
        if not self._welcomed and silent > _CONNECT_TIMEOUT_MS:
            raise ProtocolError("no answer to CONNECT")
        if silent > self._keepalive_ms * 3 // 2:
            raise ProtocolError("the broker went silent")
        quiet = self._keepalive_ms // 4
        if self._welcomed and max(silent, now - self._sent) > quiet and now - self._pinged > quiet:
            self._pinged = now
            self._client.ping()
            self._to_send.set()
