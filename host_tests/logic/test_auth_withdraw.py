"""Withdrawals: four kinds of request, on tokens that wait, are granted, or run a transaction."""

from auth_fixture import PAR, T1, T2, T3, Charger, id_token, result, started, token

ANYONE = (lambda provided: result(),)


def waiting(*values, **settings):
    """A charger of 3 EVSEs where these tokens, for EVSEs 1 and 2, wait for a plug-in."""
    charger = Charger((1, 1, 1), ANYONE, **settings)
    for value in values:
        charger.swipe(value, [1, 2])
    return charger


def test_evse_not_found_changes_nothing():
    charger = waiting(T1)
    charger.swipe(T2, [3])
    charger.forget()
    for evse_id in (0, -1, 4, 2**40):
        assert charger.withdraw(evse_id=evse_id) == "EvseNotFound"
        assert charger.withdraw(evse_id=evse_id, id_token=id_token(T1)) == "EvseNotFound"
    assert charger.statuses == charger.commands == []


def test_nothing_to_withdraw():
    charger = Charger()
    for request in ({}, {"evse_id": 1}, {"id_token": id_token(T1)}):
        assert charger.withdraw(request) == "AuthorizationNotFound"
    assert charger.withdraw(evse_id=1, id_token=id_token(T1)) == "AuthorizationNotFound"
    assert charger.counter("refused_withdrawals") == 0


def test_withdraw_everything():
    charger = waiting(T1)
    charger.swipe(T2, [3])
    charger.hold()
    charger.swipe("T4", [1, 2])
    charger.forget()
    assert charger.withdraw({}) == "Accepted"
    assert charger.letters(T1) == charger.letters(T2) == charger.letters("T4") == "W"
    assert charger.commands == [("withdraw_authorization", 3)]
    assert charger.auth.tokens_in_process() == 0


def test_withdraw_while_waiting_for_a_plug_in():
    for members in (
        {"evse_id": 1},
        {"evse_id": 2},
        {"id_token": id_token(T1.lower())},
        {"evse_id": 2, "id_token": id_token(T1)},
        {},
    ):
        charger = waiting(T1)
        assert charger.withdraw(members) == "Accepted"
        assert charger.letters() == "PAW"
        assert charger.withdraw(members) == "AuthorizationNotFound"
        charger.ev(1)
        charger.wait(10_000)
        assert charger.letters() == "PAW"
        assert charger.flags == [0, 0, 0]


def test_withdraw_leaves_what_it_does_not_match():
    charger = waiting(T1, T2)
    for members in (
        {"evse_id": 3},
        {"id_token": id_token("T4")},
        {"id_token": id_token(T1, "ISO15693")},
        {"evse_id": 3, "id_token": id_token(T1)},
        {"evse_id": 1, "id_token": id_token(T1, "Central")},
    ):
        assert charger.withdraw(members) == "AuthorizationNotFound", members
    assert charger.withdraw(id_token=id_token(T1)) == "Accepted"
    assert (charger.letters(T1), charger.letters(T2)) == ("PAW", "PA")
    charger.ev(1)
    assert charger.letters(T2) == "PAS"


def test_a_card_is_withdrawn_however_its_uid_is_written():
    for written in ("04:A1:B2:C3", "04-a1-b2-c3", "0x04A1B2C3"):
        charger = waiting("04a1b2c3")
        charger.swipe(written, [1, 2])  # the same card: one token, not two
        assert charger.auth.tokens_in_process() == 1
        assert charger.withdraw(id_token=id_token(written)) == "Accepted"
        assert charger.letters("04a1b2c3") == "PAW"
        charger = Charger((1,), ANYONE)
        charger.swipe("04a1b2c3", [1])
        assert charger.withdraw(id_token=id_token(written)) == "Accepted"
        assert charger.flags == [0]
        # Only hex digits are a UID: other values are taken as they come.
        charger = waiting("RFID-1")
        assert charger.withdraw(id_token=id_token("RFID1")) == "AuthorizationNotFound"


def test_additional_info_does_not_matter():
    charger = waiting(T1)
    more = {"value": T1, "type": "ISO14443", "additional_info": [{"value": "a", "type": "b"}]}
    assert charger.withdraw(id_token=more) == "Accepted"
    assert charger.letters() == "PAW"


def test_a_token_for_all_evses_is_matched_by_any():
    charger = Charger((1, 1, 1), ANYONE)
    charger.swipe(T1)
    charger.event(2, "Disabled")
    assert charger.withdraw(evse_id=2) == "Accepted"
    assert charger.letters() == "PAW"


def test_withdraw_while_validating():
    charger = Charger().hold()
    charger.ev(1)
    charger.swipe(T1, [1])
    assert charger.withdraw(evse_id=1) == "Accepted"
    assert charger.letters() == "PW"
    assert charger.last("Withdrawn") == token(T1, [1])
    assert charger.answer(result()) == "no such validation is under way"
    charger.wait(60_000)
    assert charger.letters() == "PW"
    assert charger.counter("late_results") == 1
    assert charger.flags == [0, 0]


def test_repeated_withdrawals_are_forgotten():
    """A withdrawal wakes only what it matches: later tokens wait in peace."""
    charger = waiting(T1)
    for _ in range(3):
        assert charger.withdraw({}) == "Accepted"
        charger.forget()
        charger.swipe(T1, [1, 2])
        assert charger.letters() == "PA"
    assert charger.withdraw(evse_id=1) == "Accepted"
    charger.swipe(T2, [1, 2])
    assert charger.letters(T2) == "PA"
    charger.ev(2)
    assert charger.letters(T2) == "PAS"
    assert charger.letters(T1) == "PAW"


def test_withdraw_a_grant():
    for members in (
        {"evse_id": 1},
        {"id_token": id_token(T1.lower())},
        {"evse_id": 1, "id_token": id_token(T1)},
        {},
    ):
        charger = Charger()
        charger.ev(1)
        charger.swipe(T1, [1, 2], request_id=7, prevalidated=False, certificate="PEM")
        assert charger.letters() == "PAS"
        charger.forget()
        assert charger.withdraw(evse_id=2) == "AuthorizationNotFound"
        assert charger.withdraw(id_token=id_token(PAR)) == "AuthorizationNotFound"
        assert charger.withdraw(id_token=id_token(T1, "Local")) == "AuthorizationNotFound"
        assert charger.withdraw(evse_id=2, id_token=id_token(T1)) == "AuthorizationNotFound"
        assert charger.withdraw(members) == "Accepted"
        assert charger.letters() == "W"
        assert charger.commands == [("withdraw_authorization", 1)]
        # Rebuilt from what the EVSE holds.
        assert charger.last("Withdrawn") == token(T1, [1], parent_id_token=id_token(PAR))


def test_withdraw_a_grant_again_before_the_evse_has_answered():
    charger = Charger()
    charger.ev(1)
    charger.swipe(T1, [1])
    charger.forget()
    assert charger.withdraw({}) == "Accepted"
    assert charger.withdraw({}) == "Accepted"
    assert charger.commands == [("withdraw_authorization", 1)] * 2
    assert charger.letters() == "W"
    charger.update(1, result(parent="OTHER"))
    assert charger.letters() == "W"
    charger.event(1, "Deauthorized")
    assert charger.withdraw({}) == "AuthorizationNotFound"
    charger.wait(10_000)
    assert charger.letters() == "W"


def test_an_evse_that_never_confirms_a_withdrawal():
    charger = Charger(validators=ANYONE)
    charger.ev(1)
    charger.swipe(T1, [1])
    charger.withdraw(evse_id=1)
    charger.swipe(T2, [1])
    assert charger.letters(T2) == "PR"
    charger.wait(1000)
    assert charger.letters() == "PASW"  # and no TimedOut
    charger.swipe(T2, [1])
    assert charger.letters(T2) == "PRPAS"


def test_a_transaction_that_crossed_its_withdrawal_is_stopped():
    charger = Charger()
    charger.ev(1)
    charger.swipe(T1, [1])
    charger.withdraw(evse_id=1)
    charger.forget()
    charger.tx(1)
    assert charger.commands == [("stop_transaction", 1, "DeAuthorized", None)]
    assert charger.statuses == []


def test_withdraw_in_transaction():
    for members in (
        {"evse_id": 1},
        {"id_token": id_token(T1.lower())},
        {"evse_id": 1, "id_token": id_token(T1)},
        {},
    ):
        charger = started()
        assert charger.withdraw(evse_id=1, id_token=id_token(T3)) == "AuthorizationNotFound"
        assert charger.withdraw(members) == "Accepted"
        assert charger.commands == [("stop_transaction", 1, "DeAuthorized", None)]
        assert charger.statuses == []
        charger.event(1, "TransactionFinished")
        assert charger.withdraw(members) == "AuthorizationNotFound"


def test_one_token_at_several_evses():
    charger = Charger((1, 1, 1), ANYONE)
    charger.swipe(T1, [1])
    charger.tx(1)
    charger.provide(token(T1, [2], authorization_type="OCPP"))
    charger.swipe(T2, [3])
    charger.forget()
    assert charger.withdraw(id_token=id_token(T1)) == "Accepted"
    assert charger.kinds() == [("stop_transaction", 1), ("withdraw_authorization", 2)]
    assert (charger.letters(T1), charger.letters(T2)) == ("W", "")


def test_a_waiting_token_gets_the_plug_in_of_a_withdrawn_one():
    charger = Charger((1, 1, 1), ANYONE)
    charger.swipe(T2, [1, 2])
    charger.swipe(T1, [1])
    charger.ev(1)
    assert charger.letters(T2) == "PA"
    charger.withdraw(id_token=id_token(T1))
    charger.event(1, "Deauthorized")
    assert charger.letters(T2) == "PAS"
    assert charger.flags == [1, 0, 0]
