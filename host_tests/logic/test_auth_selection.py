"""Which EVSE a token gets: the algorithms, `evse_ids`, and the expiry checked on the way."""

from auth_fixture import T1, T2, Charger, id_token, result, token, with_members

ANYONE = (lambda provided: result(),)
NOON = 1798758000
"""2026-12-31T23:00:00Z, as Unix seconds."""


def charger_of(algorithm, evses=3, **values):
    settings = with_members({"validators": ANYONE, "plug_in_timeout_enabled": False}, **values)
    return Charger((1,) * evses, selection_algorithm=algorithm, **settings)


def where(charger):
    """The EVSE that the last token was granted."""
    return charger.last("UsedToStart")["connectors"][0]


def test_find_first_takes_the_oldest_plug_in():
    charger = charger_of("FindFirst")
    charger.ev(3)
    charger.ev(2)
    for value, evse_id in (("a", 3), ("b", 2), ("c", 1)):
        charger.swipe(value)
        assert where(charger) == evse_id
    charger.swipe("d")
    assert charger.letters("d") == "PR"


def test_find_first_without_plug_in_takes_the_first_named():
    charger = charger_of("FindFirst")
    charger.swipe(T1, [3, 2, 1])
    assert charger.letters() == "PAS"
    assert where(charger) == 3
    charger.swipe(T2)
    assert where(charger) == 1


def test_find_first_passes_over_what_is_not_available():
    charger = charger_of("FindFirst")
    charger.flt(1, 1)
    charger.tx(2)
    charger.swipe(T1)
    assert where(charger) == 3


def test_find_first_passes_over_a_plug_in_in_transaction():
    charger = charger_of("FindFirst")
    charger.ev(1)
    charger.tx(1)
    charger.swipe(T1)
    assert where(charger) == 2


def test_a_driver_is_not_sent_to_a_faulted_plug_while_another_evse_is_free():
    for faulted_first in (True, False):
        charger = charger_of("FindFirst")
        if faulted_first:
            charger.flt(1, 1)
        charger.ev(1)
        charger.ev(3)
        charger.flt(1, 1)
        charger.swipe("a")
        assert where(charger) == 3  # plugged in and sound
        charger.swipe("b")
        assert where(charger) == 2  # free
        charger.swipe("c")
        assert charger.letters("c") == "PR"
        charger.event(1, "PermanentFaultCleared")
        charger.swipe("c")
        assert where(charger) == 1


def test_another_connector_of_a_faulted_plug_makes_no_free_evse():
    charger = Charger((2, 2), ANYONE, selection_algorithm="FindFirst")
    charger.ev(1)
    charger.flt(1, 1)  # connector 2 is sound, but the car is not there
    charger.swipe(T1)
    assert where(charger) == 2
    charger.swipe(T2)
    assert where(charger) == 1  # nothing better is left
    # A fault of the connector that nobody uses does not matter.
    charger = Charger((2, 2), ANYONE, selection_algorithm="FindFirst")
    charger.event(1, "SessionStarted", 2, session_started={"reason": "EVConnected"})
    charger.flt(1, 1)
    charger.swipe(T1)
    assert where(charger) == 1
    # Nor does the plug-in of a session that is over.
    charger = Charger((2, 2), ANYONE, selection_algorithm="FindFirst")
    charger.ev(1)
    charger.end(1)
    charger.flt(1, 1)
    charger.swipe(T1)
    assert where(charger) == 1


def test_a_faulted_plug_is_passed_over_for_any_other_plug_in():
    for algorithm, plugged in (("PlugEvents", (1, 2, 3)), ("PlugEventsLIFO", (3, 2, 1))):
        charger = charger_of(algorithm, 4)
        for evse_id in plugged:
            charger.ev(evse_id)
        charger.flt(1, 1)
        for evse_id in (2, 3, 1):
            charger.swipe("abcd"[evse_id])
            assert where(charger) == evse_id, algorithm
    # Also where the token is limited to the faulted one: it is refused.
    charger = limited("PlugEvents", 1)
    charger.ev(1)
    charger.ev(2)
    charger.flt(1, 1)
    charger.swipe(T1)
    assert charger.letters() == "PAR"
    assert charger.flags == [0, 0, 0]


def test_plug_events_waits_for_any_of_its_evses():
    for algorithm in ("PlugEvents", "PlugEventsLIFO"):
        charger = charger_of(algorithm)
        charger.swipe(T1, [2, 3])
        charger.ev(1)
        assert charger.letters() == "PA"
        charger.ev(3)
        assert charger.letters() == "PAS"
        assert where(charger) == 3


def test_the_order_of_plug_ins():
    for algorithm, order in (("PlugEvents", (2, 3, 1)), ("PlugEventsLIFO", (1, 3, 2))):
        charger = charger_of(algorithm, 4)
        for evse_id in (2, 3, 1):
            charger.ev(evse_id)
        for evse_id in order:
            charger.swipe("abcd"[evse_id])
            assert where(charger) == evse_id, algorithm
        charger.ev(4)
        charger.end(4)
        charger.swipe("d")
        assert charger.letters("d") == "PAS"  # one is left
    charger = charger_of("PlugEventsLIFO")
    for evse_id in (2, 3, 1):
        charger.ev(evse_id)
    charger.swipe(T1, [2, 3])
    assert where(charger) == 3


def test_a_plug_in_serves_the_longest_waiting():
    charger = charger_of("PlugEvents").hold()
    for value in ("a", "b", "c"):
        charger.swipe(value, [1, 2])
    # The validator answers them in another order, from which they wait.
    ids = [request[0] for request in charger.requests]
    for index in (1, 2, 0):
        charger.answer(result(), request_id=ids[index])
        charger.now += 10
    charger.ev(1)
    charger.ev(2)
    assert [charger.letters(value) for value in ("b", "c", "a")] == ["PAS", "PAS", "PA"]


def test_a_single_evse_needs_no_plug_in():
    for algorithm in ("FindFirst", "PlugEvents", "PlugEventsLIFO"):
        charger = charger_of(algorithm, 1)
        charger.swipe(T1)
        assert charger.letters() == "PAS"


def test_waiting_goes_on_when_one_evse_is_left():
    charger = charger_of("PlugEvents", 2)
    charger.swipe(T1)
    charger.swipe(T2, [1])
    assert (charger.letters(T1), charger.letters(T2)) == ("PA", "PAS")
    charger.ev(1)  # of the grant
    assert charger.letters() == "PA"
    charger.ev(2)
    assert charger.letters() == "PAS"


# evse_ids: limits the EVSE that is selected.


def limited(algorithm, *evse_ids, **settings):
    validators = (lambda provided: result(evse_ids=list(evse_ids)),)
    return charger_of(algorithm, validators=validators, **settings)


def test_evse_ids_as_a_proper_subset():
    for algorithm in ("PlugEvents", "PlugEventsLIFO", "FindFirst"):
        charger = limited(algorithm, 2)
        for evse_id in (1, 2, 3):
            charger.ev(evse_id)
        charger.swipe(T1)
        assert charger.letters() == "PAS"
        assert where(charger) == 2
        assert charger.flags == [0, 1, 0]


def test_evse_ids_with_the_only_plug_in_elsewhere():
    for algorithm in ("PlugEvents", "PlugEventsLIFO"):
        for first in (True, False):
            charger = limited(algorithm, 1)
            if first:
                charger.ev(2)
            charger.swipe(T1)
            if not first:
                charger.ev(2)
            assert charger.letters() == "PAR"
            refused = result("NotAtThisLocation", evse_ids=[1])
            assert charger.commands == [("authorize_response", 2, token(T1), refused)]
            assert charger.flags == [0, 0, 0]
            charger.swipe(T2, [2])  # and the plug-in is not used up
            assert charger.letters(T2) == "PAR"
            charger.validators = ANYONE
            charger.swipe("c")
            assert where(charger) == 2


def test_a_plug_in_goes_to_the_waiting_token_that_may_use_it():
    charger = limited("PlugEvents", 1)
    charger.swipe(T1, [1, 2])
    charger.validators = ANYONE
    charger.swipe(T2, [1, 2])
    charger.ev(2)
    assert (charger.letters(T1), charger.letters(T2)) == ("PA", "PAS")
    charger.ev(1)
    assert charger.letters(T1) == "PAS"
    assert charger.flags == [1, 1, 0]


def test_evse_ids_with_find_first():
    charger = limited("FindFirst", 3, 2)
    charger.swipe(T1)
    assert where(charger) == 2  # the order of the token, not of evse_ids
    charger.swipe(T2)
    assert where(charger) == 3
    charger.swipe("c")
    assert charger.letters("c") == "PAR"


def test_evse_ids_without_any_common_evse():
    for algorithm in ("PlugEvents", "PlugEventsLIFO", "FindFirst"):
        for evse_ids in ((3,), (9,), ()):
            charger = limited(algorithm, *evse_ids)
            charger.swipe(T1, [1, 2])  # no use in waiting
            assert charger.letters() == "PAR"
            assert charger.flags == [0, 0, 0]
            responses = [command[:2] for command in charger.commands]
            assert ("authorize_response", 1) in responses
            assert ("authorize_response", 2) in responses
            for command in charger.commands:
                assert command[3]["authorization_status"] == "NotAtThisLocation"


def test_evse_ids_at_a_single_evse():
    charger = limited("PlugEvents", 2)
    charger.swipe(T1, [1])
    assert charger.letters() == "PAR"
    charger.swipe(T1, [2])
    assert charger.letters() == "PARPAS"


def test_the_next_result_is_tried_after_a_refusal():
    validators = (
        lambda provided: result(parent="A", evse_ids=[1]),
        lambda provided: result(parent="B", evse_ids=[2, 3]),
    )
    charger = charger_of("PlugEvents", validators=validators)
    charger.swipe(T1)
    charger.wait(500)
    charger.ev(3)
    assert charger.letters() == "PAAS"
    assert charger.last("UsedToStart")["parent_id_token"] == id_token("B")
    assert [command[1] for command in charger.commands] == [3, 3]


# Expiry.


def expiring(expiry="2026-12-31T23:00:00Z", **settings):
    validators = (lambda provided: result(expiry_time=expiry),)
    return charger_of("PlugEvents", validators=validators, **settings)


def test_expiry_at_validation():
    charger = expiring()
    charger.auth.set_clock(NOON - 10, 0)
    charger.wait(9999)
    charger.swipe(T1, [1])
    assert charger.letters() == "PAS"
    charger.wait(1)
    charger.swipe(T2, [2])
    assert charger.letters(T2) == "PR"  # not even Accepted
    refused = result("Expired", expiry_time="2026-12-31T23:00:00Z")
    assert charger.commands[-1] == ("authorize_response", 2, token(T2, [2]), refused)
    assert charger.counter("expired") == 1


def test_expiry_while_waiting():
    charger = expiring(connection_timeout=60)
    charger.auth.set_clock(NOON - 10, 0)
    charger.swipe(T1)
    charger.swipe(T2)
    charger.wait(9999)
    charger.ev(1)
    assert charger.letters() == "PAS"
    charger.wait(1)
    charger.ev(2)
    assert charger.letters(T2) == "PAR"
    assert charger.flags == [1, 0, 0]
    assert charger.commands[-1][3]["authorization_status"] == "Expired"
    charger.validators = ANYONE
    charger.swipe("c")
    assert where(charger) == 2


def test_the_plug_in_of_an_expired_token_goes_to_the_next():
    charger = expiring(connection_timeout=60)
    charger.auth.set_clock(NOON - 10, 0)
    charger.swipe(T1)
    charger.validators = ANYONE
    charger.swipe(T2)
    charger.wait(10_000)
    charger.ev(1)
    assert (charger.letters(T1), charger.letters(T2)) == ("PAR", "PAS")


def test_expiry_without_a_clock():
    charger = expiring()
    charger.swipe(T1, [1])
    assert charger.letters() == "PR"
    charger.validators = ANYONE
    charger.swipe(T2, [1])
    assert charger.letters(T2) == "PAS"
    charger = expiring(accept_expiry_without_clock=True)
    charger.swipe(T1, [1])
    assert charger.letters() == "PAS"
    charger.auth.set_clock(NOON, 0)
    charger.swipe(T2, [2])
    assert charger.letters(T2) == "PR"


def test_the_clock_may_get_lost_while_a_token_waits():
    charger = expiring()
    charger.auth.set_clock(NOON - 3600, 0)
    charger.swipe(T1)
    assert charger.letters() == "PA"
    charger.auth.set_clock(None, 0)
    charger.ev(1)
    assert charger.letters() == "PAR"


def test_an_expired_token_stops_nothing_through_its_parent():
    group = with_members(result(parent="GROUP"), expiry_time="2020-01-01T00:00:00Z")
    charger = charger_of("PlugEvents", validators=(lambda provided: group,))
    charger.auth.set_clock(NOON, 0)
    charger.group("GROUP")
    charger.tx(1)
    charger.swipe(T1)
    assert charger.letters() == "PR"
    assert charger.commands == []


def test_expiry_of_another_result():
    validators = (
        lambda provided: result(expiry_time="2020-01-01T00:00:00Z"),
        lambda provided: result(),
    )
    charger = charger_of("PlugEvents", validators=validators)
    charger.auth.set_clock(NOON, 0)
    charger.swipe(T1, [1])
    assert charger.letters() == "PAS"
