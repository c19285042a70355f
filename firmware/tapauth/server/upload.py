"""Taking a card list over HTTP: in memory only meanwhile, when what reads requests is not."""

import json

from tapauth.compat import const, is_scarce
from tapauth.server.door import finish

_CHUNK = const(512)
_CHUNK_MS = const(10_000)  # for the next piece
_COMMIT_MS = const(60_000)
_NEED = const(2600)  # words of heap that are in use meanwhile


async def take(server, pipe, left: int) -> tuple:
    """Take the `left` bytes that come. Returns (HTTP status, text). Raises OSError."""
    if is_scarce(_NEED):
        return 503, "too little memory is free"
    pipe.settled = True
    try:
        load = server.ports.cards.load()
        try:
            while left:
                pipe.deadline = server.clock.now() + _CHUNK_MS
                data = await pipe.readexactly(min(left, _CHUNK))
                left -= len(data)
                await finish(load.write(data))
            pipe.deadline = server.clock.now() + _COMMIT_MS
            await finish(load.commit())
        finally:
            load.abort()
    except OSError:
        raise
    except Exception as error:
        server.log.warning("server", "card list refused: {}", error)
        return 422, "refused: " + str(error)
    server.log.info("server", "card list taken, version {}", load.version)
    return 200, json.dumps({"version": load.version})
