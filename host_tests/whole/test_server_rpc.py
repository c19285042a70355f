"""The cloud auth service over /rpc of the whole charger: real service, real socket."""

import json
from urllib.request import urlopen

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from tools.charger import DesktopCharger
from tools.rigs.local_board import Client

BACKEND = "//api.cesanta.com/cloud"
KEY = "the backend's own key"
RPC = {"address": "//api.cesanta.com/cloud.registry", "backend_id": BACKEND, "backend_key": KEY}
DEVICE = "//api.cesanta.com/device_123"


@pytest.fixture(scope="module")
def charger(tmp_path_factory):
    lines: list[str] = []
    flash = tmp_path_factory.mktemp("rpc") / "flash.img"
    it = DesktopCharger(
        flash=flash, overrides={"rpc": RPC}, on_board_line=lines.append, server=True
    )
    with it:
        it.wait_until_up()
        it.wait_for(lambda: any("http on port" in line for line in lines), 20)
        it.wait_for(lambda: any("until the restart" in line for line in lines), 20)
        yield it
    assert not [line for line in lines if " E " in line or "Traceback" in line], lines
    assert not [line for line in lines if KEY in line or "qwerty" in line]


class Frames:
    """A connection to /rpc."""

    def __init__(self, charger, path="/rpc", **options):
        port = charger.config["server"]["port"]
        self.socket = connect(f"ws://127.0.0.1:{port}{path}", proxy=None, **options)
        self._id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, command, args=None, src=BACKEND, key=None):
        """(status, result) of a command."""
        self._id += 1
        entry = {"cmd": command, "id": self._id}
        if args is not None:
            entry["args"] = args
        frame = {"v": 1, "src": src, "dst": RPC["address"], "cmds": [entry]}
        if key:
            frame["key"] = key
        self.socket.send(json.dumps(frame))
        reply = json.loads(self.socket.recv(10))
        assert reply["dst"] == src and reply["resp"][0]["id"] == self._id
        return reply["resp"][0]["status"], reply["resp"][0].get("resp")


def authenticate(frames, psk):
    args = {"id": DEVICE, "credentials": {"psk": psk}}
    return frames.ask("/v1/Auth.Authenticate", args)


def test_authenticate_then_a_command(charger):
    with Frames(charger) as frames:
        # Nothing without the key; once it has been given, the connection is the backend's.
        assert frames.ask("/v1/Hello")[0] == 401
        assert frames.ask("/v1/Hello", key="wrong key of the backend")[0] == 401
        assert frames.ask("/v1/Hello", key=KEY) == (0, "HAI")
        assert frames.ask("/v1/Device.Add", {"deviceid": DEVICE, "psk": "qwerty"})[0] == 0
        assert authenticate(frames, "qwerty") == (0, True)
        assert authenticate(frames, "qwertz") == (0, False)
        args = {"src": DEVICE, "dst": "//api.cesanta.com/misslecontrol", "cmd": "/v1/Nuke.Launch"}
        assert frames.ask("/v1/Auth.AuthorizeCommand", args) == (0, False)
        status, result = frames.ask("/v1/Auth.GenerateToken", {"host": "app.example"})
        assert status == 0 and result["token"]
        got = frames.ask("/v1/Auth.GetToken", {"host": "app.example"})
        assert got == (0, {"exist": True, "token": result["token"]})
    # A device on a connection of its own, and no more than it may.
    with Frames(charger) as frames:
        assert frames.ask("/v1/Hello", src=DEVICE)[0] == 401
        assert frames.ask("/v1/Hello", src=DEVICE, key="qwerty") == (0, "HAI")
        args = {"id": DEVICE, "credentials": {"psk": "qwerty"}}
        assert frames.ask("/v1/Auth.Authenticate", args, src=DEVICE)[0] == 403


def test_a_list_goes_up_while_both_doors_are_open(charger):
    with Frames(charger) as frames, Client(charger.config["server"]["port"]) as console:
        assert frames.ask("/v1/Hello", key=KEY) == (0, "HAI")
        token = console.login(charger.pin)["tokenForHttpServer"]
        url = f"http://127.0.0.1:{charger.config['server']['port']}/cards?token={token}"
        for _ in range(3):
            data = urlopen(url).read()
            assert urlopen(url, data).status == 200
        assert frames.ask("/v1/Hello") == (0, "HAI")


def test_a_connection_stays_its_own(charger):
    with Frames(charger) as frames:
        assert frames.ask("/v1/Hello", key=KEY) == (0, "HAI")
        assert frames.ask("/v1/Hello", src=DEVICE, key="qwerty")[0] == 401
        with pytest.raises(ConnectionClosed) as closed:
            frames.socket.recv(10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


def test_frames_that_are_none_and_pages_of_others(charger):
    for bad in ("{", "[]", "\u0000", json.dumps({"v": 1, "src": BACKEND, "dst": "//else/where"})):
        with Frames(charger) as frames:
            frames.socket.send(bad)
            with pytest.raises((ConnectionClosed, TimeoutError)):
                frames.socket.recv(1)
    with pytest.raises(InvalidHandshake):
        Frames(charger, origin="http://evil.example")
    with pytest.raises(ConnectionClosed), Frames(charger) as frames:
        frames.socket.send("x" * 5000)
        frames.socket.recv(10)


def test_its_tokens_are_none_for_the_console_and_the_other_way_round(charger):
    with Frames(charger) as frames, Frames(charger, "/api") as console:
        frames.ask("/v1/Hello", key=KEY)
        status, result = frames.ask("/v1/Auth.GenerateToken", {"host": "other.example"})
        assert status == 0

        def log_in(secret):
            query = {"method": "auth", "type": "secured", "credentials": secret}
            console.socket.send(json.dumps(query))
            return json.loads(console.socket.recv(10))

        for secret in (result["token"], KEY):
            assert log_in(secret)["resultCode"] == 8
        token = log_in(charger.pin)["token"]
        assert frames.ask("/v1/Hello", src="//api.cesanta.com/x", key=token)[0] == 401
