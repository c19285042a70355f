"""Starts server_board.py on real MicroPython, and talks to it as a browser would."""

import http.client
import io
import json
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from websockets.sync.client import connect

from tools.build import compile_file
from tools.cardlist.card_image import Builder
from tools.charger import HEAP_OF_BOTH
from tools.desk.broker import free_port
from tools.paths import ROOT, micropython

PROGRAM = ROOT / "tools" / "on_micropython" / "server_board.py"

RPC = {
    "address": "//api.cesanta.com/cloud.registry",
    "backend_id": "//api.cesanta.com/cloud",
    "backend_key": "the backend's own key",
}
"""The board's cloud auth service, and who may ask it for anything."""

HELLO = json.dumps(
    {
        "v": 1,
        "src": RPC["backend_id"],
        "dst": RPC["address"],
        "key": RPC["backend_key"],
        "cmds": [{"cmd": "/v1/Hello", "id": 1}],
    }
)
"""A frame that the service answers: see is_hai()."""

CONFIG = {
    "board_id": "unit",
    "evses": [1, 1],
    "evse_io": "lines",
    "mqtt": {"host": "127.0.0.1", "port": 1, "password": "secret"},  # nobody listens there
    "clock": {"source": "system"},
    "cards": {"capacity": 20_000},
    "rpc": RPC,
    "server": {"enabled": True, "address": "127.0.0.1", "names": "charger.example"},
}
SITE_KEY = bytes(range(32))


def list_file(count: int, version: int = 7, key: bytes = SITE_KEY) -> bytes:
    """A list of cards, as a LocalBoard takes it."""
    builder = Builder(key)
    for number in range(count):
        token = {"value": f"05{number:012x}", "type": "ISO14443"}
        builder.add(token, {"authorization_status": "Accepted"})
    file = io.BytesIO()
    builder.write(file, version, 99)
    return file.getvalue()


def is_hai(reply: str | bytes) -> bool:
    """Whether a frame is the service's answer to HELLO."""
    return [one.get("resp") for one in json.loads(reply).get("resp", [])] == ["HAI"]


class LocalBoard:
    """A board with its local interface. A context manager; `lines` is what it has printed.

    `tls` are the paths of its certificate and key, `settings` goes over those of the server,
    `hasten` holds settings of the server
    that no configuration may have, so that a test need not wait so long. `folder` is its flash.
    It is a whole board: see server_board.py for what it has not.
    """

    def __init__(
        self,
        heap: str = HEAP_OF_BOTH,
        connections: int = 6,
        tls: tuple[str, str] | None = None,
        settings: dict | None = None,
        hasten: dict | None = None,
    ):
        self.lines: list[str] = []
        self.measured: list[dict] = []
        self.pins: dict[str, str] = {}
        self._heap = heap
        self._folder = tempfile.TemporaryDirectory()
        self.port = free_port()
        self.folder = Path(self._folder.name) / "flash"
        self.folder.mkdir()
        # Compiled beforehand, as on a board: a compiler leaves its heap in pieces.
        compile_file(PROGRAM, self.folder.parent / "server_board.mpy", PROGRAM.name)
        self.config: dict = json.loads(json.dumps(CONFIG))
        self._hasten = json.dumps(hasten or {})
        server = self.config["server"]
        server |= {"port": self.port, "max_connections": connections, **(settings or {})}
        if tls:
            for key, path in zip(("tls_cert", "tls_key"), tls, strict=True):
                shutil.copy(path, self.folder / key)
                server[key] = "/" + key
        (self.folder / "config.json").write_text(json.dumps(self.config))
        (self.folder / "site.key").write_bytes(SITE_KEY)

    def __enter__(self) -> "LocalBoard":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Start the board; returns when it serves."""
        self.process = subprocess.Popen(
            [
                micropython(),
                "-X",
                "heapsize=" + self._heap,
                "-m",
                "server_board",
                str(ROOT),
                str(self.folder),
                self._hasten,
            ],
            env={"MICROPYPATH": f"{self.folder.parent}:.frozen"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        up = threading.Event()
        threading.Thread(target=self._read, args=(self.process, up), daemon=True).start()
        assert up.wait(20), "\n".join(self.lines)

    def _read(self, process, up) -> None:
        for line in process.stdout:
            if line.startswith("{"):
                self.measured.append(json.loads(line))
                continue
            self.lines.append(line.rstrip())
            if " PIN: " in line:
                self.pins[line.split()[0]] = line.split()[-1]
            if " on port " in line:
                up.set()

    def stop(self) -> None:
        """Cut its power."""
        self.process.kill()
        self.process.wait(10)

    def type(self, line: str) -> None:
        """Type a line on its serial console."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait_for_line(self, text: str) -> None:
        """Wait until it prints a line with `text` in it."""
        deadline = time.monotonic() + 10
        while not any(text in line for line in self.lines):
            assert time.monotonic() < deadline, "\n".join(self.lines)
            time.sleep(0.02)

    def client(self) -> "Client":
        """A new connection to /api."""
        return Client(self.port)

    def admin(self) -> "Client":
        """A connection that is authorized as admin."""
        client = self.client()
        assert client.login(self.pins["admin"])["result"]
        return client

    def http(self, method: str, path: str, body=None, headers=None) -> tuple[int, bytes, dict]:
        """(status, body, headers) of an HTTP request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.read(), dict(reply.getheaders())
        finally:
            connection.close()

    def worst_lag(self, since: int = 0) -> int:
        """The longest delay of the loop in milliseconds, of the measurements from `since` on."""
        return max([one["lag_ms"] for one in self.measured[since:]])

    def next_measurement(self) -> dict:
        """The first measurement that begins after now."""
        at = len(self.measured) + 1
        while len(self.measured) <= at:
            time.sleep(0.02)
        return self.measured[at]


class Client:
    """A WebSocket to /api: replies and events are told apart by the request's id. A slow board has
    `patience_s` for the handshake, and three times as long for a reply.
    """

    def __init__(self, port: int, path: str = "/api", patience_s: float = 10, **options):
        self._patience_s = patience_s
        self.socket = connect(
            f"ws://127.0.0.1:{port}{path}", open_timeout=patience_s, proxy=None, **options
        )
        self.events: queue.Queue = queue.Queue()
        self._number = 0

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def ask(self, method: str, **members) -> dict:
        """Send a request and wait for its reply."""
        self._number += 1
        number = str(self._number)
        self.socket.send(json.dumps({"method": method, "requestId": number, **members}))
        while True:
            message = json.loads(self.socket.recv(3 * self._patience_s))
            if message["method"] == "event":
                self.events.put(message)
            elif message["requestId"] == number:
                return message

    def login(self, secret: str, **members) -> dict:
        return self.ask("auth", type="secured", credentials=secret, **members)

    def event(self, name: str, timeout: float = 10) -> dict:
        """Wait for an event of this name; others are dropped."""
        while True:
            if self.events.empty():
                message = json.loads(self.socket.recv(timeout))
                assert message["method"] == "event", message
            else:
                message = self.events.get()
            if message["event"] == name:
                return message
