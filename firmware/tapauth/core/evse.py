"""An EVSE as the authorization core sees it: connectors, the grant, the transaction, one timer.

An EVSE is several machines side by side: each of its connectors (TRANSITIONS below), its plug-in,
its grant, and its transaction. Looked at from outside it is in one state, which is what is most:

    Idle         EVConnected                            -> PluggedIn, Granted
    Idle         token                                  -> Granted
    Idle         TransactionStarted                     -> Unclaimed, Stopping
    Idle         SessionResumed                         -> Unclaimed
    PluggedIn    token, EVConnected, Deauthorized, event -> Granted
    PluggedIn    timeout                                -> TooLate
    PluggedIn    TransactionStarted                     -> Unclaimed, Charging, Stopping
    PluggedIn    SessionResumed                         -> Unclaimed
    PluggedIn    TransactionFinished, SessionFinished   -> Idle
    TooLate      TransactionStarted                     -> Unclaimed, Stopping
    TooLate      SessionResumed                         -> Unclaimed
    TooLate      SessionFinished                        -> Idle
    Granted      TransactionStarted                     -> Charging, Stopping
    Granted      withdraw, set_master_pass_group_id     -> Withdrawing
    Granted      timeout, Deauthorized                  -> Idle, PluggedIn
    Granted      SessionResumed                         -> Unclaimed
    Granted      TransactionFinished, SessionFinished   -> Idle
    Withdrawing  TransactionStarted                     -> Stopping
    Withdrawing  timeout                                -> Idle, PluggedIn
    Withdrawing  Deauthorized                           -> Idle, PluggedIn, Granted
    Withdrawing  SessionResumed                         -> Unclaimed
    Withdrawing  TransactionFinished, SessionFinished   -> Idle
    Charging     token, withdraw                        -> Stopping
    Charging     Deauthorized                           -> Unclaimed
    Charging     TransactionFinished, SessionFinished   -> Idle
    Unclaimed    token                                  -> Charging, Stopping
    Unclaimed    withdraw                               -> Stopping
    Unclaimed    TransactionFinished                    -> Idle, TooLate
    Unclaimed    SessionFinished                        -> Idle
    Stopping     TransactionFinished                    -> Idle, TooLate
    Stopping     SessionFinished                        -> Idle

A token is one that the core decides about, an event any of which no more is said here. TooLate is
a plug-in that nobody authorized in time, Unclaimed a transaction without a grant. Other inputs
leave the EVSE where it is. tools/charts.py reads the table.

Commands and events cross, as the EVSE may be far away. Three notes of what may be under way keep
the core from believing an event that is older than what it said (`answers`, `lapsed`, `copied`):

* A withdrawal is owed an answer, Deauthorized. It must not end the next driver's grant, so a grant
  counts the answers that are owed to withdrawals before it, and an EVSE answers in order.
* After a grant ended unused (`lapsed`) a transaction may start that the EVSE began before it heard
  so. Such a one is stopped, unless it must be the next driver's.
* After a grant's transaction is over (`copied`) a second copy of the grant may reach the EVSE.
  What that starts is stopped, unless somebody else was granted the EVSE since.

Each of them ends by itself after _ANSWER_MS from when the command has left the board: an EVSE that
never answers keeps nobody out.
"""

from tapauth.compat import const
from tapauth.core.shapes import normal

_AVAILABLE = const(0)
_UNAVAILABLE = const(1)
_FAULTED = const(2)
_OCCUPIED = const(3)
_FAULTED_OCCUPIED = const(4)
_UNAVAILABLE_FAULTED = const(5)

STATES = (
    "AVAILABLE",
    "UNAVAILABLE",
    "FAULTED",
    "OCCUPIED",
    "FAULTED_OCCUPIED",
    "UNAVAILABLE_FAULTED",
)


def _changing(changes: dict) -> bytes:
    """The new state for each old one, in the order of STATES; what is not named stays."""
    return bytes([changes.get(state, state) for state in range(len(STATES))])


# Event on the wire: what it makes of a connector.
TRANSITIONS = {
    "TransactionStarted": _changing({_AVAILABLE: _OCCUPIED}),
    "SessionFinished": _changing({_OCCUPIED: _AVAILABLE, _FAULTED_OCCUPIED: _FAULTED}),
    "Disabled": _changing({_AVAILABLE: _UNAVAILABLE, _FAULTED: _UNAVAILABLE_FAULTED}),
    "Enabled": _changing({_UNAVAILABLE: _AVAILABLE, _UNAVAILABLE_FAULTED: _FAULTED}),
    "PermanentFault": _changing(
        {
            _AVAILABLE: _FAULTED,
            _UNAVAILABLE: _UNAVAILABLE_FAULTED,
            _OCCUPIED: _FAULTED_OCCUPIED,
        }
    ),
    "PermanentFaultCleared": _changing(
        {
            _FAULTED: _AVAILABLE,
            _UNAVAILABLE_FAULTED: _UNAVAILABLE,
            _FAULTED_OCCUPIED: _OCCUPIED,
        }
    ),
}
del _changing

# An EVSE answers a withdrawal within this time, or not at all.
_ANSWER_MS = const(5000)
_MAX_ANSWERS = const(8)


def key_of(id_token: dict) -> str:
    """What an IdToken is compared by: its type, and its value in whichever spelling."""
    return id_token["type"] + ":" + normal(id_token)


def key_of_parent(parent: dict | None) -> str | None:
    """What a parent id is compared by, whatever its case; None for none and for an empty one.

    Its type does not matter: a group is known by its name, which tables, pages and validators give
    different types. An empty parent id is no parent: it would make strangers one family.
    """
    return parent["value"].lower() or None if parent else None


class Grant:
    """An authorization that an EVSE holds: EVerest's `identifier`."""

    def __init__(self, token: dict, key: str, parent: dict | None):
        self.token = token
        """The token as granted."""
        self.key = key
        self.parent = parent
        """The parent id that a validator vouched for; the token's own claim does not count."""
        self.parent_key = key_of_parent(parent)
        self.withdrawn = False
        """Withdrawn was published; the EVSE has yet to report that it is Deauthorized."""
        self.left: bool | None = None
        """Whether its command may have left the board; None while nothing says that it waits."""
        self.older = 0
        """How many of the answers that the EVSE owes are to withdrawals before this grant."""

    def rebuilt(self, evse_id: int) -> dict:
        """The token with only what an EVSE's identifier keeps of it, parent id included."""
        token = {
            "id_token": self.token["id_token"],
            "authorization_type": self.token["authorization_type"],
            "connectors": [evse_id],
        }
        if self.parent:
            token["parent_id_token"] = self.parent
        return token


class Evse:
    """One EVSE with `connectors` connectors, all AVAILABLE."""

    def __init__(self, evse_id: int, connectors: int):
        self.id = evse_id
        self.connectors = bytearray(connectors)
        """State of connector i + 1, an index into STATES."""
        self.grant: Grant | None = None
        self.transaction_active = False
        self.plug_in_timeout = False
        self.plugged = 0
        """The connector of the last plug-in; 0 when no car is known to be plugged in."""
        self.stopping = ""
        """Why the transaction was told to stop; empty when it was not."""
        self.deadline: int | None = None
        """When the one timer fires, ms: of the grant if there is one, else of the plug-in."""
        self.answers: list[int] = []
        """A withdrawal that was sent is answered by Deauthorized: until when, ms, oldest first."""
        self.copied = 0
        """The grant's transaction is over, and a copy of the grant may be with the EVSE, which is
        told to drop it: until when, ms, a start may cross that."""
        self.lapsed = 0
        """The last grant is over, and is taken back: until when, ms, a start may cross that. It is
        not one of a newer grant, as long as the EVSE owes an answer about the former one."""
        self.lapsed_key = ""  # whose grant that was

    def has_connector(self, connector_id: int) -> bool:
        """Whether there is a connector of that number."""
        return 1 <= connector_id <= len(self.connectors)

    def connector_event(self, connector_id: int, event: str) -> bool:
        """Feed a connector's state machine. False when there is no such connector."""
        if not self.has_connector(connector_id):
            return False
        self.connectors[connector_id - 1] = TRANSITIONS[event][self.connectors[connector_id - 1]]
        return True

    def free_connectors(self) -> None:
        """The session is over: whichever connector it was on, none stays occupied."""
        self.plugged = 0
        for connector_id in range(1, len(self.connectors) + 1):
            self.connector_event(connector_id, "SessionFinished")

    def is_plug_faulty(self) -> bool:
        """Whether the connector that a car is plugged into is faulted."""
        return self.plugged > 0 and self.connectors[self.plugged - 1] in (
            _FAULTED,
            _FAULTED_OCCUPIED,
            _UNAVAILABLE_FAULTED,
        )

    def is_available(self) -> bool:
        """Whether a new token may be authorized here."""
        if self.plug_in_timeout or self.grant or self.transaction_active:
            return False
        usable = False
        for state in self.connectors:
            if state in (_OCCUPIED, _FAULTED_OCCUPIED):
                return False
            # Not `state == _AVAILABLE`: a faulted connector of a disabled EVSE counts in EVerest,
            # here it does not.
            if state == _AVAILABLE:
                usable = True
        return usable

    def is_unavailable(self) -> bool:
        """Whether no token can mean this EVSE: all of it is disabled and nothing runs on it."""
        if self.transaction_active:
            return False  # always within reach of whoever may stop it
        for state in self.connectors:
            if state not in (_UNAVAILABLE, _UNAVAILABLE_FAULTED):
                return False
        return True

    def authorize(self, grant: Grant, now: int) -> None:
        """Hold a grant."""
        self.forget_late_answers(now)
        grant.older = len(self.answers)
        self.copied = 0
        # As long as the EVSE owes an answer a start may be the former driver's. The same card's is
        # welcome whichever grant it uses.
        if not grant.older or grant.key == self.lapsed_key:
            self.lapsed = 0
        self.grant = grant

    def end_grant(self) -> None:
        """Forget the grant, and the timer with it."""
        self.grant = None
        self.deadline = None

    # Withdrawals and their answers. Commands and events cross: an EVSE may report Deauthorized
    # for a withdrawal when the next driver already has a grant, which it must not end. So each
    # withdrawal is owed one answer for a while, and a grant remembers how many are owed to its
    # predecessors; an EVSE answers in order.

    def withdrawal_sent(self, now: int) -> None:
        """An answer is owed from now on."""
        self.forget_late_answers(now)
        if len(self.answers) >= _MAX_ANSWERS:
            # Withdrawals again and again must not fill the memory.
            self._answered()
        self.answers.append(now + _ANSWER_MS)

    def hold_answers(self, now: int) -> None:
        """Commands have not left the board yet: the time for the answers begins anew."""
        if self.grant and self.grant.left is None:
            # Its command may be among those that wait. One that may have left stays so.
            self.grant.left = False
        self.forget_late_answers(now)
        for i in range(len(self.answers)):
            self.answers[i] = now + _ANSWER_MS
        if self.lapsed > now:
            self.lapse(self.lapsed_key, now)
        if self.copied > now:
            self.copied = now + _ANSWER_MS

    def lapse(self, key: str, now: int) -> None:
        """The grant of a token ended unused, and the EVSE, which may have it, is to drop it."""
        self.lapsed = now + _ANSWER_MS
        self.lapsed_key = key

    def used(self, now: int) -> None:
        """The transaction of the grant is over."""
        if self.grant and self.transaction_active:
            self.copied = now + _ANSWER_MS

    def forget_answers(self) -> None:
        """A transaction or a session began or ended: what is reported now is no late answer."""
        self.answers.clear()
        if self.grant:
            self.grant.older = 0

    def forget_late_answers(self, now: int) -> None:
        """Do not expect those any more that have not come in time."""
        while self.answers and self.answers[0] <= now:
            self._answered()

    def deauthorized(self, now: int) -> bool:
        """The EVSE reports that it is not authorized: ends the grant, unless it was made since.

        True when that answers no withdrawal.
        """
        self.forget_late_answers(now)
        # Looked at before the answer is counted: it may be the last that is owed to others.
        older = self.grant and self.grant.older
        unasked = not self.answers
        if self.answers:
            self._answered()
        # It has dropped what it had, so nothing that starts from now on has crossed anything.
        self.lapsed = self.copied = 0
        if self.grant and not older:
            self.end_grant()  # without a grant the timer is the plug-in's
        return unasked

    def _answered(self) -> None:
        self.answers.pop(0)
        if self.grant and self.grant.older:
            self.grant.older -= 1
