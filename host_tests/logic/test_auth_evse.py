"""EVSEs: the connector state machine, availability, timers, events in any order."""

from auth_fixture import PAR, T1, T2, T3, Charger, id_token, result, started, token

from tapauth.core.evse import STATES, TRANSITIONS, Evse

# The table of the reference; what is not listed changes nothing.
CHANGES = {
    "AVAILABLE": {
        "TransactionStarted": "OCCUPIED",
        "Disabled": "UNAVAILABLE",
        "PermanentFault": "FAULTED",
    },
    "UNAVAILABLE": {"Enabled": "AVAILABLE", "PermanentFault": "UNAVAILABLE_FAULTED"},
    "FAULTED": {"PermanentFaultCleared": "AVAILABLE", "Disabled": "UNAVAILABLE_FAULTED"},
    "OCCUPIED": {"SessionFinished": "AVAILABLE", "PermanentFault": "FAULTED_OCCUPIED"},
    "FAULTED_OCCUPIED": {"PermanentFaultCleared": "OCCUPIED", "SessionFinished": "FAULTED"},
    "UNAVAILABLE_FAULTED": {"Enabled": "FAULTED", "PermanentFaultCleared": "UNAVAILABLE"},
}


def accepting(**values):
    """A charger with one validator, which knows everybody."""
    return Charger(validators=(lambda provided: result(),), **values)


def test_each_connector_transition():
    seen = 0
    for old in STATES:
        for event in TRANSITIONS:
            evse = Evse(1, 2)
            evse.connectors[1] = STATES.index(old)
            assert evse.connector_event(2, event) is True
            assert STATES[evse.connectors[1]] == CHANGES[old].get(event, old), (old, event)
            assert evse.connectors[0] == 0
            seen += 1
    assert seen == 36
    assert Evse(1, 2).connector_event(3, "Disabled") is False
    assert Evse(1, 2).connector_event(0, "Disabled") is False


def test_availability_by_connector_states():
    #  states of the two connectors: available, unavailable
    for first, second, available, unavailable in (
        ("AVAILABLE", "AVAILABLE", True, False),
        ("AVAILABLE", "UNAVAILABLE", True, False),
        ("AVAILABLE", "FAULTED", True, False),
        ("AVAILABLE", "UNAVAILABLE_FAULTED", True, False),
        ("AVAILABLE", "OCCUPIED", False, False),
        ("AVAILABLE", "FAULTED_OCCUPIED", False, False),
        ("FAULTED", "FAULTED", False, False),
        ("FAULTED", "UNAVAILABLE", False, False),
        ("FAULTED", "UNAVAILABLE_FAULTED", False, False),
        ("UNAVAILABLE", "UNAVAILABLE", False, True),
        ("UNAVAILABLE", "UNAVAILABLE_FAULTED", False, True),
        ("UNAVAILABLE_FAULTED", "UNAVAILABLE_FAULTED", False, True),
        ("OCCUPIED", "UNAVAILABLE", False, False),
    ):
        for pair in ((first, second), (second, first)):
            evse = Evse(1, 2)
            evse.connectors[0] = STATES.index(pair[0])
            evse.connectors[1] = STATES.index(pair[1])
            assert evse.is_available() is available, pair
            assert evse.is_unavailable() is unavailable, pair


def test_faults_arrive_with_their_connector():
    charger = accepting()
    charger.flt(2, 1)
    charger.swipe(T1, [2])
    assert charger.letters() == "PAS"  # connector 2 is left
    charger = accepting()
    charger.fault_all_of_2()
    charger.swipe(T1, [2])
    charger.event(2, "PermanentFaultCleared", 2)
    charger.swipe(T2, [2])
    assert (charger.letters(T1), charger.letters(T2)) == ("PR", "PAS")


def test_connector_faults_may_be_ignored():
    charger = accepting(ignore_connector_faults=True)
    charger.flt(1, 1)
    charger.swipe(T1, [1])
    assert charger.letters() == "PAS"


def test_an_event_of_a_connector_that_is_not_there_does_nothing_at_all():
    for ignored in (False, True):
        for connector in (0, -5, 2, 9):
            charger = accepting(ignore_connector_faults=ignored)
            assert charger.flt(1, connector) == "no such connector"
            assert charger.counter("refused_events") == 1
            charger.event(1, "TransactionStarted", connector)
            charger.event(1, "SessionResumed", connector)
            assert charger.withdraw(evse_id=1) == "AuthorizationNotFound"
            charger.swipe(T1, [1])
            assert charger.letters() == "PAS"
            # Nor does it take anything away.
            granted = charger.auth.evses[0].grant
            for name in ("Deauthorized", "TransactionFinished", "SessionFinished", "Disabled"):
                assert charger.event(1, name, connector) == "no such connector"
            assert charger.auth.evses[0].grant is granted
            charger.tx(1)
            charger.event(1, "TransactionFinished", connector)
            assert charger.event(1, "ChargingStarted", connector) == "no such connector"
            assert charger.counter("refused_events") == 9
            charger.swipe(T1, [1])
            assert charger.letters() == "PASPX"


def test_a_plug_in_at_a_connector_that_is_not_there_serves_nobody():
    charger = accepting()
    charger.swipe(T1, [1, 2])
    refusal = charger.event(1, "SessionStarted", 2, session_started={"reason": "EVConnected"})
    assert refusal == "no such connector"
    assert charger.letters() == "PA"


def test_a_disabled_evse_cannot_be_meant():
    charger = accepting()
    charger.event(2, "Disabled", 1)
    charger.event(2, "Disabled", 2)
    charger.swipe(T1, [2])
    assert charger.letters() == "PR"
    charger.swipe(T2, [1, 2])  # one is left: no plug-in needed
    assert charger.letters(T2) == "PAS"
    charger.event(2, "Enabled", 2)
    charger.swipe(T1, [2])
    assert charger.letters() == "PRPAS"


def test_an_evse_disabled_during_validation_is_not_authorized():
    charger = accepting().hold()
    charger.swipe(T1, [1])
    charger.event(1, "Disabled")
    charger.answer(result())
    assert charger.letters() == "PR"
    assert charger.flags == [0, 0]


def test_a_plug_in_at_a_disabled_evse_waits_for_it():
    charger = accepting()
    charger.swipe(T1, [1, 2])
    charger.event(1, "Disabled")
    charger.ev(1)
    assert charger.letters() == "PA"
    charger.event(1, "Enabled")
    assert charger.letters() == "PAS"


def test_plug_in_timeout():
    charger = accepting()
    charger.ev(1)
    charger.wait(999)
    assert charger.commands == []
    charger.wait(1)
    assert charger.commands == [("withdraw_authorization", 1)]
    assert charger.statuses == []
    charger.swipe(T1, [1])
    assert charger.letters() == "PR"
    charger.ev(1)  # a new plug-in without the end of the old session
    charger.swipe(T1, [1])
    assert charger.letters() == "PRPR"
    charger.end(1)
    charger.ev(1)
    charger.swipe(T1, [1])
    assert charger.letters() == "PRPRPAS"
    charger.wait(5000)
    assert charger.letters() == "PRPRPASO"


def test_a_timed_out_plug_in_is_not_selected():
    charger = accepting()
    charger.ev(1)
    charger.wait(1000)
    charger.swipe(T1, [1, 2])
    charger.ev(1)  # nor is a new one, before the old session has ended
    assert charger.letters() == "PA"
    charger.ev(2)
    charger.swipe(T1, [1, 2])
    assert charger.last("UsedToStart")["connectors"] == [2]


def test_no_plug_in_timeout_with_one_evse_or_by_default():
    charger = accepting(connectors=(1,))
    charger.ev(1)
    charger.wait(10_000)
    assert charger.commands == []
    charger = accepting(plug_in_timeout_enabled=False)
    charger.ev(1)
    charger.wait(10_000)
    assert charger.commands == []


def test_session_started_by_authorization_is_no_plug_in():
    charger = accepting()
    charger.event(1, "SessionStarted", session_started={"reason": "Authorized"})
    charger.swipe(T1, [1, 2])
    assert charger.letters() == "PA"
    charger.wait(5000)
    assert charger.letters() == "PAO"
    assert charger.commands == []


def test_a_plug_in_reported_twice_is_one():
    charger = accepting()
    charger.ev(1)
    charger.wait(500)
    charger.ev(2)
    charger.ev(1)
    charger.swipe(T1, [1, 2])
    charger.swipe(T2, [1, 2])
    assert charger.flags == [1, 1]
    charger.event(1, "Deauthorized")
    charger.event(2, "Deauthorized")
    charger.swipe("T4", [1, 2])
    assert charger.letters("T4") == "PA"  # both plug-ins were used


def test_grant_times_out():
    charger = Charger()
    charger.ev(1)
    charger.swipe(T1, [1])
    granted = charger.last("UsedToStart")
    charger.forget()
    charger.wait(999)
    assert charger.statuses == []
    charger.wait(1)
    assert charger.commands == [("withdraw_authorization", 1)]
    assert charger.last("TimedOut") is granted
    assert charger.letters() == "O"
    charger.event(1, "Deauthorized")
    charger.wait(10_000)
    assert charger.letters() == "O"


def test_grant_times_out_and_is_then_unplugged():
    charger = accepting()
    charger.ev(1)
    charger.swipe(T1, [1])
    charger.wait(1000)
    charger.end(1)
    charger.wait(10_000)
    assert charger.letters() == "PASO"
    charger.ev(1)
    charger.swipe(T1, [1, 2])
    assert charger.letters() == "PASOPAS"
    assert charger.last("UsedToStart")["connectors"] == [1]


def test_a_grant_before_the_plug_in_still_times_out():
    charger = accepting()
    charger.swipe(T1, [1])
    charger.wait(600)
    charger.ev(1)
    charger.wait(400)
    assert charger.letters() == "PASO"
    assert charger.kinds() == [("authorize_response", 1), ("withdraw_authorization", 1)]


def test_unplugged_after_the_grant():
    charger = accepting()
    charger.ev(1)
    charger.swipe(T1, [1])
    charger.end(1)
    charger.wait(10_000)
    assert charger.letters() == "PAS"
    assert charger.withdraw({}) == "AuthorizationNotFound"


def test_unplugged_while_a_token_waits_elsewhere():
    charger = accepting().hold()
    charger.ev(1)
    charger.swipe(T1, [1, 2])
    charger.end(1)
    charger.answer(result())
    assert charger.letters() == "PA"
    charger.ev(2)
    assert charger.letters() == "PAS"
    assert charger.flags == [0, 1]


def test_the_transaction_stops_the_grant_timer():
    charger = started()
    charger.wait(10_000)
    assert charger.statuses == charger.commands == []


def test_transaction_started_twice():
    charger = started()
    charger.tx(1)
    charger.swipe(T1, [1])
    assert charger.letters() == "PX"
    charger.event(1, "TransactionFinished")
    charger.forget()
    assert charger.withdraw({}) == "AuthorizationNotFound"


def test_occupied_until_unplugged():
    charger = started()
    charger.event(1, "TransactionFinished")
    charger.swipe(T1, [1])
    assert charger.letters() == "PR"
    charger.end(1)
    charger.swipe(T1, [1])
    assert charger.letters() == "PRPAS"


def test_a_plug_in_after_the_grant_does_not_outlive_the_transaction():
    charger = accepting()
    charger.swipe(T1, [1])
    charger.ev(1)
    charger.tx(1)
    charger.event(1, "TransactionFinished")
    charger.swipe(T2, [1, 2])
    assert charger.letters(T2) == "PA"
    charger.ev(2)
    assert charger.flags[1] == 1


def test_a_plug_in_after_the_grant_is_not_given_away_during_the_transaction():
    charger = accepting()
    charger.swipe(T1, [1])
    charger.ev(1)
    charger.tx(1)
    charger.event(1, "Deauthorized")
    charger.swipe(T2, [1, 2])
    assert charger.letters(T2) == "PA"


def test_the_plug_in_of_an_unauthorized_transaction_ends_with_it():
    charger = accepting()
    charger.ev(1)
    charger.tx(1)
    charger.event(1, "TransactionFinished")
    charger.swipe(T1, [1, 2])
    assert charger.letters() == "PA"


def test_deauthorized_during_a_transaction_leaves_it_to_the_operator():
    charger = started()
    charger.event(1, "Deauthorized")
    charger.swipe(T1, [1])
    charger.swipe(T3, [1])
    assert charger.letters(T1) == charger.letters(T3) == "PR"
    assert charger.withdraw(id_token=id_token(T1)) == "AuthorizationNotFound"
    assert charger.withdraw(evse_id=1) == "Accepted"
    assert charger.commands == [("stop_transaction", 1, "DeAuthorized", None)]


def test_session_finished_without_the_end_of_the_transaction():
    charger = started(evse_id=2)
    charger.event(2, "SessionFinished", 2)  # not the connector that the transaction was on
    charger.swipe(T2, [2])
    assert charger.letters(T2) == "PAS"
    assert charger.withdraw({}) == "Accepted"
    assert charger.kinds() == [("authorize_response", 2), ("withdraw_authorization", 2)]


def test_a_transaction_found_after_a_restart():
    for name in ("SessionResumed", "TransactionStarted"):
        for request in ({}, {"evse_id": 1}):
            charger = Charger()
            charger.event(1, name)
            assert charger.statuses == charger.commands == []
            charger.swipe(T1, [1])
            charger.swipe(PAR, [1])
            assert charger.letters() == "PR"
            charger.group(PAR)
            charger.swipe(T3)
            assert charger.letters(T3) == "PX"
            assert charger.kinds() == [("stop_transaction", 1)]
            charger.forget()
            assert charger.withdraw(id_token=id_token(T1)) == "AuthorizationNotFound"
            assert charger.withdraw(request) == "Accepted"
            assert charger.commands == [("stop_transaction", 1, "DeAuthorized", None)]
            assert charger.statuses == []
            charger.event(1, "TransactionFinished")
            assert charger.withdraw(request) == "AuthorizationNotFound"


def test_an_unauthorized_transaction_blocks_its_evse_whatever_its_connectors_say():
    charger = accepting()
    charger.flt(1, 1)
    charger.tx(1)  # the state machine ignores it
    charger.event(1, "PermanentFaultCleared")
    charger.swipe(T1, [1])
    assert charger.letters() == "PR"


def test_a_transaction_on_a_disabled_evse_is_within_reach():
    charger = Charger()
    charger.group(PAR)
    charger.event(1, "Disabled")
    charger.tx(1)
    charger.swipe(T1, [1])
    assert charger.letters() == "PX"


def test_events_that_mean_nothing_here():
    charger = started()
    for name in (
        "ReservationStart",
        "ReservationEnd",
        "Authorized",
        "AuthRequired",
        "PrepareCharging",
        "ChargingStarted",
        "ChargingPausedEV",
        "ChargingPausedEVSE",
        "StoppingCharging",
        "ChargingFinished",
        "PluginTimeout",
        "SwitchingPhases",
    ):
        assert charger.event(1, name) is None
    assert charger.statuses == charger.commands == []
    charger.swipe(T1, [1])
    assert charger.letters() == "PX"


def test_a_late_poll_times_everything_out_in_order():
    charger = accepting()
    charger.swipe(T1, [1])
    charger.now = 500
    charger.ev(2)
    charger.forget()
    charger.now = 60_000
    charger.auth.poll(charger.now)
    charger.carry_out()
    assert charger.kinds() == [("withdraw_authorization", 1), ("withdraw_authorization", 2)]
    assert charger.letters() == "O"
    assert charger.auth.next_deadline() is None


def test_an_input_lets_older_timers_go_first():
    charger = accepting()
    charger.swipe(T1, [1])
    charger.now = 1000
    charger.swipe(T1, [1])  # no duplicate: the grant is over
    assert charger.letters() == "PASOPAS"


def test_deadlines():
    charger = accepting()
    assert charger.auth.next_deadline() is None
    charger.hold()
    charger.swipe(T1, [1, 2])
    assert charger.auth.next_deadline() == 5000
    charger.now = 100
    charger.answer(result())
    assert charger.auth.next_deadline() == 1100
    assert charger.provide(token(T2, [1])) is None
    charger.answer(result())
    charger.wait(1000)
    assert charger.letters() == "PAO"
    assert charger.letters(T2) == "PASO"
    assert charger.auth.next_deadline() is None
