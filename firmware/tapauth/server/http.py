"""HTTP: the request that a connection begins with, the page, the log, the card list down.

In memory only while a request is being read or answered.
"""

import os

from microdot.microdot import Request, Response
from microdot.websocket import WebSocket

from tapauth.compat import const
from tapauth.conn.sessions import ADMIN, USER

_MAX_UPLOAD = const(2_097_152)
_CHUNK = const(512)
_REST = const(2048)  # bytes of a refused body that are waited for
_REST_MS = const(500)
_CHUNK_MS = const(10_000)  # for the next piece of an upload or a download

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_PAGE_HEADERS = {
    "Content-Type": "text/html; charset=UTF-8",
    "Content-Encoding": "gzip",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:",
}


# Beside this module, wherever that was loaded from.
_PAGE = __file__.rpartition("/")[0] + "/console.gz"


class _App:
    """What microdot looks for in its application."""

    @staticmethod
    def abort(status: int):
        """The request is none for a WebSocket."""
        raise ValueError(status)


async def begin(server, pipe):
    """Answer a request. What is to go on with: (path, WebSocket), ("/cards", (bytes to come,
    token)), or None when all is said.
    """
    # Bodies are streams, and there are none where none is wanted.
    Request.max_body_length = 0
    request = None
    try:
        request = await Request.create(_App, pipe, pipe, None)
        response = None
        if request and request.method == "GET" and request.path in _SOCKETS:
            response = _refusal(server, request)
            if not response:
                socket = WebSocket(request)
                await socket.handshake()
                return request.path, socket
        elif request:
            response = await _respond(server, request)
            if not response:
                return request.path, (request.content_length, _token(request))
    except (ValueError, IndexError):
        response = Response(b"bad request", 400, _HEADERS)
    if response:
        await response.write(pipe)
        if request and request.content_length > 0:
            # A connection that is closed with bytes unread takes the response with it.
            pipe.deadline = server.clock.now() + _REST_MS
            await pipe.read(min(request.content_length, _REST))
    return None


def _refusal(server, request):
    """Why a WebSocket is not opened, as a response; or None."""
    # A page of another host may open one in its visitor's name.
    origin = request.headers.get("Origin")
    if origin and origin.split("://")[-1] != request.headers.get("Host"):
        return Response(b"other origin", 403, _HEADERS)
    if request.path == "/rpc" and not server.ports.rpc:
        return Response(b"not found", 404, _HEADERS)
    return None


async def _respond(server, request):
    route = (_POST if request.method == "POST" else _GET).get(request.path)
    if not route or request.method not in ("GET", "POST"):
        return Response(b"not found", 404, _HEADERS)
    return await route(server, request)


def _allow(server, request, role: int) -> bool:
    """Whether the request has the HTTP token of a connection of at least this role."""
    return server.auth.http_role(_token(request)) >= role


def _token(request):
    token = request.args.get("token")
    bearer = request.headers.get("Authorization", "")
    if not token and bearer.startswith("Bearer "):
        token = bearer[7:]
    return token


async def _get_page(server, request):
    try:
        size = os.stat(_PAGE)[6]
        file = open(_PAGE, "rb")
    except OSError:
        return Response(b"no page", 404, _HEADERS)
    headers = dict(_HEADERS)
    headers.update(_PAGE_HEADERS)
    headers["Content-Length"] = str(size)
    request.sock[0].deadline = server.clock.now() + 3 * _CHUNK_MS
    return Response(_read(file, size), 200, headers)


def _read(file, left: int):
    """The first `left` bytes of a file in pieces: in a slot, others come behind them."""
    with file:
        while left > 0:
            piece = file.read(min(left, _CHUNK))
            if not piece:
                break
            left -= len(piece)
            yield piece


async def _get_log(server, request):
    if not _allow(server, request, USER):
        return Response(b"token needed", 403, _HEADERS)
    return Response("\n".join(server.ports.tail.lines()) + "\n", 200, _HEADERS)


async def _download(server, request):
    if not _allow(server, request, USER):
        return Response(b"token needed", 403, _HEADERS)
    if not server.ports.cards:
        return Response(b"no card store", 404, _HEADERS)
    damage = server.ports.cards.status()["damage"]
    if damage:
        return Response("the list is damaged: " + damage, 500, _HEADERS)
    size, pieces = server.ports.cards.export()
    headers = dict(_HEADERS)
    headers["Content-Type"] = "application/octet-stream"
    headers["Content-Length"] = str(size)
    return Response(_with_deadline(server, request.sock[0], pieces), 200, headers)


def _with_deadline(server, pipe, pieces):
    pipe.settled = True
    for piece in pieces:
        pipe.deadline = server.clock.now() + _CHUNK_MS
        yield piece


async def _upload(server, request):
    if not _allow(server, request, ADMIN):
        return Response(b"token of an admin needed", 403, _HEADERS)
    if not server.ports.cards:
        return Response(b"no card store", 404, _HEADERS)
    if request.content_length > _MAX_UPLOAD:
        return Response(b"too large", 413, _HEADERS)
    if request.content_length <= 0:
        return Response(b"Content-Length needed", 411, _HEADERS)
    return None


async def answer(pipe, status: int, text: str) -> None:
    """Answer what was gone on with."""
    await Response(text, status, _HEADERS).write(pipe)


_SOCKETS = ("/api", "/rpc")
_GET = {"/": _get_page, "/cards": _download, "/log": _get_log}
_POST = {"/cards": _upload}
