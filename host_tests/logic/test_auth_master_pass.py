"""The master pass group: stops every transaction among its EVSEs, starts none."""

from auth_fixture import PAR, T1, T2, T3, Charger, always, id_token, result, token

PNC = {"authorization_type": "PlugAndCharge"}


def group_charger(*running, **settings):
    """A charger of 3 EVSEs with the group set, and T2's transactions at some of them."""
    charger = Charger((1, 1, 1), **settings)
    charger.group(PAR.lower())
    for evse_id in running:
        charger.provide(token(T2, [evse_id], **PNC))
        charger.tx(evse_id)
    charger.forget()
    return charger


def test_master_pass_stops_every_transaction_though_an_evse_is_free():
    for prioritize in (True, False):
        for algorithm in ("FindFirst", "PlugEvents", "PlugEventsLIFO"):
            charger = group_charger(
                1,
                3,
                prioritize_authorization_over_stopping_transaction=prioritize,
                selection_algorithm=algorithm,
            )
            charger.ev(2)
            charger.swipe(T1)
            assert charger.letters() == "PX"
            stops = [("stop_transaction", n, "MasterPass", token(T1)) for n in (1, 3)]
            assert charger.commands == stops
            used = token(T1, [1, 3], parent_id_token=id_token(PAR))
            assert charger.last("UsedToStop") == used


def test_master_pass_stops_only_what_its_token_names():
    charger = group_charger(1, 2)
    charger.swipe(T1, [3, 2])
    assert charger.kinds() == [("stop_transaction", 2)]
    assert charger.last("UsedToStop")["connectors"] == [2]
    charger.swipe(T1, [3])
    assert charger.letters() == "PXPR"


def test_master_pass_never_starts():
    for prioritize in (True, False):
        for algorithm in ("FindFirst", "PlugEvents", "PlugEventsLIFO"):
            for members in ({}, {"prevalidated": True, "parent_id_token": id_token(PAR)}):
                charger = group_charger(
                    prioritize_authorization_over_stopping_transaction=prioritize,
                    selection_algorithm=algorithm,
                )
                charger.ev(1)
                for connectors in (None, [1], [1, 2]):
                    charger.swipe(T1, connectors, **members)
                    assert charger.letters() == "PR"
                    assert charger.commands == []
                    charger.forget()


def test_master_pass_counts_whichever_validator_says_so():
    charger = Charger(validators=always(result(), result(parent=PAR)))
    charger.group()
    charger.swipe(T1, [1])
    assert charger.letters() == "PR"
    assert charger.commands == []


def test_master_pass_leaves_a_grant_without_transaction():
    charger = group_charger(1)
    charger.swipe(T2, [2])
    charger.forget()
    charger.swipe(T1)
    assert charger.kinds() == [("stop_transaction", 1)]


def test_master_pass_needs_an_accepted_result():
    blocked = result("Blocked", PAR)
    charger = Charger(validators=always(blocked))
    charger.group()
    charger.tx(1)
    charger.swipe(T1)
    charger.swipe(PAR)
    assert charger.letters(T1) == charger.letters(PAR) == "PR"


def test_a_withdrawal_ends_a_master_pass_that_waits_for_its_validator():
    for members, stopped in (({"evse_id": 1}, [1]), ({"id_token": id_token(T1)}, [])):
        charger = group_charger(1, 2).hold()
        charger.swipe(T1)
        assert charger.withdraw(**members) == "Accepted"
        charger.answer(result(parent=PAR))
        assert charger.letters() == "PW"
        stops = [("stop_transaction", n, "DeAuthorized", None) for n in stopped]
        assert charger.commands == stops


def test_of_a_master_pass_and_a_withdrawal_the_later_gives_the_reason():
    charger = group_charger(1)
    charger.swipe(T1)
    charger.withdraw(evse_id=1)
    charger.tx(1)  # the EVSE has not heard of either
    assert [command[2] for command in charger.commands] == ["MasterPass"] + 2 * ["DeAuthorized"]


def test_master_pass_switched_off():
    charger = Charger(master_pass_group_id=PAR)
    charger.swipe(T1, [1])
    assert charger.letters() == "PR"
    charger.group("")
    charger.swipe(T1, [1])
    assert charger.letters() == "PRPAS"
    assert charger.saved == [("master_pass_group_id", "")]


def test_the_group_may_change_while_a_token_waits():
    charger = Charger()
    charger.swipe(T1, [1, 2])
    charger.group(PAR)
    charger.ev(1)
    assert charger.letters() == "PAR"
    assert charger.commands == []


def test_a_master_pass_does_not_start_through_another_result_when_its_group_is_set_late():
    elsewhere = result(parent=PAR, evse_ids=[3])
    charger = Charger((1, 1, 1), validators=always(elsewhere, result()))
    charger.swipe(T1, [1, 2])
    charger.group(PAR)
    charger.ev(1)
    assert charger.letters() == "PAAR"
    assert charger.flags == [0, 0, 0]


def test_a_card_that_is_a_master_pass_now_starts_nothing_with_its_earlier_grant():
    charger = Charger(connection_timeout=60)
    charger.swipe(T1, [1])
    charger.swipe(T3, [2])
    charger.tx(2)
    charger.forget()
    charger.group("another")
    assert charger.commands == []
    charger.group(PAR)
    assert charger.kinds() == [("withdraw_authorization", 1)] and charger.letters() == "W"
    charger.tx(1)
    assert charger.kinds()[1:] == [("stop_transaction", 1)]
