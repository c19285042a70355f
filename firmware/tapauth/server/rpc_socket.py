"""The way to the cloud auth service over a WebSocket."""

from tapauth.server.frames import WebSocketError


async def converse(server, connection):
    """Pass frames to and fro on a service.Peer, until one of the two ends it."""
    service, new_peer = server.ports.rpc
    peer = new_peer()
    while not peer.close:
        reply = service.handle(await connection.receive(), peer)
        # It names itself once it has proved who it is.
        connection.settle(bool(peer.name))
        if reply:
            await connection.send(reply)
    raise WebSocketError(peer.close, False)
