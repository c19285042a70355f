"""The server: keeps its peers within bounds, and hands over what they ask. door.py loads it.

All limits are here or in pipe.py and frames.py: connections in all and by address, sizes, rates,
and time. A connection has a deadline. Before it is authorized nothing moves that but the end of
its request; afterwards every whole frame does, also the Pong to a Ping that the server sends when
half of the time has gone, so who only listens stays.
"""

import asyncio
import json

from tapauth.compat import SYSTEM_ERRORS, const, forget, is_scarce, sleep_ms
from tapauth.json_in import load
from tapauth.local.commands import Commands
from tapauth.local.door import BUSY, finish, turn_away
from tapauth.local.login.sessions import ADMIN
from tapauth.local.pipe import Pipe
from tapauth.local.websocket import WebSocket, WebSocketError

_HEAD_MS = const(5000)  # for a request's head
_STRANGER_MS = const(30_000)  # for a WebSocket to become authorized
_GRACE_MS = const(2000)  # a connection this young is not given up for another
_QUEUE = const(8)  # events that wait for a slow peer
_BURST = const(30)  # frames at once, of any kind
_REFILL_MS = const(50)  # one more frame each; who sends faster is read later
_CLOSE_MS = const(500)  # for which a peer may go on sending after the Close frame
_HTTP_MS = const(1000)  # for which what reads requests stays, for the next one
_STATUS_ONLY = b"HTTP/1.0 %d \r\nContent-Length: 0\r\n\r\n"
_ENDED = (MemoryError, ValueError)  # made once: see SYSTEM_ERRORS


class LocalPeer:
    """One WebSocket. `idle_ms` is for how long it may be silent once it is authorized."""

    def __init__(self, pipe: Pipe, socket, clock, idle_ms: int):
        self.session = None
        self.pipe = pipe
        self._socket = socket
        self._clock = clock
        self._idle_ms = idle_ms
        self._queue: list[str] = []
        self._sending = False
        self._pinged = False
        self._budget = _BURST * _REFILL_MS
        self._last = clock.now()
        self.gone = False

    async def send(self, text: str) -> None:
        """Send a message, as fast as the peer takes it."""
        await self._socket.send(text)

    def push(self, text: str) -> bool:
        """Send a message when the peer takes it; an empty one is a Ping. False: too many wait."""
        if self.gone or len(self._queue) >= _QUEUE:
            return False
        self._queue.append(text)
        if not self._sending:
            asyncio.create_task(self._drain())
            self._sending = True
        return True

    def forget(self) -> int:
        """Drop the messages that wait. Returns how many."""
        count = len(self._queue)
        self._queue.clear()
        return count

    async def _drain(self) -> None:
        try:
            while self._queue and not self.gone:
                text = self._queue.pop(0)
                await (self._socket.send(text) if text else self._socket.ping())
        except SYSTEM_ERRORS:
            pass  # its own task finds out too; one event may be lost, but not all from now on
        self._sending = False

    def settle(self, authorized: bool) -> None:
        """Whether it has shown who it is; only then does what it sends move its deadline."""
        self.pipe.settled = authorized
        if authorized:
            self.pipe.deadline = self._clock.now() + self._idle_ms

    def unsettle(self) -> None:
        """It has to show who it is, again or for the first time, and has a while for that."""
        self.settle(False)
        self.pipe.deadline = self._clock.now() + _STRANGER_MS

    def look_after(self, now: int) -> None:
        """Ask for a sign of life when there was none for half of the time."""
        pipe = self.pipe
        if pipe.settled and not self._pinged and pipe.deadline - now <= self._idle_ms // 2:
            self._pinged = self.push("")

    async def receive(self) -> str:
        """The next message, not before the rate of frames allows it."""
        return await self._socket.receive(self._heard)

    async def _heard(self) -> None:
        now = self._clock.now()
        self._pinged = False
        if self.pipe.settled:
            self.pipe.deadline = now + self._idle_ms
        self._budget = min(self._budget + now - self._last, _BURST * _REFILL_MS) - _REFILL_MS
        self._last = now
        if self._budget < 0:
            await sleep_ms(-self._budget)


class Server:
    """`settings` is the checked "server" object of the configuration, `ports` a commands.Ports,
    `auth` a ConnectionAuth that tells this server from now on who lost his authorization, `counts`
    takes what was turned away.
    """

    def __init__(self, settings: dict, ports, auth, clock, log, counts: dict):
        self.settings = settings
        self.ports = ports
        self.clock = clock
        self.log = log
        self.auth = auth
        auth.on_lost = self._lost
        self.commands = Commands(auth, ports, clock, log, self._tell)
        self._counts = counts
        self._context = None
        if settings["tls_cert"]:
            from tapauth.local import certificate

            forget(certificate)
            self._context = certificate.context(settings)
        self._pipes: list[Pipe] = []
        self._peers: list[LocalPeer] = []
        self._asking = 0
        self._asked = 0
        self._request_code: list = []

    def close(self) -> None:
        """End all connections."""
        for pipe in self._pipes:
            pipe.task.cancel()
        self._forget_http()

    def look_after(self, now: int) -> None:
        """End what takes too long, and do what is due. To be called now and then."""
        for pipe in self._pipes:
            if now >= pipe.deadline:
                pipe.deadline = now + _HEAD_MS
                self._counts["server_dropped"] += 1
                pipe.task.cancel()
        for peer in self._peers:
            peer.look_after(now)
        self.auth.expire()
        self.commands.learner.poll()
        if self.commands.restart_at and now >= self.commands.restart_at:
            self.commands.restart_at = 0
            self.ports.board.restart()
        if not self._asking and now - self._asked >= _HTTP_MS:
            self._forget_http()

    # Connections.

    def _room_for(self, pipe: Pipe) -> bool:
        most = self.settings["max_connections"]
        rivals = [one for one in self._pipes if one.address == pipe.address]
        if len(rivals) < max(most - 1, 1):
            if len(self._pipes) < most:
                return True
            rivals = self._pipes
        # An address that has all it may have takes no place from another.
        oldest = None
        for one in rivals:
            if not one.settled and (oldest is None or one.began < oldest.began):
                oldest = one
        if oldest and self.clock.now() - oldest.began > _GRACE_MS:
            # Who shows nothing for his presence makes room.
            self._counts["server_dropped"] += 1
            self._pipes.remove(oldest)
            oldest.task.cancel()
            return True
        return False

    async def accept(self, reader, writer) -> None:
        """Serve a connection to its end."""
        now = self.clock.now()
        try:
            pipe = Pipe(reader, writer, asyncio.current_task(), now, now + _HEAD_MS)
        except (OSError, TypeError):  # gone already
            return
        if not self._room_for(pipe):
            self._counts["server_refused"] += 1
            await turn_away(writer)
            return
        self._pipes.append(pipe)
        try:
            if self._context:
                await pipe.secure(self._context)
            await self._serve(pipe)
        except _ENDED as error:
            self.log.warning("server", "connection ended: {}", error)
        except (OSError, asyncio.CancelledError) as error:
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
                self._counts["server_events_dropped"] += 1

    def _tell(self, peer: LocalPeer, event: str, members: dict) -> None:
        message = {"method": "event", "event": event}
        message.update(members)
        if not peer.push(json.dumps(message)):
            self._counts["server_events_dropped"] += 1

    def _lost(self, peer: LocalPeer, cause: int) -> None:
        """A connection lost its authorization. Who cannot be told, for lack of memory, is hung
        up on: nobody shall wait for events that do not come.
        """
        peer.settle(False)
        # What still waits was for somebody who may read it; and this must not find the queue full.
        dropped = peer.forget()
        peer.pipe.deadline = 0
        try:
            self._counts["server_events_dropped"] += dropped
            self._tell(peer, "authorizationNeeded", {"cause": cause})
            peer.unsettle()
        except SYSTEM_ERRORS:
            pass

    # Requests.

    async def _begin(self, pipe: Pipe):
        if not await pipe.begins():
            return None
        self._asking += 1
        try:
            http = await self._load_http()
            if is_scarce():
                raise MemoryError
            return await http.begin(self, pipe)
        except MemoryError as error:
            self.log.warning("server", "a request was turned away: {}", error)
            self._counts["server_refused"] += 1
            if not pipe.answering:
                await pipe.awrite(BUSY)
            return None
        finally:
            self._asking -= 1
            self._asked = self.clock.now()

    async def _load_http(self):
        """The module http, loaded in steps. Only while _asking: it is not forgotten then."""
        module = None
        for module in http_parts():
            if module not in self._request_code:
                self._request_code.append(module)
            await sleep_ms(0)
        return module

    def _forget_http(self) -> None:
        """Forget what only requests need; it comes back with the next one."""
        while self._request_code:
            forget(self._request_code.pop())

    async def _upload(self, pipe: Pipe, size: int, token: str) -> None:
        from tapauth.local import upload

        forget(upload)
        if not self._asking:
            self._forget_http()
        status, text = await upload.take(self, pipe, size, token)
        self._asking += 1
        try:
            http = await self._load_http()
            await http.answer(pipe, status, text)
        except MemoryError:
            if pipe.answering:
                raise
            # The list may be in force: whoever sent it must not take it for refused, or lost.
            await pipe.awrite(_STATUS_ONLY % status)
        finally:
            self._asking -= 1

    async def _serve(self, pipe: Pipe) -> None:
        """Answer the request that a connection begins with, and what comes after it."""
        opened = await self._begin(pipe)
        if not opened:
            return
        path, rest = opened
        if path == "/cards":
            await self._upload(pipe, *rest)
            return
        socket = WebSocket(pipe)
        peer = LocalPeer(pipe, socket, self.clock, self.settings["idle_s"] * 1000)
        peer.unsettle()
        try:
            await (self._api(peer) if path == "/api" else self._rpc(peer))
        except WebSocketError as error:
            pipe.settled = False
            pipe.deadline = self.clock.now() + _CLOSE_MS
            code, answers = error.args
            await socket.close(code)
            if not answers:
                await pipe.exhaust()

    # WebSockets.

    async def _api(self, peer: LocalPeer) -> None:
        self._peers.append(peer)
        try:
            await self._converse(peer)
        finally:
            self._leave(peer)
            self.commands.learner.stop(peer)
            self.auth.closed(peer)

    async def _rpc(self, peer: LocalPeer) -> None:
        from tapauth.local import rpc_socket

        forget(rpc_socket)
        self._peers.append(peer)
        try:
            await rpc_socket.converse(self, peer)
        finally:
            self._leave(peer)

    def _leave(self, peer: LocalPeer) -> None:
        """Nothing is pushed to a peer any more: no message may follow a Close frame."""
        peer.gone = True
        self._peers.remove(peer)

    async def _converse(self, peer: LocalPeer) -> None:
        while True:
            reply = await self._answer(peer, await peer.receive())
            peer.settle(peer.session is not None)
            await peer.send(reply)

    async def _answer(self, peer: LocalPeer, data) -> str:
        try:
            request = load(data)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return '{"method":"","requestId":"","result":false,"error":"not a JSON object"}'
        try:
            return json.dumps(await finish(self.commands.handle(peer, request)))
        except MemoryError:
            return '{"method":"","requestId":"","result":false,"error":"out of memory"}'


def http_parts():
    """Steps: each loads one module of what reads and answers requests; the last is http."""
    import microdot

    yield microdot
    from microdot import microdot as requests

    yield requests
    from microdot import websocket

    yield websocket
    from tapauth.local import http

    yield http
