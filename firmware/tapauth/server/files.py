"""What is not a command: the page, card lists, the log.

In memory only while a request for it begins.
"""

import json

from microdot import Response

from tapauth.compat import const
from tapauth.conn.sessions import ADMIN, USER
from tapauth.server.service import HEADERS

_MAX_UPLOAD = const(2_097_152)
_CHUNK = const(512)
_CHUNK_MS = const(10_000)  # for the next piece of an upload or a download

_PAGE_HEADERS = {
    "Content-Type": "text/html; charset=UTF-8",
    "Content-Encoding": "gzip",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:",
}


async def respond(server, request):
    """The response to a request that is not for the commands; None when it has had one."""
    route = request and _ROUTES.get(f"{request.method} {request.path}")
    if not route:
        return Response("not found", 404, HEADERS)
    if request.content_length > _MAX_UPLOAD:
        return Response("too large", 413, HEADERS)
    return await route(server, request)


def _allow(server, request, role: int) -> bool:
    """Whether the request has the HTTP token of a connection of at least this role."""
    token = request.args.get("token")
    bearer = request.headers.get("Authorization", "")
    if not token and bearer.startswith("Bearer "):
        token = bearer[7:]
    return server.auth.http_role(token) >= role  # type: ignore


async def _get_page(server, request):
    try:
        file = open(server.page, "rb")
    except OSError:
        return Response("no page", 404, HEADERS)
    request.sock[0].deadline = server.clock.now() + 3 * _CHUNK_MS
    headers = dict(HEADERS)
    headers.update(_PAGE_HEADERS)
    return Response(file, 200, headers)


async def _get_log(server, request):
    if not _allow(server, request, USER):
        return Response("token needed", 403, HEADERS)
    return Response("\n".join(server.ports.tail.lines()) + "\n", 200, HEADERS)


async def _download(server, request):
    if not _allow(server, request, USER):
        return Response("token needed", 403, HEADERS)
    if not server.ports.cards:
        return Response("no card store", 404, HEADERS)
    size, pieces = server.ports.cards.export()
    headers = dict(HEADERS)
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
        return Response("token of an admin needed", 403, HEADERS)
    if not server.ports.cards:
        return Response("no card store", 404, HEADERS)
    left = request.content_length
    if left <= 0:
        return Response("Content-Length needed", 411, HEADERS)
    pipe = request.sock[0]
    pipe.settled = True
    try:
        load = server.ports.cards.load()
        try:
            while left:
                pipe.deadline = server.clock.now() + _CHUNK_MS
                data = await pipe.readexactly(min(left, _CHUNK))
                left -= len(data)
                await server.steps(load.write(data))
            pipe.deadline = server.clock.now() + 6 * _CHUNK_MS
            await server.steps(load.commit())
        finally:
            load.abort()
    except OSError:
        raise
    except Exception as error:
        server.log.warning("server", "card list refused: {}", error)
        return Response("refused: " + str(error), 422, HEADERS)
    server.log.info("server", "card list taken, version {}", load.version)
    return Response(json.dumps({"version": load.version}), 200, HEADERS)


_ROUTES = {
    "GET /": _get_page,
    "GET /cards": _download,
    "POST /cards": _upload,
    "GET /log": _get_log,
}
