"""Commands to EVSEs over a broker that is away, slow or mute: what is taken back stays so."""

import json
import sys

from auth_fixture import token
from evse_rig import PLUGGED, TIMEOUT_S, Charger, rig, said
from recording_link import RecordingLink, quiet_log
from scripted_broker import id_of, payload_of, play

import tapauth
from tapauth.core.effects import LASTING, REFUSAL, STOP
from tapauth.evse.mqtt import MqttEvses

from moved_clock import MovedClock


def told(body) -> str:
    """What a published message says: a status, or a command and its result."""
    value = json.loads(payload_of(body))
    if "status" in value:
        return value["status"]
    if "result" in value:
        return value["result"]["authorization_status"] + " at EVSE"
    return value["command"]


async def drained(scene, stream) -> list:
    """Acknowledge all that comes; returns what it said."""
    came = []
    sent = [packet for packet in scene.greetings if packet[0] & 0xF6 == 0x32]
    scene.greetings = []
    while sent:
        for _, body in sent:
            came.append(told(body))
            stream.say(b"\x40\x02" + id_of(body).to_bytes(2, "big"))
        await scene.pass_ms()
        sent = [packet for packet in stream.take() if packet[0] & 0xF6 == 0x32]
    return came


def commands(came) -> list:
    return [text for text in came if text.endswith("at EVSE") or "_" in text]


def test_a_grant_that_timed_out_while_the_broker_was_away_never_reaches_the_evse():
    async def script(scene):
        scene.refusing = True
        charger = Charger(scene.link, scene.clock)
        charger.tap("card")
        await scene.pass_ms(TIMEOUT_S * 1000 + 100)
        charger.wake()
        scene.refusing = False
        stream = await scene.connect()
        came = await drained(scene, stream)
        assert commands(came) == ["withdraw_authorization"], came
        assert came[-2:] == ["withdraw_authorization", "TimedOut"]

    play(script)


def test_an_old_grant_is_withdrawn_even_if_nobody_has_withdrawn_it_yet():
    async def script(scene):
        scene.refusing = True
        charger = Charger(scene.link, scene.clock)
        charger.tap("card")
        scene.clock.advance(TIMEOUT_S * 1000)
        scene.refusing = False
        stream = await scene.connect()
        assert commands(await drained(scene, stream)) == ["withdraw_authorization"]
        assert scene.link.counters()["mqtt_expired"] == 1

    play(script)


def test_a_young_grant_still_comes_after_a_reconnect():
    async def script(scene):
        scene.refusing = True
        charger = Charger(scene.link, scene.clock)
        charger.tap("card")
        await scene.pass_ms(10_000)
        scene.refusing = False
        stream = await scene.connect()
        assert commands(await drained(scene, stream)) == ["Accepted at EVSE"]

    play(script)


def test_a_grant_that_the_broker_did_not_acknowledge_is_not_repeated_when_it_is_old():
    async def script(scene):
        stream = await scene.connect()
        charger = Charger(scene.link, scene.clock, 10)
        charger.tap("card")
        await scene.pass_ms()
        sent = stream.take()
        assert told(sent[0][1]) == "Processing"
        stream.say(b"\x40\x02" + id_of(sent[0][1]).to_bytes(2, "big"))
        # "Accepted", then the command, which is never acknowledged.
        await scene.pass_ms()
        stream.say(b"\x40\x02" + id_of(stream.take()[0][1]).to_bytes(2, "big"))
        await scene.pass_ms()
        seen = stream.take()
        assert [told(body) for _, body in seen] == ["Accepted at EVSE"]
        sessions = 1
        while scene.clock.now() < 60_000 and sessions < 3:
            await scene.pass_ms(1000)
            charger.wake()
            stream = scene.streams[-1]
            if len(scene.streams) > sessions:
                sessions += 1
        stream = await scene.connect() if not scene.link.connected else stream
        came = commands(await drained(scene, stream))
        assert "Accepted at EVSE" not in came, came
        assert came[0] == "withdraw_authorization"

    play(script)


def test_a_card_withdrawn_and_granted_anew_while_the_broker_is_away_is_granted_once():
    async def script(scene):
        scene.refusing = True
        charger = Charger(scene.link, scene.clock)
        for card in ("one", "two", "three"):
            charger.tap(card)
            assert charger.station.withdraw({"evse_id": 1}) == "Accepted"
            charger.event(1, "Deauthorized")
        charger.tap("four")
        scene.refusing = False
        stream = await scene.connect()
        came = commands(await drained(scene, stream))
        assert came == ["withdraw_authorization", "Accepted at EVSE"], came

    play(script)


def test_a_grant_of_a_session_that_is_over_does_not_open_the_next_one():
    async def script(scene):
        stream = await scene.connect()
        charger = Charger(scene.link, scene.clock)
        charger.event(1, PLUGGED)
        charger.tap("card")
        await scene.pass_ms()
        # The broker takes its time with the first status; the driver leaves.
        sent = stream.take()
        assert [told(body) for _, body in sent] == ["Processing"]
        charger.event(1, "SessionFinished")
        stream.say(b"\x40\x02" + id_of(sent[0][1]).to_bytes(2, "big"))
        await scene.pass_ms()
        came = commands(await drained_of(scene, stream))
        assert came == ["withdraw_authorization"], came

    async def drained_of(scene, stream):
        scene.greetings = stream.take()
        return await drained(scene, stream)

    play(script)


def test_a_copy_of_a_used_grant_that_came_late_is_taken_back_when_its_session_ends():
    async def script(scene):
        stream = await scene.connect()
        charger = Charger(scene.link, scene.clock)
        charger.event(1, PLUGGED)
        charger.tap("card")
        await scene.pass_ms()
        scene.greetings = stream.take()
        await drained(scene, stream)
        # Whatever copies of the grant the broker brought to the EVSE meanwhile.
        charger.event(1, "TransactionStarted")
        for end in ("TransactionFinished", "SessionFinished", "SessionFinished"):
            charger.event(1, end)
        await scene.pass_ms()
        scene.greetings = stream.take()
        assert await drained(scene, stream) == ["withdraw_authorization"]

    play(script)


def test_a_stop_gets_through_a_full_outbox():
    async def script(scene):
        scene.refusing = True
        charger = Charger(scene.link, scene.clock)
        charger.tap("card")
        charger.event(1, "TransactionStarted")
        for _ in range(100):
            charger.tap("stranger", authorization_type="PlugAndCharge")
        charger.tap("card")
        scene.refusing = False
        stream = await scene.connect()
        came = await drained(scene, stream)
        assert came.count("stop_transaction") == 1
        assert "Accepted at EVSE" not in came, "the transaction that it was for is stopped"

    play(script)


# How much each message matters, and how large it is


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

    @staticmethod
    def cut(*_):
        raise MemoryError


def test_a_charge_is_stopped_when_there_is_no_memory_to_say_whose_card_stops_it():
    link = RecordingLink()
    evses = MqttEvses("b", quiet_log(MovedClock()), link, None, None)
    stop = {"command": "stop_transaction", "reason": "Local"}
    sys.modules["tapauth.cutting"] = tapauth.cutting = NoMemory
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
        assert came == ["Processing", "Accepted", "Accepted at EVSE", "UsedToStart"], came
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
    # Processing, Accepted, the command, UsedToStart.
    assert [keep for keep, _ in link.ranks] == [-1, -1, LASTING, LASTING]
    assert [wait for _, wait in link.ranks] == [None, None, TIMEOUT_S * 1000, None]
    del link.ranks[:]
    charger.event(1, "TransactionStarted")
    charger.tap("card")
    assert [keep for keep, _ in link.ranks] == [-1, STOP, LASTING]
    charger.event(1, "SessionFinished")
    del link.ranks[:]
    charger.tap("stranger", authorization_type="PlugAndCharge")
    assert [keep for keep, _ in link.ranks] == [-1, REFUSAL, 0]


def test_a_shorter_connection_timeout_holds_for_the_next_command():
    link, charger = rig()
    assert charger.station.set_connection_timeout(10)
    charger.tap("card")
    assert 10_000 in [wait for _, wait in link.ranks]


def test_a_car_that_starts_on_a_copy_of_a_grant_while_that_is_taken_back_is_stopped():
    for ends in (("TransactionFinished",), ("SessionFinished",)):
        link, charger = rig()
        charger.tap("card")
        charger.event(1, "TransactionStarted")
        for name in ends:
            charger.event(1, name)
        link.take()
        charger.event(1, "TransactionStarted")  # a second copy of the grant (QoS 1) was quicker
        assert said(link) == ["stop_transaction"]
        # But who taps anew within that time charges.
        charger.event(1, "SessionFinished")
        charger.tap("next")
        link.take()
        charger.event(1, "TransactionStarted")
        assert said(link) == []
