"""Taking a card list over HTTP: in memory only meanwhile, while the code of requests is not."""

import json

from tapauth.compat import const, is_scarce
from tapauth.local.door import finish
from tapauth.local.login.sessions import ADMIN
from tapauth.local.pipe import CHUNK, CHUNK_MS

_COMMIT_MS = const(60_000)
_NEED = const(2600)  # words of heap that are in use meanwhile


async def take(server, pipe, left: int, token: str) -> tuple:
    """Take the `left` bytes that come; the HTTP token must be an admin's also when the last has
    come. Returns (HTTP status, text). Raises OSError.
    """
    pipe.settled = True
    if is_scarce(_NEED):
        await _skip(server, pipe, left)
        return 503, "too little memory is free"
    try:
        load = server.ports.cards.load()
        try:
            while left:
                data = await _piece(server, pipe, left)
                left -= len(data)
                await finish(load.write(data))
            if server.auth.http_role(token) < ADMIN:
                raise ValueError("the token is no longer valid")
            pipe.deadline = server.clock.now() + _COMMIT_MS
            await finish(load.commit())
        finally:
            load.abort()
    except Exception as error:
        server.log.warning("server", "card list refused: {}", error)
        await _skip(server, pipe, left)
        return 422, "refused: " + str(error)
    server.log.info("server", "card list taken, version {}", load.version)
    return 200, json.dumps({"version": load.version})


async def _piece(server, pipe, left: int) -> bytes:
    pipe.deadline = server.clock.now() + CHUNK_MS
    return await pipe.readexactly(min(left, CHUNK))


async def _skip(server, pipe, left: int) -> None:
    """Read bytes that are not wanted: left unread, they would take the response with them."""
    while left:
        left -= len(await _piece(server, pipe, left))
