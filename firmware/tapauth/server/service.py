"""The server: listens, keeps its peers within bounds, and hands over what they ask.

microdot does HTTP and WebSocket; the streams under it are ours (pipe.py), and so are all limits:
connections in all and by address, sizes, rates, and time.
"""

import asyncio
import json

from microdot import Microdot, Request, Response
from microdot.microdot import HTTPException
from microdot.websocket import WebSocket, WebSocketError

from tapauth.compat import const, sleep_ms, unload
from tapauth.conn.sessions import ADMIN
from tapauth.server.commands import Commands
from tapauth.server.pipe import Pipe

MAX_MESSAGE = const(4096)
"""Most bytes of a WebSocket message."""
_HEAD_MS = const(5000)  # for a request's head
STRANGER_MS = const(30_000)  # for a WebSocket to become authorized
_GRACE_MS = const(2000)  # a connection this young is not given up for another
_QUEUE = const(8)  # events that wait for a slow peer
_BURST = const(30)  # messages at once
_REFILL_MS = const(50)  # one more message each; who sends faster is read later
_TICK_MS = const(100)

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Peer:
    """One WebSocket of `/api`."""

    def __init__(self, pipe: Pipe, socket, now: int):
        self.session = None
        self.pipe = pipe
        self._socket = socket
        self._queue: list[str] = []
        self._sending = False
        self._budget = _BURST * _REFILL_MS
        self._last = now
        self.gone = False

    async def send(self, text: str) -> None:
        """Send a message, as fast as the peer takes it."""
        await self._socket.send(text)

    def push(self, text: str) -> bool:
        """Send a message when the peer takes it. False: too many wait already."""
        if self.gone or len(self._queue) >= _QUEUE:
            return False
        self._queue.append(text)
        if not self._sending:
            self._sending = True
            asyncio.create_task(self._drain())
        return True

    async def _drain(self) -> None:
        try:
            while self._queue and not self.gone:
                await self._socket.send(self._queue.pop(0))
        except OSError:
            pass  # its own task finds out too
        self._sending = False

    async def receive(self, clock):
        """The next message, not before the rate of messages allows it."""
        if self._budget < 0:
            await sleep_ms(-self._budget)
        data = await self._socket.receive()
        now = clock.now()
        self._budget = min(self._budget + now - self._last, _BURST * _REFILL_MS) - _REFILL_MS
        self._last = now
        return data


class Server:
    """`settings` is the checked "server" object of the configuration, `ports` a commands.Ports,
    `make_auth(on_lost)` a generator that makes the ConnectionAuth, `page` the path of the
    compressed console page.

    `rpc` is the cloud auth service or None: `rpc.handle(data, peer)` as rpc.service.Service has
    it, with `new_rpc_peer()` for each of its connections.
    """

    def __init__(self, settings: dict, ports, make_auth, page: str, clock, log):
        self.rpc = None
        self.new_rpc_peer = None
        self.auth = None
        self.commands: Commands | None = None
        self.refused = 0
        """Connections that were turned away."""
        self.dropped = 0
        """Connections that were given up, for lack of life."""
        self.events_dropped = 0
        self.settings = settings
        self.ports = ports
        self._make_auth = make_auth
        self.page = page
        self.clock = clock
        self.log = log
        self._context = None
        self._pipes: list[Pipe] = []
        self._peers: list[Peer] = []
        # Bodies are streams, and there are none where none is wanted.
        Request.max_body_length = 0
        WebSocket.max_message_length = MAX_MESSAGE

    # Life.

    async def run(self, beat) -> None:
        """Serve for ever. Raises OSError when the port cannot be had."""
        beat()
        if not self.commands:
            self.auth = await self.steps(self._make_auth(self._lost))
            self.commands = Commands(self.auth, self.ports, self.clock, self.log, self._tell)
        settings = self.settings
        self._context = _tls(settings)
        server = await asyncio.start_server(self._accept, settings["address"], settings["port"])
        scheme = "https" if self._context else "http"
        self.log.info("server", "{} on port {}", scheme, settings["port"])
        try:
            while True:
                beat()
                self._look_after()
                await sleep_ms(_TICK_MS)
        finally:
            server.close()
            for pipe in self._pipes:
                pipe.task.cancel()

    def _look_after(self) -> None:
        now = self.clock.now()
        for pipe in self._pipes:
            if now >= pipe.deadline:
                pipe.deadline = now + _HEAD_MS
                self.dropped += 1
                pipe.task.cancel()
        self.auth.expire()  # type: ignore
        commands = self.commands
        commands.learner.poll()  # type: ignore
        if commands.restart_at and now >= commands.restart_at:  # type: ignore
            commands.restart_at = 0  # type: ignore
            self.ports.board.restart()

    async def steps(self, steps):
        """Run a generator to its end; its steps say how long they can wait."""
        try:
            while True:
                await sleep_ms(next(steps) or 0)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    def counters(self) -> dict:
        """What was turned away so far."""
        return {
            "server_refused": self.refused,
            "server_dropped": self.dropped,
            "server_events_dropped": self.events_dropped,
        }

    # Connections.

    def _room_for(self, pipe: Pipe) -> bool:
        most = self.settings["max_connections"]
        same = 0
        oldest = None
        for one in self._pipes:
            same += one.address == pipe.address
            if not one.settled and (oldest is None or one.began < oldest.began):
                oldest = one
        if same < max(most - 1, 1) and len(self._pipes) < most:
            return True
        if oldest and self.clock.now() - oldest.began > _GRACE_MS:
            # Who shows nothing for his presence makes room.
            self.dropped += 1
            self._pipes.remove(oldest)
            oldest.task.cancel()
            return True
        return False

    async def _accept(self, reader, writer) -> None:
        now = self.clock.now()
        try:
            pipe = Pipe(reader, writer, asyncio.current_task(), now, now + _HEAD_MS)
        except (OSError, TypeError):  # gone already
            return
        if not self._room_for(pipe):
            self.refused += 1
            await pipe.aclose()
            return
        self._pipes.append(pipe)
        try:
            if self._context:
                await pipe.secure(self._context)
            await self._serve(pipe)
        except (OSError, WebSocketError, asyncio.CancelledError) as error:
            self.log.debug("server", "connection ended: {}", error)
        except Exception as error:
            self.log.error("server", "connection ended: {}", error)
            self.log.trace(error)
        finally:
            if pipe in self._pipes:
                self._pipes.remove(pipe)
            await pipe.aclose()

    # Events.

    def push(self, event: str, members: dict, for_admins: dict | None = None) -> None:
        """Send an event to all authorized connections, to admins with further members."""
        texts: dict = {}
        for peer in self._peers:
            role = peer.session.role if peer.session else 0
            if not role:
                continue
            if role not in texts:
                message = {"method": "event", "event": event}
                message.update(members)
                if role == ADMIN and for_admins:
                    message.update(for_admins)
                texts[role] = json.dumps(message)
            if not peer.push(texts[role]):
                self.events_dropped += 1

    def _tell(self, peer: Peer, event: str, members: dict) -> None:
        message = {"method": "event", "event": event}
        message.update(members)
        peer.push(json.dumps(message))

    def _lost(self, peer: Peer, cause: int) -> None:
        """A connection lost its authorization."""
        peer.pipe.settled = False
        peer.pipe.deadline = self.clock.now() + STRANGER_MS
        self._tell(peer, "authorizationNeeded", {"cause": cause})

    # Requests.

    async def _serve(self, pipe: Pipe) -> None:
        """Answer the request that a connection begins with."""
        try:
            request = await Request.create(Microdot, pipe, pipe, None)
            if request and request.method == "GET" and request.path == "/api":
                response = await self._api(request)
            else:
                if request and request.path == "/rpc":
                    from tapauth.server import rpc_socket as room
                else:
                    from tapauth.server import files as room  # type: ignore

                # What it needs of the module lives as long as it runs.
                unload(room.__name__)
                response = await room.respond(self, request)
        except (HTTPException, ValueError, IndexError):
            response = Response("bad request", 400, HEADERS)
        if response:
            await response.write(pipe)

    def _pipe_of(self, request) -> Pipe:
        return request.sock[0]

    # WebSockets.

    def is_foreign(self, request) -> bool:
        """Whether a page of another host opens this WebSocket in its visitor's name."""
        origin = request.headers.get("Origin")
        return bool(origin) and origin.split("://")[-1] != request.headers.get("Host")

    async def _api(self, request):
        if self.is_foreign(request):
            return Response("other origin", 403, HEADERS)
        socket = WebSocket(request)
        await socket.handshake()
        now = self.clock.now()
        pipe = self._pipe_of(request)
        pipe.deadline = now + STRANGER_MS
        peer = Peer(pipe, socket, now)
        self._peers.append(peer)
        try:
            await self._converse(peer)
        except WebSocketError:
            pass  # closed, or not what we understand
        finally:
            peer.gone = True
            self._peers.remove(peer)
            if self.commands:
                self.commands.learner.stop(peer)
            self.auth.closed(peer)  # type: ignore

    async def _converse(self, peer: Peer) -> None:
        pipe = peer.pipe
        while True:
            data = await peer.receive(self.clock)
            reply = await self._answer(peer, data)
            pipe.settled = peer.session is not None
            if pipe.settled:
                pipe.deadline = self.clock.now() + self.settings["idle_s"] * 1000
            await peer.send(reply)

    async def _answer(self, peer: Peer, data) -> str:
        try:
            request = json.loads(data)
        except Exception:  # whatever the parser chokes on
            request = None
        if not isinstance(request, dict):
            return '{"method":"","requestId":"","result":false,"error":"not a JSON object"}'
        reply = await self.steps(self.commands.handle(peer, request))  # type: ignore
        try:
            return json.dumps(reply)
        except MemoryError:
            return '{"method":"","requestId":"","result":false,"error":"out of memory"}'


def _tls(settings: dict):
    """The context for TLS with the configured certificate, or None for none."""
    if not settings["tls_cert"]:
        return None
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings["tls_cert"], settings["tls_key"])
    return context
