"""HTTP: the request that a connection begins with, the page, the log, the card list down.

Theory of operation. microdot parses requests and writes responses; this module feeds it and
decides. It is in memory only while a request is being read or answered. begin() takes a request
through these steps, and the first that says no answers:

    head     _Head passes each line on to microdot, and raises ValueError where HTTP/1.x (RFC 9112)
             is broken or can be read in two ways: 400
    origin   _refusal(): the name that the browser looked up, and the page that asks: 400, 421, 403
    route    path and method: 404
    token    the role that a path needs, by the HTTP token of a session: 403
    body     the length of an upload: 411, 413
    answer   a text, JSON, or a file in pieces; or begin() returns how to go on without this
             module: as a WebSocket, or an upload, whose code (server.py, upload.py) reads the rest

A connection is good for one request, so nothing that follows a request is ever taken for another
one: no pipelining, no request smuggled in a body. In a conflict:

* Where two readings are possible none wins: a header of _ONCE that comes twice, or both a length
  and a coding, are refused.
* Host and Origin win over the token: a page of somebody else's learns nothing even with a token.
* The response wins over a quick end: bytes that a client still sends are read for half a second,
  as a connection closed with bytes unread takes the response with it.

Time: the server gives a head 5 s; the page has 30 s in all, as anybody may ask for it, and the
card list 10 s for each piece, as only an admin may.
"""

import os

from microdot.microdot import Request, Response
from microdot.websocket import WebSocket

from tapauth.compat import const
from tapauth.local.login.sessions import ADMIN, USER
from tapauth.local.pipe import CHUNK, CHUNK_MS

_MAX_UPLOAD = const(2_097_152)
_MAX_LENGTH = const(20)  # characters of Content-Length
_REST_MS = const(500)  # for which bytes that nobody wants are read

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_TYPE = "Content-Type"
_HTML = {
    _TYPE: "text/html; charset=UTF-8",
    "Content-Encoding": "gzip",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:",
}
# Of two of these, a proxy on the way might believe the one and this board the other.
_LENGTH = "content-length"
_CODING = "transfer-encoding"
_ONCE = ("host", "origin", _LENGTH, _CODING, "authorization")
_DIGITS = "0123456789"

# Beside this module, wherever that was loaded from.
_PAGE = __file__.rpartition("/")[0] + "/console.gz"


class _Head:
    """The lines of a pipe, for microdot to read a request from. microdot takes more than HTTP
    allows, so each line is looked at as it passes.
    """

    def __init__(self, pipe):
        self._pipe = pipe
        self._names: list[str] | None = None  # those of _ONCE that have come

    async def readline(self) -> bytes:
        """The next line. Raises ValueError, and OSError at the end."""
        line = await self._pipe.readline()
        if line[-1:] != b"\n":
            raise OSError(104)  # it was cut: half a request asks for nothing
        text = line.decode().rstrip("\r\n")
        names = self._names
        if names is None:
            self._names = []
            _, _, version = text.split(" ")
            if not version.startswith("HTTP/1."):
                raise ValueError
        elif text:
            name, colon, value = text.partition(":")
            name, value = name.lower(), value.strip()
            # A blank before the colon, or a folded line, is a name to some and none to others.
            if not colon or not name or name != name.strip() or name in names:
                raise ValueError
            # int() alone takes more than digits, and how long it takes must have a bound.
            if name == _LENGTH and (value.strip(_DIGITS + "-") or len(value) > _MAX_LENGTH):
                raise ValueError
            if name in _ONCE:
                names.append(name)  # only those: other headers may come twice
        elif _LENGTH in names and _CODING in names:
            raise ValueError
        return line

    @staticmethod
    def abort(status: int):
        """Raise ValueError: microdot calls this when a request is none for a WebSocket."""
        raise ValueError(status)


async def begin(server, pipe):
    """Answer a request. Returns how to go on: ("/api" or "/rpc", None) for a WebSocket,
    ("/cards", (bytes to come, token)), or None when all is said. Raises OSError, MemoryError.
    """
    Request.max_body_length = float("-inf")  # bodies are not read with the head
    more = request = None
    head = _Head(pipe)
    try:
        request = await Request.create(head, head, pipe, None)
        refusal = _refusal(server, request)
    except ValueError:
        refusal = 400, "bad request"
    if refusal:
        await answer(pipe, *refusal)
    else:
        more = await _route(server, pipe, request)  # type: ignore
    if more is None and (request is None or request.content_length > 0):
        # Bytes left unread at the close would make a reset of it, which overtakes the response.
        pipe.deadline = server.clock.now() + _REST_MS
        await pipe.exhaust()
    return more


# The right to ask at all. A browser lends itself to every page that its user visits: the browser
# says in Origin which page that is, and in Host under which name the page's address was looked up,
# which may be any name by now (DNS rebinding). Other programs say whatever they like, and need a
# token.


def _refusal(server, request):
    """Why a request is not even looked at, as (status, text); or None."""
    secure = server.settings["tls_cert"]
    host = request.headers.get("host", "").lower()
    if not host:
        return 400, "Host needed"
    if not is_own(host, server.settings["names"]):
        return 421, "not a name of this board: use its IP address, or add it to server.names"
    origin = request.headers.get("origin")
    # Only browsers send one; without it there is no page to suspect.
    if origin is not None:
        port = ":443" if secure else ":80"
        own = ("https://" if secure else "http://") + _without(port, host)
        if _without(port, origin.lower()) != own:
            return 403, "other origin"
    return None


def _without(end: str, text: str) -> str:
    return text[: -len(end)] if text.endswith(end) else text


def is_own(host: str, names: str) -> bool:
    """Whether a Host header in lower case is an IP address, "localhost" or one of `names` (with
    blanks between), with or without a port. An address cannot be another's name.
    """
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        if not bracket or port and not port.startswith(":"):
            return False
        return ":" in name and not name.strip(_DIGITS + "abcdef:.") and _is_port(port[1:])
    name, _, port = host.partition(":")
    if not _is_port(port):
        return False
    if name.count(".") == 3 and not name.strip(_DIGITS + "."):
        return True
    return _without(".", name) in ("localhost " + names.lower()).split()


def _is_port(text: str) -> bool:
    return not text.strip(_DIGITS)


# The routes.


async def _route(server, pipe, request):
    path = request.path
    upgrade = request.headers.get("upgrade", "").lower() == "websocket"
    if request.method == "GET" and (path in _SOCKETS or upgrade):
        # Clients of the document that `auth` is from know one place only.
        return await _upgrade(server, pipe, request, "/api" if path == "/" else path)
    route = {"GET": _GET, "POST": _POST}.get(request.method, {}).get(path)
    if not route:
        await answer(pipe, 404, "not found")
        return None
    return await route(server, pipe, request)


async def _upgrade(server, pipe, request, path: str):
    if path not in _SOCKETS or path == "/rpc" and not server.ports.rpc:
        await answer(pipe, 404, "not found")
        return None
    get = request.headers.get
    try:
        if len(get("sec-websocket-key", "")) != 24:
            raise ValueError
        if get("sec-websocket-version") != "13":
            await answer(pipe, 426, "version 13 only", {"Sec-WebSocket-Version": "13"})
            return None
        await WebSocket(request).handshake()
    except ValueError:
        await answer(pipe, 400, "bad request")
        return None
    # The 101 is out: nothing else may be answered as HTTP from here on.
    return path, None


def _token(request) -> str:
    """The HTTP token that a request shows, or an empty one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return request.args.get("token", token if scheme == "Bearer" else "")


def _allow(server, request, role: int) -> bool:
    """Whether the request has the HTTP token of a connection of at least this role."""
    return server.auth.http_role(_token(request)) >= role


async def _get_page(server, pipe, request):
    try:
        size = os.stat(_PAGE)[6]
        file = open(_PAGE, "rb")
    except OSError:
        await answer(pipe, 404, "not found")
        return
    # Once for all of it, not for each piece: a stranger must not stretch it.
    pipe.deadline = server.clock.now() + 3 * CHUNK_MS
    await answer(pipe, 200, _pieces(file, size), headers=_HTML, size=size)


def _pieces(file, left: int):
    """Steps: each gives a piece of the first `left` bytes of a file. In a slot, where files are
    packed, the bytes of others come behind those.
    """
    with file:
        while left > 0:
            piece = file.read(min(left, CHUNK))
            if not piece:
                break
            left -= len(piece)
            yield piece


async def _get_ports(server, pipe, request):
    # Where clients look for the ports.
    port = {"port": server.settings["port"]}
    await answer(pipe, 200, {"config": {"websocket": port, "http": port}})


async def _get_log(server, pipe, request):
    if not _allow(server, request, USER):
        await answer(pipe, 403, "token needed")
        return
    await answer(pipe, 200, "\n".join(server.ports.tail.lines()) + "\n")


async def _download(server, pipe, request):
    # The list has the groups in clear: see commands._get_status.
    if not _allow(server, request, ADMIN):
        await answer(pipe, 403, "token of an admin needed")
        return
    cards = server.ports.cards
    if not cards:
        await answer(pipe, 404, "no card store")
        return
    damage = cards.status()["damage"]
    if damage:
        await answer(pipe, 500, "the list is damaged: " + damage)
        return
    size, pieces = cards.export()
    headers = {_TYPE: "application/octet-stream"}
    await answer(pipe, 200, _with_deadline(server, pipe, pieces), headers=headers, size=size)


def _with_deadline(server, pipe, pieces):
    """Steps: those of `pieces`, each with its own time to be taken."""
    pipe.settled = True  # an admin asked, so no newcomer takes the place
    try:
        for piece in pieces:
            pipe.deadline = server.clock.now() + CHUNK_MS
            yield piece
    finally:
        pieces.close()


async def _upload(server, pipe, request):
    if not _allow(server, request, ADMIN):
        await answer(pipe, 403, "token of an admin needed")
    elif not server.ports.cards:
        await answer(pipe, 404, "no card store")
    elif request.content_length > _MAX_UPLOAD:
        await answer(pipe, 413, "too large")
    elif request.content_length <= 0:
        await answer(pipe, 411, "Content-Length needed")
    else:
        return "/cards", (request.content_length, _token(request))
    return None


async def answer(pipe, status: int, body, headers=None, size: int = 0) -> None:
    """Send a response. `body` is text, a dict for JSON, or a generator of `size` bytes in all.
    Raises OSError, MemoryError.
    """
    response = Response(body, status, _HEADERS, "")
    if headers:
        response.headers.update(headers)
    if size:
        response.headers["Content-Length"] = size
    try:
        await response.write(pipe)
    finally:
        # However that ends: a card list that is being read is locked meanwhile.
        if size:
            body.close()


_SOCKETS = ("/api", "/rpc")
_GET = {
    "/": _get_page,
    "/cards": _download,
    "/log": _get_log,
    "/public/default/config.json": _get_ports,
}
_POST = {"/cards": _upload}
