"""Differential lists over a real broker: the whole desktop charger, and a back office's client."""

import json
import time

import pytest
from brokers import BROKERS, Listener

from tools.charger import DesktopCharger
from tools.desk import scenario
from tools.desk.console import obey

LISTED = scenario.FLEET_CARD
ADDED = "04:5E:1F:00:11:22:33"
ANSWERS = "office/answers"
ON = {"cards": {"mqtt_update": True}, "everest": {"remote_validator": False}}


@pytest.fixture(params=sorted(BROKERS))
def broker(request):
    with BROKERS[request.param]() as it:
        yield it


class Office:
    """Asks the board, and waits for its replies."""

    def __init__(self, listener):
        self._listener = listener

    def send(self, name, payload=None):
        request = {"headers": {"replyTo": ANSWERS}, "payload": payload}
        self._listener.publish("tapauth/desktop/cards/" + name, json.dumps(request))

    def replies(self):
        return self._listener.payloads(ANSWERS)

    def ask(self, name, payload=None):
        before = len(self.replies())
        self.send(name, payload)
        self._listener.wait_for(lambda _: len(self.replies()) > before)
        return self.replies()[before]


def fate(charger, listener, card):
    """What becomes of a card that is put on the reader."""
    start = len(listener.messages)
    obey(charger, f"tap {card}")
    last = ("UsedToStart", "UsedToStop", "Rejected")
    listener.wait_for(lambda it: any(status in last for _, status in it.statuses(start)))
    obey(charger, "lift")
    return listener.statuses(start)[-1][1]


def test_an_added_card_charges_a_removed_one_does_not_and_a_version_counts_once(broker, tmp_path):
    with (
        Listener(broker.port) as listener,
        DesktopCharger(f"127.0.0.1:{broker.port}", tmp_path / "flash.img", ON) as charger,
    ):
        charger.wait_until_up()
        office = Office(listener)
        assert fate(charger, listener, ADDED.lower()) == "Rejected"
        held = office.ask("update", {"listVersion": 1, "cards": []})
        assert held["status"] == "VersionMismatch"
        version = held["listVersion"] + 1
        cards = [
            {"idToken": ADDED, "authorizationStatus": "Accepted", "evseIds": [2]},
            {"idToken": LISTED, "authorizationStatus": "Removed"},
        ]
        update = {"listVersion": version, "fromVersion": version - 1, "cards": cards}
        assert office.ask("update", update) == {"status": "Accepted", "listVersion": version}
        assert office.ask("update", update) == {
            "status": "VersionMismatch",
            "listVersion": version,
        }
        wrong = {"listVersion": version + 1, "cards": [*cards, {"idToken": LISTED}]}
        reply = office.ask("update", wrong)
        assert reply["status"] == "Failed" and reply["reason"].startswith("card 3: ")
        assert reply["listVersion"] == version
        assert office.ask("clear_cache")["status"] == "Accepted"
        # An acknowledged change holds from that moment on, whatever becomes of the board.
        charger.kill_firmware()
        listener.wait_for(lambda it: len(it.payloads("ready_beacon")) >= 2, 30)
        obey(charger, "plug 2")
        time.sleep(0.5)  # the reader takes a card for another one after its absence
        assert fate(charger, listener, ADDED.lower()) == "UsedToStart"
        assert fate(charger, listener, LISTED) == "Rejected"
        assert office.ask("update", update)["status"] == "VersionMismatch"


def test_a_hundred_cards_come_in_one_message_and_the_board_goes_on_meanwhile(
    broker, tmp_path, tell
):
    settings = {**ON, "health_interval_s": 1}
    with (
        Listener(broker.port) as listener,
        DesktopCharger(f"127.0.0.1:{broker.port}", tmp_path / "flash.img", settings) as charger,
    ):
        charger.wait_until_up()
        office = Office(listener)
        cards = [
            {"idToken": f"04{i:012X}", "authorizationStatus": "Accepted"} for i in range(1, 101)
        ]
        start = len(listener.messages)
        assert office.ask("update", {"listVersion": 9, "cards": cards}) == {
            "status": "Accepted",
            "listVersion": 9,
        }
        obey(charger, "plug 1")
        assert fate(charger, listener, cards[99]["idToken"].lower()) == "UsedToStart"

        def reports(it):
            told = [payload for topic, payload in it.messages[start:] if topic.endswith("/health")]
            return [report for report in told if report["counters"]["cards"]["version"] == 9]

        listener.wait_for(reports)
        report = reports(listener)[-1]
        assert report["restarts"] == {} and report["counters"]["messages_refused"] == 0
        assert not [topic for topic, _ in listener.messages[start:] if topic.endswith("/errors")]
        tell(f"worst lag {report['max_lag_ms']} ms, {report['heap_min_free']} bytes free at least")


def test_without_its_key_in_the_configuration_there_is_no_door(broker, tmp_path):
    with (
        Listener(broker.port) as listener,
        DesktopCharger(f"127.0.0.1:{broker.port}", tmp_path / "flash.img") as charger,
    ):
        charger.wait_until_up()
        office = Office(listener)
        office.send("update", {"listVersion": 99, "cards": []})
        office.send("clear_cache")
        obey(charger, "plug 1")
        assert fate(charger, listener, LISTED) == "UsedToStart"
        assert office.replies() == []


def test_a_retained_update_is_none(broker, tmp_path):
    request = {
        "headers": {"replyTo": ANSWERS},
        "payload": {
            "listVersion": 99,
            "cards": [{"idToken": ADDED, "authorizationStatus": "Accepted"}],
        },
    }
    settings = {**ON, "health_interval_s": 1}
    with (
        Listener(broker.port) as listener,
        DesktopCharger(f"127.0.0.1:{broker.port}", tmp_path / "flash.img", settings) as charger,
    ):
        charger.wait_until_up()
        start = len(listener.messages)
        topic = "tapauth/desktop/cards/update"
        listener._client.publish(topic, json.dumps(request), qos=1, retain=True)
        listener.wait_for(lambda it: it.payloads(ANSWERS))  # while connected it is as any other
        charger.kill_firmware()
        listener.wait_for(lambda it: len(it.payloads("ready_beacon")) >= 2, 30)
        listener.wait_for(
            lambda it: any(
                topic == "tapauth/desktop/health" and payload["counters"]["messages_retained"]
                for topic, payload in it.messages[start:]
                if isinstance(payload, dict) and "counters" in payload
            ),
            40,
        )
        assert len(listener.payloads(ANSWERS)) == 1
