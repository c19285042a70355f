"""A service over files in RAM, with a clock that the test moves."""

import json

from ram_fs import RamFs

from tapauth import log
from tapauth.rpc.service import RpcPeer
from tapauth.rpc.setup import open_service

from moved_clock import MovedClock

HOST = "//api.cesanta.com"
BACKEND = HOST + "/cloud"
DISPATCHER = HOST + "/cloud.dispatcher"
REGISTRY = HOST + "/cloud.registry"
DEVICE = HOST + "/device_123"
BACKEND_KEY = "the backend's own key"
UNIX = 1_800_000_000

ABSENT = object()


class Random:
    """Bytes that look random and are the same in every run."""

    def __init__(self, seed=1):
        self.state = seed

    def below(self, limit):
        self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.state >> 8) % limit

    def __call__(self, count):
        return bytes([self.below(256) for _ in range(count)])


class Rig:
    """One board: `service`, its files, clock, log lines and UNIX time."""

    def __init__(self, rules=None, fs=None, **settings):
        self.settings = {
            "address": REGISTRY,
            "backend_id": BACKEND,
            "backend_key": BACKEND_KEY,
            "tokens_backend_only": False,
            "tokens_as_psk": False,
        }
        self.settings.update(settings)
        self.fs = fs or RamFs()
        if rules is not None:
            self.fs.files["/rules.json"] = (
                rules if isinstance(rules, bytes) else json.dumps(rules).encode()
            )
        self.clock = MovedClock()
        self.unix = UNIX
        self.lines = []
        self.random = Random()
        self.log = log.Log(self.clock, b"key", log.DEBUG, self.lines.append)
        self.restart()

    def restart(self):
        """The board starts again, from what is on its flash."""
        self.service = open_service(
            self.settings, self.fs, self.clock, lambda: self.unix, self.random, self.log
        )

    def ask(self, frame, peer=None):
        """The answer to a frame (a dict, text or bytes), decoded; None for none."""
        if isinstance(frame, dict):
            frame = json.dumps(frame)
        reply = self.service.handle(frame, peer or RpcPeer())
        return None if reply is None else json.loads(reply)

    def call(self, name, args=ABSENT, src=DISPATCHER, key=BACKEND_KEY, **extra):
        """One version 1 command; its entry of the answer, or None."""
        command = {"cmd": "/v1/" + name, "id": 7}
        if args is not ABSENT:
            command["args"] = args
        command.update(extra)
        frame = {"v": 1, "src": src, "cmds": [command]}
        if key is not None:
            frame["key"] = key
        reply = self.ask(frame)
        if reply is None:
            return None
        assert len(reply["resp"]) == 1, reply
        return reply["resp"][0]

    def result(self, name, args=ABSENT, **how):
        """The result of a command that must succeed."""
        entry = self.call(name, args, **how)
        assert entry["status"] == 0, entry
        return entry.get("resp")

    def status(self, name, args=ABSENT, **how):
        """The status of a command."""
        entry = self.call(name, args, **how)
        assert ("status_msg" in entry) == (entry["status"] != 0), entry
        assert entry["status"] == 0 or "resp" not in entry, entry
        return entry["status"]

    def add(self, device, psk=None, cert=None):
        """Register a device."""
        args = {"deviceid": device}
        if psk:
            args["psk"] = psk
        if cert:
            args["cert"] = cert
        assert self.status("Device.Add", args) == 0

    def pinned(self, src=DISPATCHER, key=BACKEND_KEY):
        """A connection whose other end has shown its key."""
        peer = RpcPeer()
        frame = {"v": 1, "src": src, "key": key, "cmds": [{"cmd": "/v1/Hello", "id": 1}]}
        reply = self.ask(frame, peer)
        assert reply["resp"] == [{"id": 1, "status": 0, "resp": "HAI"}], reply
        return peer


def error_of(function, *arguments):
    """The exception that a call raises."""
    try:
        function(*arguments)
    except Exception as error:
        return error
    raise AssertionError("raised nothing")
