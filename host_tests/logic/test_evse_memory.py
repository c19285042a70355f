"""What EVSEs on MQTT must hear and tell, on a board without memory for it."""

from evse_rig import TIMEOUT_S, rig, said
from scarcity import without_memory_for

from tapauth.evse import remote


def test_a_status_that_finds_no_memory_takes_no_stop_along():
    link, charger = rig()
    charger.tap("card")
    charger.event(1, "TransactionStarted")
    link.take()
    real = charger.consumer.status

    def status(*message):
        raise MemoryError("for a status")

    charger.consumer.status = status
    charger.station.connect(status, charger.evses.command, None, [charger._validate])
    charger.tap("card")
    assert [value["command"] for _, value in link.take()] == ["stop_transaction"]
    charger.station.connect(real, charger.evses.command, None, [charger._validate])
    charger.event(1, "SessionFinished")
    link.take()
    charger.tap("other")
    assert len(link.take()) == 4


def test_a_withdrawal_that_found_no_memory_goes_when_there_is_some():
    link, charger = rig()
    charger.tap("card")
    link.take()
    link.full_heap = True
    assert charger.station.withdraw({}) == "Accepted"
    charger.wake()
    assert said(link) == []
    link.full_heap = False
    charger.wake()
    assert said(link) == ["withdraw_authorization"], "once"


def test_a_grant_that_timed_out_in_a_full_heap_is_taken_back_before_the_next_one():
    link, charger = rig()
    charger.tap("card")
    link.take()
    link.full_heap = True
    charger.clock.advance(TIMEOUT_S * 1000)
    charger.wake()
    charger.tap("second")
    link.full_heap = False
    charger.clock.advance(TIMEOUT_S * 1000)
    charger.wake()
    charger.tap("third")
    assert said(link) == ["withdraw_authorization"] * 2 + ["authorize_response"]


def test_a_stop_that_found_no_memory_goes_when_there_is_some_if_the_car_still_charges():
    for goes_on in (True, False):
        link, charger = rig()
        charger.tap("card")
        charger.event(1, "TransactionStarted")
        link.take()
        link.full_heap = True
        charger.tap("card")
        if not goes_on:
            charger.event(1, "TransactionFinished")
        link.full_heap = False
        charger.wake()
        assert ("stop_transaction" in said(link)) == goes_on


def test_the_end_of_a_session_in_a_full_heap_still_takes_its_grant_back():
    link, charger = rig()
    charger.tap("card")
    charger.event(1, "TransactionStarted")
    link.take()
    link.full_heap = True
    charger.event(1, "SessionFinished")
    link.full_heap = False
    charger.wake()
    assert said(link) == ["withdraw_authorization"]


class FullHeap:
    """Effects for which there is no memory."""

    def append(self, effect):
        raise MemoryError

    def __bool__(self):
        return False


def test_a_grant_is_not_forgotten_before_its_withdrawal_found_memory():
    link, charger = rig()
    charger.tap("card")
    link.take()
    charger.core.effects = FullHeap()
    charger.clock.advance(TIMEOUT_S * 1000)
    try:
        charger.wake()
        raise AssertionError("the memory was there")
    except MemoryError:
        pass
    charger.core.effects = []
    charger.wake()
    assert said(link) == ["withdraw_authorization"]


def test_evses_hear_the_withdrawal_of_a_start_though_its_connection_found_no_memory():
    link, charger = rig()
    charger.core.unreached = True
    charger.core.effects = FullHeap()
    try:
        charger.evses.link_up()
        raise AssertionError("the memory was there")
    except MemoryError:
        pass
    charger.core.effects = []
    for _ in range(2):
        charger.evses.tick(charger.clock.now())
    assert said(link) == ["withdraw_authorization"] * 2, "once for each"


def no_memory(*_):
    raise MemoryError


def test_an_event_that_finds_no_memory_is_asked_for_again():
    real = remote.load_or_fail
    for name in ("reading it", "taking it in"):
        link, charger = rig()
        charger.tap("card")
        charger.event(1, "TransactionStarted")
        taken = charger.core.session_event
        try:
            if name == "reading it":
                remote.load_or_fail = no_memory
            else:
                charger.core.session_event = no_memory
            charger.event(1, "SessionFinished")
        finally:
            remote.load_or_fail = real
            charger.core.session_event = taken
        charger.evses.tick(0)
        assert link.messages_lost == 1 and charger.evses.refused == 1
        charger.event(1, "SessionFinished")  # as docs/mqtt.md asks when the board comes back
        charger.evses.tick(0)
        assert link.messages_lost == 1 and charger.station.charging() == []


def test_an_event_that_never_finds_memory_does_not_keep_the_board_away():
    link, charger = rig()
    charger.core.session_event = no_memory
    for second in range(600):
        charger.event(1, "SessionFinished")
        charger.evses.tick(second * 1000)
    assert link.messages_lost == 10


def test_a_driver_whose_grant_could_not_be_told_may_tap_again_at_once():
    link, charger = rig()
    link.full_heap = True
    charger.tap("card")
    link.full_heap = False
    charger.wake()
    assert said(link) == ["withdraw_authorization"]
    charger.tap("next")
    assert said(link) == ["authorize_response"]
    charger.event(1, "TransactionStarted")
    assert said(link) == [], "the first one never left the board"


def test_a_stop_by_a_card_too_long_to_be_said_without_memory_goes_without_the_card():
    link, charger = rig()
    with without_memory_for("tapauth.cutting") as scarce:
        # A grant that cannot be told holds nothing; the driver may tap again.
        charger.tap("card", certificate="x" * 3000)
        assert scarce.asked and said(link) == []
    charger.wake()
    assert not charger.station.authorized(1) and said(link) == ["withdraw_authorization"]
    charger.tap("card", certificate="x" * 3000)
    assert said(link) == ["authorize_response"]
    charger.event(1, "TransactionStarted")
    link.take()
    with without_memory_for("tapauth.cutting"):
        charger.tap("card", certificate="x" * 3000)
        charger.wake()
        sent = [value for _, value in link.take() if value.get("command") == "stop_transaction"]
    assert len(sent) == 1 and "id_tag" not in sent[0]
