"""How much each message to EVSEs and clients matters, and how large it is."""

import json
import sys

from auth_fixture import token
from evse_rig import TIMEOUT_S, Charger, rig
from evse_words import drained
from recording_link import RecordingLink, quiet_log
from scripted_broker import play

import tapauth
from tapauth.core.effects import LASTING, REFUSAL, STOP
from tapauth.evse.remote import MqttEvses

from moved_clock import MovedClock

CERTIFICATE = "x" * 5500
HASH = {
    "hashAlgorithm": "SHA256",
    "issuerNameHash": "a" * 128,
    "issuerKeyHash": "b" * 128,
    "serialNumber": "c" * 40,
    "responderURL": "d" * 512,
}


class NoMemory:
    """A module that there is no memory for."""

    def __init__(self):
        self.__name__ = "tapauth.cutting"

    @staticmethod
    def cuts(*_):
        raise MemoryError


def test_a_charge_is_stopped_when_there_is_no_memory_to_say_whose_card_stops_it():
    link = RecordingLink()
    evses = MqttEvses("b", quiet_log(MovedClock()), link, None, None)
    stop = {"command": "stop_transaction", "reason": "Local"}
    sys.modules["tapauth.cutting"] = tapauth.cutting = NoMemory()  # type: ignore
    evses.command(1, dict(stop, id_tag=token("card", certificate="x" * 2000)))
    assert link.sent[-1][1] == stop, "the stop goes out, without its card"


def test_a_driver_with_a_long_certificate_loses_no_status_and_no_command():
    async def script(scene):
        stream = await scene.connect()
        charger = Charger(scene.link, scene.clock)
        members = {"certificate": CERTIFICATE, "iso15118CertificateHashData": [HASH] * 4}
        charger.tap("card", authorization_type="PlugAndCharge", **members)
        await scene.pass_ms()
        scene.greetings = stream.take()
        came = await drained(scene, stream)
        assert came == ["Accepted at EVSE", "Processing", "Accepted", "UsedToStart"], came
        assert scene.link.outbox.dropped == 0

    play(script)


def test_what_is_large_is_left_out_one_after_the_other():
    small = [dict(HASH)]
    small[0]["responderURL"] = small[0]["issuerNameHash"] = "u"
    for certificate, hashes, stay in (
        ("short", small, ("certificate", "iso15118CertificateHashData")),
        (CERTIFICATE, small, ("iso15118CertificateHashData",)),
        (CERTIFICATE, [HASH] * 4, ()),
    ):
        link, charger = rig()
        given = {"certificate": certificate, "iso15118CertificateHashData": hashes}
        charger.tap("card", **given)
        sent = link.take()
        assert len(sent) == 4
        for _, value in sent:
            for name in given:
                assert (name in value["token"]) == (name in stay), (name, stay)
                assert name not in stay or value["token"][name] == given[name]


def test_a_token_with_a_thousand_odd_members_is_told_about_all_the_same():
    link, charger = rig()
    given = token("card", [1] * 200)
    given["id_token"]["additional_info"] = [{"value": "v" * 36, "type": "t" * 50}] * 30
    charger.station.provide_token(given)
    sent = link.take()
    assert len(sent) == 4
    for _, value in sent:
        assert len(json.dumps(value)) < 3072
        assert value["token"]["id_token"]["value"] == "card"


def test_statuses_and_commands_say_how_much_they_matter():
    link, charger = rig()
    charger.tap("card")
    # The command, Processing, Accepted, UsedToStart.
    assert [keep for keep, _ in link.ranks] == [LASTING, -1, -1, LASTING]
    assert [wait for _, wait in link.ranks] == [TIMEOUT_S * 1000, None, None, None]
    del link.ranks[:]
    charger.event(1, "TransactionStarted")
    charger.tap("card")
    assert [keep for keep, _ in link.ranks] == [STOP, -1, LASTING]
    charger.event(1, "SessionFinished")
    del link.ranks[:]
    charger.tap("stranger", authorization_type="PlugAndCharge")
    assert [keep for keep, _ in link.ranks] == [REFUSAL, -1, 0]


def test_a_shorter_connection_timeout_holds_for_the_next_command():
    link, charger = rig()
    assert charger.station.set_connection_timeout(10)
    charger.tap("card")
    assert 10_000 in [wait for _, wait in link.ranks]
