"""The shell around the authorization core."""

from auth_fixture import result, token
from conn_rig import Quiet

from tapauth.core.authorizer import Authorizer
from tapauth.core.settings import AuthSettings
from tapauth.station import Station

from moved_clock import MovedClock


def test_what_is_in_force_is_shown_as_it_was_set():
    settings = AuthSettings(connection_timeout=60, master_pass_group_id="Old")
    station = Station(Authorizer(settings, [1]), MovedClock(), Quiet())
    saved = []
    station.connect(None, None, lambda *setting: saved.append(setting), [])
    assert station.in_force() == {"connection_timeout": 60, "master_pass_group_id": "Old"}
    assert station.set_master_pass_group_id("New Group") and station.set_connection_timeout(45)
    assert not station.set_connection_timeout(5)
    assert not station.set_master_pass_group_id(None)
    assert station.in_force() == {"connection_timeout": 45, "master_pass_group_id": "New Group"}
    assert saved == [("master_pass_group_id", "New Group"), ("connection_timeout", 45)]


# Without memory


class ShortLog(Quiet):
    """A log that finds no memory while `short`."""

    short = False

    def error(self, *_):
        if self.short:
            raise MemoryError

    info = warning = error


class Board:
    """A station whose edges find no memory for what is named in `short`; `said` has the rest."""

    def __init__(self, evses, log, validators=1, **settings):
        self.clock = MovedClock()
        settings["connection_timeout"] = 60
        self.core = Authorizer(AuthSettings(**settings), [1] * evses, validators)
        self.station = Station(self.core, self.clock, log)
        self.short = []
        self.said = []
        self.saved = []
        self.answer = result()
        self.station.connect(
            self.on_status, self.on_command, self.on_save, [self.on_own, self.on_remote]
        )

    def on_find(self, what):
        if what in self.short:
            raise MemoryError

    def on_status(self, token, status, messages):
        self.on_find(status)
        self.said.append(status)

    def on_command(self, evse_id, command):
        self.on_find("command")
        self.said.append((evse_id, command["command"]))

    def on_save(self, key, value):
        self.on_find("save")
        self.saved.append((key, value))

    def on_own(self, request_id, token):
        self.on_find("own list")
        self.station.answer(request_id, self.answer)

    def on_remote(self, request_id, token):
        self.on_find("remote")
        self.said.append("remote")
        self.station.answer(request_id, result())

    def tap(self, value, connectors=None):
        self.station.provide_token(token(value, connectors))

    def charge(self, evse_id):
        self.tap("card " + str(evse_id), [evse_id])
        assert self.station.session_event(evse_id, {"event": "TransactionStarted"}) is None


def test_all_charges_are_stopped_when_there_is_no_memory_even_to_say_that_there_is_none():
    log = ShortLog()
    board = Board(3, log, master_pass_group_id="GROUP")
    for evse_id in (1, 2, 3):
        board.charge(evse_id)
    del board.said[:]
    board.answer = result(parent="GROUP")
    board.short = ["command"]
    log.short = True
    board.tap("master")
    board.short = []
    board.station.wake()
    stops = [said for said in board.said if isinstance(said, tuple)]
    assert stops == [(evse_id, "stop_transaction") for evse_id in (1, 2, 3)]


def test_a_fault_of_one_edge_does_not_keep_the_stops_behind_it():
    board = Board(2, Quiet(), master_pass_group_id="GROUP")
    board.charge(1)
    board.charge(2)
    del board.said[:]

    def fault(token, status, messages):
        raise KeyError("a fault elsewhere")

    board.station.connect(fault, board.on_command, board.on_save, [board.on_own])
    board.answer = result(parent="GROUP")
    board.tap("master")
    assert board.said == [(1, "stop_transaction"), (2, "stop_transaction")]


def test_a_status_that_could_not_be_told_keeps_no_other_from_it():
    board = Board(1, Quiet())
    board.short = ["Accepted"]
    board.tap("card")
    assert board.said == [(1, "authorize_response"), "Processing", "UsedToStart"]
    del board.said[:]
    board.station.session_event(1, {"event": "TransactionStarted"})
    board.tap("card")
    assert board.said == [(1, "stop_transaction"), "Processing", "UsedToStop"]


def test_a_card_that_could_not_be_looked_up_is_refused_whatever_others_say():
    board = Board(1, Quiet(), 2)
    board.short = ["own list"]
    board.tap("blocked")
    board.short = []
    board.clock.advance(100)
    board.station.wake()
    assert board.said == ["Processing", "Rejected"]
    board.answer = result("Unknown")
    board.tap("known elsewhere")
    assert board.said[-1] == "UsedToStart" and "remote" in board.said
    board.station.session_event(1, {"event": "TransactionStarted"})
    board.station.session_event(1, {"event": "SessionFinished"})
    board.short = ["remote"]
    board.tap("another")
    board.short = []
    board.clock.advance(100)
    board.station.wake()
    assert board.said[-1] == "Rejected"


def test_a_setting_that_found_no_memory_is_kept_when_there_is_some():
    board = Board(1, Quiet(), master_pass_group_id="OLD")
    board.short = ["save"]
    assert board.station.set_master_pass_group_id("")
    try:
        board.station.wake()
    except MemoryError:
        pass
    assert board.saved == []
    board.short = []
    board.station.wake()
    board.station.wake()
    assert board.saved == [("master_pass_group_id", "")]
    # The operator's setting wins over a configuration that says the same today.
    board = Board(1, Quiet(), master_pass_group_id="OLD")
    assert board.station.set_master_pass_group_id("OLD")
    assert board.saved == [("master_pass_group_id", "OLD")]


def test_what_is_done_goes_before_what_is_told_and_both_in_their_order():
    board = Board(1, Quiet())
    order = []

    def command(evse_id, command):
        order.append(command["command"])
        if order[-1] == "authorize_response":
            # Such as an EVSE that answers at once, from within.
            board.station.session_event(1, {"event": "TransactionStarted"})
            board.station.withdraw({})

    board.station.connect(lambda *status: order.append(status[1]), command, None, [board.on_own])
    board.tap("card")
    assert order == [
        "authorize_response",
        "stop_transaction",
        "Processing",
        "Accepted",
        "UsedToStart",
    ]
