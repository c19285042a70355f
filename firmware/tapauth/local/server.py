"""The server: keeps its peers within bounds, and hands over what they ask. door.py loads it.

Theory of operation. A connection is a Pipe and the task that serves it; the task of the door
looks at the deadlines of all pipes ten times a second and cancels the tasks that are late. A
connection that speaks as a WebSocket is a LocalPeer too. The deadline of each goes through these:

    head        5 s for TLS, a request's head and the answer; http.py gives long answers more
    transfer    10 s for each piece of a card list, 60 s to put a list in force (upload.py)
    stranger    30 s for a WebSocket to become authorized; no frame moves this deadline
    authorized  `idle_s` from each whole frame; a Ping asks for one when half of it has gone, and
                the Pong counts, so a peer that only listens stays
    closing     0.5 s after a Close frame, for the peer to read why

A peer that loses its authorization is a stranger again. `settled` is true of a transfer and of an
authorized peer. The other limits: connections in all and by address (_make_room), frames by their
rate (_heard), events that wait (push), bytes of a head (pipe.py) and of a message (websocket.py).

Two tasks write to a peer: its own, which sends a reply before it reads the next request, and one
that drains the events in its queue. A slow peer so holds up itself only. In a conflict:

* A settled connection wins over a newcomer, and a newcomer over a stranger that had 2 s. An
  address that has all it may have gets a place only from itself.
* The loss of an authorization wins over the events that wait: these are dropped, so that the news
  of it always finds a place. A peer that there is no memory to tell is hung up on.
* A Close frame wins over events: a peer is `gone` before that frame is sent.
* A peer that sends too fast is read later, and a full queue drops the newest event: neither ends
  a connection.
* Want of memory ends the request, not the server: the answer is 503, or for an upload its status
  without a text, unless a part of another answer is out already.

The code that reads requests (http.py and microdot) comes in steps with a request, stays a second
for the next one, and is never forgotten while a request is being read or answered.
"""

import asyncio
import json

from tapauth.compat import SYSTEM_ERRORS, const, forget, is_scarce, late, sleep_ms
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
_REFILL_MS = const(50)  # one more frame each; a peer that sends faster is read later
_CLOSE_MS = const(500)  # for which a peer may go on sending after the Close frame
_HTTP_MS = const(1000)  # for which the code that reads requests stays, for the next one
_STATUS_ONLY = b"HTTP/1.0 %d \r\nContent-Length: 0\r\n\r\n"
_ENDED = (MemoryError, ValueError)  # made once: see SYSTEM_ERRORS


class LocalPeer:
    """One WebSocket: a connection of ConnectionAuth. `socket` is its WebSocket over `pipe`; the
    peer may be silent for `idle_ms` milliseconds once it is authorized.
    """

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
        """Send `text` when the peer takes it; an empty text is a Ping. False: too many wait."""
        if self.gone or len(self._queue) >= _QUEUE:
            return False
        self._queue.append(text)
        if not self._sending:
            asyncio.create_task(self._drain())
            # Only now: without memory for the task the next event must try again.
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
            pass  # the peer's own task finds out too; one event may be lost, but not all to come
        self._sending = False

    def settle(self, authorized: bool) -> None:
        """Note whether the peer has shown who it is: only then its frames move its deadline."""
        self.pipe.settled = authorized
        if authorized:
            self.pipe.deadline = self._clock.now() + self._idle_ms

    def unsettle(self) -> None:
        """Give the peer a while to show who it is, again or for the first time."""
        self.settle(False)
        self.pipe.deadline = self._clock.now() + _STRANGER_MS

    def look_after(self, now: int) -> None:
        """Ask for a sign of life when there was none for half of the time."""
        pipe = self.pipe
        if pipe.settled and not self._pinged and pipe.deadline - now <= self._idle_ms // 2:
            self._pinged = self.push("")

    async def receive(self) -> str:
        """The next message, not before the rate of frames allows one. Raises WebSocketError,
        OSError, MemoryError.
        """
        return await self._socket.receive(self._heard)

    async def _heard(self) -> None:
        now = self._clock.now()
        self._pinged = False
        if self.pipe.settled:
            self.pipe.deadline = now + self._idle_ms
        # A bucket of milliseconds: time fills it, a frame of any kind costs _REFILL_MS, and a
        # peer that has overdrawn is not read until time has paid. TCP then slows that peer.
        self._budget = min(self._budget + now - self._last, _BURST * _REFILL_MS) - _REFILL_MS
        self._last = now
        if self._budget < 0:
            await sleep_ms(-self._budget)


class Server:
    """`settings` is the checked "server" object of the configuration, `ports` a commands.Ports,
    `auth` a ConnectionAuth that tells this server from now on which connection lost its
    authorization; `counts` is the door's dict of what was turned away, given up and dropped.
    Raises OSError, ValueError for a certificate that is of no use.
    """

    def __init__(self, settings: dict, ports, auth, clock, log, counts: dict):
        self.settings = settings
        self.ports = ports
        self.clock = clock
        self.log = log
        self.auth = auth
        auth.on_lost = self._lost
        self.commands = Commands(auth, ports=ports, clock=clock, log=log, tell=self._tell)
        self._counts = counts
        self._context = None
        if settings["tls_cert"]:
            with late("certificate"):
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
        """End what takes too long, and do what is due; `now` in milliseconds. The door calls this
        every tick.
        """
        for pipe in self._pipes:
            if now >= pipe.deadline:
                # A task that waits for something else is cancelled again then, but not each tick.
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

    def _make_room(self, pipe: Pipe) -> bool:
        """Have a place for a newcomer, if need be a stranger's. False: there is none."""
        most = self.settings["max_connections"]
        rivals = [one for one in self._pipes if one.address == pipe.address]
        # One place is kept for other addresses: a single machine cannot shut all others out.
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
            self._counts["server_dropped"] += 1
            # Off the list at once: its task ends later, and the place is given only once.
            self._pipes.remove(oldest)
            oldest.task.cancel()
            return True
        return False

    async def accept(self, reader, writer) -> None:
        """Serve a connection to its end, whatever that is: nothing is raised but to the log."""
        now = self.clock.now()
        try:
            pipe = Pipe(
                reader, writer, task=asyncio.current_task(), began=now, deadline=now + _HEAD_MS
            )
        except (OSError, TypeError):  # gone already
            return
        if not self._make_room(pipe):
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
            # One text for each role, not for each peer: memory for it is had once.
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
        """Tell a connection that its authorization is lost. For lack of memory it is hung up on
        instead: nobody shall wait for events that do not come.
        """
        peer.settle(False)
        # The events that wait were for a peer that may read them; and the news must find room.
        dropped = peer.forget()
        peer.pipe.deadline = 0  # unless the rest succeeds
        try:
            self._counts["server_events_dropped"] += dropped
            self._tell(peer, "authorizationNeeded", {"cause": cause})
            peer.unsettle()
        except SYSTEM_ERRORS:
            pass

    # Requests.

    async def _begin(self, pipe: Pipe):
        # Browsers open connections ahead of need: code is loaded for those that say something.
        if not await pipe.begins():
            return None
        self._asking += 1
        try:
            http = await self._load_http()
            if is_scarce():
                raise MemoryError
            return await http.begin(self, pipe)
        except MemoryError as error:
            await self._turn_away(pipe, error)
            return None
        finally:
            self._asking -= 1
            self._asked = self.clock.now()

    async def _turn_away(self, pipe: Pipe, error: MemoryError) -> None:
        self.log.warning("server", "a request was turned away: {}", error)
        self._counts["server_refused"] += 1
        # Behind a part of an answer, a second status line would be taken for its body.
        if not pipe.answering:
            await pipe.awrite(BUSY)

    async def _load_http(self):
        """The module http, loaded in steps. Only while `_asking` is not 0: none is forgotten then.
        Raises MemoryError.
        """
        parts = http_parts()
        if not self._request_code:
            parts = late.room(parts)
        module = None
        for module in parts:
            if module not in self._request_code:
                self._request_code.append(module)
            await sleep_ms(0)
        return module

    def _forget_http(self) -> None:
        """Forget the code that only requests need; the next request loads that code again."""
        while self._request_code:
            forget(self._request_code.pop())

    async def _upload(self, pipe: Pipe, size: int, token: str) -> None:
        try:
            with late("upload"):
                from tapauth.local import upload
        except MemoryError as error:
            await self._turn_away(pipe, error)
            # Left unread, the list would take the answer with it.
            pipe.deadline = self.clock.now() + _CLOSE_MS
            await pipe.exhaust()
            return
        forget(upload)
        # A list takes long, and memory of its own: the code for requests makes room meanwhile.
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
            # The list may be in force: its sender must not take the list for refused, or lost.
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
            # Bytes left unread would make the kernel reset the connection, and the Close frame
            # would be lost with it. After the peer's own Close frame none follow.
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
        with late("rpc_socket"):
            from tapauth.local import rpc_socket

        forget(rpc_socket)
        self._peers.append(peer)
        try:
            await rpc_socket.converse(self, peer)
        finally:
            self._leave(peer)

    def _leave(self, peer: LocalPeer) -> None:
        """Push nothing more to a peer: no message may follow a Close frame."""
        peer.gone = True
        self._peers.remove(peer)

    async def _converse(self, peer: LocalPeer) -> None:
        while True:
            reply = await self._answer(peer, await peer.receive())
            # Before the reply goes out: a peer that takes it slowly is no stranger any more.
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
            # A constant needs no memory; the request may have been carried out.
            return '{"method":"","requestId":"","result":false,"error":"out of memory"}'


def http_parts():
    """Steps: each loads and gives one module of what reads and answers requests, http last."""
    with late("microdot"):
        import microdot

    yield microdot
    with late("microdot"):
        from microdot import microdot as requests

    yield requests
    with late("websocket"):
        from microdot import websocket

    yield websocket
    with late("http"):
        from tapauth.local import http

    yield http
