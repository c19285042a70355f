"""The way to the cloud auth service over a WebSocket."""

from microdot import Response
from microdot.websocket import WebSocket, WebSocketError

from tapauth.server.service import HEADERS, STRANGER_MS, Peer


async def respond(server, request):
    """Pass frames to and fro, until one of the two ends it. The response when it is none."""
    if not server.rpc or server.is_foreign(request):
        return Response("not here", 404, HEADERS)
    socket = WebSocket(request)
    await socket.handshake()
    pipe = request.sock[0]
    pipe.deadline = server.clock.now() + STRANGER_MS
    rate = Peer(pipe, socket, server.clock.now())
    peer = server.new_rpc_peer()  # type: ignore
    try:
        while not peer.close:
            data = await rate.receive(server.clock)
            reply = server.rpc.handle(data, peer)
            # It names itself once it has proved who it is.
            pipe.settled = bool(peer.name)
            if pipe.settled:
                pipe.deadline = server.clock.now() + server.settings["idle_s"] * 1000
            if reply:
                await socket.send(reply)
        if peer.close:
            await socket.send(peer.close.to_bytes(2, "big"), WebSocket.CLOSE)
    except WebSocketError:
        pass
