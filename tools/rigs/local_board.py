"""Starts server_board.py on real MicroPython, and talks to it as a browser would."""

import http.client
import io
import json
import queue
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from websockets.sync.client import connect

from tools.cardlist.card_image import Builder
from tools.desk.broker import free_port
from tools.paths import IMAGE, ROOT, micropython

HEAP = "320k"
"""Heap of the 64-bit Unix port, like 160 KB on a board."""


def list_file(count: int, version: int = 7, key: bytes = bytes(range(32))) -> bytes:
    """A list of cards; with its own key as a board of server_board.py takes it."""
    builder = Builder(key)
    for number in range(count):
        token = {"value": f"05{number:012x}", "type": "ISO14443"}
        builder.add(token, {"authorization_status": "Accepted"})
    file = io.BytesIO()
    builder.write(file, version, 99)
    return file.getvalue()


class LocalBoard:
    """A board with its local interface. A context manager; `lines` is what it has printed.

    `tls` are the paths of its certificate and key, `settings` goes over those of the server.
    """

    def __init__(
        self,
        heap: str = HEAP,
        connections: int = 6,
        tls: tuple[str, str] | None = None,
        settings: dict | None = None,
    ):
        self.lines: list[str] = []
        self.measured: list[dict] = []
        self.pins: dict[str, str] = {}
        self._heap = heap
        self._settings = {"max_connections": connections, **(settings or {})}
        if tls:
            self._settings["tls_cert"], self._settings["tls_key"] = tls
        self._folder = tempfile.TemporaryDirectory()
        self.port = free_port()
        self.folder = Path(self._folder.name)

    def __enter__(self) -> "LocalBoard":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Start the board; returns when it serves."""
        path = ":".join((str(IMAGE), str(IMAGE / "lib"), ".frozen"))
        self.process = subprocess.Popen(
            [
                micropython(),
                "-X",
                "heapsize=" + self._heap,
                str(ROOT / "tools" / "on_micropython" / "server_board.py"),
                str(self.port),
                str(self.folder),
                json.dumps(self._settings),
            ],
            cwd=ROOT,
            env={"MICROPYPATH": path},
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
    """A WebSocket to /api: replies and events are told apart by the request's id."""

    def __init__(self, port: int, path: str = "/api", **options):
        self.socket = connect(
            f"ws://127.0.0.1:{port}{path}", open_timeout=10, proxy=None, **options
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
            message = json.loads(self.socket.recv(30))
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
