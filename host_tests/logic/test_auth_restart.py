"""What a power loss or a restart leaves behind, and answers that come late."""

from auth_fixture import PAR, T1, T2, T3, Charger, always, id_token, result, started, token
from recording_link import RecordingLink

from tapauth.core.authorizer import Authorizer
from tapauth.core.settings import AuthSettings
from tapauth.evse.remote import MqttEvses
from tapauth.station import Station

ALGORITHMS = ("FindFirst", "PlugEvents", "PlugEventsLIFO")
RESUMED = ("SessionResumed", "SessionResumed:")


# An EVSE's power loss.


def test_the_next_driver_charges_after_an_evse_lost_its_power():
    for name in RESUMED:
        for algorithm in ALGORITHMS:
            for connector in (1, 2):
                charger = Charger(selection_algorithm=algorithm)
                charger.event(2, name, connector)
                charger.swipe(T2, [2])
                assert charger.letters(T2) == "PR"  # while it runs
                charger.event(2, "TransactionFinished", connector)
                charger.swipe(T2, [2])
                assert charger.letters(T2) == "PRPAS", algorithm


def test_the_next_driver_charges_when_the_power_went_during_a_charge():
    for connector in (1, 2):
        charger = started(evse_id=2)
        charger.event(2, "SessionResumed", connector)
        charger.event(2, "TransactionFinished", connector)
        charger.swipe(T2, [2])
        assert charger.letters(T2) == "PAS"


def test_the_next_driver_charges_when_the_power_went_after_a_plug_in_timeout():
    charger = Charger()
    charger.ev(1)
    charger.wait(1000)
    charger.event(1, "SessionResumed")
    charger.event(1, "TransactionFinished")
    charger.swipe(T1, [1])
    assert charger.letters() == "PAS"


def test_a_driver_still_stops_a_charge_that_was_resumed():
    charger = started()
    charger.event(1, "SessionResumed")
    charger.swipe(T1, [1])
    assert charger.letters() == "PX"


def test_a_stranger_does_not_get_an_evse_that_resumed_its_charge():
    for name in RESUMED:
        for algorithm in ALGORITHMS:
            charger = Charger(selection_algorithm=algorithm)
            charger.ev(1)
            charger.event(1, name)
            charger.swipe(T1)
            charger.swipe(T2, [1])
            assert charger.flags[0] == 0, algorithm
            # Nor is its old plug-in used when the charge has ended.
            if algorithm != "FindFirst":
                charger = Charger(selection_algorithm=algorithm)
                charger.ev(1)
                charger.event(1, name)
                charger.event(1, "TransactionFinished")
                charger.swipe(T1, [1, 2])
                assert charger.letters() == "PA"


def test_a_driver_does_not_get_the_charge_of_another_that_is_resumed():
    """Board and EVSE lost their power; the card came before the EVSE was back."""
    charger = Charger(selection_algorithm="FindFirst")
    charger.swipe(T1, [1])
    granted = token(T1, [1], parent_id_token=id_token(PAR))
    charger.forget()
    charger.event(1, "SessionResumed")
    assert charger.commands == [("withdraw_authorization", 1)]
    assert charger.letters() == "W"
    assert charger.last("Withdrawn") == granted
    charger.forget()
    charger.swipe(T1, [1])
    charger.swipe(T3, [1])
    assert charger.letters() == charger.letters(T3) == "PR"
    assert charger.commands == []
    charger.wait(10_000)
    assert charger.commands == []


# The board's restart.


def test_a_grant_from_before_a_restart_ends():
    charger = Charger((1, 1, 1))
    charger.auth.unreached = True
    charger.event(2, "TransactionStarted")
    charger.auth.evses_reached(0)
    charger.carry_out()
    assert charger.commands == [("withdraw_authorization", 1), ("withdraw_authorization", 3)]
    assert charger.statuses == []
    charger.forget()
    charger.auth.evses_reached(0)  # a later connection
    charger.carry_out()
    assert charger.commands == []


def test_a_grant_made_offline_survives_the_first_connection():
    for answered in (True, False):
        charger = Charger((1, 1))
        charger.auth.unreached = True
        charger.swipe(T1, [1])
        # What an EVSE has from before goes first.
        assert charger.kinds() == [("withdraw_authorization", 1), ("authorize_response", 1)]
        for now in range(100, 900, 100):
            charger.now = now
            charger.auth.commands_wait(now)
        charger.forget()
        charger.auth.evses_reached(charger.now)
        charger.carry_out()
        assert charger.commands == [("withdraw_authorization", 2)]
        if answered:
            charger.event(1, "Deauthorized")
            charger.event(2, "Deauthorized")
        charger.tx(1)
        charger.swipe(T1)
        assert charger.letters() == "PX"


def test_later_grants_need_no_withdrawal_before_them():
    charger = Charger()
    charger.auth.unreached = True
    charger.auth.evses_reached(0)
    charger.carry_out()
    charger.forget()
    charger.swipe(T1, [1])
    assert charger.kinds() == [("authorize_response", 1)]


def test_without_evses_that_outlive_it_a_start_withdraws_nothing():
    charger = Charger()
    charger.auth.evses_reached(0)
    charger.carry_out()
    assert charger.commands == []
    charger.swipe(T1, [1])
    assert charger.kinds() == [("authorize_response", 1)]


def test_a_tap_right_after_the_first_connection_is_not_undone_by_its_withdrawal():
    charger = Charger()
    charger.auth.unreached = True
    charger.auth.evses_reached(0)
    charger.swipe(T1, [1])
    charger.event(1, "Deauthorized")
    charger.tx(1)
    charger.swipe(T1, [1])
    assert charger.letters() == "PASPX"


class Quiet:
    """A log that nobody reads, and a clock that stands still."""

    time = 0

    def info(self, *_):
        pass

    warning = info

    def now(self):
        return self.time


class Link(RecordingLink):
    outbox = ()


def test_evses_on_mqtt_hear_the_withdrawal_before_a_grant_that_was_made_offline():
    core = Authorizer(AuthSettings(connection_timeout=60), [1, 1, 1])
    core.unreached = True
    link = Link()
    link.connected = False
    clock = Quiet()
    station = Station(core, clock, Quiet())
    evses = MqttEvses("base", Quiet(), link, station.session_event, station)
    accept = {"authorization_status": "Accepted"}
    station.connect(
        lambda *_: None, evses.command, None, [lambda number, _: station.answer(number, accept)]
    )
    station.provide_token(token(T1, [2]))
    evses.message("base/evse/3/session_event", b'{"event": "TransactionStarted"}')
    for _ in range(2):
        evses.link_up()
    sent = [(topic, command["command"]) for topic, command in link.take()]
    assert sent == [
        ("base/evse/2/command", "withdraw_authorization"),
        ("base/evse/2/command", "authorize_response"),
        ("base/evse/1/command", "withdraw_authorization"),
    ]
    # While commands wait in the outbox, no answer to them is late.
    clock.time = 4000
    evses.tick(4000)
    assert core.evses[0].answers == [5000]
    link.outbox = (b"a command",)
    evses.tick(4000)
    assert core.evses[0].answers == [9000]


# Answers that come late.


def renewed(late=1):
    """A charger where T1's grant at EVSE 1 was withdrawn and T2 has the next one: `late` answers
    to withdrawals of T1's grant are still to come.
    """
    charger = Charger(connection_timeout=60)
    charger.swipe(T1, [1])
    for _ in range(1 + late):
        charger.withdraw(evse_id=1)
    charger.event(1, "Deauthorized")
    charger.swipe(T2, [1])
    assert charger.letters(T2) == "PAS"
    charger.forget()
    return charger


def holds(charger):
    return charger.auth.evses[0].grant is not None


def test_a_late_answer_to_a_withdrawal_leaves_the_next_driver_authorized():
    charger = renewed()
    charger.event(1, "Deauthorized")
    assert holds(charger)
    charger.tx(1)
    charger.swipe(T2, [1])
    assert charger.letters(T2) == "PX"


def test_a_late_answer_to_a_timeout_leaves_the_next_driver_authorized():
    charger = Charger()
    charger.swipe(T1, [1])
    charger.wait(1000)
    charger.swipe(T2, [1])
    charger.event(1, "Deauthorized")
    charger.tx(1)
    charger.swipe(T2, [1])
    assert charger.letters(T2) == "PASPX"


def test_each_withdrawal_is_answered_once():
    for late in (1, 2, 3):
        charger = renewed(late)
        for _ in range(late):
            charger.event(1, "Deauthorized")
            assert holds(charger)
        charger.event(1, "Deauthorized")
        assert not holds(charger)


def test_an_answer_is_not_expected_for_ever():
    for after, held in ((0, True), (4999, True), (5000, False)):
        charger = renewed()
        charger.wait(after)
        charger.event(1, "Deauthorized")
        assert holds(charger) == held, after
    # Each withdrawal has its own time.
    charger = Charger(connection_timeout=60)
    charger.swipe(T1, [1])
    for _ in range(3):
        charger.withdraw({})
        charger.wait(2000)
    charger.event(1, "Deauthorized")  # the first one's time is over: for the second
    charger.swipe(T2, [1])
    charger.event(1, "Deauthorized")
    assert holds(charger)
    charger.event(1, "Deauthorized")
    assert not holds(charger)


def test_an_answer_is_not_expected_past_the_next_event_of_a_transaction_or_session():
    charger = renewed()
    charger.tx(1)
    charger.event(1, "Deauthorized")
    assert not holds(charger)
    for name in ("TransactionFinished", "SessionFinished"):
        charger = renewed()
        charger.event(1, name)
        charger.swipe(T1, [1])
        assert holds(charger)
        charger.event(1, "Deauthorized")
        assert not holds(charger)


def test_an_answer_to_a_withdrawal_of_the_present_grant_ends_it():
    charger = renewed()
    charger.withdraw(evse_id=1)
    charger.event(1, "Deauthorized")  # for T1
    assert holds(charger)
    charger.event(1, "Deauthorized")  # for T2
    assert not holds(charger)


def test_an_answer_takes_its_time_from_when_the_command_left():
    charger = renewed()
    for _ in range(10):
        charger.wait(4000)
        charger.auth.commands_wait(charger.now)
    charger.wait(4999)
    charger.event(1, "Deauthorized")
    assert holds(charger)
    # It had left, and its time is over: another command that waits does not matter.
    charger = renewed()
    charger.wait(5000)
    charger.auth.commands_wait(charger.now)
    charger.event(1, "Deauthorized")
    assert not holds(charger)


def test_a_late_answer_leaves_the_timer_of_a_plug_in():
    charger = Charger()
    charger.swipe(T1, [1])
    charger.wait(1000)
    charger.ev(1)
    charger.event(1, "Deauthorized")
    charger.forget()
    charger.wait(1000)
    assert charger.commands == [("withdraw_authorization", 1)]


def test_a_flood_of_withdrawals_is_not_remembered_for_ever():
    charger = Charger()
    charger.swipe(T1, [1])
    for _ in range(100):
        charger.withdraw({})
    assert len(charger.auth.evses[0].answers) == 8


def test_a_grant_that_timed_out_starts_nothing():
    """The EVSE started in the moment in which the board took the authorization back."""
    charger = Charger()
    charger.swipe(T1, [1])
    charger.wait(1000)
    assert charger.letters() == "PASO"
    charger.forget()
    charger.tx(1)
    assert charger.commands == [("stop_transaction", 1, "DeAuthorized", None)]
    assert charger.statuses == []


def test_an_evse_keeps_no_authorization_that_crossed_the_end_of_a_session():
    """A report from before it was authorized ends the grant here: there it must end too."""
    for name in ("SessionFinished", "TransactionFinished", "Deauthorized"):
        charger = Charger(connection_timeout=60)
        charger.swipe(T1, [1])
        charger.forget()
        charger.event(1, name)
        assert charger.commands == [("withdraw_authorization", 1)], name
        assert charger.statuses == []
        charger.tx(1)  # it was quicker
        assert charger.commands[1:] == [("stop_transaction", 1, "DeAuthorized", None)]
        # Once is enough, and a grant that was used needs none.
        charger = Charger(connection_timeout=60)
        charger.swipe(T1, [1])
        charger.withdraw({})
        charger.forget()
        charger.event(1, name)
        assert charger.commands == [], name
        charger = started()
        charger.event(1, name)
        assert charger.commands == [], name


def test_a_transaction_that_nobody_here_authorized_is_left_alone():
    # The EVSE had said that it is not authorized, or had the time to; or another grant came.
    for step in (
        lambda charger: charger.event(1, "Deauthorized"),
        lambda charger: charger.wait(5000),
    ):
        charger = Charger()
        charger.swipe(T1, [1])
        charger.wait(1000)
        step(charger)
        charger.forget()
        charger.tx(1)
        assert charger.commands == []
    # A withdrawal at the start is for what did not run; what runs is only reported late.
    charger = Charger()
    charger.auth.unreached = True
    charger.auth.evses_reached(0)
    charger.carry_out()
    charger.forget()
    charger.tx(1)
    assert charger.commands == []


def test_a_start_that_crosses_the_end_of_a_session_is_stopped_however_often_that_is_told():
    for ends in (("SessionFinished",) * 2, ("TransactionFinished", "SessionFinished")):
        charger = Charger()
        charger.swipe(T1, [1])
        for name in ends:
            charger.event(1, name)
        charger.forget()
        charger.tx(1)
        assert charger.commands == [("stop_transaction", 1, "DeAuthorized", None)], ends


def test_a_start_on_a_grant_that_timed_out_is_not_booked_to_the_next_driver():
    for answered in (False, True):
        charger = Charger()
        charger.swipe(T1, [1])
        charger.wait(1000)
        if answered:
            charger.event(1, "Deauthorized")
        charger.swipe(T2, [1])
        charger.forget()
        charger.tx(1)
        crossed = [("stop_transaction", 1, "DeAuthorized", None)]
        assert charger.commands == ([] if answered else crossed)
    # The same card again is no next driver, and whether its EVSE ever had the first one is open.
    charger = Charger()
    charger.swipe(T1, [1])
    charger.wait(1000)
    charger.swipe(T1.lower(), [1])
    charger.forget()
    charger.tx(1)
    assert charger.commands == []


def test_a_waiting_driver_does_not_get_a_charge_that_is_being_stopped():
    charger = Charger(connection_timeout=300)
    charger.swipe(T2, [1, 2])  # waits for a plug-in
    charger.auth.set_connection_timeout(10, charger.now)
    charger.swipe(T1, [1])
    charger.wait(9000)
    charger.ev(1)
    charger.wait(1000)  # the grant times out
    charger.forget()
    charger.tx(1)
    assert charger.kinds() == [("stop_transaction", 1)] and charger.letters(T2) == ""
    charger.event(1, "TransactionFinished")
    charger.ev(2)
    assert charger.letters(T2) == "S"


def test_a_charge_that_was_told_to_stop_and_did_not_hear_it_is_told_again():
    def by_card(charger):
        charger.swipe(T1, [1])
        return "Local"

    def by_withdrawal(charger):
        charger.withdraw(evse_id=1)
        return "DeAuthorized"

    for stop in (by_card, by_withdrawal):
        for name in ("TransactionStarted", "SessionResumed"):
            charger = started()
            reason = stop(charger)
            charger.forget()
            for _ in range(2):
                charger.event(1, name)
            assert charger.commands == [("stop_transaction", 1, reason, None)] * 2, name
            charger.event(1, "TransactionFinished")
            charger.wait(5000)
            charger.forget()
            charger.event(1, name)
            assert charger.commands == [], "that is another one"


# Without memory


class Short(list):
    """Effects, the next of which but `left` find no memory."""

    left = 99

    def append(self, effect):
        self.left -= 1
        if self.left < 0:
            raise MemoryError
        super().append(effect)

    def extend(self, effects):
        self.left -= 1
        if self.left < 0:
            raise MemoryError
        super().extend(effects)


def short(charger, left):
    charger.auth.effects = effects = Short()
    effects.left = left


def granted(charger):
    """EVSEs that hold a grant, and those that heard of one."""
    held = [evse.id for evse in charger.auth.evses if evse.grant]
    return held, [i + 1 for i, flag in enumerate(charger.flags) if flag]


def until_done(charger, call, *arguments):
    """`call`, which may find no memory, and what the charger does when there is some."""
    try:
        call(*arguments)
        done = True
    except MemoryError:
        done = False
    taken = list(charger.auth.take_effects())
    charger.auth.effects = taken
    charger.carry_out()
    charger.wait(200)
    return done


def test_no_token_stays_in_process_for_ever_and_no_grant_is_held_in_silence():
    for members in ({}, {"prevalidated": True}):
        for plugged in (False, True):
            left = 0
            while True:
                charger = Charger(connection_timeout=60)
                if plugged:
                    charger.ev(1)
                provided = token(T1, None, **members)
                short(charger, left)
                done = until_done(charger, charger.auth.provide_token, provided, 0)
                charger.wait(10_000)
                waits = charger.letters()[-1:] == "A"
                assert charger.auth.tokens_in_process() == waits, (members, left)
                held, told = granted(charger)
                assert held == told, (members, plugged, left)
                charger.wait(60_000)
                assert charger.auth.tokens_in_process() == 0
                charger.event(1, "Deauthorized")
                charger.swipe(T2, [1])
                if done:
                    break
                left += 1
            assert left > 1


def test_a_plug_in_without_memory_is_there_when_it_is_told_again():
    for left in range(4):
        charger = Charger(connection_timeout=60)
        charger.swipe(T1)
        assert charger.letters() == "PA"
        short(charger, left)
        event = {"event": "SessionStarted", "session_started": {"reason": "EVConnected"}}
        if not until_done(charger, charger.auth.session_event, 1, event, 0):
            assert granted(charger) == ([], [])
            charger.ev(1)
        assert charger.letters() == "PAS" and granted(charger) == ([1], [1]), left


def test_an_event_for_which_there_was_no_memory_can_be_told_again():
    def waiting(charger):
        charger.swipe(T1, [1])

    def withdrawn(charger):
        waiting(charger)
        charger.withdraw()

    for before in (waiting, withdrawn):
        for name in ("TransactionStarted", "SessionResumed", "TransactionFinished"):
            whole = Charger()
            before(whole)
            whole.forget()
            whole.event(1, name)
            for left in range(3):
                charger = Charger()
                before(charger)
                charger.forget()
                short(charger, left)
                event = {"event": name}
                if not until_done(charger, charger.auth.session_event, 1, event, 0):
                    charger.event(1, name)
                assert set(charger.kinds()) == set(whole.kinds()), (name, left)
                assert charger.auth.evses[0].transaction_active == (
                    whole.auth.evses[0].transaction_active
                )


def test_all_evses_hear_the_withdrawal_of_a_start_that_found_no_memory_for_it():
    charger = Charger()
    charger.auth.unreached = True
    short(charger, 1)
    assert not until_done(charger, charger.auth.evses_reached, 0)
    charger.auth.evses_reached(0)
    charger.carry_out()
    assert set(charger.kinds()) == {("withdraw_authorization", 1), ("withdraw_authorization", 2)}
    charger.forget()
    charger.auth.evses_reached(0)
    charger.carry_out()
    assert charger.commands == []


def test_a_setting_that_found_no_memory_is_not_in_force():
    charger = Charger(
        master_pass_group_id="OLD", connection_timeout=10, selection_algorithm="FindFirst"
    )
    for setting in ("master_pass_group_id", "connection_timeout"):
        value = "new" if setting[0] == "m" else 20
        short(charger, 0)
        try:
            getattr(charger.auth, "set_" + setting)(value, 0)
            raise AssertionError("there was memory")
        except MemoryError:
            pass
        charger.auth.effects = []
    assert charger.auth.connection_timeout == 10
    charger.validators = always(result("Invalid"), result(parent="NEW"))
    charger.swipe(T1)
    assert charger.letters() == "PAS", "no master pass"
