"""HTTP: the request that a connection begins with, the page, the log, the card list down.

In memory only while a request is being read or answered. A connection is good for one request,
so nothing that follows a request is ever taken for another one.
"""

import binascii
import hashlib
import os

from tapauth.compat import const
from tapauth.conn.sessions import ADMIN, USER

_MAX_UPLOAD = const(2_097_152)
_MAX_LENGTH = const(20)  # characters of Content-Length
_CHUNK = const(512)
_REST_MS = const(500)  # for which what nobody wants is read
_CHUNK_MS = const(10_000)  # for the next piece of an upload or a download

_HEADERS = (
    "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
    "X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n"
)
_TEXT = "Content-Type: text/plain; charset=UTF-8\r\n"
_LIST = "Content-Type: application/octet-stream\r\n"
_JSON = "Content-Type: application/json\r\n"
_HTML = (
    "Content-Type: text/html; charset=UTF-8\r\nContent-Encoding: gzip\r\n"
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:\r\n"
)
# Of two of these, who stands between might believe the one and this board the other.
_ONCE = "host origin content-length transfer-encoding authorization"
_DIGITS = "0123456789"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# Beside this module, wherever that was loaded from.
_PAGE = __file__.rpartition("/")[0] + "/console.gz"


class Request:
    """What is asked for: `headers` by their names in lower case, `size` is what Content-Length
    says, `token` the HTTP token that is shown, or empty. Raises ValueError.
    """

    def __init__(self, line: str):
        self.method, url, version = line.split(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError
        self.path, _, self.query = url.partition("?")
        self.headers: dict[str, str] = {}
        self.size = 0
        self.token = ""

    def add(self, line: str) -> None:
        """Take a header. Raises ValueError."""
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError
        name = name.lower()
        if name in self.headers and name in _ONCE.split(" "):
            raise ValueError
        self.headers[name] = value.strip()

    def end(self) -> None:
        """All headers have come. Raises ValueError."""
        length = self.headers.get("content-length")
        if length:
            # int() alone takes more than digits, and how long it takes must have a bound.
            odd = length.strip(_DIGITS + "-") or len(length) > _MAX_LENGTH
            if odd or "transfer-encoding" in self.headers:
                raise ValueError
            self.size = int(length)
        self.token = self._token()

    def has(self, name: str, text: str) -> bool:
        """Whether a header's comma-separated words, in any case, include this one."""
        words = self.headers.get(name, "").lower().split(",")
        return text in [one.strip() for one in words]

    def _token(self) -> str:
        for pair in self.query.split("&"):
            name, _, value = pair.partition("=")
            if name == "token":
                return _unquoted(value)
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme == "Bearer" else ""


def _unquoted(text: str) -> str:
    parts = text.encode().split(b"%")
    data = parts[0]
    for part in parts[1:]:
        data += binascii.unhexlify(part[:2]) + part[2:]
    return data.decode()


async def begin(server, pipe):
    """Answer a request. What is to go on with: ("/api" or "/rpc", None) for a WebSocket,
    ("/cards", (bytes to come, token)), or None when all is said.
    """
    more = request = None
    try:
        request = await _read(pipe)
        refusal = _refusal(server, request)
    except ValueError:
        refusal = 400, "bad request"
    if refusal:
        await answer(pipe, *refusal)
    else:
        more = await _route(server, pipe, request)  # type: ignore
    if more is None and (request is None or request.size > 0):
        # A connection that is closed with bytes unread takes the response with it.
        pipe.deadline = server.clock.now() + _REST_MS
        await pipe.exhaust()
    return more


async def _read(pipe) -> Request:
    request = None
    while True:
        line = await pipe.readline()
        if line[-1:] != b"\n":
            raise OSError(104)  # it was cut: half a request asks for nothing
        text = line.decode().rstrip("\r\n")
        if not request:
            request = Request(text)
        elif text:
            request.add(text)
        else:
            request.end()
            return request


# Who may ask at all. A browser lends itself to every page that its user visits: it says in Origin
# which page that is, and in Host under which name the page's address was looked up, which may be
# any name by now (DNS rebinding). What is no browser says what it likes, and needs a token.


def _refusal(server, request: Request):
    """Why a request is not even looked at, as (status, text); or None."""
    secure = server.settings["tls_cert"]
    host = request.headers.get("host", "").lower()
    if not host:
        return 400, "Host needed"
    if not is_own(host, server.settings["names"]):
        return 421, "not a name of this board: use its IP address, or add it to server.names"
    origin = request.headers.get("origin")
    if origin is not None:
        port = ":443" if secure else ":80"
        own = ("https://" if secure else "http://") + _without(port, host)
        if _without(port, origin.lower()) != own:
            return 403, "other origin"
    return None


def _without(end: str, text: str) -> str:
    return text[: -len(end)] if text.endswith(end) else text


def is_own(host: str, names: str) -> bool:
    """Whether a Host header in lower case is an IP address, "localhost" or one of `names`, with
    or without a port. An address cannot be another's name.
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


# What is asked for.


async def _route(server, pipe, request: Request):
    path = request.path
    if request.method == "GET" and (path in _SOCKETS or request.has("upgrade", "websocket")):
        # Clients of the document that `auth` is from know one place only.
        return await _upgrade(server, pipe, request, "/api" if path == "/" else path)
    route = {"GET": _GET, "POST": _POST}.get(request.method, {}).get(path)
    if not route:
        await answer(pipe, 404, "not found")
        return None
    return await route(server, pipe, request)


async def _upgrade(server, pipe, request: Request, path: str):
    if path not in _SOCKETS or path == "/rpc" and not server.ports.rpc:
        await answer(pipe, 404, "not found")
        return None
    key = request.headers.get("sec-websocket-key", "")
    wanted = request.has("upgrade", "websocket") and request.has("connection", "upgrade")
    if len(key) != 24 or not wanted:
        await answer(pipe, 400, "bad request")
        return None
    if request.headers.get("sec-websocket-version") != "13":
        await answer(pipe, 426, "version 13 only", "Sec-WebSocket-Version: 13\r\n" + _TEXT)
        return None
    proof = binascii.b2a_base64(hashlib.sha1(key.encode() + _GUID).digest())
    await pipe.awrite(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + proof.strip() + b"\r\n\r\n"
    )
    return path, None


def _allow(server, request: Request, role: int) -> bool:
    """Whether the request has the HTTP token of a connection of at least this role."""
    return server.auth.http_role(request.token) >= role


async def _get_page(server, pipe, request: Request):
    try:
        size = os.stat(_PAGE)[6]
        file = open(_PAGE, "rb")
    except OSError:
        await answer(pipe, 404, "not found")
        return
    pipe.deadline = server.clock.now() + 3 * _CHUNK_MS
    await answer(pipe, 200, (size, _pieces(file, size)), _HTML)


def _pieces(file, left: int):
    """The first `left` bytes of a file in pieces: in a slot, others come behind them."""
    with file:
        while left > 0:
            piece = file.read(min(left, _CHUNK))
            if not piece:
                break
            left -= len(piece)
            yield piece


async def _get_ports(server, pipe, request: Request):
    # Where clients look for the ports.
    port = '{{"port": {}}}'.format(server.settings["port"])
    await answer(pipe, 200, f'{{"config": {{"websocket": {port}, "http": {port}}}}}', _JSON)


async def _get_log(server, pipe, request: Request):
    if not _allow(server, request, USER):
        await answer(pipe, 403, "token needed")
        return
    await answer(pipe, 200, "\n".join(server.ports.tail.lines()) + "\n")


async def _download(server, pipe, request: Request):
    if not _allow(server, request, USER):
        await answer(pipe, 403, "token needed")
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
    await answer(pipe, 200, (size, _with_deadline(server, pipe, pieces)), _LIST)


def _with_deadline(server, pipe, pieces):
    pipe.settled = True
    try:
        for piece in pieces:
            pipe.deadline = server.clock.now() + _CHUNK_MS
            yield piece
    finally:
        pieces.close()


async def _upload(server, pipe, request: Request):
    if not _allow(server, request, ADMIN):
        await answer(pipe, 403, "token of an admin needed")
    elif not server.ports.cards:
        await answer(pipe, 404, "no card store")
    elif request.size > _MAX_UPLOAD:
        await answer(pipe, 413, "too large")
    elif request.size <= 0:
        await answer(pipe, 411, "Content-Length needed")
    else:
        return "/cards", (request.size, request.token)
    return None


async def answer(pipe, status: int, body, headers: str = _TEXT) -> None:
    """Send a response. `body` is text, or (bytes in all, generator of pieces)."""
    if isinstance(body, str):
        data = body.encode()
        body = len(data), None
    size, pieces = body
    head = f"HTTP/1.0 {status} \r\nContent-Length: {size}\r\n"
    try:
        await pipe.awrite((head + _HEADERS + headers + "\r\n").encode())
        if not pieces:
            await pipe.awrite(data)
            return
        for piece in pieces:
            await pipe.awrite(piece)
    finally:
        # However it ends: a card list that is being read is locked meanwhile.
        if pieces:
            pieces.close()


_SOCKETS = ("/api", "/rpc")
_GET = {
    "/": _get_page,
    "/cards": _download,
    "/log": _get_log,
    "/public/default/config.json": _get_ports,
}
_POST = {"/cards": _upload}
