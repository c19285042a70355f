"""The way to the cloud auth service over a WebSocket."""

from tapauth.local.websocket import WebSocketError


async def converse(server, connection):
    """Pass frames to and fro on a RpcPeer, until one of the two ends that. `server` is the
    server.Server, `connection` a LocalPeer. Raises WebSocketError at the end, OSError,
    MemoryError.
    """
    service, new_peer = server.ports.rpc
    peer = new_peer()

    def check():
        # The place of a connection is for a peer that is trusted. Without trust, Pongs alone must
        # not hold the place any more.
        if connection.pipe.settled and not service.trusts(peer):
            connection.unsettle()

    service.watchers.append(check)
    try:
        while not peer.close:
            reply = service.handle(await connection.receive(), peer)
            connection.settle(service.trusts(peer))
            if reply:
                await connection.send(reply)
    finally:
        service.watchers.remove(check)
    raise WebSocketError(peer.close, False)
