"""At least 10,000 malformed messages on every topic that the firmware subscribes: no crash, no
effect, and each of them counted.
"""

import json
import random

import everest_schemas as schemas
import pytest
from brokers import BROKERS, Listener
from jsonschema import Draft202012Validator

from tools.charger import DesktopCharger

COUNT = 10_500
BATCH = 500
API = "everest_api/1/"
CONSUMER = API + "auth_consumer/auth_api/m2e/"
PROVIDER = API + "auth_token_provider/nfc_reader/m2e/"
VALIDATOR = API + "auth_token_validator/local_list/m2e/"
TOKEN = {
    "id_token": {"value": "04a1b2c3d4e5f6", "type": "ISO14443"},
    "authorization_type": "RFID",
    "connectors": [1, 2],
    "prevalidated": True,
    "parent_id_token": {"value": "FLEET-7", "type": "Local"},
}
RESULT = {"authorization_status": "Accepted", "tariff_messages": [{"content": "x"}]}
WITHDRAW = {
    "type": "object",
    "properties": {"payload": {"type": "object"}},
    "required": ["payload"],
}
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}},
    "required": ["event"],
}

# Topic, a valid message to start from, and a schema that everything valid meets. A mutation that
# still meets it is not sent: it might be valid.
TARGETS = (
    (CONSUMER + "withdraw_authorization", {"payload": {"evse_id": 1}}, WITHDRAW),
    (CONSUMER + "set_connection_timeout", 30, {"type": "integer"}),
    (CONSUMER + "set_master_pass_group_id", "G", {"type": "string"}),
    (CONSUMER + "communication_check", True, {"type": "boolean"}),
    (PROVIDER + "communication_check", True, {"type": "boolean"}),
    (VALIDATOR + "communication_check", True, {"type": "boolean"}),
    (PROVIDER + "provided_token", TOKEN, schemas.loose(schemas.PROVIDED_ID_TOKEN)),
    (
        VALIDATOR + "validate_result_update",
        {"connector_id": 1, "validation_result": RESULT},
        {
            "type": "object",
            "properties": {
                "connector_id": {"type": "integer"},
                "validation_result": {"type": "object"},
            },
            "required": ["connector_id", "validation_result"],
        },
    ),
    (VALIDATOR + "reply/0123456789abcdef", RESULT, False),
    (CONSUMER + "no_such_operation", {}, False),
    ("everest_api/discover", {"headers": {}}, {"required": ["headers"], "type": "object"}),
    ("tapauth/desktop/evse/1/session_event", {"event": "TransactionStarted"}, EVENT),
    ("tapauth/desktop/evse/x/session_event", {"event": "TransactionStarted"}, False),
    ("tapauth/desktop/time", "2030-01-01T00:00:00Z", {"type": ["string", "integer"]}),
)
ODD = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**70,
    "",
    "x",
    "\0",
    "\ud83d\ude00",
    "x" * 400,
    [],
    {},
    [[]],
)


def mutate(rng, value):
    """`value` with something wrong with it, or something else altogether."""
    choice = rng.random()
    if isinstance(value, dict) and value and choice < 0.8:
        key = rng.choice(sorted(value))
        changed = dict(value)
        if rng.random() < 0.2:
            del changed[key]
        else:
            changed[key] = mutate(rng, value[key])
        return changed
    if isinstance(value, list) and value and choice < 0.5:
        return [mutate(rng, item) for item in value]
    if choice < 0.55:
        depth = rng.randrange(1, 300)
        return json.loads("[" * depth + "]" * depth) if rng.random() < 0.1 else {"a": value}
    return rng.choice(ODD)


def malformed(rng, value, schema) -> bytes:
    """The bytes of a message that is not valid."""
    while True:
        changed = mutate(rng, value)
        text = json.dumps(changed).encode()
        kind = rng.random()
        if kind < 0.25:
            cut = text[: rng.randrange(len(text))]
            try:
                json.loads(cut)
            except ValueError:
                return cut
        elif kind < 0.4:
            noise = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40)))
            try:
                json.loads(noise.decode())
            except ValueError:
                return noise
        elif schema is False or not Draft202012Validator(schema).is_valid(changed):
            return text


def refused(health: dict) -> int:
    return health["counters"]["messages_refused"]


@pytest.mark.parametrize("kind", ["mosquitto" if "mosquitto" in BROKERS else "embedded"])
def test_malformed_messages_have_no_effect_and_are_counted(kind, tmp_path):
    rng = random.Random(20_26)
    settings = {
        "health_interval_s": 1,
        "log_level": "error",
        "everest": {"heartbeat_interval_ms": 1000},
        "clock": {"source": "mqtt"},
    }
    board = []
    with BROKERS[kind]() as broker:
        where = f"127.0.0.1:{broker.port}"
        charger = DesktopCharger(
            where, tmp_path / "flash.img", settings, on_board_line=board.append
        )
        with Listener(broker.port) as listener, charger:
            charger.wait_until_up()
            listener.wait_for(lambda it: it.payloads("/health"))
            before = refused(listener.payloads("/health")[-1])
            # Behind the withdrawals of the board's start, one for each EVSE.
            listener.wait_for(
                lambda it: len([1 for topic, _ in it.messages if topic.endswith("/command")]) > 1
            )
            start = len(listener.messages)
            sent = 0
            while sent < COUNT:
                for _ in range(BATCH):
                    topic, value, schema = TARGETS[sent % len(TARGETS)]
                    listener.publish(topic, malformed(rng, value, schema))
                    sent += 1
                # Paced, so that the broker drops none for want of room.
                listener.wait_for(
                    lambda it, want=sent: refused(it.payloads("/health")[-1]) - before >= want, 20
                )
            assert refused(listener.payloads("/health")[-1]) - before == sent
            quiet = ("token_validation_status", "/command", "validate_token")
            assert not [topic for topic, _ in listener.messages[start:] if topic.endswith(quiet)]
            last = listener.payloads("/health")[-1]
            assert last["restarts"] == {}
            assert last["uptime_s"] >= 5
            assert last["counters"]["mqtt_sessions"] == 1
    assert not [line for line in board if " E " in line and "app" in line], board[:5]
    assert "(reset)" not in board
    print(f"{sent} malformed messages refused and counted")
