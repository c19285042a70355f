"""Runs link_probe.py in MicroPython and talks with it through a broker."""

import json
import os
import queue
import subprocess
import threading
import time
import zlib

import paho.mqtt.client as paho

from tools.paths import IMAGE, ROOT, micropython

SETTINGS = {"keepalive_s": 2, "timeout_ms": 400, "outbox_messages": 128, "outbox_bytes": 20_000}
"""Times short enough for a test; room enough that nothing is dropped by plan."""


class Probe:
    """The firmware's link in a process of its own. A context manager; `lines` is its output."""

    def __init__(self, port: int, events: int = 0, period_ms: int = 40, **settings):
        mqtt = {"host": "127.0.0.1", "port": port, **SETTINGS, **settings}
        options = json.dumps({"mqtt": mqtt, "events": events, "period_ms": period_ms})
        path = [str(IMAGE), str(IMAGE / "lib"), ".frozen"]
        script = str(ROOT / "tools" / "on_micropython" / "link_probe.py")
        self.lines: list[str] = []
        self.result: dict = {}
        self._news: queue.Queue = queue.Queue()
        self._process = subprocess.Popen(
            [micropython(), "-X", "heapsize=192k", script],
            env={**os.environ, "MICROPYPATH": ":".join(path), "TAPAUTH_PROBE": options},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("RESULT "):
                self.result = json.loads(line[7:])

    def wait_for(self, condition, seconds: float = 15) -> None:
        """Wait until `condition()` holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "\n".join(self.lines[-25:])
            time.sleep(0.01)

    def wait_for_line(self, text: str, seconds: float = 15) -> None:
        """Wait until the probe has said something."""
        self.wait_for(lambda: any(text in line for line in self.lines), seconds)

    @property
    def sessions(self) -> int:
        """How often the link has come up."""
        return len([line for line in self.lines if line.startswith("LINE up")])


class Observer:
    """A client apart from the probe: sees its events, sends it messages.

    `latencies_ms` has, for each event, the milliseconds from its making to its arrival here.
    """

    def __init__(self, port: int):
        self.events: list[int] = []
        self.latencies_ms: list[float] = []
        self.statuses: list[str] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="observer")
        self._client.max_inflight_messages_set(200)
        # Not what this client sends itself: the embedded broker loses track of such an echo.
        topics = [("probe/event", 1), ("probe/status", 1)]
        self._client.on_connect = lambda client, *_: client.subscribe(topics)
        self._client.on_message = self._take
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def __enter__(self) -> "Observer":
        return self

    def __exit__(self, *_) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, client, data, message) -> None:
        if message.topic == "probe/event":
            event = json.loads(message.payload)
            self.events.append(event["n"])
            self.latencies_ms.append(time.time() * 1000 - event["at"])
        elif message.topic == "probe/status":
            self.statuses.append(json.loads(message.payload)["state"])

    @property
    def order(self) -> list[int]:
        """The events' numbers, each at its first arrival."""
        return list(dict.fromkeys(self.events))

    def send(self, body: bytes, qos: int = 1) -> None:
        """A message for the probe that it can check."""
        self._client.publish("probe/in/x", b"%08x" % zlib.crc32(body) + body, qos=qos)

    def rest(self, probe: Probe) -> None:
        """Have no more events made, and wait until all that there are have arrived here.

        A broker passes messages on after it has acknowledged them, and the embedded one forgets
        them when the client that sent them leaves meanwhile.
        """
        self._client.publish("probe/in/rest", b"", qos=1)
        probe.wait_for_line("LINE resting")
        total = int(next(line for line in probe.lines if "resting" in line).split()[-1])
        probe.wait_for(lambda: len(self.order) >= total)

    def stop(self, probe: Probe) -> dict:
        """End the probe. Returns its result."""
        self._client.publish("probe/in/stop", b"", qos=1)
        probe.wait_for(lambda: probe.result)
        return probe.result
