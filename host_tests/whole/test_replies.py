"""Many requests at once, and long ones: the firmware in real MicroPython, over real brokers."""

import json
import threading
import time

import paho.mqtt.client as paho
import pytest
from brokers import BROKERS, Listener

from tools.charger import DesktopCharger

API = "everest_api/1/"
CONSUMER = API + "auth_consumer/auth_api/"
PROVIDER = API + "auth_token_provider/nfc_reader/"
VALIDATOR = API + "auth_token_validator/local_list/"
SETTINGS = {
    "health_interval_s": 1,
    "everest": {"heartbeat_interval_ms": 1000, "remote_timeout_ms": 5000},
    "evses": [1, 2],
}
CERTIFICATE = ("-----BEGIN CERTIFICATE-----\n" + ("A" * 64 + "\n") * 85)[:5500]
HASHES = [
    {
        "hashAlgorithm": "SHA256",
        "issuerNameHash": "a" * 64,
        "issuerKeyHash": "b" * 64,
        "serialNumber": "1234",
        "responderURL": "http://ocsp.example",
    }
]


class Asker:
    """A client that sends requests as fast as it can, and counts what it is answered."""

    def __init__(self, port: int):
        self.replies: dict[str, int] = {}
        self._subscribed = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="asker")
        self._client.on_connect = lambda client, *_: client.subscribe("asker/#")
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, client, data, message) -> None:
        self.replies[message.topic] = self.replies.get(message.topic, 0) + 1

    def ask(self, topic: str, count: int, payload=None, qos: int = 0, each: int = 1) -> float:
        """Send `count` requests, and wait until each has `each` answers. Returns the seconds."""
        started = time.monotonic()
        self.replies = {}
        for number in range(count):
            request = {"headers": {"replyTo": f"asker/{number}"}}
            if payload is not None:
                request["payload"] = payload
            self._client.publish(topic, json.dumps(request), qos=qos)
        deadline = started + 60
        while sum(self.replies.values()) < count * each:
            assert time.monotonic() < deadline, f"{len(self.replies)} of {count} were answered"
            time.sleep(0.01)
        assert set(self.replies.values()) == {each}
        return time.monotonic() - started


@pytest.fixture(scope="module", params=sorted(BROKERS))
def rig(request, tmp_path_factory):
    flash = tmp_path_factory.mktemp("flash") / "flash.img"
    with BROKERS[request.param]() as broker:
        where = f"127.0.0.1:{broker.port}"
        with DesktopCharger(where, flash, SETTINGS) as charger:
            charger.wait_until_up()
            with Listener(broker.port) as listener, Asker(broker.port) as asker:
                listener.wait_for(lambda it: it.payloads("/health"))
                yield request.param, listener, asker


def provide(listener, value: str, **members) -> None:
    token = {"id_token": {"value": value, "type": "eMAID"}, "authorization_type": "PlugAndCharge"}
    listener.publish(PROVIDER + "m2e/provided_token", json.dumps({**token, **members}))


@pytest.mark.parametrize("qos", [0, 1])
def test_every_client_that_asks_for_the_last_status_gets_it(rig, qos, tell):
    name, listener, asker = rig
    provide(listener, "DE1", connectors=[99])
    listener.wait_for(lambda it: it.payloads("token_validation_status"))
    for count in (50, 500):
        took = asker.ask(CONSUMER + "m2e/token_validation_status/get", count, qos=qos)
        tell(f"{count} requests at once, QoS {qos} ({name}): all answered in {took:.1f} s")


def test_every_request_of_any_kind_is_answered(rig):
    _, _, asker = rig
    asker.ask(CONSUMER + "m2e/withdraw_authorization", 100, {"evse_id": 99})
    asker.ask("everest_api/discover", 60, each=3)
    asker.ask("everest_api/query-modules/auth_consumer", 60)


def test_nothing_was_dropped_and_nothing_restarted(rig):
    _, listener, _ = rig
    reports = listener.payloads("/health")
    listener.wait_for(lambda it: len(it.payloads("/health")) > len(reports))
    last = listener.payloads("/health")[-1]
    assert last["restarts"] == {}
    assert last["counters"]["mqtt_sessions"] == 1
    # Errors that were raised before there was a link.
    assert last["counters"]["mqtt_dropped"] == reports[0]["counters"]["mqtt_dropped"]


def test_a_driver_with_the_longest_certificate_is_asked_about_and_told_about(rig):
    _, listener, _ = rig
    start = len(listener.messages)
    given = {"certificate": CERTIFICATE, "iso15118CertificateHashData": HASHES, "connectors": [1]}
    provide(listener, "DE2", **given)

    def asked(it):
        return [value for topic, value in it.messages[start:] if topic.endswith("validate_token")]

    listener.wait_for(asked)
    request = asked(listener)[0]
    assert {name: request["payload"].get(name) for name in given} == given
    listener.publish(
        request["headers"]["replyTo"], '{"authorization_status":"Accepted","tariff_messages":[]}'
    )
    wanted = ["Processing", "Accepted", "UsedToStart"]
    listener.wait_for(lambda it: len(it.statuses(start)) >= 3)
    assert [status for _, status in listener.statuses(start)] == wanted
    listener.wait_for(
        lambda it: any(topic.endswith("evse/1/command") for topic, _ in it.messages[start:])
    )


def test_a_flood_of_long_tokens_costs_no_driver_anything(rig):
    name, listener, _ = rig
    start = len(listener.messages)
    for number in range(40):
        provide(listener, f"FLOOD{number}", certificate=CERTIFICATE, connectors=[2])
    token = {
        "id_token": {"value": "04a1b2c3d4e5f6", "type": "ISO14443"},
        "authorization_type": "RFID",
        "connectors": [2],
    }

    def fates(it, card):
        return [status for value, status in it.statuses(start) if value == card]

    def started(it):
        card = token["id_token"]["value"]
        if fates(it, card)[-1:] != ["UsedToStart"]:
            # Too many are in process, until the validator has had its time.
            if fates(it, card)[-1:] in ([], ["Rejected"]):
                listener.publish(PROVIDER + "m2e/provided_token", json.dumps(token))
            time.sleep(0.5)
            return False
        return True

    listener.wait_for(started, 40)
    last = listener.payloads("/health")[-1]
    assert last["restarts"] == {}
    assert last["counters"]["mqtt_sessions"] == 1
