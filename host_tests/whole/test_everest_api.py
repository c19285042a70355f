"""EVerest's APIs on the wire: an independent client plays every operation against the firmware in
real MicroPython over a real broker, with the literal messages of EVerest's documents.
"""

import json
import time
import uuid

import everest_schemas as schemas
import pytest
from brokers import BROKERS, Listener
from jsonschema import Draft202012Validator

from tools.charger import DesktopCharger

API = "everest_api/1/"
CONSUMER = API + "auth_consumer/auth_api/"
PROVIDER = API + "auth_token_provider/nfc_reader/"
VALIDATOR = API + "auth_token_validator/local_list/"
CARD = "04a1b2c3d4e5f6"  # known, parent FLEET-7
SETTINGS = {
    "everest": {"heartbeat_interval_ms": 1000, "remote_timeout_ms": 1500},
    "auth": {"master_pass_group_id": "MASTER-PASS", "connection_timeout": 60},
    "evses": [1, 2],
    "clock": {"source": "mqtt"},
}


def stranger() -> str:
    """A card that nobody has seen: what is answered about a card is learned."""
    return "04" + uuid.uuid4().hex[:12]


class Client(Listener):
    """What an integrator would write, against EVerest's documents only."""

    def request(self, topic: str, payload=..., reply_to: str | None = None):
        """Send a request envelope and return the bare reply."""
        name = topic.rpartition("/")[2]
        reply_to = reply_to or f"{CONSUMER}e2m/{name}/{uuid.uuid4()}"
        envelope = {"headers": {"replyTo": reply_to}}
        if payload is not ...:
            envelope["payload"] = payload
        return self.ask(topic, json.dumps(envelope), reply_to)

    def ask(self, topic: str, text: str, reply_to: str):
        start = len(self.messages)
        self.publish(topic, text)
        self.wait_for(lambda it: any(t == reply_to for t, _ in it.messages[start:]))
        return next(payload for t, payload in self.messages[start:] if t == reply_to)

    def event(self, evse: int, event: str, **members):
        self.publish(
            f"tapauth/desktop/evse/{evse}/session_event", json.dumps({"event": event, **members})
        )

    def plug(self, evse: int):
        self.event(evse, "SessionStarted", session_started={"reason": "EVConnected"})

    def unplug(self, evse: int):
        self.event(evse, "SessionFinished")

    def provide(self, value: str = CARD, **members):
        token = {"id_token": {"value": value, "type": "ISO14443"}, "authorization_type": "RFID"}
        self.publish(PROVIDER + "m2e/provided_token", json.dumps({**token, **members}))

    def since(self, start: int, end: str) -> list:
        return [payload for topic, payload in self.messages[start:] if topic.endswith(end)]

    def expect_statuses(self, start: int, *wanted: str, seconds: float = 5) -> list[dict]:
        """Wait for as many statuses as wanted; returns their messages."""
        end = "token_validation_status"
        self.wait_for(lambda it: len(it.since(start, end)) >= len(wanted), seconds)
        came = self.since(start, end)
        assert [message["status"] for message in came] == list(wanted)
        return came


@pytest.fixture(scope="module")
def broker():
    kind = "mosquitto" if "mosquitto" in BROKERS else "embedded"
    with BROKERS[kind]() as it:
        yield it


@pytest.fixture(scope="module")
def charger(broker, tmp_path_factory):
    flash = tmp_path_factory.mktemp("flash") / "flash.img"
    with DesktopCharger(f"127.0.0.1:{broker.port}", flash, SETTINGS) as it:
        it.wait_until_up()
        yield it


@pytest.fixture
def client(charger, broker):
    """A client, and a board at rest: nothing plugged in, nothing authorized, no token waiting."""
    with Client(broker.port) as it:
        it.wait_for(lambda it: any(t.endswith("heartbeat") for t, _ in it.messages))
        yield it
        for evse in (1, 2):
            it.event(evse, "Deauthorized")
            it.unplug(evse)
        it.request(CONSUMER + "m2e/withdraw_authorization", {})
        for topic, payload in it.messages:
            schemas.check(topic, payload)


# auth_consumer


def test_statuses_are_those_of_the_document(client):
    start = len(client.messages)
    client.plug(1)
    client.provide()
    came = client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
    assert came[0]["token"] == {
        "id_token": {"value": CARD, "type": "ISO14443"},
        "authorization_type": "RFID",
    }
    parent = {"value": "FLEET-7", "type": "Local"}
    assert came[1]["token"] == {**came[0]["token"], "parent_id_token": parent}
    assert came[2]["token"] == {**came[1]["token"], "connectors": [1]}
    assert [message["messages"] for message in came] == [[], [], []]
    sequence = [message["seq"] for message in came]
    assert sequence == list(range(sequence[0], sequence[0] + 3))


def test_withdraw_in_its_four_combinations(client):
    token = {"value": CARD, "type": "ISO14443"}
    topic = CONSUMER + "m2e/withdraw_authorization"
    for request in ({"evse_id": 1}, {"id_token": token}, {"evse_id": 1, "id_token": token}, {}):
        client.plug(1)
        start = len(client.messages)
        client.provide(connectors=[1])
        client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
        assert client.request(topic, request) == "Accepted"
        came = client.expect_statuses(start, "Processing", "Accepted", "UsedToStart", "Withdrawn")
        assert came[3]["token"]["connectors"] == [1]
        client.event(1, "Deauthorized")
        assert client.request(topic, request) == "AuthorizationNotFound"
        client.unplug(1)
    assert client.request(topic, {"evse_id": 3}) == "EvseNotFound"


def test_withdraw_without_a_way_to_reply_is_carried_out(client):
    client.plug(1)
    start = len(client.messages)
    client.provide(connectors=[1])
    client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
    client.publish(CONSUMER + "m2e/withdraw_authorization", '{"payload":{}}')
    client.expect_statuses(start, "Processing", "Accepted", "UsedToStart", "Withdrawn")


def test_a_malformed_withdraw_changes_nothing(client):
    client.plug(1)
    start = len(client.messages)
    client.provide(connectors=[1])
    wanted = ("Processing", "Accepted", "UsedToStart")
    client.expect_statuses(start, *wanted)
    topic = CONSUMER + "m2e/withdraw_authorization"
    for payload in (
        None,
        [],
        "x",
        5,
        {"evseId": 1},
        {"evse_id": 1.7},
        {"evse_id": True},
        {"evse_id": None},
        {"evse_id": "1"},
        {"id_token": None},
        {"id_token": {"value": CARD}},
        {"id_token": {"value": CARD, "type": "Card"}},
        ...,  # no payload at all
    ):
        assert client.request(topic, payload) == "Rejected", payload
    for text in (
        "",
        "not json",
        "[]",
        "null",
        '{"headers":{"replyTo":5},"payload":{}}',
        '{"headers":{"replyTo":null},"payload":{}}',
    ):
        client.publish(topic, text)
    assert client.request(topic, {"evse_id": 2}) == "AuthorizationNotFound"
    client.expect_statuses(start, *wanted)


def test_get_returns_the_last_status(client):
    start = len(client.messages)
    client.provide(stranger(), connectors=[99])
    last = client.expect_statuses(start, "Processing", "Rejected")[-1]
    reply_to = CONSUMER + "e2m/token_validation_status/get/0d6c"
    topic = CONSUMER + "m2e/token_validation_status/get"
    assert client.request(topic, reply_to=reply_to) == last


def test_settings_are_changed_on_the_wire(client):
    topic = CONSUMER + "m2e/set_master_pass_group_id"
    client.publish(topic, '"FLEET-7"')
    start = len(client.messages)
    client.plug(1)
    client.provide()
    client.expect_statuses(start, "Processing", "Rejected")  # master pass starts nothing
    for text in ('"' + "x" * 37 + '"', "5", "null", "", '{"master_pass_group_id":"x"}'):
        client.publish(topic, text)
    client.provide()
    client.expect_statuses(start, "Processing", "Rejected", "Processing", "Rejected")
    client.publish(topic, '"MASTER-PASS"')
    for text in ("9", "301", "10.0", '"30"', "true", "null", ""):
        client.publish(CONSUMER + "m2e/set_connection_timeout", text)
    client.publish(CONSUMER + "m2e/set_connection_timeout", "10")
    begin = time.monotonic()
    start = len(client.messages)
    client.provide()
    wanted = ("Processing", "Accepted", "UsedToStart", "TimedOut")
    client.expect_statuses(start, *wanted, seconds=15)
    assert 9.5 < time.monotonic() - begin < 12
    client.publish(CONSUMER + "m2e/set_connection_timeout", "60")


def test_heartbeats_count_up_once_a_second_on_all_three(client):
    start = len(client.messages)
    time.sleep(3.2)
    for module in (CONSUMER, PROVIDER, VALIDATOR):
        beats = client.since(start, module + "e2m/heartbeat")
        assert len(beats) in (3, 4)
        assert beats == list(range(beats[0], beats[0] + len(beats)))


def test_communication_check_raises_and_clears(client):
    def faults():
        errors = client.since(0, "tapauth/desktop/errors")[-1]
        return {error["sub_type"] for error in errors if error["origin"] == "auth_api"}

    topic = CONSUMER + "m2e/communication_check"
    client.wait_for(lambda it: it.since(0, "tapauth/desktop/errors"))
    for text in ("1", '"true"', "{}", "null"):
        client.publish(topic, text)
    client.publish(topic, "true")
    client.wait_for(lambda it: not faults())
    client.wait_for(lambda it: faults() == {"Bridge to implementation connection lost"}, 7)
    client.publish(topic, "false")
    client.wait_for(lambda it: not faults())
    time.sleep(5.5)
    assert not faults()  # the check has ended for good


# auth_token_provider


def test_tokens_of_the_document_are_taken(client):
    start = len(client.messages)
    client.publish(
        PROVIDER + "m2e/provided_token",
        '{"id_token":{"value":"04A1B2C3","type":"ISO14443"},"authorization_type":"RFID",'
        '"connectors":[1,2],"prevalidated":true,'
        '"parent_id_token":{"value":"FLEET-7","type":"Local"}}',
    )
    came = client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
    assert came[0]["token"]["prevalidated"] is True
    assert came[2]["token"]["connectors"] == [1]


def test_unknown_members_are_ignored_and_not_repeated(client):
    start = len(client.messages)
    deep = "[" * 200 + "]" * 200
    client.publish(
        PROVIDER + "m2e/provided_token",
        '{"id_token":{"value":"04a1b2c3d4e5f6","type":"ISO14443","colour":"red"},"x":' + deep + ","
        '"authorization_type":"RFID"}',
    )
    came = client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
    assert came[0]["token"] == {
        "id_token": {"value": CARD, "type": "ISO14443"},
        "authorization_type": "RFID",
    }


def test_malformed_tokens_are_dropped(client):
    start = len(client.messages)
    good = {"id_token": {"value": CARD, "type": "ISO14443"}, "authorization_type": "RFID"}
    for change in (
        {"id_token": None},
        {"id_token": {"value": CARD}},
        {"id_token": {"value": "x" * 37, "type": "ISO14443"}},
        {"id_token": {"value": "a\nb", "type": "ISO14443"}},
        {"authorization_type": "rfid"},
        {"authorization_type": None},
        {"connectors": "1"},
        {"connectors": [True]},
        {"prevalidated": 1},
        {"parent_id_token": {}},
        {"request_id": 1.5},
    ):
        client.publish(PROVIDER + "m2e/provided_token", json.dumps({**good, **change}))
    client.publish(PROVIDER + "m2e/provided_token", '{"authorization_type":"RFID"}')
    client.publish(PROVIDER + "m2e/provided_token", "[1,2")
    client.provide()
    client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")


def test_certificate_hashes_are_carried_through(client):
    start = len(client.messages)
    hashes = [
        {
            "hashAlgorithm": "SHA256",
            "issuerNameHash": "a" * 64,
            "issuerKeyHash": "b" * 64,
            "serialNumber": "1234",
            "responderURL": "http://ocsp.example",
        }
    ]
    client.provide(iso15118CertificateHashData=hashes, certificate="-----BEGIN")
    came = client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
    for message in came:
        assert message["token"]["iso15118CertificateHashData"] == hashes
        assert message["token"]["certificate"] == "-----BEGIN"


# auth_token_validator


def answer_next(client, start: int, text: str) -> dict:
    """Answer the next validation request; returns its payload."""
    client.wait_for(lambda it: it.since(start, VALIDATOR + "e2m/validate_token"))
    request = client.since(start, VALIDATOR + "e2m/validate_token")[-1]
    assert request["headers"]["replyTo"].startswith(VALIDATOR + "m2e/reply/")
    client.publish(request["headers"]["replyTo"], text)
    return request["payload"]


def test_a_remote_validator_is_asked_about_a_stranger(client):
    start = len(client.messages)
    card = stranger()
    client.plug(2)
    client.provide(card)
    token = answer_next(
        client,
        start,
        '{"authorization_status":"Accepted","tariff_messages":[{"content":"0.30/kWh"}],'
        '"parent_id_token":{"value":"FLEET-9","type":"Local"},'
        '"expiry_time":"2099-12-31T23:00:00Z","evse_ids":[1,2]}',
    )
    assert token["id_token"]["value"] == card
    # The clock of this board is not set: an answer with an expiry is not trusted.
    client.expect_statuses(start, "Processing", "Rejected")


def test_a_remote_validator_accepts(client):
    start = len(client.messages)
    client.plug(2)
    client.provide(stranger())
    answer_next(
        client,
        start,
        '{"authorization_status":"Accepted","tariff_messages":[{"content":"0.30/kWh"}],'
        '"parent_id_token":{"value":"FLEET-9","type":"Local"}}',
    )
    came = client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
    assert came[1]["messages"] == [{"content": "0.30/kWh"}]
    assert came[2]["token"]["connectors"] == [2]
    assert came[2]["token"]["parent_id_token"] == {"value": "FLEET-9", "type": "Local"}
    update = (
        '{"connector_id":2,"validation_result":{"authorization_status":"Accepted",'
        '"tariff_messages":[],"parent_id_token":{"value":"FLEET-8","type":"Central"}}}'
    )
    client.publish(VALIDATOR + "m2e/validate_result_update", update)
    wanted = ("Processing", "Accepted", "UsedToStart", "Accepted")
    came = client.expect_statuses(start, *wanted)
    assert came[3]["token"]["parent_id_token"] == {"value": "FLEET-8", "type": "Central"}


def test_a_remote_validator_refuses(client):
    start = len(client.messages)
    client.provide(stranger())
    answer_next(client, start, '{"authorization_status":"Blocked","tariff_messages":[]}')
    client.expect_statuses(start, "Processing", "Rejected")


def test_the_first_valid_reply_counts(client):
    start = len(client.messages)
    client.plug(1)
    client.provide(stranger())
    accepted = '{"authorization_status":"Accepted","tariff_messages":[]}'
    for text in ("", "[]", '{"authorization_status":"Fine"}', '{"tariff_messages":[]}', accepted):
        answer_next(client, start, text)
    answer_next(client, start, '{"authorization_status":"Blocked","tariff_messages":[]}')
    client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")


def test_a_mute_validator_is_not_waited_for(client):
    start = len(client.messages)
    begin = time.monotonic()
    client.provide(stranger())
    client.expect_statuses(start, "Processing", "Rejected")
    assert 1.3 < time.monotonic() - begin < 2.0
    # Too late.
    answer_next(client, start, '{"authorization_status":"Accepted","tariff_messages":[]}')
    client.expect_statuses(start, "Processing", "Rejected")


def test_a_known_card_is_decided_without_asking(client):
    start = len(client.messages)
    client.provide()
    client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
    assert not client.since(start, VALIDATOR + "e2m/validate_token")


def test_answers_are_learned(client):
    """An accepted card is known afterwards; a refused one is asked about again."""
    accepted, refused = stranger(), stranger()
    for card, status in ((accepted, "Accepted"), (refused, "Blocked")):
        start = len(client.messages)
        client.provide(card, connectors=[1])
        reply = f'{{"authorization_status":"{status}","tariff_messages":[]}}'
        answer_next(client, start, reply)
        client.wait_for(lambda it, at=start: len(it.since(at, "token_validation_status")) >= 2)
        client.request(CONSUMER + "m2e/withdraw_authorization", {})
        client.event(1, "Deauthorized")
    time.sleep(2.5)  # it is written down in a quiet moment
    start = len(client.messages)
    client.provide(accepted, connectors=[1])
    client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
    assert not client.since(start, VALIDATOR + "e2m/validate_token")
    start = len(client.messages)
    client.provide(refused, connectors=[2])
    client.wait_for(lambda it: it.since(start, VALIDATOR + "e2m/validate_token"))
    client.expect_statuses(start, "Processing", "Rejected")


# Discovery


def test_discovery(client):
    reply_to = "my/reply/topic"
    start = len(client.messages)
    client.publish("everest_api/discover", json.dumps({"headers": {"replyTo": reply_to}}))
    client.wait_for(lambda it: len(it.since(start, reply_to)) >= 3)
    found = {}
    for answer in client.since(start, reply_to):
        Draft202012Validator(schemas.DISCOVERY).validate(answer)
        for api in answer["apis"]:
            found[api["type"]] = api
    assert {kind: api["module_id"] for kind, api in found.items()} == {
        "auth_consumer": "auth_api",
        "auth_token_provider": "nfc_reader",
        "auth_token_validator": "local_list",
    }
    monitoring = found["auth_token_validator"]["communication_monitoring"]
    assert monitoring == {
        "heartbeat_period_ms": 1000,
        "communication_check_period_s": 5,
        "request_reply_timeout_s": 2,
    }
    only = client.request("everest_api/query-modules/auth_consumer", reply_to="my/other")
    assert [api["type"] for api in only["apis"]] == ["auth_consumer"]
    for text in ("", "{}", "[]", '{"headers":{"replyTo":"a/#"}}'):
        client.publish("everest_api/discover", text)


# EVSEs and the board's own topics


def test_evse_commands(client):
    client.plug(1)
    start = len(client.messages)
    client.provide(connectors=[1])
    client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
    client.event(1, "TransactionStarted")
    client.request(CONSUMER + "m2e/withdraw_authorization", {"evse_id": 1})
    client.wait_for(lambda it: len(it.since(start, "evse/1/command")) >= 2)
    granted, stopped = client.since(start, "evse/1/command")
    assert granted["command"] == "authorize_response"
    assert granted["result"]["authorization_status"] == "Accepted"
    assert stopped == {"command": "stop_transaction", "reason": "DeAuthorized"}


def test_a_connector_fault_closes_an_evse(client):
    client.event(1, "PermanentFault", connector_id=1)
    start = len(client.messages)
    client.provide()
    came = client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
    assert came[2]["token"]["connectors"] == [2]
    client.event(1, "PermanentFaultCleared", connector_id=1)


def test_malformed_session_events_change_nothing(client):
    for text in (
        "",
        "[]",
        "{}",
        '{"event":5}',
        '{"event":"SessionStarted"}',
        '{"event":"TransactionStarted","connector_id":true}',
        '{"event":"TransactionStarted","connector_id":"1"}',
        '{"event":"PermanentFault","connector_id":9}',
    ):
        client.publish("tapauth/desktop/evse/1/session_event", text)
    for number in ("0", "3", "-1", "x", "99999999999999999999"):
        topic = f"tapauth/desktop/evse/{number}/session_event"
        client.publish(topic, '{"event":"TransactionStarted"}')
    topic = CONSUMER + "m2e/withdraw_authorization"
    assert client.request(topic, {}) == "AuthorizationNotFound"  # no transaction to stop


def test_the_time_comes_over_mqtt(client):
    def unset():
        return "Clock not set" in str(client.since(0, "tapauth/desktop/errors")[-1])

    client.wait_for(lambda it: it.since(0, "tapauth/desktop/errors"))
    assert unset()
    for text in ("", "5", "true", '"yesterday"', '"1999-01-01T00:00:00Z"', "1e9", "{}"):
        client.publish("tapauth/desktop/time", text)
    client.publish("tapauth/desktop/time", '"2030-01-01T00:00:00Z"')
    client.wait_for(lambda it: not unset())
    start = len(client.messages)
    client.plug(1)
    client.provide(stranger())
    text = '{"authorization_status":"Accepted","tariff_messages":[],"expiry_time":"%s"}'
    answer_next(client, start, text % "2029-12-31T23:59:59Z")
    client.expect_statuses(start, "Processing", "Rejected")
    start = len(client.messages)
    client.provide(stranger())
    answer_next(client, start, text % "2030-01-02T00:00:00+01:00")
    came = client.expect_statuses(start, "Processing", "Accepted", "UsedToStart")
    assert came[0]["time"].startswith("2030-01-01T00:00:")
