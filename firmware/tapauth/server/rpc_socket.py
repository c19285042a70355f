"""The way to the cloud auth service over a WebSocket."""

from microdot.websocket import WebSocket


async def converse(server, connection):
    """Pass frames to and fro on a service.Peer, until one of the two ends it."""
    service, new_peer = server.ports.rpc
    pipe = connection.pipe
    peer = new_peer()
    while not peer.close:
        data = await connection.receive(server.clock)
        reply = service.handle(data, peer)
        # It names itself once it has proved who it is.
        pipe.settled = bool(peer.name)
        if pipe.settled:
            pipe.deadline = server.clock.now() + server.settings["idle_s"] * 1000
        if reply:
            await connection.send(reply)
    await connection.send(peer.close.to_bytes(2, "big"), WebSocket.CLOSE)
