"""The auth service on real MicroPython, over real brokers, with independent clients."""

import json
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from brokers import BROKERS, Listener

from tools import rpc_client
from tools.paths import IMAGE, ROOT, micropython

BACKEND = "//api.cesanta.com/cloud"
DEVICE = "//api.cesanta.com/device_123"
KEY = "the backend's own key"
REPLIES = "tapauth/b1/rpc/reply/%2F%2Fapi.cesanta.com%2Fcloud"


@contextmanager
def board(port: int, folder: Path):
    """The firmware's service, connected to the broker."""
    path = [str(IMAGE), str(IMAGE / "lib"), ".frozen"]
    process = subprocess.Popen(
        [
            micropython(),
            "-X",
            "heapsize=192k",
            "host_tests/on_micropython/board_rpc.py",
            str(port),
            f"{folder}/",
        ],
        cwd=ROOT,
        env={**os.environ, "MICROPYPATH": ":".join(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for line in process.stdout:
            if line == "up\n":
                break
        else:
            raise AssertionError("the board did not start")
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(params=sorted(BROKERS))
def broker(request):
    with BROKERS[request.param]() as it:
        yield it


class Asker:
    """Sends frames by one client and waits for what comes back on the topic of replies."""

    def __init__(self, listener):
        self.listener = listener

    def replies(self):
        return [payload for topic, payload in self.listener.messages if topic == REPLIES]

    def ask(self, frame):
        before = len(self.replies())
        self.send(frame)
        self.listener.wait_for(lambda _: len(self.replies()) > before)
        return self.replies()[before]

    def send(self, frame):
        text = frame if isinstance(frame, str) else json.dumps(frame)
        self.listener.publish("tapauth/b1/rpc", text)

    def until_up(self):
        """Wait until the broker passes frames on to the board."""
        hello = {"v": 1, "src": BACKEND, "cmds": [{"cmd": "/v1/Hello", "id": 1}]}
        before = len(self.replies())
        deadline = time.monotonic() + 10
        while len(self.replies()) == before:
            assert time.monotonic() < deadline
            self.send(hello)
            time.sleep(0.1)
        hello["cmds"][0]["id"] = 2
        self.send(hello)
        self.listener.wait_for(lambda _: self.replies()[-1]["resp"][0]["id"] == 2)

    def result(self, name, args):
        command = {"cmd": "/v1/" + name, "id": 9, "args": args}
        reply = self.ask({"v": 1, "src": BACKEND + ".x", "key": KEY, "cmds": [command]})
        assert reply["resp"][0]["status"] == 0, reply
        return reply["resp"][0].get("resp")


def test_a_day_of_the_service(broker, tmp_path):
    with Listener(broker.port) as listener:
        listener.wait_for(lambda it: it._client.is_connected())
        asker = Asker(listener)
        with board(broker.port, tmp_path):
            asker.until_up()
            hello(asker)
            batches(asker)
            version_2(asker)
            nothing_comes_back(asker)
            token = asker.result("Auth.GenerateToken", {"host": "app.com"})["token"]
            asker.result("Device.Add", {"deviceid": DEVICE, "psk": "qwerty"})
        # The power goes; what was acknowledged is there again, and a new rule file is in force.
        (tmp_path / "rules.json").write_text('[{"cmd": "/v1/*", "allow": true}]')
        with board(broker.port, tmp_path):
            asker.until_up()
            assert asker.result("Auth.GetToken", {"host": "app.com"}) == {
                "exist": True,
                "token": token,
            }
            args = {"id": DEVICE, "credentials": {"psk": "qwerty"}}
            assert asker.result("Auth.Authenticate", args) is True
            args = {"src": DEVICE, "dst": BACKEND, "cmd": "/v1/Nuke.Launch"}
            assert asker.result("Auth.AuthorizeCommand", args) is True


def hello(asker):
    frame = {"v": 1, "src": BACKEND + ".x", "key": KEY, "cmds": [{"cmd": "/v1/Hello", "id": 1}]}
    assert asker.ask(frame) == {
        "v": 1,
        "src": "//api.cesanta.com/cloud.registry",
        "dst": BACKEND + ".x",
        "resp": [{"id": 1, "status": 0, "resp": "HAI"}],
    }
    # No connection is remembered: the next frame needs its key too.
    del frame["key"]
    assert asker.ask(frame)["resp"][0]["status"] == 401


def batches(asker):
    now = int(time.time())
    commands = [
        {"cmd": "/v1/Hello", "id": 1},
        {"cmd": "/v1/No.Such", "id": 2},
        {"cmd": "/v1/Hello"},
        {"cmd": "/v1/Hello", "id": 1},
        {"cmd": "/v1/Hello", "id": 4, "deadline": now - 60},
        {"cmd": "/v1/Hello", "id": 5, "deadline": now + 60, "timeout": 60},
        {"cmd": "/v1/Auth.ListToken", "id": 6},
    ]
    reply = asker.ask({"v": 1, "src": BACKEND, "key": KEY, "cmds": commands})
    assert [(entry["id"], entry["status"]) for entry in reply["resp"]] == [
        (1, 0),
        (2, 404),
        (1, 400),
        (4, 504),
        (5, 0),
        (6, 0),
    ]


def version_2(asker):
    frame = {"id": 3, "src": BACKEND, "key": KEY, "tag": "t", "method": "/v1/Services.List"}
    reply = asker.ask(frame)
    assert reply["id"] == 3 and reply["tag"] == "t" and reply["v"] == 2
    assert "AuthorizeCommand" in reply["result"]["/v1/Auth"]["methods"]
    reply = asker.ask({**frame, "method": "/v1/Nuke.Launch"})
    assert reply["error"] == {"code": 404, "message": "no such command"}


def nothing_comes_back(asker):
    before = len(asker.replies())
    asker.send("")
    asker.send("{")
    asker.send(
        {"v": 1, "src": BACKEND, "dst": DEVICE, "key": KEY, "cmds": [{"cmd": "x", "id": 1}]}
    )
    asker.send({"v": 1, "src": BACKEND, "key": KEY, "cmds": [{"cmd": "/v1/Hello"}]})
    asker.send({"v": 2, "src": BACKEND, "key": KEY, "method": "/v1/Hello", "id": 1, "nr": True})
    asker.send({"v": 1, "src": BACKEND, "resp": [{"id": 1, "status": 0}]})
    # The answer to the next one is the first that comes.
    asker.result("Auth.ListToken", {})
    assert len(asker.replies()) == before + 1


def test_the_command_line_client(broker, tmp_path, capsys, monkeypatch):
    def run(*words):
        status = rpc_client.main([*base, *words])
        return status, capsys.readouterr()

    monkeypatch.setenv("TAPAUTH_RPC_KEY", KEY)
    base = ["--broker", f"127.0.0.1:{broker.port}", "--base", "tapauth/b1", "--timeout", "10"]
    base += ["--src", BACKEND + ".cli"]
    with Listener(broker.port) as listener, board(broker.port, tmp_path):
        listener.wait_for(lambda it: it._client.is_connected())
        Asker(listener).until_up()
        for version in ("1", "2"):
            base[-2:] = ["--src", "//API.cesanta.com/%63loud.cli"]
            status, text = run("--frame", version, "Hello")
            assert (status, text.out) == (0, '"HAI"\n')
            device = f"{DEVICE}{version}"
            status, text = run(
                "--frame", version, "Device.Add", f"deviceid={device}", "psk=qwerty"
            )
            assert (status, text.out) == (0, "done\n")
            asked = ("--frame", version, "Authenticate", f"id={device}", "credentials.psk=qwerty")
            status, text = run(*asked)
            success = True if version == "1" else {"success": True, "id": device}
            assert (status, json.loads(text.out)) == (0, success)
            status, text = run("--frame", version, "GetToken")
            assert (status, text.err) == (1, "status 400: host is missing\n")
            status, text = run("--frame", version, "GetToken", '{"host": "a.com"}')
            assert (status, json.loads(text.out)) == (0, {"exist": False})
        key = tmp_path / "key"
        key.write_text("wrong\n")
        status, text = run("--key-file", str(key), "Hello")
        assert (status, text.err) == (1, "status 401: not authenticated\n")
    status, text = run("--timeout", "0.5", "Hello")
    assert (status, text.err) == (3, "no answer within 0.5 s\n")
    for words in (
        ["Hello", "x"],
        ["Hello", "{"],
        ["X", "a=1", "a.b=2"],
        ["--broker", "x", "Hello"],
    ):
        assert run(*words)[0] == 2
    assert run("--src", "nobody", "Hello")[0] == 2
    assert run("--broker", "127.0.0.1:1", "Hello")[0] == 3
