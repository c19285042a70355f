"""Real brokers for tests, and a client that is apart from everything under test."""

import json
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import paho.mqtt.client as paho

from tools.desk import mosquitto
from tools.desk.broker import EmbeddedBroker, free_port


class Mosquitto:
    """Debian's mosquitto on loopback, as a process of this test. A context manager.

    `access` are the lines of its configuration that say who may come in.
    """

    def __init__(self, port: int | None = None, access: str = "allow_anonymous true"):
        self.port = port or free_port()
        self._access = access
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen | None = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self._folder.cleanup()

    def start(self):
        binary = mosquitto.path()
        assert binary, "mosquitto is not installed"
        config = Path(self._folder.name) / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\n{self._access}\n")
        self._process = subprocess.Popen(
            [binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("mosquitto did not start")

    def stop(self):
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


BROKERS = {"embedded": EmbeddedBroker}
if mosquitto.path():
    BROKERS["mosquitto"] = Mosquitto


class Listener:
    """An MQTT client that keeps every message, decoded, in the order of arrival."""

    def __init__(self, port: int):
        self.messages: list[tuple[str, object]] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="listener")
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_message = self._take
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, client, data, message):
        try:
            payload = json.loads(message.payload)
        except ValueError:
            payload = message.payload
        self.messages.append((message.topic, payload))

    def payloads(self, end: str) -> list:
        """The payloads of all messages whose topic ends so."""
        return [payload for topic, payload in self.messages if topic.endswith(end)]

    def publish(self, topic: str, text: str | bytes) -> None:
        self._client.publish(topic, text, qos=1)

    def statuses(self, start: int = 0) -> list[tuple[str, str]]:
        """(card, status) of the token statuses since message number `start`."""
        return [
            (payload["token"]["id_token"]["value"], payload["status"])
            for topic, payload in self.messages[start:]
            if topic == "everest_api/1/auth_consumer/auth_api/e2m/token_validation_status"
        ]

    def wait_for(self, condition, seconds: float = 10):
        """Wait until `condition(self)` holds; fails the test when it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition(self):
            assert time.monotonic() < deadline, f"not in time; came: {self.messages[-10:]}"
            time.sleep(0.02)
