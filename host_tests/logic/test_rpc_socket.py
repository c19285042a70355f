"""A connection to the auth service at the local server: for how long it has its place."""

import asyncio
import json

from rpc_rig import DEVICE, HOST, Rig

from tapauth.local import rpc_socket, server
from tapauth.local.websocket import WebSocketError
from tapauth.rpc.service import RpcPeer

OTHER = HOST + "/other"
IDLE_MS = 120_000
PONG = object()


class Pipe:
    settled = False
    deadline = 30_000


class Socket:
    """Gives what comes, one after another: a frame, a PONG, or a call to make meanwhile."""

    def __init__(self, items):
        self.items = items
        self.statuses = []

    async def receive(self, heard):
        while self.items:
            item = self.items.pop(0)
            if callable(item):
                item()
                continue
            await heard()
            if item is not PONG:
                return json.dumps(item)
        raise WebSocketError(0, True)

    async def send(self, text):
        self.statuses.append(json.loads(text)["resp"][0]["status"])


class Ports:
    def __init__(self, rpc):
        self.rpc = rpc


class Server:
    def __init__(self, rig):
        self.ports = Ports((rig.service, RpcPeer))
        self.clock = rig.clock


def hello(key=None, src=DEVICE):
    frame = {"v": 1, "src": src, "cmds": [{"cmd": "/v1/Hello", "id": 1}]}
    if key:
        frame["key"] = key
    return frame


def converse(*items):
    """(rig, pipe, statuses) of a connection that gets items(rig, pipe) after DEVICE's key."""
    rig = Rig()
    rig.add(DEVICE, psk="qwerty")
    rig.add(OTHER, psk="other's key")
    pipe, socket = Pipe(), Socket([hello("qwerty")])
    for item in items:
        socket.items.append((lambda item=item: item(rig, pipe)) if callable(item) else item)
    peer = server.LocalPeer(pipe, socket, rig.clock, IDLE_MS)
    code = None
    try:
        asyncio.run(rpc_socket.converse(Server(rig), peer))
    except WebSocketError as error:
        code = error.args[0]
    assert code == 0
    assert rig.service.watchers == [], "nothing of it stays"
    return rig, pipe, socket.statuses


def delete(rig, pipe):
    assert pipe.settled
    rig.result("Device.Delete", {"deviceid": DEVICE})


def later(rig, pipe):
    rig.clock.advance(20_000)


def given_up(rig, pipe):
    """As one that never showed who it is: for another at once, and for all after 30 s."""
    assert not pipe.settled and pipe.deadline <= 30_000


def test_a_deleted_device_keeps_no_place_by_asking_on():
    _, pipe, statuses = converse(delete, hello(), given_up, later, hello(), hello("no"), given_up)
    assert statuses == [0, 401, 401, 401]


def test_a_deleted_device_keeps_no_place_by_pongs():
    converse(delete, given_up, PONG, given_up, later, PONG, PONG, given_up)


def test_a_connection_shows_a_new_key_and_keeps_its_place():
    def new_key(rig, pipe):
        rig.add(DEVICE, psk="new key")

    def kept(rig, pipe):
        assert pipe.settled and pipe.deadline == rig.clock.now() + IDLE_MS

    _, _, statuses = converse(
        new_key, given_up, hello(), given_up, later, hello("new key"), kept, later, PONG, kept
    )
    assert statuses == [0, 401, 0]


def test_the_end_of_another_device_ends_no_connection():
    def other(rig, pipe):
        before = pipe.deadline
        rig.add(OTHER, psk="another key")
        rig.result("Device.Delete", {"deviceid": OTHER})
        assert pipe.settled and pipe.deadline == before

    _, _, statuses = converse(later, other, hello(), other)
    assert statuses == [0, 0]
