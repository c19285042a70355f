"""The rules that decide about one token: validators, stops, master pass, statuses, limits."""

from auth_fixture import (
    INV,
    PAR,
    T1,
    T2,
    T3,
    Charger,
    always,
    id_token,
    result,
    started,
    token,
    with_members,
)

PNC = {"authorization_type": "PlugAndCharge"}
ANYONE = (lambda provided: result(),)


# Duplicates.


def test_a_token_in_process_is_a_duplicate_whatever_its_case():
    charger = Charger()
    charger.swipe(T1, [1, 2])
    assert charger.letters() == "PA"
    charger.swipe(T1.lower(), [2])
    charger.provide(token(T1, id_token=id_token(T1.lower())))
    assert charger.letters() == "PA"
    assert charger.counter("duplicates") == 2
    charger.wait(1000)
    charger.swipe(T1.lower(), [1, 2])
    assert charger.letters() == "PAOPA"


def test_a_card_is_not_kept_waiting_by_its_value_in_another_type():
    charger = Charger()
    charger.provide(token(T2, [1, 2], id_token=id_token(T2, "Local")))
    assert charger.letters(T2) == "PA"
    charger.swipe(T2, [1, 2])
    assert charger.letters(T2) == "PAPA"
    assert charger.counter("duplicates") == 0


def test_a_granted_token_is_a_duplicate():
    charger = Charger()
    charger.swipe(T1, [1])
    charger.swipe(T1.lower(), [1])
    charger.swipe(T1)
    assert charger.letters() == "PAS"
    # Only among the EVSEs that it names.
    charger.swipe(T1, [2])
    assert charger.letters() == "PASPAS"


def test_a_granted_value_of_another_type_is_no_duplicate():
    charger = Charger()
    charger.swipe(T2, [1])
    charger.provide(token(T2, [1], id_token=id_token(T2, "Local"), **PNC))
    assert charger.letters(T2) == "PASPR"


def test_other_tokens_wait_side_by_side():
    charger = Charger()
    charger.swipe(T1, [1, 2])
    charger.swipe(T2, [1, 2])
    charger.ev(2)
    assert (charger.letters(T1), charger.letters(T2)) == ("PAS", "PA")
    charger.ev(1)
    assert charger.letters(T2) == "PAS"


def test_a_non_rfid_token_presented_twice():
    charger = Charger()
    charger.ev(1)
    first = token(T2, [1], **PNC)
    charger.provide(first)
    charger.provide(first)
    assert charger.letters(T2) == "PAS"  # a duplicate until the transaction starts
    charger.tx(1)
    charger.provide(first)
    assert charger.letters(T2) == "PASPR"  # then refused: it never stops by reswipe
    assert charger.kinds() == [("authorize_response", 1)]
    # As RFID the same token stops it.
    charger.swipe(T2, [1])
    assert charger.letters(T2) == "PASPRPX"


def test_autocharge():
    charger = Charger(validators=ANYONE)
    charger.ev(2)
    car = token(
        "VID:0011AABBCCDD",
        [2],
        id_token=id_token("VID:0011AABBCCDD", "MacAddress"),
        authorization_type="Autocharge",
    )
    charger.provide(car)
    assert charger.letters("VID:0011AABBCCDD") == "PAS"
    assert charger.commands == [("authorize_response", 2, car, result())]


# Stops by the same token or its parent.


def test_used_to_stop_carries_parent_and_evse():
    charger = started(evse_id=2)
    charger.swipe(T1.lower(), [1, 2], request_id=3)
    provided = token(T1.lower(), [1, 2], request_id=3)
    used = with_members(provided, parent_id_token=id_token(PAR), connectors=[2])
    assert charger.last("UsedToStop") == used
    assert charger.last("Processing") == provided
    assert charger.commands == [("stop_transaction", 2, "Local", provided)]
    assert charger.requests == []


def test_a_card_that_looks_like_the_parent_stops_nobodys_charge():
    charger = started()
    charger.swipe(PAR)  # no validator knows it
    charger.swipe(PAR, [1])
    assert charger.letters(PAR) == "PRPR"
    charger.validators = always(result(), result())  # it is known, and of no family
    charger.swipe(PAR, [1])
    assert charger.letters(PAR) == "PRPRPR"
    assert "stop_transaction" not in [command[0] for command in charger.commands]
    charger.validators = always(result("Invalid"), result(parent=PAR))
    charger.swipe(PAR, [1])
    assert charger.letters(PAR) == "PRPRPRPX"


def test_the_value_of_a_card_in_another_type_stops_nobodys_charge():
    charger = started(value=T2)
    for type in ("Local", "ISO15693", "Central"):
        charger.provide(token(T2, [1], id_token=id_token(T2, type)))
    assert charger.letters(T2) == "PRPRPR"
    assert charger.commands == []
    charger = started(value=T2, stop_transaction_on_reswipe=False)
    charger.provide(token(T2, [1], id_token=id_token(T2, "Local")))
    assert charger.letters(T2) == "PR"  # nor does it pass for the driver


def test_a_family_may_stop_its_charge_whatever_type_its_parent_id_was_given():
    """A group has a name; a table gives it one type, a validator another."""
    charger = started()
    other = with_members(result(), parent_id_token=id_token(PAR, "Central"))
    charger.validators = always(other, other)
    charger.swipe(T3, [1])
    assert charger.letters(T3) == "PX"
    assert charger.commands[-1][0] == "stop_transaction"


def test_nothing_is_said_to_be_stopped_where_nothing_runs():
    for members in ({}, {"stop_transaction_on_reswipe": False}):
        charger = Charger(**members)
        charger.ev(1)
        charger.swipe(T1, [1])
        charger.forget()
        charger.swipe(T1, [1])
        charger.swipe(T1.lower())
        assert charger.statuses == charger.commands == []
        assert charger.counter("duplicates") == 2
        charger.swipe(PAR)
        charger.swipe(PAR, [1])
        assert "X" not in charger.letters(PAR) and "U" not in charger.letters(PAR)
        assert charger.commands == []


def test_the_first_named_evse_is_stopped():
    charger = Charger((1, 1, 1), ANYONE)
    for evse_id in (1, 2, 3):
        charger.provide(token(T1, [evse_id], **PNC))
        charger.tx(evse_id)
    charger.forget()
    charger.swipe(T1, [3, 1])
    assert charger.kinds() == [("stop_transaction", 3)]
    charger.forget()
    charger.swipe(T1)
    assert charger.kinds() == [("stop_transaction", 1)]


def test_reswipe_with_stop_disabled():
    charger = started(stop_transaction_on_reswipe=False)
    charger.swipe(T1)
    assert charger.letters() == "PU"
    used = token(T1, [1], parent_id_token=id_token(PAR))
    assert charger.last("UsedToReauthorize") == used
    charger.swipe(T3, [1, 2])
    assert charger.letters(T3) == "PU"
    assert charger.last("UsedToReauthorize")["connectors"] == [1]
    assert charger.commands == []


def test_stop_by_parent_of_another_type_of_token():
    charger = started()
    charger.provide(token(T3, [1, 2], **PNC))
    assert charger.letters(T3) == "PX"
    used = token(T3, [1], parent_id_token=id_token(PAR), **PNC)
    assert charger.last("UsedToStop") == used
    assert charger.commands == [("stop_transaction", 1, "Local", token(T3, [1], **PNC))]


def test_a_stop_by_parent_tells_the_evse_where_its_card_was_used():
    for connectors in (None, [1, 2], [2]):
        charger = started(evse_id=2)
        charger.swipe(T3, connectors, request_id=4)
        expected = [("stop_transaction", 2, "Local", token(T3, [2], request_id=4))]
        assert charger.commands == expected


def test_a_blocked_card_stops_its_own_charge_and_no_other():
    answers = {T1: result(parent=PAR), T3: result("Blocked", PAR)}
    charger = Charger((1,), [lambda provided: answers[provided["id_token"]["value"]]])
    charger.swipe(T1, [1])
    charger.tx(1)
    charger.forget()
    charger.swipe(T3)
    assert charger.letters(T3) == "PR"
    assert charger.commands == []
    answers[T1] = result("Blocked", PAR)
    charger.swipe(T1)
    assert charger.letters() == "PX"
    assert charger.commands == [("stop_transaction", 1, "Local", token(T1))]


def test_a_card_that_looks_like_the_parent_is_not_stopped_by_the_family():
    vouched = False
    charger = Charger(
        validators=[
            lambda p: result(parent=PAR if vouched or p["id_token"]["value"] != PAR else None)
        ]
    )
    charger.swipe(PAR, [1])
    charger.tx(1)
    charger.swipe(T1, [1])
    assert charger.letters() == "PR"
    charger.end(1)
    vouched = True  # a validator says that it is one of them
    charger.swipe(PAR, [1])
    charger.tx(1)
    charger.swipe(T1, [1, 2])
    assert charger.letters() == "PRPX"


def test_prioritized_authorization_comes_before_a_stop_by_parent():
    charger = started(prioritize_authorization_over_stopping_transaction=True)
    charger.swipe(T3, [1, 2])
    assert charger.letters(T3) == "PAS"
    assert charger.flags == [1, 1]
    # The same token stops all the same.
    charger.swipe(T1)
    assert charger.letters(T1) == "PX"


def test_a_parent_match_with_no_active_transaction():
    charger = Charger()
    charger.ev(1)
    charger.swipe(T1, [1])
    charger.forget()
    for connectors in ([1], [1, 2], None):
        charger.swipe(T3, connectors)
        assert charger.letters(T3) == "PR"
        assert charger.commands == []
        assert charger.auth.tokens_in_process() == 0
        charger.forget()
    charger.tx(1)
    charger.swipe(T3, [1])
    assert charger.letters(T3) == "PX"  # the card is not dead


def test_an_empty_parent_makes_no_family():
    nobody = with_members(result(), parent_id_token=id_token(""))
    charger = Charger(validators=always(nobody))
    charger.swipe(T1, [1])
    charger.tx(1)
    charger.swipe(T2, [1])
    charger.swipe("", [1])
    assert charger.letters(T2) == charger.letters("") == "PR"
    assert charger.last("Processing") == token("", [1])


def test_a_parent_that_nobody_vouched_for_does_not_count():
    charger = started()
    claimed = id_token(PAR)
    charger.provide(token(T2, [1], parent_id_token=claimed))
    assert charger.letters(T2) == "PR"
    charger.group(PAR)
    charger.provide(token(T2, [1], parent_id_token=claimed))
    assert charger.letters(T2) == "PRPR"
    assert charger.commands == []


# Validation.


def test_no_validation_when_nothing_could_come_of_it():
    charger = started(value=T2).hold()
    charger.swipe(T1, [1])
    assert charger.letters() == "PR"
    assert charger.requests == []
    charger.group("GROUP")  # its members could stop it
    charger.swipe(T1, [1])
    assert len(charger.requests) == 1
    charger = started().hold()  # a family member could
    charger.swipe(T2, [1])
    assert len(charger.requests) == 1


def test_validators_are_asked_in_order_and_all():
    charger = Charger(validators=[None, None, None]).hold()
    provided = token(T1, [1])
    charger.provide(provided)
    for index in range(3):
        assert len(charger.requests) == 1
        assert charger.requests[0][1:] == (index, provided)
        charger.answer(result("Blocked") if index else result())
    assert charger.letters() == "PAS"


def test_a_settled_answer_ends_the_asking():
    charger = Charger(validators=[None, None]).hold()
    charger.swipe(T1, [1])
    charger.answer(result("Blocked"), settled=True)
    assert charger.letters() == "PR"
    assert charger.commands[0][3] == result("Blocked")
    charger.swipe(T1, [1])
    charger.answer(result(), settled=True)
    assert charger.letters() == "PRPAS"
    assert charger.requests == []


def test_a_failure_settles_nothing():
    for failure in (None, {"authorization_status": "?"}):
        charger = Charger(validators=[None, None]).hold()
        charger.swipe(T1, [1])
        charger.answer(failure, settled=True)
        charger.answer(result())
        assert charger.letters() == "PAS"
        assert charger.counter("validator_failures") == 1


def test_a_mute_validator_counts_as_unknown():
    charger = Charger(validators=[None, None], validator_timeout_ms=700).hold()
    charger.swipe(T1, [1])
    first = charger.requests.pop(0)[0]
    charger.wait(700)
    assert charger.answer(result(), request_id=first) == "no such validation is under way"
    charger.wait(699)
    assert charger.letters() == "P"
    charger.wait(1)
    assert charger.letters() == "PR"
    assert charger.commands[0][3] == result("Unknown")
    assert charger.counter("validator_failures") == 2
    assert charger.counter("late_results") == 1
    assert charger.auth.tokens_in_process() == 0


def test_an_answer_counts_once():
    charger = Charger(validators=[None, None]).hold()
    charger.swipe(T1, [1])
    request_id = charger.requests[0][0]
    charger.answer(result("Invalid"))
    for stale in (request_id, 0, -1, 10**9, "1", 1.5):
        assert charger.answer(result(), request_id=stale) == "no such validation is under way"
    charger.answer(result("Invalid"))
    assert charger.letters() == "PR"
    assert charger.counter("late_results") == 6


def test_an_answer_that_comes_again_while_its_token_waits():
    charger = Charger(validators=[None]).hold()
    charger.swipe(T1, [1, 2])
    request_id = charger.requests[0][0]
    charger.answer(result())
    assert charger.answer(result("Blocked"), request_id=request_id)
    assert charger.letters() == "PA"
    charger.ev(1)
    assert charger.letters() == "PAS"


def test_any_validator_may_accept():
    charger = Charger(validators=always(result("Blocked"), result(), result("Invalid")))
    charger.swipe(T1, [1])
    assert charger.letters() == "PAS"
    assert charger.commands[0][3] == result()


def test_the_first_accepted_result_is_used_alone():
    first = result(parent="A", evse_ids=[1])
    charger = Charger(validators=always(first, result(parent="B", evse_ids=[2])))
    charger.swipe(T1, [1])
    assert charger.letters() == "PAS"
    assert charger.last("UsedToStart")["parent_id_token"] == id_token("A")
    assert charger.commands[0][3] is first


def test_accepted_is_published_for_each_result_that_is_tried():
    message = {"content": "0.50 EUR/kWh", "format": "UTF8", "language": "en"}
    here = result(parent="B", tariff_messages=[message])
    charger = Charger(validators=always(result(parent="A", evse_ids=[2]), here))
    charger.swipe(T1, [1])
    assert charger.letters() == "PAAS"
    parents = [status[0].get("parent_id_token") for status in charger.statuses]
    assert parents == [None, id_token("A"), id_token("B"), id_token("B")]
    assert [status[2] for status in charger.statuses] == [[], [], [message], []]
    refused = result("NotAtThisLocation", "A", evse_ids=[2])
    assert [command[3] for command in charger.commands] == [refused, here]


def test_without_validators_nobody_is_accepted():
    charger = Charger(validators=())
    charger.swipe(T1, [1])
    assert charger.letters() == "PR"
    assert charger.commands == []
    charger.swipe(T1, [1], prevalidated=True)
    assert charger.letters() == "PRPAS"


def test_a_refusal_goes_to_each_named_evse_that_exists():
    charger = Charger(validators=always(result("Invalid"), result("Blocked")))
    provided = token(T1, [2, 9, 1, 2], **PNC)
    charger.provide(provided)
    assert charger.letters() == "PR"
    refusals = [("authorize_response", n, provided, result("Blocked")) for n in (1, 2)]
    assert charger.commands == refusals
    charger.forget()
    charger.provide(token(T1, **PNC))
    assert charger.letters() == "PR"
    assert charger.commands == []


# Cars that authorize themselves hear a refusal, or stay in their authorize loop.

CARS = (PNC, {"authorization_type": "Autocharge"})


def refusals(charger, provided, status="NotAtThisTime"):
    """The EVSEs that heard that a token is refused, which is all that they heard."""
    for command in charger.commands:
        assert command[0] == "authorize_response" and command[2] == provided
        assert command[3]["authorization_status"] == status
    return [command[1] for command in charger.commands]


def test_a_car_hears_that_nothing_is_available():
    for car in CARS:
        charger = Charger(validators=ANYONE)
        charger.flt(1, 1)
        charger.event(2, "Disabled", 1)
        charger.event(2, "Disabled", 2)
        for connectors, heard in (([1], [1]), ([2], [2]), ([2, 1, 7], [1, 2])):
            charger.forget()
            provided = token(T1, connectors, **car)
            charger.provide(provided)
            assert charger.letters() == "PR"
            assert refusals(charger, provided) == heard
        charger.forget()
        charger.swipe(T1, [1])  # a card in front of the reader hears it there
        charger.provide(token(T1, **car))
        assert charger.commands == []


def test_a_car_hears_that_nothing_is_available_any_more():
    for answer, status in ((result(), "NotAtThisTime"), (result("Blocked"), "Blocked")):
        charger = Charger().hold()
        provided = token(T2, [1], **PNC)
        charger.provide(provided)
        charger.flt(1, 1)
        charger.answer(result("Invalid"))
        charger.answer(answer)
        assert charger.letters(T2) == "PR"
        assert refusals(charger, provided, status) == [1]


def test_a_car_hears_that_too_many_wait():
    charger = Charger(validators=ANYONE, max_tokens_in_process=1).hold()
    charger.swipe(T2, [1, 2])
    provided = token(T1, [1], **PNC)
    charger.provide(provided)
    assert charger.letters() == "PR"
    assert refusals(charger, provided) == [1]


def test_a_car_hears_that_a_master_pass_does_not_start():
    for car in CARS:
        charger = Charger((1, 1, 1))
        charger.group(PAR)
        provided = token(T1, [3, 1], **car)
        charger.provide(provided)
        assert charger.letters() == "PR"
        assert refusals(charger, provided) == [1, 3]
        # Also when the group is set while it waits for a plug-in.
        charger = Charger((1, 1, 1))
        charger.provide(provided)
        charger.group(PAR)
        charger.ev(1)
        assert charger.letters() == "PAR"
        assert refusals(charger, token(T1, [3, 1], parent_id_token=id_token(PAR), **car)) == [1, 3]


def test_a_car_hears_that_its_family_waits():
    charger = Charger((1, 1, 1))
    charger.swipe(T1, [1])
    charger.forget()
    provided = token(T3, [1, 2], **PNC)
    charger.provide(provided)
    assert charger.letters(T3) == "PR"
    assert refusals(charger, provided) == [2]  # and 1 is the family's


def test_the_refusal_of_a_car_spares_the_driver_who_has_its_evse():
    charger = Charger((1, 1, 1), ANYONE)
    charger.swipe(T1, [1])
    charger.swipe(T2, [2])
    charger.tx(2)
    charger.tx(3)
    charger.forget()
    charger.provide(token(T3, [1, 2, 3], **PNC))
    assert charger.letters(T3) == "PR"
    assert charger.commands == []


def test_prevalidated_tokens():
    charger = Charger()
    charger.ev(1)
    charger.swipe(INV, [1], prevalidated=True, parent_id_token=id_token("GROUP"))
    assert charger.letters(INV) == "PAS"
    assert charger.flags == [1, 0]
    charger.tx(1)
    # Its parent counts, for it was vouched for.
    charger.swipe("OTHER", [1], prevalidated=True, parent_id_token=id_token("group"))
    assert charger.letters("OTHER") == "PX"
    charger.swipe("OTHER", [2], prevalidated=False)
    assert charger.letters("OTHER") == "PXPR"


def test_unknown_evse_ids():
    charger = Charger()
    for connectors in ([3], [99, 3], []):
        charger.swipe(T1, connectors)
        assert charger.letters() == "PR"
        assert charger.last("Processing") == token(T1, connectors)
        charger.forget()
    charger.group("GROUP")
    charger.hold()
    charger.swipe(T1, [3])
    assert charger.letters() == "PR"
    assert charger.requests == []  # nobody is asked in vain
    charger.held = False
    charger.forget()
    charger.swipe(T1, [3, 1, 1])  # one is left: chosen at once
    assert charger.letters() == "PAS"
    assert charger.last("UsedToStart") == token(T1, [1], parent_id_token=id_token(PAR))
    assert charger.kinds() == [("authorize_response", 1)]


def test_too_many_tokens():
    charger = Charger((1, 1, 1), ANYONE, max_tokens_in_process=2)
    charger.swipe("RUNNING", [3])
    charger.tx(3)
    charger.swipe(T1, [1, 2])
    charger.hold()
    charger.swipe(T2, [1, 2])
    charger.swipe(T3, [1, 2])
    assert charger.letters(T3) == "PR"
    assert charger.counter("over_limit") == 1
    assert charger.commands[1:] == []
    charger.swipe("RUNNING")  # a stop needs no place
    assert charger.letters("RUNNING") == "PASPX"
    charger.swipe(T1)
    assert charger.counter("duplicates") == 1
    charger.wait(1000)
    charger.swipe(T3, [1, 2])
    assert charger.letters(T3) == "PRP"


# Updates, and the timeout.


def test_validation_result_update():
    charger = started(value=T2)
    message = {"content": "0.30 EUR/kWh"}
    charger.update(1, result("Blocked", PAR, tariff_messages=[message]))
    assert charger.letters(T2) == "A"
    assert charger.statuses == [
        (token(T2, [1], parent_id_token=id_token(PAR)), "Accepted", [message])
    ]
    assert charger.commands == []
    charger.swipe(T1, [1])
    assert charger.letters(T1) == "PX"
    charger.update(1, result())
    assert charger.last("Accepted") == token(T2, [1])
    charger.forget()
    charger.swipe(T1, [1])
    assert charger.letters(T1) == "PR"


def test_an_update_for_nobody():
    charger = Charger()
    for evse_id in (1, 0, 3, -1):
        assert charger.update(evse_id, result()) == "no authorization at that EVSE"
    charger.tx(1)
    assert charger.update(1, result())
    assert charger.statuses == charger.commands == []
    assert charger.counter("refused_updates") == 5


def test_an_update_before_the_transaction():
    charger = Charger()
    charger.ev(1)
    charger.swipe(T2, [1], request_id=1)
    charger.update(1, result(parent=PAR))
    assert charger.letters(T2) == "PASA"
    charger.wait(1000)
    assert charger.letters(T2) == "PASAO"
    assert charger.last("TimedOut") == token(T2, [1], request_id=1)


def test_the_connection_timeout_may_change():
    charger = Charger()
    charger.swipe(T1, [1])
    assert charger.auth.set_connection_timeout(20, 0) is True
    charger.wait(1000)
    assert charger.letters() == "PASO"  # the timer that ran is not changed
    charger.swipe(T1, [1])
    charger.wait(19_999)
    assert charger.letters() == "PASOPAS"
    charger.wait(1)
    assert charger.letters() == "PASOPASO"
    assert charger.saved == [("connection_timeout", 20)]


def test_a_card_gets_no_second_charge_while_its_evse_is_disabled():
    charger = Charger(selection_algorithm="FindFirst", connection_timeout=60)
    charger.swipe(T1, [1, 2])
    assert charger.letters() == "PAS"
    charger.event(1, "Disabled")
    for connectors in (None, [2, 1]):
        charger.swipe(T1, connectors)
    assert charger.letters() == "PAS" and charger.counter("duplicates") == 2
    charger.swipe(T1, [2])  # means another one than the grant's
    assert charger.letters() == "PASPAS"
