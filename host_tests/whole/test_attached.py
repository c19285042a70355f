"""The attached role: this test plays EVerest, the board is its reader and its validator."""

import json

import pytest
from brokers import BROKERS, Listener

from tools.charger import DesktopCharger
from tools.desk.console import obey

API = "everest_api/1/"
PROVIDER = API + "auth_token_provider/nfc_reader/"
VALIDATOR = API + "auth_token_validator/local_list/"
CONSUMER = API + "auth_consumer/auth_api/"
CARD = "04a1b2c3d4e5f6"


@pytest.mark.parametrize("kind", sorted(BROKERS))
def test_a_board_attached_to_everest(kind, tmp_path):
    lines: list[str] = []
    with BROKERS[kind]() as broker:
        where = f"127.0.0.1:{broker.port}"
        charger = DesktopCharger(
            where, tmp_path / "flash.img", {"role": "attached"}, on_board_line=lines.append
        )
        with Listener(broker.port) as everest, charger:
            # Signs of life are the first thing that EVerest wants.
            everest.wait_for(lambda it: it.payloads("m2e/communication_check"))
            assert set(everest.payloads("m2e/communication_check")) == {True}
            everest.publish(PROVIDER + "e2m/heartbeat", "0")

            obey(charger, f"tap {CARD}")
            everest.wait_for(lambda it: it.payloads("m2e/provided_token"))
            token = everest.payloads("m2e/provided_token")[0]
            assert token == {
                "id_token": {"value": CARD, "type": "ISO14443"},
                "authorization_type": "RFID",
            }

            def validate(card: str) -> dict:
                reply_to = VALIDATOR + "m2e/reply/" + card
                token["id_token"]["value"] = card
                request = {"headers": {"replyTo": reply_to}, "payload": token}
                everest.publish(VALIDATOR + "e2m/validate_token", json.dumps(request))
                everest.wait_for(lambda it: it.payloads(reply_to))
                return everest.payloads(reply_to)[0]

            result = validate(CARD.upper())
            assert result["authorization_status"] == "Accepted"
            assert result["parent_id_token"] == {"value": "FLEET-7", "type": "Local"}
            assert result["tariff_messages"] == []
            assert validate("04deadbeef0102")["authorization_status"] != "Accepted"

            status = {"token": token, "status": "UsedToStart", "messages": []}
            everest.publish(CONSUMER + "e2m/token_validation_status", json.dumps(status))
            charger.wait_for(lambda: any("UsedToStart" in line for line in lines), 5)

            # An attached board serves no API of its own and commands no EVSE.
            topics = {topic for topic, _ in everest.messages}
            assert not [topic for topic in topics if topic.endswith("/command")]
            assert "everest_api/ready_beacon" not in topics
    assert not [line for line in lines if CARD in line.lower()]
