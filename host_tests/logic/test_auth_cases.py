"""The reference implementation's own unit tests, told in our words, under their own names.

These tests do in every order what the reference does concurrently.
"""

from auth_fixture import (
    INV,
    PAR,
    T1,
    T2,
    T3,
    Charger,
    each_order,
    id_token,
    started,
    token,
    with_members,
)


def swipe(value, *connectors):
    return lambda charger: charger.swipe(value, connectors or None)


def ev(evse_id):
    return lambda charger: charger.ev(evse_id)


def tx(evse_id):
    return lambda charger: charger.tx(evse_id)


def plugged(*evse_ids, **settings):
    def make():
        charger = Charger(**settings)
        for evse_id in evse_ids:
            charger.ev(evse_id)
        return charger

    return make


def test_simple_authorization():
    charger = plugged(1)()
    charger.swipe(T1, [1])
    assert charger.letters() == "PAS"
    assert charger.flags == [1, 0]
    expected = token(T1, [1], parent_id_token=id_token(PAR))
    assert charger.last("Processing") == token(T1, [1])
    assert charger.last("Accepted") == expected
    assert charger.last("UsedToStart") == expected


def test_two_referenced_connectors():
    charger = plugged(2)()
    charger.swipe(T1, [1, 2])
    assert charger.letters() == "PAS"
    assert charger.flags == [0, 1]
    assert charger.last("UsedToStart")["connectors"] == [2]


def test_stop_transaction():
    charger = plugged(1)()
    charger.swipe(T1, [1])
    assert charger.flags == [1, 0]
    charger.tx(1)
    charger.swipe(T1, [1])
    assert charger.letters() == "PASPX"
    assert charger.flags == [0, 0]


def test_master_pass_still_stops_when_reswipe_stop_disabled():
    charger = Charger(stop_transaction_on_reswipe=False)
    charger.group(PAR)
    charger.ev(1)
    charger.swipe(T2)
    assert charger.letters(T2) == "PAS"
    charger.tx(1)
    charger.forget()
    charger.swipe(T1)
    assert charger.letters(T1) == "PX"
    assert charger.commands == [("stop_transaction", 1, "MasterPass", token(T1))]
    assert charger.flags == [0, 0]


def test_authorize_first():
    for charger in each_order(Charger, swipe(T1, 1, 2), ev(1)):
        assert charger.letters() == "PAS"
        assert charger.flags == [1, 0]


def test_two_id_tokens():
    steps = (swipe(T1, 1, 2), swipe(T2, 1, 2), ev(1), ev(2))
    for charger in each_order(Charger, *steps):
        assert charger.letters(T1) == "PAS"
        assert charger.letters(T2) == "PAS"
        assert charger.flags == [1, 1]
        assert charger.auth.tokens_in_process() == 0


def test_two_plugins():
    steps = (ev(1), ev(2), swipe(T1, 1, 2), swipe(T2, 1, 2))
    for charger in each_order(Charger, *steps):
        assert charger.letters(T1) == charger.letters(T2) == "PAS"
        assert charger.flags == [1, 1]


def test_authorization_after_plug_in_and_plug_out():
    def make():
        charger = plugged(1)()
        charger.end(1)
        return charger

    for charger in each_order(make, swipe(T1, 1, 2), ev(2)):
        assert charger.letters() == "PAS"
        assert charger.flags == [0, 1]


def test_plug_events_selects_first_plugin():
    charger = plugged(2, 1)()
    charger.swipe(T1, [1, 2])
    assert charger.letters() == "PAS"
    assert charger.flags == [0, 1]


def test_faulted_state():
    def make():
        charger = Charger()
        charger.flt(1, 1)
        charger.fault_all_of_2()
        return charger

    for charger in each_order(make, swipe(T1, 1, 2), swipe(T2, 1, 2)):
        assert charger.letters(T1) == charger.letters(T2) == "PR"
        assert charger.flags == [0, 0]


def test_transaction_finish():
    def stop(charger):
        assert charger.flags == [1, 1]
        charger.tx(1)
        charger.tx(2)

    steps = (ev(1), ev(2), swipe(T1, 1, 2), swipe(T2, 1, 2))
    for charger in each_order(Charger, *steps):
        stop(charger)
        charger.swipe(T1, [1, 2])
        charger.swipe(T2, [1, 2])
        assert charger.letters(T1) == charger.letters(T2) == "PASPX"
        assert charger.flags == [0, 0]


def test_parent_id_finish():
    for charger in each_order(plugged(1), swipe(T1, 1, 2), tx(1)):
        assert charger.letters() == "PAS"
        assert charger.flags == [1, 0]
        charger.swipe(T3, [1, 2])
        assert charger.letters(T3) == "PX"
        assert charger.flags == [0, 0]


def test_parent_id_finish_while_the_validator_thinks():
    """The same, with the transaction between the token and its validation."""
    charger = plugged(1)().hold()
    charger.swipe(T1, [1, 2])
    charger.tx(1)
    for validator in charger.validators:
        charger.answer(validator(token(T1)))
    assert charger.letters() == "PAS"
    assert charger.flags == [1, 0]
    charger.wait(10_000)
    assert charger.letters() == "PAS"  # no grant timer for a transaction that runs
    charger.held = False
    charger.swipe(T3, [1, 2])
    assert charger.letters(T3) == "PX"
    assert charger.flags == [0, 0]


def test_parent_id_finish_because_no_available_connector():
    def make():
        return Charger(prioritize_authorization_over_stopping_transaction=True)

    faults = Charger.fault_all_of_2
    for charger in each_order(make, ev(1), faults, swipe(T1, 1, 2)):
        assert charger.letters() == "PAS"
        charger.tx(1)
        assert charger.flags == [1, 0]
        charger.swipe(T3, [1, 2])
        assert charger.letters(T3) == "PX"
        assert charger.flags == [0, 0]


def test_complete_event_flow():
    charger = plugged(1)()
    charger.swipe(T1, [1])
    assert charger.flags == [1, 0]
    charger.tx(1)
    for name in ("ChargingPausedEV", "ChargingStarted", "TransactionFinished", "SessionFinished"):
        assert charger.event(1, name) is None
    charger.flags = [0, 0]
    charger.ev(1)
    charger.swipe(T1, [1])
    assert charger.letters() == "PASPAS"
    assert charger.flags == [1, 0]


def test_two_transactions_start_stop():
    def make():
        charger = plugged(1, 2)()
        charger.swipe(T1, [1, 2])
        charger.swipe(T2, [1, 2])
        assert charger.flags == [1, 1]
        charger.tx(1)
        charger.tx(2)
        return charger

    for charger in each_order(make, swipe(T2, 1, 2), swipe(T1, 1, 2)):
        assert charger.letters(T1) == charger.letters(T2) == "PASPX"
        assert charger.flags == [0, 0]


def test_plug_and_charge():
    charger = plugged(1)()
    provided = token(
        T1,
        id_token=id_token(T1, "eMAID"),
        authorization_type="PlugAndCharge",
        certificate="-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    )
    charger.provide(provided)
    assert charger.letters() == "PAS"
    assert charger.flags == [1, 0]
    granted = with_members(provided, parent_id_token=id_token(PAR), connectors=[1])
    assert charger.last("UsedToStart") == granted


def test_master_pass_group_id():
    charger = Charger()
    charger.group(PAR)
    charger.ev(1)
    charger.swipe(PAR)
    assert charger.letters(PAR) == "PR"
    charger.swipe(T2)
    assert charger.letters(T2) == "PAS"
    charger.tx(1)
    charger.swipe(T1)
    assert charger.letters(T1) == "PX"
    assert charger.flags == [0, 0]


def test_token_timed_out():
    charger = Charger()
    charger.swipe(T1, [1, 2])
    assert charger.letters() == "PA"
    charger.wait(999)
    assert charger.letters() == "PA"
    charger.wait(1)
    assert charger.letters() == "PAO"
    charger.wait(2000)
    assert charger.letters() == "PAO"
    assert charger.commands == []


def test_plug_in_time_out_disabled():
    charger = plugged(1, plug_in_timeout_enabled=False)()
    charger.wait(1000)
    assert charger.commands == []
    charger.swipe(T1, [1])
    assert charger.letters() == "PAS"
    assert charger.flags == [1, 0]


def test_withdraw_authorization():
    charger = plugged(1)()
    charger.swipe(T1, [1])
    assert charger.flags == [1, 0]
    charger.forget()
    assert charger.withdraw(evse_id=1) == "Accepted"
    assert charger.letters() == "W"
    assert charger.commands == [("withdraw_authorization", 1)]
    assert charger.flags == [0, 0]
    charger.event(1, "Deauthorized")
    assert charger.withdraw(evse_id=1) == "AuthorizationNotFound"
    assert charger.letters() == "W"


def test_withdraw_authorization_during_transaction():
    charger = started()
    assert charger.withdraw(id_token=id_token(T1)) == "Accepted"
    assert charger.commands == [("stop_transaction", 1, "DeAuthorized", None)]
    assert charger.letters() == ""


def test_two_authorization_plug_events():
    for charger in each_order(Charger, swipe(T1, 1), ev(1)):
        assert charger.letters() == "PAS"
        assert charger.flags == [1, 0]
        charger.tx(1)
        charger.swipe(T2, [1, 2])
        assert charger.letters(T2) == "PAS"
        assert charger.flags == [1, 1]


def test_case_insensitive_authorization():
    charger = plugged(1)()
    charger.swipe("valid_rfid_1", [1])
    assert charger.letters() == "PAS"
    assert charger.flags == [1, 0]
    expected = token("valid_rfid_1", [1], parent_id_token=id_token(PAR))
    assert charger.last("Accepted") == expected
    assert charger.last("UsedToStart") == expected


def test_case_insensitive_stop_transaction():
    charger = started()
    charger.swipe("VALID_rfid_1", [1])
    assert charger.letters() == "PX"
    assert charger.flags == [0, 0]


def test_an_invalid_token_starts_nothing():
    charger = plugged(1)()
    charger.swipe(INV)
    assert charger.letters(INV) == "PR"
    assert charger.commands == []
