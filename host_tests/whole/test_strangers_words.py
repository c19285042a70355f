"""What strangers may make the board do by the topics, texts and retained messages that they send:
a board in real MicroPython on a real broker.
"""

import json
import uuid

import paho.mqtt.client as paho
import pytest
from brokers import BROKERS, Listener

from tools.charger import DesktopCharger

API = "everest_api/1/"
CONSUMER = API + "auth_consumer/auth_api/"
PROVIDER = API + "auth_token_provider/nfc_reader/"
BASE = "tapauth/desktop/"
GET = CONSUMER + "m2e/token_validation_status/get"
WITHDRAW = CONSUMER + "m2e/withdraw_authorization"
STATUS = "e2m/token_validation_status"
CARD = "04a1b2c3d4e5f6"
TOKEN = {"id_token": {"value": CARD, "type": "ISO14443"}, "authorization_type": "RFID"}
SETTINGS = {
    "health_interval_s": 1,
    "everest": {"heartbeat_interval_ms": 1000},
    "auth": {"master_pass_group_id": "MASTER-PASS"},
    "evses": [1],
    "clock": {"source": "mqtt"},
    "mqtt": {"client_id": "the-board"},
}


pytestmark = pytest.mark.skipif(
    "mosquitto" not in BROKERS,
    reason="mosquitto is not here, and the embedded broker waits for clients that have left",
)


class Stranger(Listener):
    """Sends what it likes, and sees everything."""

    def get(self) -> object:
        """The last status, by a request that is in order; the board has handled all before it."""
        reply_to = f"{CONSUMER}e2m/token_validation_status/get/{uuid.uuid4()}"
        self.publish(GET, json.dumps({"headers": {"replyTo": reply_to}}))
        self.wait_for(lambda it: it.payloads(reply_to))
        return self.payloads(reply_to)[0]

    def health(self, after: int) -> dict:
        """The counters of the first health report since message number `after`."""
        end = BASE + "health"
        self.wait_for(lambda it: any(topic == end for topic, _ in it.messages[after:]))
        return next(it for topic, it in self.messages[after:] if topic == end)["counters"]

    def counters(self) -> dict:
        """The counters of a report that is made from now on."""
        self.get()
        return self.health(len(self.messages))

    def retain(self, topic: str, text: str) -> None:
        self._client.publish(topic, text, qos=1, retain=True).wait_for_publish(10)


@pytest.fixture(scope="module")
def broker():
    with BROKERS["mosquitto"]() as it:
        yield it


@pytest.fixture(scope="module")
def charger(broker, tmp_path_factory):
    lines: list[str] = []
    flash = tmp_path_factory.mktemp("flash") / "flash.img"
    where = f"127.0.0.1:{broker.port}"
    with DesktopCharger(where, flash, SETTINGS, on_board_line=lines.append) as it:
        it.wait_until_up()
        yield it
    assert not [line for line in lines if " E " in line or "(reset)" in line], lines


@pytest.fixture
def stranger(charger, broker):
    with Stranger(broker.port) as it:
        it.wait_for(lambda it: it.payloads("heartbeat"))
        yield it
        it.publish(WITHDRAW, '{"payload":{}}')
        for event in ("Deauthorized", "SessionFinished"):
            it.publish(BASE + "evse/1/session_event", json.dumps({"event": event}))
        it.get()


def reconnect(broker, stranger) -> None:
    """Take the board's place at the broker for a moment, and wait until it is back."""
    before = len(stranger.messages)
    rival = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="the-board")
    rival.connect("127.0.0.1", broker.port)
    rival.loop_start()
    stranger.wait_for(lambda it: (BASE + "status", False) in states(it, before))
    rival.disconnect()
    rival.loop_stop()
    stranger.wait_for(lambda it: (BASE + "status", True) in states(it, before))
    stranger.get()


def states(stranger, start: int) -> list:
    return [
        (topic, payload["state"] == "online")
        for topic, payload in stranger.messages[start:]
        if topic == BASE + "status"
    ]


def test_a_reply_topic_that_brokers_hang_up_on_takes_no_board_off_its_broker(broker, stranger):
    before = stranger.counters()
    odd = [chr(code) for code in (0, 1, 0x1F, 0x7F, 0x80, 0x9F, 0xFDD0, 0xFFFE, 0xFFFF, 0x1FFFE)]
    odd += ["$SYS/x", "+", "#", "", "/" * 201, "x" * 3900]
    for topic in odd:
        for ascii_only in (True, False):
            text = json.dumps({"headers": {"replyTo": topic}}, ensure_ascii=ascii_only)
            stranger.publish(GET, text)
    # Half a surrogate pair is no text at all: as an escape, as bytes, and in disguise.
    for half in (b"\\ud83d", b"\xed\xa0\xbd", b"\\u=83d", b"\\ude97\\ud83d", b"\xc0\x80"):
        stranger.publish(GET, b'{"headers":{"replyTo":"a' + half + b'"}}')
        stranger.publish(WITHDRAW, b'{"headers":{"replyTo":"a' + half + b'"},"payload":{}}')
    after = stranger.counters()
    assert after["mqtt_sessions"] == before["mqtt_sessions"]
    assert after["mqtt_replies_refused"] - before["mqtt_replies_refused"] == 2 * len(odd)
    assert after["messages_refused"] - before["messages_refused"] == 2 * len(odd) + 10


def test_no_reply_becomes_a_request_or_news(stranger):
    """A replyTo is a stranger's word: followed blindly, it made a group of "EvseNotFound"."""
    before = stranger.counters()
    start = len(stranger.messages)
    topics = (
        CONSUMER + "m2e/set_master_pass_group_id",
        CONSUMER + "m2e/set_connection_timeout",
        PROVIDER + "m2e/provided_token",
        API + "auth_consumer/of_another_board/m2e/set_master_pass_group_id",
        CONSUMER + STATUS,
        CONSUMER + "e2m/heartbeat",
        "everest_api/discover",
        "everest_api/ready_beacon",
        BASE + "time",
        BASE + "evse/1/session_event",
        BASE + "evse/1/command",
        BASE + "health",
    )
    for topic in topics:
        for request in (WITHDRAW, GET, "everest_api/discover"):
            text = json.dumps({"headers": {"replyTo": topic}, "payload": {"evse_id": 9}})
            stranger.publish(request, text)
    after = stranger.counters()
    assert after["mqtt_replies_refused"] - before["mqtt_replies_refused"] == 3 * len(topics)
    told = [it for it in stranger.messages[start:] if it[0] in topics and it[0] != BASE + "health"]
    assert all(
        topic.endswith("heartbeat") and type(it) is int or "headers" in it for topic, it in told
    )


def test_a_member_without_value_withdraws_nothing(stranger):
    """{"evse_id":} of a client whose number was empty took back every authorization."""
    stranger.publish(PROVIDER + "m2e/provided_token", json.dumps(TOKEN))
    stranger.wait_for(lambda it: it.statuses() and it.statuses()[-1] == (CARD, "UsedToStart"))
    before = stranger.counters()
    for text in ('{"payload":{"evse_id":}}', '{"payload":{"evse_id"}}', '{"payload":{5}}'):
        stranger.publish(WITHDRAW, text)
    after = stranger.counters()
    assert stranger.statuses()[-1] == (CARD, "UsedToStart")
    assert after["messages_refused"] - before["messages_refused"] == 3


def test_a_status_is_utf_8_whatever_way_a_client_escapes(stranger):
    car = "\U0001f697"
    token = json.loads(json.dumps(TOKEN))
    token["id_token"]["additional_info"] = [{"value": car, "type": "plate"}]
    token["id_token"]["value"] = value = "04a1b2c3d4e5f7"
    stranger.publish(PROVIDER + "m2e/provided_token", json.dumps(token))

    def told() -> list:
        """The statuses of this token: one of the token before may come late."""
        statuses = stranger.payloads(CONSUMER + STATUS)
        # The listener shows bytes where there is no JSON in UTF-8.
        assert not [one for one in statuses if isinstance(one, bytes)]
        return [one for one in statuses if one["token"]["id_token"]["value"] == value]

    stranger.wait_for(lambda _: told())
    status = told()[0]
    assert status["token"]["id_token"]["additional_info"] == [{"value": car, "type": "plate"}]
    assert stranger.get()["token"]["id_token"]["additional_info"][0]["value"] == car


def test_what_the_broker_kept_is_not_done_again(broker, stranger):
    """A retained token started a charge at each reconnect, a retained withdrawal ended one."""
    event = BASE + "evse/1/session_event"
    kept = {
        PROVIDER + "m2e/provided_token": json.dumps(TOKEN),
        WITHDRAW: '{"payload":{}}',
        event: '{"event":"Disabled"}',
        CONSUMER + "m2e/set_connection_timeout": "11",
        "everest_api/discover": '{"headers":{"replyTo":"told"}}',
        GET: '{"headers":{"replyTo":"a\\u0001"}}',
    }
    try:
        for topic, text in kept.items():
            stranger.retain(topic, text)
        # That somebody says it now counts, and how it is kept does not tell.
        stranger.wait_for(lambda it: len(it.payloads("told")) == 3)
        stranger.wait_for(
            lambda it: {"event": "Deauthorized", "connector_id": 1} in it.payloads(event)
        )
        stranger.get()
        stranger.publish(event, '{"event":"Enabled"}')
        stranger.publish(PROVIDER + "m2e/provided_token", json.dumps(TOKEN))
        stranger.wait_for(lambda it: it.statuses()[-1:] == [(CARD, "UsedToStart")])
        before = stranger.counters()
        start = len(stranger.messages)
        reconnect(broker, stranger)
        after = stranger.counters()
        assert after["messages_retained"] - before["messages_retained"] == len(kept)
        assert stranger.statuses(start) == []
        assert len(stranger.payloads("told")) == 3
        assert after["mqtt_sessions"] == before["mqtt_sessions"] + 1
    finally:
        for topic in kept:
            stranger.retain(topic, "")
    stranger.publish(WITHDRAW, '{"payload":{}}')


def test_a_time_that_the_broker_kept_moves_the_clock_forward_only(broker, stranger):
    def now() -> str:
        start = len(stranger.statuses())
        token = json.loads(json.dumps(TOKEN))
        token["connectors"] = [99]
        stranger.publish(PROVIDER + "m2e/provided_token", json.dumps(token))
        stranger.wait_for(lambda it: len(it.statuses()) == start + 2)
        return stranger.payloads(CONSUMER + STATUS)[-1]["time"]

    try:
        stranger.retain(BASE + "time", '"2030-01-01T00:00:00Z"')
        assert now().startswith("2030-01-01T00:0")
        stranger.publish(BASE + "time", '"2031-01-01T00:00:00Z"')
        before = stranger.counters()
        reconnect(broker, stranger)
        assert now().startswith("2031-01-01T00:0")
        assert stranger.counters()["messages_refused"] == before["messages_refused"]
    finally:
        stranger.retain(BASE + "time", "")
