"""Commands to EVSEs over a broker that is away, slow or mute: what is taken back stays so."""

from evse_rig import PLUGGED, TIMEOUT_S, Charger, rig, said
from evse_words import drained, told
from scripted_broker import id_of, play


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
        # The command goes first, and is never acknowledged.
        assert [told(body) for _, body in stream.take()] == ["Accepted at EVSE"]
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
        charger.tap("stranger")
        charger.tap("card")
        await scene.pass_ms()
        # The broker takes its time with what the stranger brought; the driver leaves.
        sent = stream.take()
        assert [told(body) for _, body in sent] == ["Invalid at EVSE"]
        charger.event(1, "SessionFinished")
        stream.say(b"\x40\x02" + id_of(sent[0][1]).to_bytes(2, "big"))
        await scene.pass_ms()
        came = commands(await drained_of(scene, stream))
        assert came == ["withdraw_authorization"], came

    async def drained_of(scene, stream):
        scene.greetings = stream.take()
        return await drained(scene, stream)

    play(script)


def test_an_unused_grant_that_an_event_ends_is_withdrawn_by_one_message():
    async def script(scene):
        stream = await scene.connect()
        charger = Charger(scene.link, scene.clock)
        for event in ("SessionFinished", "TransactionFinished", "SessionResumed", "Deauthorized"):
            charger.event(1, "TransactionFinished")
            charger.event(1, PLUGGED)
            charger.tap("card")
            await scene.pass_ms()
            scene.greetings = stream.take()
            await drained(scene, stream)
            charger.event(1, event)
            await scene.pass_ms()
            scene.greetings = stream.take()
            came = commands(await drained(scene, stream))
            assert came == ["withdraw_authorization"], event

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


def test_a_car_that_starts_on_a_copy_of_a_grant_while_that_is_taken_back_is_stopped():
    link, charger = rig()
    charger.tap("card")
    charger.event(1, "TransactionStarted")
    charger.event(1, "TransactionFinished")
    link.take()
    charger.event(1, "TransactionStarted")  # a second copy of the grant (QoS 1) was quicker
    assert said(link) == ["stop_transaction"]
    # But who plugs in or taps anew within that time charges.
    charger.event(1, "TransactionFinished")
    charger.event(1, "SessionFinished")
    link.take()
    charger.event(1, PLUGGED)
    charger.event(1, "TransactionStarted")
    assert said(link) == []
    charger.event(1, "SessionFinished")
    for name in ("TransactionStarted", "TransactionFinished"):
        charger.tap("next")
        link.take()
        charger.event(1, name)
        assert "stop_transaction" not in said(link)


def test_a_grant_that_never_left_the_board_stops_no_other_driver():
    link, charger = rig()
    link.connected = False
    link.outbox = ["what waits"]
    charger.evses.tick(charger.clock.now())
    charger.tap("first")
    for _ in range(TIMEOUT_S + 1):
        charger.evses.tick(charger.clock.advance(1000))
        charger.wake()
    charger.tap("second")
    link.connected = True
    link.outbox = []
    charger.evses.tick(charger.clock.advance(1000))
    link.take()
    charger.event(1, "TransactionStarted")
    assert said(link) == []
    # One that had left may have been used.
    charger.event(1, "SessionFinished")
    charger.tap("third")
    charger.evses.tick(charger.clock.advance(1000))
    charger.clock.advance(TIMEOUT_S * 1000)
    charger.wake()
    charger.tap("fourth")
    link.take()
    charger.event(1, "TransactionStarted")
    assert said(link) == ["stop_transaction"]


def test_a_grant_that_went_out_as_the_link_came_and_went_may_have_been_used():
    link, charger = rig()
    link.connected = False
    link.outbox = ["what waits"]
    charger.tap("card")
    charger.evses.tick(charger.clock.advance(50))
    link.connected = True
    charger.evses.link_up()  # and gone before the next tick
    link.connected = False
    charger.evses.tick(charger.clock.advance(50))
    charger.clock.advance(TIMEOUT_S * 1000)
    charger.wake()
    link.take()
    charger.event(1, "TransactionStarted")
    assert said(link) == ["stop_transaction"]


def test_a_charge_that_goes_on_is_not_stopped_by_what_an_evse_tells_after_an_outage():
    link, charger = rig()
    charger.tap("card")
    charger.event(1, "TransactionStarted")
    for name in ("TransactionFinished", "SessionFinished", "TransactionStarted"):
        charger.event(1, name)
    assert "stop_transaction" not in said(link)
    charger.event(1, "SessionFinished")
    charger.tap("card")
    charger.event(1, "SessionResumed")
    charger.event(1, "TransactionStarted")
    assert "stop_transaction" not in said(link)
