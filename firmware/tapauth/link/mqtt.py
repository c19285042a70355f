"""The link to the broker: connect, subscribe, publish, keep alive, and come back after a loss.

umqtt.simple writes and reads the packets, into and out of a FrameSocket (framing.py) that never
waits. This module does all the waiting, so that nothing that the network does holds up the loop.
docs/mqtt-link.md says where something can hold it up all the same, and why.

run() makes one session after the other, with a backoff between them. A session is in one of these
states, by two flags and a reason:

    opening      name look-up, TCP, TLS; CONNECT is written already and waits in `_frames.out`
    hello        CONNECT goes out, and any packet but CONNACK ends the session
    subscribing  `_welcomed`: the broker confirms one request after the other
    up           `connected`: the rest of the firmware may send
    lost         `_lost` says why: nothing more is written, and _session() raises it

Three tasks share it: _receive() takes packets, _send() writes what waits in `_frames.out`, and
_session() looks at the limits every 250 ms. The first that fails leaves its reason in `_lost`.

A window bounds what is on its way: the bytes that wait in `_frames.out` and `_unheard`, those that
went out since the broker was last heard. A sign of life is a whole packet, or a piece of one that
is being skipped; it opens the window again, and a ping asks for one. In a conflict:

* `_lost` wins over all: half a packet may wait, and the next one would complete it to rubbish.
* Answers win over the window: a message is taken only when little is on its way, and then its
  answer is taken too, even if it goes a little beyond. Until then the message waits in the
  buffer, and those behind it wait at the broker.
* Other tasks win over a flood of messages: after each one they get as much time as it took.
* A message longer than the window goes alone, when nothing else is on its way; a flood pauses for
  a moment to let that happen.
* A message of the outbox waits for room like any other, and only one is under way at a time.
"""

import asyncio
import json
import random

from umqtt import simple

from tapauth import __version__, topics
from tapauth.compat import const, hang_up, late, read_into, sleep_ms
from tapauth.core.effects import ORDINARY
from tapauth.json_in import decode
from tapauth.link.framing import (
    CONNACK,
    DUPLICATE,
    PINGRESP,
    PUBACK,
    PUBLISH,
    QOS_1,
    QOS_2,
    RETAINED,
    SUBACK,
    FrameSocket,
    ProtocolError,
)
from tapauth.link.outbox import PAYLOAD, TOPIC, Outbox
from tapauth.link.subscriptions import Subscriptions
from tapauth.supervisor import Backoff

# Bytes that may be on their way without a sign of life from the broker. The window bounds what a
# dead connection takes up in the network stack, where a full buffer would block (RP2040) or take
# minutes to fail.
_WINDOW = const(4096)
_RESERVE = const(2048)  # beyond it, for pings, acknowledgements and subscriptions
_LONGEST = const(17_408)  # a message that is longer than the window, and then goes alone
_PIECE = const(1024)  # bytes that are written in one call
_OVERHEAD = const(9)  # of a PUBLISH beside its topic and payload, at most
_CONNECT_TIMEOUT_MS = const(10_000)  # for TCP and TLS, for CONNACK, for a write
_TICK_MS = const(250)
_TURN_MS = const(100)  # in which a message that goes alone finds nothing else on its way
_USEFUL_MS = const(10_000)  # a session that lasted this long was no failed attempt
_RECENT = const(16)  # messages that are known again when they come twice
_TYPE = const(0xF0)  # in a packet's first byte
_WELCOME = b"\x20\x02\x00\x00"  # CONNACK: no session was kept, accepted
# By the return code of CONNACK (MQTT 3.1.1, 3.2.2.3).
_REFUSALS = (
    "",
    "it does not speak MQTT 3.1.1",
    "it does not want this client id",
    "it is not ready",
    "wrong user or password",
    "not authorized",
)


# Made here: they are needed when there is no memory to make them.
_EXPECTED = (OSError, ProtocolError)
_ENDED = (OSError, asyncio.TimeoutError, ProtocolError)
_MESSAGE_LOST = ProtocolError("a message was lost for want of memory")


def _bytes(text) -> bytes:
    return text.encode() if isinstance(text, str) else text


class Link:
    """One MQTT session that heals itself.

    `settings` is the "mqtt" object of the configuration; `on_message(topic, payload, retained)`
    gets a string, bytes, and whether the broker says that it kept the message for whoever
    subscribes: proof that the message may be old, while its absence proves nothing. `on_up()` is
    called after each connect, when all subscriptions are confirmed. `status_topic`, if given,
    holds {"state": "online" or "offline", "version"}, retained, and what is beside and below it
    is the board's own. `connected` is true from on_up to the loss of the connection.

    Topics are the caller's to check: topics.py says what may be one.
    """

    def __init__(self, settings: dict, clock, log, on_message, on_up, status_topic: str = ""):
        self.subscriptions = Subscriptions()
        self.connected = False
        self.sessions = 0
        self.dropped = 0
        self.malformed = 0
        self.duplicates = 0
        self.refused = 0
        self.replies_refused = 0
        self.outbox = Outbox(
            settings["outbox_messages"], settings["outbox_bytes"], settings["timeout_ms"]
        )
        self.fitting = min(settings["outbox_bytes"], _WINDOW) * 3 // 4
        """Bytes of a payload that enqueue() has room for beside others."""
        self._host = settings["host"]
        self._port = settings["port"]
        self._resolver = None
        if self._host.strip("0123456789."):
            # Imported late, as TLS is: a board that does without has better uses for the memory.
            with late("dns"):
                from tapauth.link.dns import Resolver

            self._resolver = Resolver(self._host, settings["name_server"], clock)
        self._tls = settings["tls"]
        self._tls_context = None
        self._timeout_ms = settings["timeout_ms"]
        self._keepalive_ms = settings["keepalive_s"] * 1000
        self._clock = clock
        self._log = log
        self.on_message = on_message
        self._on_up = on_up
        self._status_topic = status_topic.encode()
        self._own = status_topic[: status_topic.rfind("/") + 1]
        self._retained = self._unread = False  # the message at hand
        self._frames = FrameSocket(settings["max_message_bytes"], _LONGEST + _RESERVE)
        # Encoded, because umqtt counts the characters of a string, not its bytes.
        self._client = simple.MQTTClient(
            client_id=settings["client_id"].encode(),
            server=self._host,
            port=self._port,
            user=settings["user"].encode() or None,
            password=settings["password"].encode(),
            keepalive=settings["keepalive_s"],
        )
        self._client.set_callback(self._arrived)
        if status_topic:
            self._client.set_last_will(self._status_topic, self._status("offline"), True, 1)
        self._to_send = asyncio.Event()  # something waits in _frames.out
        self._backoff = Backoff()
        self._reason = ""  # why the last attempt failed: told once, however often it does
        self._lost: Exception | None = None
        self._welcomed = False
        # ms of the clock: the last sign of life, the end of the last write, the last ping.
        self._heard = self._sent = self._pinged = 0
        self._write_started = 0
        self._writing = False
        self._unheard = 0  # bytes sent since the broker was last heard
        self._asked = False  # for a sign of life, since then
        self._awaited = False  # a message that goes alone waits for its turn
        self._told = False  # of messages that were dropped, in this session
        self._recent: list[int] = []  # packet ids of the messages that came last

    @property
    def oversized(self) -> int:
        """Messages from the broker, longer than allowed or than the heap has room for: skipped."""
        return self._frames.oversized

    def counters(self) -> dict:
        """Counts of all that was refused, lost or skipped so far, and of the sessions."""
        return {
            "mqtt_sessions": self.sessions,
            "mqtt_dropped": self.dropped,
            "mqtt_outbox_dropped": self.outbox.dropped,
            "mqtt_commands_dropped": self.outbox.dropped_kept,
            "mqtt_unacknowledged": self.outbox.unacknowledged,
            "mqtt_expired": self.outbox.expired,
            "mqtt_oversized": self.oversized,
            "mqtt_malformed": self.malformed,
            "mqtt_duplicates": self.duplicates,
            "mqtt_refused": self.refused,
            "mqtt_replies_refused": self.replies_refused,
            "mqtt_lookup_ms": self._resolver.blocked_ms if self._resolver else 0,
        }

    # For the rest of the firmware. Nothing here waits.

    def publish(self, topic, payload, retain: bool = False) -> bool:
        """Send a message now or never (QoS 0); strings or bytes. False, and counted: never."""
        topic = _bytes(topic)
        payload = _bytes(payload)
        if not self.connected or not self._fits(len(topic) + len(payload)):
            self.dropped += 1
            if self.connected and not self._told:
                self._told = True
                self._log.warning("mqtt", "messages are dropped: the broker takes them too slowly")
            return False
        self._write(topic, payload, retain)
        self._to_send.set()
        return True

    def _write(self, topic: bytes, payload: bytes, retain: bool = False) -> None:
        """Have umqtt write a message, which it does in pieces. When memory ends between them,
        the next packet would complete this one, so nothing more is sent in this session.
        """
        frames = self._frames
        start = len(frames.out)
        try:
            self._client.publish(topic, payload, retain)
        except MemoryError:
            if len(frames.out) != start:
                self.message_lost()
            raise

    def make_room(self, size: int) -> bool:
        """Ask for room. True when publish() would send `size` bytes of topic and payload now; else
        the broker is asked for a sign of life, after which there may be room.
        """
        if self.connected and self._fits(size):
            return True
        if self.connected:
            self._ask_for_a_sign()
            if size > _WINDOW:
                self._awaited = True
        return False

    def _ask_for_a_sign(self) -> None:
        if not self._asked:
            self._client.ping()
            self._asked = True
            self._pinged = self._clock.now()
            self._to_send.set()

    def enqueue(
        self,
        topic,
        payload,
        keep: int = ORDINARY,
        wait_ms: int | None = None,
        instead: bytes = b"",
    ) -> bool:
        """Send a message when the broker can have it, in order, at least once (QoS 1).

        `keep` says how much it matters (tapauth.core.effects) when the outbox overflows. After
        `wait_ms` it is not sent any more, but `instead` of it. False, and counted in the outbox:
        no room.
        """
        now = self._clock.now()
        until = None if wait_ms is None else now + wait_ms
        added = False
        while True:
            try:
                topic = _bytes(topic)
                payload = _bytes(payload)
                if len(topic) + len(payload) + _OVERHEAD > _WINDOW:
                    self.outbox.dropped += 1
                    break
                added = self.outbox.add(topic, payload, keep, until=until, instead=instead)
                break
            except MemoryError:  # a full heap is a full outbox
                if not self.outbox.shed(keep):
                    self.outbox.dropped += 1
                    self.outbox.dropped_kept += keep > 0
                    break
        self._pump(now)
        return added

    def check_reply(self, topic: str, replies: str = "") -> bool:
        """Judge a topic where somebody wants a reply, by topics.takes_reply. False, and counted:
        none may go there. `replies` is what EVerest's topics for replies to us begin with.
        """
        if topics.takes_reply(topic, self._own, self.subscriptions.names, replies):
            return True
        self.replies_refused += 1
        return False

    def subscribe(self, name: str) -> None:
        """Ask for the messages of a topic filter, now and after each connect."""
        self.subscriptions.add(name)
        self._ask()

    def message_lost(self) -> None:
        """A message that just came was not taken in, and must come again, or one that goes out
        was written in part: end the session, and send nothing more in it.

        The broker keeps nothing for a session that begins anew. But the broker publishes the last
        will, and whoever sees the board come back tells the board what it must know.
        """
        if self._lost is None:
            self._lost = _MESSAGE_LOST

    # The life of a session.

    async def run(self, beat) -> None:
        """Stay connected, for ever."""
        while True:
            beat()
            began = self._clock.now()
            try:
                await self._session(beat)
            except _ENDED as error:
                reason = str(error) or "no answer to the connection"
                if self._welcomed or reason != self._reason:
                    self._log.warning(
                        "mqtt", "no connection to {}:{}: {}", self._host, self._port, reason
                    )
                self._reason = reason
            if self._welcomed:
                if self._clock.now() - began > _USEFUL_MS:
                    self._backoff.reset()
            elif self._resolver:
                self._resolver.doubt()
            self._welcomed = False
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
        self._writing = self._asked = self._awaited = self._told = self._welcomed = False
        self._unheard = 0
        self._recent = []
        # umqtt makes its socket from the module that it imported: that is where ours goes in.
        simple.socket = frames
        # Hello: umqtt writes it and wants the answer at once; the true one is read below.
        frames.expect(_WELCOME)
        self._client.connect()
        options = self._tls_options()
        address = await self._resolver.find() if self._resolver else self._host
        beat()
        tasks: list = []
        opening = asyncio.open_connection(address, self._port, **options)
        reader, writer = await asyncio.wait_for(opening, _CONNECT_TIMEOUT_MS // 1000)
        try:  # from here on there is somebody to hang up on
            self._heard = self._sent = self._pinged = self._clock.now()
            self._to_send.set()
            tasks.append(asyncio.create_task(self._guard(self._receive(reader))))
            tasks.append(asyncio.create_task(self._guard(self._send(writer))))
            # Neither task raises: _guard() turns what ended it into `_lost`.
            while self._lost is None:
                beat()
                self._check(self._clock.now())
                await sleep_ms(_TICK_MS)
            raise self._lost
        finally:
            self.connected = False
            for task in tasks:
                task.cancel()
            self.outbox.session_ended()
            self.subscriptions.session_ended()
            await hang_up(writer)

    def _tls_options(self) -> dict:
        if not self._tls["enabled"]:
            return {}
        with late("tls"):
            from tapauth.link import tls

        if not tls.clock_is_set():
            raise ProtocolError("the clock is not set: no certificate can be checked")
        if self._tls_context is None:
            self._tls_context = tls.context(self._tls)
        return {
            "ssl": self._tls_context,
            "server_hostname": self._tls["server_name"] or self._host,
        }

    async def _guard(self, part) -> None:
        try:
            await part
        except MemoryError as error:
            self.message_lost()  # at once: to log it needs memory too
            self._log.trace(error)
        except Exception as raised:  # umqtt raises IndexError and AssertionError on odd bytes
            if self._lost is not None:
                return
            self._lost = _MESSAGE_LOST  # if there is no memory to say what it is
            if self._tls["enabled"] and not self._welcomed:
                # MbedTLS tells its reasons in lines.
                self._lost = ProtocolError("TLS: " + str(raised).strip().replace("\n", ", "))
            elif isinstance(raised, _EXPECTED):
                self._lost = raised
            else:
                self._lost = ProtocolError(
                    "the broker's bytes made no sense: " + type(raised).__name__
                )
                self._log.trace(raised)

    async def _receive(self, reader) -> None:
        # A message may ask for an answer, and answers wait for nobody. So a message is taken only
        # when there is room for an answer; until then it waits here, and those behind it wait at
        # the broker. Room comes with a sign of life, which is anything more that can be read.
        frames = self._frames
        kind = 0  # of a frame that is whole and waits to be taken
        while True:
            if len(frames.out) > _WINDOW // 2:
                # The broker takes no answers now: let it wait with its messages.
                await sleep_ms(20)
                continue
            if kind and self._is_full():
                if len(frames.room()):
                    self._ask_for_a_sign()  # and read on, for the answer
                elif frames.out or self._writing:
                    await sleep_ms(20)
                    continue
                else:
                    self._unheard = 0  # nothing more can be read, but it took all
            if not kind or self._is_full():
                skipped = frames.skipping
                count = await read_into(reader, frames.room())
                if not count:
                    raise ProtocolError("closed by the broker")
                frames.received(count)
                # Not while one waits: the next call would throw it away.
                kind = kind or frames.next_frame()
                if kind or skipped or frames.skipping:
                    # Only whole frames count: a dribble of bytes is no sign of life.
                    self._heard = self._clock.now()
                    self._unheard = 0
                    self._asked = False
                if self._awaited and not frames.out:
                    # Nothing is on its way now: whoever waits for that looks in this time.
                    self._awaited = False
                    await sleep_ms(_TURN_MS)
            while kind:
                began = self._clock.now()
                self._take(kind)
                # A flood of messages gets half of the time; the reader has the other half.
                await sleep_ms(self._clock.now() - began)
                kind = frames.next_frame()
                if kind and (self._is_full() or len(frames.out) > _WINDOW // 2):
                    break
            if frames.out:
                self._to_send.set()

    async def _send(self, writer) -> None:
        frames = self._frames
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            if self._lost is not None:
                return  # half a packet may wait
            data, frames.out = frames.out, bytearray()
            if not data:
                continue
            # Before it is written: an answer may come while this waits for the network.
            self._unheard += len(data)
            self._writing = True
            view = memoryview(data)
            # In pieces, each with its own limit of time: a slow broker is not a dead one.
            for at in range(0, len(data), _PIECE):
                self._write_started = self._clock.now()
                writer.write(view[at : at + _PIECE])
                await writer.drain()
            self._writing = False
            self._sent = self._clock.now()

    def _check(self, now: int) -> None:
        silent = now - self._heard
        limit = self._timeout_ms
        if self._writing and now - self._write_started > max(limit, _CONNECT_TIMEOUT_MS):
            raise ProtocolError("the broker takes no more bytes")
        if not self._welcomed:
            if silent > _CONNECT_TIMEOUT_MS:
                raise ProtocolError("no answer to CONNECT")
            return
        if silent > self._keepalive_ms * 3 // 2:
            # MQTT 3.1.1, 3.1.2.10, the other way round.
            raise ProtocolError("the broker went silent")
        if self.subscriptions.late(now, limit):
            raise ProtocolError("no answer to SUBSCRIBE")
        if self.outbox.stuck(now):
            raise ProtocolError("no acknowledgement")
        # A ping at a quarter of the keepalive leaves time for a second try; a full window needs
        # an answer too, before more is sent.
        quiet = self._keepalive_ms // 4
        wanted = max(silent, now - self._sent) > quiet
        if self._unheard > _WINDOW // 2:
            quiet = 1000
            wanted = True
        if wanted and now - self._pinged > quiet:
            self._pinged = now
            self._client.ping()
            self._to_send.set()
        self._ask()
        self._pump(now)

    def _fits(self, size: int) -> bool:
        """Whether a message with `size` bytes of topic and payload may go now."""
        waiting = len(self._frames.out) + self._unheard
        size += _OVERHEAD
        if size > _WINDOW:  # it goes alone
            return not waiting and size <= _LONGEST
        # The answer to a message that was taken always has room: see _is_full().
        return waiting + size <= _WINDOW or not self._is_full()

    def _is_full(self) -> bool:
        """Too much is on its way to take a message that may need an answer."""
        return len(self._frames.out) + self._unheard > _WINDOW // 4

    def _pump(self, now: int) -> None:
        """Send the outbox's next message, if it is time for one."""
        message = self.outbox.due(now) if self.connected else None
        if message is None or self.outbox.stuck(now):
            return
        if not self._fits(len(message[TOPIC]) + len(message[PAYLOAD])):
            return
        out = self._frames.out
        start = len(out)
        again = self.outbox.tries > 0
        packet_id = self.outbox.sent(now)
        try:
            # umqtt would wait for the acknowledgement. With QoS 0 it does not, and the two packets
            # differ only in these bits and in the id before the payload.
            self._write(message[TOPIC], packet_id.to_bytes(2, "big") + message[PAYLOAD])
        except MemoryError:  # it stays in the outbox
            self.outbox.not_sent()
            return
        out[start] |= QOS_1 | DUPLICATE if again else QOS_1
        self._to_send.set()

    def _ask(self) -> None:
        """Send the next request to subscribe, if there is one."""
        if self._welcomed and len(self._frames.out) <= _WINDOW // 2:
            packet = self.subscriptions.due(self.outbox.next_id, self._clock.now())
            if packet:
                self._frames.write(packet)
                self._to_send.set()

    # From the broker.

    def _take(self, kind: int) -> None:
        body = b""
        if kind & _TYPE != PUBLISH:
            body = self._frames.body()
            if len(body) < 2 and kind != PINGRESP:
                raise ProtocolError("frame shorter than it should be")
        if not self._welcomed:
            if kind != CONNACK:
                raise ProtocolError("the broker did not answer with CONNACK")
            self._welcome(body[1])
        elif not body:
            if kind != PINGRESP:
                self._take_message(kind)
        elif kind == PUBACK:
            if self.outbox.acknowledged(body[0] << 8 | body[1]):
                self._pump(self._clock.now())
        elif kind == SUBACK:
            self._answered(body)
        else:
            raise ProtocolError(f"unexpected packet type {kind >> 4}")

    def _welcome(self, code: int) -> None:
        if code:
            reason = _REFUSALS[code] if code < len(_REFUSALS) else f"code {code}"
            raise ProtocolError("refused by the broker: " + reason)
        self._welcomed = True
        self._reason = ""
        # `connected` comes when all is confirmed: before that the answers to requests are missed.
        self.subscriptions.renew()
        self._ask()
        if self.subscriptions.settled:
            self._ready()

    def _answered(self, body: bytes) -> None:
        for name in self.subscriptions.answered(body):
            # Told, and lived with: the other topics are worth a session.
            self.refused += 1
            self._log.error("mqtt", "the broker refused to send {}", name)
        self._ask()
        if self.subscriptions.settled and not self.connected:
            self._ready()

    def _ready(self) -> None:
        self.connected = True
        self.sessions += 1
        self._log.info("mqtt", "connected to {}:{}", self._host, self._port)
        if self._status_topic:
            self._write(self._status_topic, self._status("online"), True)
        self._call(self._on_up)
        self._pump(self._clock.now())
        self._to_send.set()

    def _status(self, state: str) -> bytes:
        return json.dumps({"state": state, "version": __version__}).encode()

    def _take_message(self, kind: int) -> None:
        self._retained = bool(kind & RETAINED)  # umqtt does not tell
        if kind & QOS_2:
            raise ProtocolError("a message with a QoS that was not asked for")
        if not kind & QOS_1:
            self._read_message(0)
            return
        packet_id = self._frames.publish_id()
        # By the mark and the id together: an id alone may be that of another, later message.
        if kind & DUPLICATE and packet_id in self._recent:
            # Handled before, and its acknowledgement sent: the broker was too impatient.
            self.duplicates += 1
            self._acknowledge(packet_id)
            return
        self._read_message(packet_id)
        self._recent = self._recent[1 - _RECENT :]
        self._recent.append(packet_id)

    def _read_message(self, packet_id: int) -> None:
        """Have umqtt read the frame at hand and hand it on. It acknowledges afterwards."""
        self._unread = True
        try:
            self._client.wait_msg()
        except MemoryError:
            # The sender of a message that comes once must see that it was lost. But a broker sends
            # a retained one in each session: to hang up would be to hang up for ever.
            if not self._retained or not self._unread:
                raise
            self._frames.oversized += 1
            if packet_id:
                self._acknowledge(packet_id)

    def _acknowledge(self, packet_id: int) -> None:
        self._frames.write(bytes((PUBACK, 2, packet_id >> 8, packet_id & 0xFF)))

    def _arrived(self, topic: bytes, payload: bytes) -> None:
        try:
            name = decode(topic)
        except ValueError:
            name = "\0"
        if not topics.is_text(name):
            self.malformed += 1
            return
        self._unread = False
        self._call(self.on_message, name, payload, self._retained)

    def _call(self, function, *arguments) -> None:
        try:
            function(*arguments)
        except Exception as error:  # a fault elsewhere is no reason to leave the broker
            self._log.error("mqtt", "{} in what was called", error)
            self._log.trace(error)
