"""Who may start and stop where: EVerest's auth behaviour without any input or output of its own.

One object holds the tokens in process, the EVSEs with their grants (evse.py), and the queue of
plug-ins that no authorization has used. Inputs are method calls that carry the time (`now`,
milliseconds of a clock that never goes back). An input does first what was due before it, then
changes the state and appends effects (effects.py), which the shell fetches with take_effects()
after each call and carries out in order. Nothing here waits, and nothing here calls out.

A token in process (class Process) waits for its validators, one after the other, and with the
algorithms PlugEvents and PlugEventsLIFO perhaps for a plug-in. It leaves with exactly one final
status; with UsedToStart it becomes the Grant of an EVSE. Its ways, as tools/charts.py reads them:

    Provided    provide_token    -> Validating, Waiting, Granted, Charging
    Provided    provide_token    -> Rejected, UsedToStop, UsedToReauthorize
    Validating  validator        -> Waiting, Granted, Charging
    Validating  validator        -> Rejected, UsedToStop, UsedToReauthorize
    Validating  withdraw         -> Withdrawn
    Waiting     event            -> Granted, Charging, Rejected
    Waiting     timeout          -> TimedOut
    Waiting     withdraw         -> Withdrawn
    Granted     TransactionStarted -> Charging
    Granted     timeout          -> TimedOut
    Granted     withdraw, set_master_pass_group_id, SessionResumed -> Withdrawn
    Granted     Deauthorized, TransactionFinished, SessionFinished -> Unused
    Charging    Deauthorized, TransactionFinished, SessionFinished -> Used

A validator is its answer, or its silence. An event is any of the EVSE whose plug-in the token may
use, as a rule the plug-in itself. Of Unused and Used nothing is published. Other inputs leave a
token where it is.

The winner of a conflict:

* A timer that is due wins over the input that comes at the same time.
* A master pass wins over whatever the other validators say: it stops, and never starts.
* A withdrawal ends a token that waits, a master pass too, whatever it would have come to.
* A token's own transaction comes before its validators. Its family's comes before a start only
  where no EVSE is free, or where the operator wants it so.
* Of the validators' results the first that is accepted and fits starts; one that was refused at an
  EVSE is followed by the next.
* Of the tokens that wait for a plug-in the longest waiting gets it, but one that may be used at
  that EVSE gets it before one that may not.

Any line may raise MemoryError. So a step does first what needs memory, and what is not done stays
due: a token between two steps (_NOTHING) is refused at the next poll(), a timer fires again.

Nothing is reserved here: whoever builds reservations asks them in provide_token() before
validating and in choice.refusal() before authorizing, and tells them of connector changes in
session_event().
"""

from tapauth.compat import const
from tapauth.core import choice
from tapauth.core.effects import (
    AUTHORIZE_RESPONSE,
    SAVE,
    STATUS,
    STOP_TRANSACTION,
    VALIDATE,
    WITHDRAW_AUTHORIZATION,
)
from tapauth.core.evse import TRANSITIONS, Evse, Grant, key_of, key_of_parent
from tapauth.core.settings import AuthSettings
from tapauth.core.shapes import (
    check_connection_timeout,
    check_master_pass_group_id,
    check_provided_token,
    check_session_event,
    check_validation_result,
    check_validation_result_update,
    check_withdraw_request,
)

NO_MESSAGES: list = []
_NO_EFFECTS: tuple = ()
_UNKNOWN = {
    "authorization_status": "Unknown",
    "tariff_messages": NO_MESSAGES,
}  # its validator failed
_NOT_NOW = {"authorization_status": "NotAtThisTime", "tariff_messages": NO_MESSAGES}
_CARS = ("PlugAndCharge", "Autocharge")

# What a token in process waits for.
_NOTHING = const(0)  # it is between two steps; seen from outside only when memory ran out there
_VALIDATOR = const(1)
_PLUG_IN = const(2)


class Process:
    """A token in process."""

    def __init__(self, token: dict, key: str, now: int):
        self.token = token
        """As it is to be published next."""
        self.key = key
        self.waits_for = _NOTHING
        self.deadline = now
        """When it has waited too long, ms. For _NOTHING that is at once."""
        self.request_id = 0
        """Of the validator that was asked last."""
        self.asked = 0
        """Validators asked so far."""
        self.results: list[dict] = []
        """One for each validator that has answered or failed."""
        self.trying = 0
        """Index of the result to authorize it with. While it waits for a plug-in, that one has
        been published as Accepted."""
        self.parents: list[str] = []
        """Values of the parent ids it was accepted with, whatever became of those results."""
        self.candidates: list[Evse] = []
        """EVSEs it may be authorized at; empty until it is validated."""


def _with_parent(token: dict, parent: dict | None) -> dict:
    if not parent or token.get("parent_id_token") == parent:
        return token
    token = dict(token)
    token["parent_id_token"] = parent
    return token


def _at(token: dict, parent: dict | None, evse_ids: list[int]) -> dict:
    """`token` as used at these EVSEs."""
    token = dict(token)
    if parent:
        token["parent_id_token"] = parent
    token["connectors"] = evse_ids
    return token


def _downgraded(result: dict, status: str) -> dict:
    result = dict(result)
    result["authorization_status"] = status
    return result


class Authorizer:
    """The authorization of up to 8 EVSEs of up to 4 connectors each.

    `connectors[i]` is how many connectors EVSE i + 1 has; `validators` are asked in order, from
    index 0. After a restart nothing is authorized. Raises ValueError, naming the setting at
    fault.
    """

    def __init__(self, settings: AuthSettings, connectors: list[int], validators: int = 1):
        settings.check()
        if not 1 <= len(connectors) <= 8:
            raise ValueError("connectors: 1 to 8 EVSEs")
        for count in connectors:
            if type(count) is not int or not 1 <= count <= 4:
                raise ValueError("connectors: 1 to 4 for each EVSE")
        if type(validators) is not int or not 0 <= validators <= 128:
            raise ValueError("validators: 0 to 128")
        self.settings = settings
        self.evses = [Evse(i + 1, connectors[i]) for i in range(len(connectors))]
        self.effects: list[tuple] = []
        self.counters = {
            "duplicates": 0,
            "expired": 0,
            "late_results": 0,
            "over_limit": 0,
            "refused_events": 0,
            "refused_results": 0,
            "refused_settings": 0,
            "refused_tokens": 0,
            "refused_updates": 0,
            "refused_withdrawals": 0,
            "validator_failures": 0,
        }
        """What was refused, by kind, since the start."""
        self.unreached = False
        """Set by the shell of EVSEs that outlive a restart of the core, until evses_reached():
        they may be authorized from before it."""
        self._validators = validators
        self._timeout = settings.connection_timeout or 0
        self._group = settings.master_pass_group_id.lower()
        self._request_id = 0  # the last one given out
        self._tokens: list[Process] = []  # those waiting for a plug-in: longest waiting first
        self._queue: list[Evse] = []  # plug-ins that no authorization has used, oldest first
        self._clock: tuple[int, int] | None = None  # Unix seconds, and the `now` they were true

    def take_effects(self) -> list | tuple:
        """The effects since the last call, in order."""
        # The shell asks ten times a second: an empty answer takes no memory.
        effects = self.effects
        if not effects:
            return _NO_EFFECTS
        self.effects = []
        return effects

    @property
    def connection_timeout(self) -> int:
        """Seconds that a grant from now on waits for its transaction."""
        return self._timeout

    def tokens_in_process(self) -> int:
        """How many tokens wait for a validator or a plug-in."""
        return len(self._tokens)

    # Inputs. Those that may refuse what they got return None, or why: text for the log.

    def provide_token(self, token: dict, now: int) -> str | None:
        """A ProvidedIdToken was presented. Malformed ones leave no trace but the counter."""
        self.poll(now)
        error = check_provided_token(token)
        if error:
            return self._refuse("refused_tokens", error)
        key = key_of(token["id_token"])
        # At a disabled EVSE too: a grant that the token holds there is a grant still.
        if self._is_duplicate(key, self._named(token)):
            self.counters["duplicates"] += 1
            return None
        evses = self._referenced(token)
        # From here on the token is owed a final status.
        self._publish(token, "Processing")
        # Only a card that is tapped again is a wish to stop; a car shows its token by itself.
        if token["authorization_type"] == "RFID":
            for evse in evses:
                if evse.grant and evse.grant.key == key:  # its transaction runs: no duplicate
                    self._publish(*self._stop_locally(evse, token, token, evse.grant.parent))
                    return None
        if not self._is_worth_validating(evses):
            self._refuse_early(token)
        elif self.tokens_in_process() >= self.settings.max_tokens_in_process:
            self.counters["over_limit"] += 1
            self._refuse_early(token)
        else:
            process = Process(token, key, now)
            self._tokens.append(process)
            # Its provider vouches for such a token, in the place of all validators.
            if token.get("prevalidated"):
                result = {"authorization_status": "Accepted", "tariff_messages": NO_MESSAGES}
                if "parent_id_token" in token:
                    result["parent_id_token"] = token["parent_id_token"]
                process.results.append(result)
                self._decide(process, now)
            else:
                self._ask_next(process, now)
        return None

    def validation_result(
        self, request_id: int, result: dict | None, now: int, settled: bool = False
    ) -> str | None:
        """A validator's answer to the request of that id; None when it failed.

        A malformed answer counts as a failure. After a `settled` answer, of a validator that
        knows the token for sure, the remaining ones are not asked. An answer to a request that
        is over, or never was, is counted and ignored.
        """
        self.poll(now)
        for process in self._tokens:
            if process.waits_for == _VALIDATOR and process.request_id == request_id:
                break
        else:
            return self._refuse("late_results", "no such validation is under way")
        error = None
        if result is not None:
            error = check_validation_result(result)
            if error:
                self.counters["refused_results"] += 1
        # Silence and nonsense vouch for nobody; the next validator may.
        if result is None or error:
            self.counters["validator_failures"] += 1
            result = _UNKNOWN
            settled = False
        elif "tariff_messages" not in result:
            result = dict(result)
            result["tariff_messages"] = NO_MESSAGES
        process.results.append(result)
        if settled:
            # As if all had been asked.
            process.asked = self._validators
        self._ask_next(process, now)
        return error

    def validator_unreached(self, request_id: int, now: int) -> None:
        """The request of that id was lost on its way, for want of memory.

        Nobody knows what its validator would have said, so no other one's word may count for it.
        """
        for process in self._tokens:
            if process.waits_for == _VALIDATOR and process.request_id == request_id:
                # Due at once as a failure, and no other validator is asked.
                process.asked = self._validators
                process.deadline = now

    def validation_result_update(self, update: dict, now: int) -> str | None:
        """A validator tells more about the token that an EVSE is authorized for.

        Only the parent id is taken over, as in EVerest: a negative update stops nothing.
        """
        self.poll(now)
        error = check_validation_result_update(update)
        if error:
            return self._refuse("refused_updates", error)
        evse = self._evse(update["connector_id"])
        grant = evse and evse.grant
        if not evse or not grant or grant.withdrawn:
            return self._refuse("refused_updates", "no authorization at that EVSE")
        result = update["validation_result"]
        grant.parent = result.get("parent_id_token")
        grant.parent_key = key_of_parent(grant.parent)
        messages = result.get("tariff_messages", NO_MESSAGES)
        self._publish(grant.rebuilt(evse.id), "Accepted", messages)
        return None

    def session_event(self, evse_id: int, event: dict, now: int) -> str | None:
        """An EVSE reports a SessionEvent, PermanentFault or PermanentFaultCleared.

        When MemoryError ends this it may be called again with the same event, until it is done.
        """
        self.poll(now)
        error = check_session_event(event)
        evse = self._evse(evse_id)
        if error or not evse:
            return self._refuse("refused_events", error or "no such EVSE")
        connector_id = event.get("connector_id", 1)
        if not evse.has_connector(connector_id):
            # Of an event that is wrong in one thing nothing is believed.
            return self._refuse("refused_events", "no such connector")
        name = event["event"]
        # The connector first: whether the EVSE is free or disabled depends on it.
        if name in TRANSITIONS and not (
            self.settings.ignore_connector_faults and name.startswith("PermanentFault")
        ):
            evse.connector_event(connector_id, name)
        if name == "SessionStarted":
            if event["session_started"]["reason"] == "EVConnected":
                self._plugged_in(evse, connector_id, now)
        elif name == "TransactionStarted":
            self._transaction_started(evse, now)
        elif name in ("SessionResumed", "SessionResumed:"):  # EVerest's own codec spells it so
            self._session_resumed(evse, now)
        elif name == "TransactionFinished":
            self._transaction_finished(evse, now)
        elif name == "SessionFinished":
            self._transaction_finished(evse, now)
            evse.plug_in_timeout = False
            evse.copied = 0  # who plugs in anew is not what crosses
            evse.free_connectors()
        elif name == "Deauthorized":
            grant = evse.grant
            if evse.deauthorized(now):
                self._drop_at_evse(evse, grant, now)
        # Last, as any of these may have made the plug-in one that can be used.
        if evse in self._queue:
            self._serve(evse, now)
        return None

    def withdraw(self, request: dict, now: int) -> str:
        """A WithdrawAuthorizationRequest; returns the WithdrawAuthorizationResult.

        Tokens in process end as Withdrawn at once, whatever they wait for. A transaction without
        a grant (after a restart) is stopped too, by a request that names no token.
        """
        self.poll(now)
        if check_withdraw_request(request):
            self.counters["refused_withdrawals"] += 1
            return "Rejected"
        evse_id = request.get("evse_id")
        if evse_id is not None and not self._evse(evse_id):
            return "EvseNotFound"
        # Without a key every token is meant, and without an EVSE every EVSE.
        key = key_of(request["id_token"]) if "id_token" in request else None
        found = False
        # A token that names no EVSE refers to the one that is withdrawn from, too.
        for process in list(self._tokens):
            token = process.token
            if key in (None, process.key) and (
                evse_id is None or "connectors" not in token or evse_id in token["connectors"]
            ):
                self._finish(process, "Withdrawn")
                found = True
        for evse in self.evses:
            if evse_id is None or evse.id == evse_id:
                grant = evse.grant
                if key is None or (grant and grant.key == key):
                    found = self._withdraw_from(evse, now) or found
        return "Accepted" if found else "AuthorizationNotFound"

    def set_connection_timeout(self, seconds: int, now: int) -> bool:
        """Seconds, 10..300, for timers that start from now on. False: refused."""
        self.poll(now)
        if check_connection_timeout(seconds):
            self.counters["refused_settings"] += 1
            return False
        # Saved first: without memory for that nothing has changed.
        self.effects.append((SAVE, "connection_timeout", seconds))
        self._timeout = seconds
        return True

    def set_master_pass_group_id(self, group_id: str, now: int) -> bool:
        """At most 36 printable ASCII characters; empty: no such group. False: refused.

        A card of the group must start nothing: a grant of one that no transaction uses is
        withdrawn, and one that waits for a plug-in gets none.
        """
        self.poll(now)
        if check_master_pass_group_id(group_id):
            self.counters["refused_settings"] += 1
            return False
        group = group_id.lower()
        self.effects.append((SAVE, "master_pass_group_id", group_id))
        self._group = group
        for evse in self.evses:
            grant = evse.grant
            # A transaction goes on: its card was no master pass when it started.
            if group and grant and grant.parent_key == group and not evse.transaction_active:
                self._withdraw_from(evse, now)
        return True

    def evses_reached(self, now: int) -> None:
        """The EVSEs hear the core, again or for the first time since its start.

        If they were `unreached` until now, what they are authorized for since before the start
        ends. An EVSE with a grant by now is left alone: the withdrawal went before the grant.
        """
        if self.unreached:
            self.poll(now)
            for evse in self.evses:
                if not evse.grant and not evse.transaction_active:
                    self._withdraw_at(evse, now)
            self.unreached = False

    def commands_wait(self, now: int) -> None:
        """Some commands have not left the board yet: none of them can be answered late."""
        for evse in self.evses:
            evse.hold_answers(now)

    def commands_leave(self, now: int) -> None:
        """Commands can leave the board: the EVSEs may have what was granted until now."""
        for evse in self.evses:
            if evse.grant and (evse.deadline is None or evse.deadline > now):
                evse.grant.left = True

    def command_lost(self, evse_id: int, now: int) -> None:
        """An EVSE was not told of its grant, for want of memory: the grant times out now."""
        evse = self._evse(evse_id)
        if evse and evse.grant and not evse.transaction_active:
            evse.grant.left = False
            evse.deadline = now

    def set_clock(self, unix_seconds: int | None, now: int) -> None:
        """The time of day is `unix_seconds` at `now`; None: it is not known."""
        self.poll(now)
        self._clock = None if unix_seconds is None else (unix_seconds, now)

    def next_deadline(self) -> int | None:
        """When poll() is needed next, ms; None: not before another input."""
        due = None
        for evse in self.evses:
            if evse.deadline is not None and (due is None or evse.deadline < due):
                due = evse.deadline
        for process in self._tokens:
            if due is None or process.deadline < due:
                due = process.deadline
        return due

    def poll(self, now: int) -> None:
        """Let what is due at `now` time out, in the order in which it was due."""
        while True:
            due = self.next_deadline()
            if due is None or due > now:
                return
            # One at a time: it may set another deadline, also one that has passed by now.
            self._time_out(due, now)

    # What is due.

    def _time_out(self, due: int, now: int) -> None:
        # Of two that are due together the EVSE is first, so that the order is always the same.
        for evse in self.evses:
            if evse.deadline == due:
                self._evse_timed_out(evse, now)
                return
        for process in self._tokens:
            if process.deadline == due:
                # Silence means another thing of a validator than of a car.
                if process.waits_for == _PLUG_IN:
                    self._finish(process, "TimedOut")
                elif process.waits_for == _VALIDATOR:
                    self.counters["validator_failures"] += 1
                    process.results.append(_UNKNOWN)
                    self._ask_next(process, now)
                else:
                    self._refuse_early(process.token, process)
                return

    def _evse_timed_out(self, evse: Evse, now: int) -> None:
        # First, and when there is no memory for it, again: what is due is due until it was done.
        self._withdraw_at(evse, now)
        grant = evse.grant
        if grant:
            if grant.left is not False:
                evse.lapse(grant.key, now)
            if not grant.withdrawn:
                self._publish(grant.token, "TimedOut")
        else:
            evse.plug_in_timeout = True
            self._leave_queue(evse)
        evse.end_grant()

    # Tokens: is it worth asking about, what is it for, where does it start.

    def _is_duplicate(self, key: str, evses: list[Evse]) -> bool:
        for process in self._tokens:
            if process.key == key:
                return True
        for evse in evses:
            if evse.grant and not evse.transaction_active and evse.grant.key == key:
                return True
        return False

    def _is_worth_validating(self, evses: list[Evse]) -> bool:
        """Whether a token for `evses` could start or stop anything, if it were valid."""
        if not evses:
            return False
        # Which card is a master pass, or of which family, only validators know.
        if self._group or choice.any_available(evses):
            return True
        for evse in evses:
            if evse.grant and evse.grant.parent_key:
                return True
        return False

    def _ask_next(self, process: Process, now: int) -> None:
        if process.asked >= self._validators:
            self._decide(process, now)
            return
        # Both new numbers before the request: when that finds no memory nothing has been asked.
        deadline = now + self.settings.validator_timeout_ms
        request_id = self._request_id + 1
        self.effects.append((VALIDATE, request_id, process.asked, process.token))
        self._request_id = process.request_id = request_id
        process.waits_for = _VALIDATOR
        process.deadline = deadline
        process.asked += 1

    def _is_master_pass(self, result: dict) -> bool:
        parent = result.get("parent_id_token")
        return bool(
            self._group
            and parent
            and choice.is_accepted(result)
            and parent["value"].lower() == self._group
        )

    def _decide(self, process: Process, now: int) -> None:
        """All validators have answered: stop something, start something, or refuse."""
        # It is over after this, or waits for a plug-in. If there is no memory for either it is
        # refused at once: later the same token could mean something else, as a start for a stop.
        process.waits_for = _NOTHING
        process.deadline = now
        results = process.results
        evses = self._referenced(process.token)
        unix = self._unix(now)
        without_clock = self.settings.accept_expiry_without_clock
        for i in range(len(results)):
            if choice.is_accepted(results[i]) and not choice.is_in_time(
                results[i], unix, without_clock
            ):
                self.counters["expired"] += 1
                results[i] = _downgraded(results[i], "Expired")
        # Before anything else, and over all results: no other validator's word lets a token of
        # the group start a transaction.
        for result in results:
            if self._is_master_pass(result):
                self._use_master_pass(process, evses, result)
                return
            if choice.is_accepted(result) and "parent_id_token" in result:
                process.parents.append(result["parent_id_token"]["value"].lower())
        # The family's transaction: nobody's wish is clear where an EVSE is free for another one.
        available = choice.any_available(evses)
        if not (
            available and self.settings.prioritize_authorization_over_stopping_transaction
        ) and self._stop_by_parent(process, evses):
            return
        if not available:
            self._refuse_early(process.token, process)
            return
        # Not only those that are free: one that is not may be so, or plugged in, by and by.
        process.candidates = [evse for evse in evses if not evse.grant]
        self._start_or_wait(process, now)

    def _use_master_pass(self, process: Process, evses: list[Evse], result: dict) -> None:
        stopped = []
        for evse in evses:
            if evse.transaction_active:
                self._stop_at(evse, "MasterPass", process.token)
                stopped.append(evse.id)
        if stopped:
            used = _at(process.token, result["parent_id_token"], stopped)
            self._finish(process, "UsedToStop", used)
        else:
            self._refuse_early(process.token, process)

    def _stop_by_parent(self, process: Process, evses: list[Evse]) -> bool:
        """Use the token on the transaction of its family, if one runs. False: there is none."""
        for result in process.results:
            parent = result.get("parent_id_token")
            key = key_of_parent(parent) if choice.is_accepted(result) else None
            if key is None:
                continue
            for evse in evses:
                if evse.grant and evse.grant.parent_key == key:
                    if evse.transaction_active:
                        id_tag = _at(process.token, None, [evse.id])
                        used, status = self._stop_locally(evse, process.token, id_tag, parent)
                        self._finish(process, status, used)
                    else:
                        # The family's first token still waits for its transaction.
                        self._refuse_early(process.token, process)
                    return True
        return False

    def _start_or_wait(self, process: Process, now: int) -> None:
        """Go through the results from `trying` on, until one starts, or may start at a plug-in."""
        results = process.results
        if self._group and self._group in process.parents:  # it was set while the token waited
            self._refuse_early(process.token, process)
            return
        while process.trying < len(results):
            if choice.is_accepted(results[process.trying]):
                # Accepted is published once for each result, at the first try of it.
                if process.waits_for != _PLUG_IN:
                    self._announce(process, results[process.trying])
                if self._try(process, now):
                    return
                process.waits_for = _NOTHING  # the next result is not announced yet
            process.trying += 1
        if results:
            self._refuse_late(process)
        else:
            self._refuse_early(process.token, process)

    def _announce(self, process: Process, result: dict) -> None:
        process.token = _with_parent(process.token, result.get("parent_id_token"))
        self._publish(process.token, "Accepted", result["tariff_messages"])

    def _try(self, process: Process, now: int) -> bool:
        """Let the result at `trying` start or wait. False: it is refused now."""
        result = process.results[process.trying]
        algorithm = self.settings.selection_algorithm
        evse = choice.select(result, process.candidates, self._queue, algorithm)
        if evse:
            return self._authorize(process, result, evse, now)
        if not choice.permits_any(result, process.candidates):
            # No plug-in could help it.
            process.results[process.trying] = _downgraded(result, "NotAtThisLocation")
            return False
        # To the end of the list: it waits the shortest now.
        process.waits_for = _PLUG_IN
        process.deadline = now + self._timeout * 1000
        self._tokens.remove(process)
        self._tokens.append(process)
        return True

    def _serve(self, evse: Evse, now: int) -> None:
        """Offer a plug-in to the tokens that wait for one, the longest waiting first.

        A token that may not be used there loses it to one that may; if none may, the driver is
        at the wrong EVSE and gets to know it.
        """
        for permitted in (True, False):
            # A copy, as who is served leaves the list. The EVSE is looked at anew for each.
            for process in list(self._tokens):
                if (
                    process.waits_for == _PLUG_IN
                    and evse in process.candidates
                    and choice.is_eligible(evse, self.settings.selection_algorithm)
                    and choice.permits(process.results[process.trying], evse) == permitted
                ):
                    self._start_or_wait(process, now)

    def _authorize(self, process: Process, result: dict, evse: Evse, now: int) -> bool:
        """Authorize `evse`, which ends the processing, or refuse it this one result."""
        without_clock = self.settings.accept_expiry_without_clock
        status = choice.refusal(result, evse, self._unix(now), without_clock)
        if status:
            if status == "Expired":
                self.counters["expired"] += 1
            result = _downgraded(result, status)
            process.results[process.trying] = result
            self._respond(evse, process.token, result)
            return False
        token = _at(process.token, None, [evse.id])
        # First all that needs memory: without it nothing has happened.
        grant = Grant(token, process.key, result.get("parent_id_token"))
        # A transaction that runs already uses the grant: no timer.
        deadline = None if evse.transaction_active else now + self._timeout * 1000
        said = [
            (AUTHORIZE_RESPONSE, evse.id, token, result),
            (STATUS, token, "UsedToStart", NO_MESSAGES),
        ]
        if self.unreached:
            self._withdraw_at(evse, now)  # reaches the EVSE before the grant does
        self.effects.extend(said)
        evse.authorize(grant, now)
        evse.deadline = deadline
        self._leave_queue(evse)
        self._tokens.remove(process)
        return True

    # The ways out.

    def _stop_locally(
        self, evse: Evse, token: dict, id_tag: dict, parent: dict | None
    ) -> tuple[dict, str]:
        """Stop the transaction of `token` or its parent. Returns what to publish."""
        used = _at(token, parent, [evse.id])
        if not self.settings.stop_transaction_on_reswipe:
            return used, "UsedToReauthorize"
        self._stop_at(evse, "Local", id_tag)
        return used, "UsedToStop"

    def _refuse_early(self, token: dict, process: Process | None = None) -> None:
        """Reject a token without having tried to authorize it, `process` if it is in one.

        A car that authorizes itself stays in its authorize loop until it hears a refusal. An EVSE
        that another token uses hears none, and nor does the token's own transaction.
        """
        if token["authorization_type"] in _CARS and "connectors" in token:
            result = process.results[-1] if process and process.results else _NOT_NOW
            if choice.is_accepted(result):
                result = _downgraded(result, "NotAtThisTime")
            for evse in self.evses:
                if evse.id in token["connectors"] and not (evse.grant or evse.transaction_active):
                    self._respond(evse, token, result)
        if process:
            self._finish(process, "Rejected")
        else:
            self._publish(token, "Rejected")

    def _refuse_late(self, process: Process) -> None:
        """Reject a token of which every result was tried."""
        # Plug & Charge stays in its authorize loop until it hears a refusal.
        if "connectors" in process.token:
            for evse in self.evses:
                if evse.id in process.token["connectors"]:
                    self._respond(evse, process.token, process.results[-1])
        self._finish(process, "Rejected")

    # EVSEs.

    def _plugged_in(self, evse: Evse, connector_id: int, now: int) -> None:
        evse.plugged = connector_id
        if evse in self._queue or evse.transaction_active or evse.plug_in_timeout:
            return
        self._queue.append(evse)
        # With a grant the timer is the grant's, which must still end as TimedOut.
        if self.settings.plug_in_timeout_enabled and len(self.evses) > 1 and not evse.grant:
            evse.deadline = now + self._timeout * 1000

    def _transaction_started(self, evse: Evse, now: int) -> None:
        grant = evse.grant
        if evse.stopping:
            self._stop_at(evse, evse.stopping)  # it did not hear that, or not yet
        elif max(evse.lapsed, evse.copied) > now or grant and grant.withdrawn:
            self._stop_at(evse, "DeAuthorized")  # the withdrawal and the start have crossed
        # The grant is used: from here on only the end of the transaction ends it.
        evse.transaction_active = True
        evse.deadline = None
        evse.lapsed = evse.copied = 0
        # Else its driver is not known yet: with PlugEvents the next token may get the transaction.
        if grant or evse.stopping:
            self._leave_queue(evse)
        evse.forget_answers()

    def _session_resumed(self, evse: Evse, now: int) -> None:
        """A transaction that outlived our restart or the EVSE's power loss is there again.

        After a power loss its end may be all that follows, without SessionFinished: nothing but
        the transaction may keep the next driver out.
        """
        evse.forget_answers()
        if evse.stopping:
            self._stop_at(evse, evse.stopping)  # it lost its power before it heard that
        if not evse.transaction_active:
            # A grant that waits here is another driver's than the transaction is.
            self._withdraw_from(evse, now)
            evse.end_grant()
        evse.lapsed = evse.copied = 0
        evse.transaction_active = True
        evse.plug_in_timeout = False
        evse.deadline = None
        evse.free_connectors()
        self._leave_queue(evse)

    def _transaction_finished(self, evse: Evse, now: int) -> None:
        evse.forget_answers()
        # While the grant is still there: both want to know whether the transaction used it.
        self._drop_at_evse(evse, evse.grant, now)
        evse.used(now)
        evse.transaction_active = False
        evse.stopping = ""
        evse.end_grant()
        self._leave_queue(evse)

    def _drop_at_evse(self, evse: Evse, grant: Grant | None, now: int) -> None:
        """An event of the EVSE has ended a grant that no transaction has used.

        It may have happened before the EVSE was authorized: then it has the authorization still.
        """
        if grant and not grant.withdrawn and not evse.transaction_active:
            evse.lapse(grant.key, now)
            # Not one that is owed an answer: in all likelihood it has nothing to drop.
            self.effects.append((WITHDRAW_AUTHORIZATION, evse.id))

    def _withdraw_from(self, evse: Evse, now: int) -> bool:
        """Take back what is authorized or runs at `evse`. False when there is nothing."""
        grant = evse.grant
        if evse.transaction_active:
            self._stop_at(evse, "DeAuthorized")
            return True
        if not grant:
            return False
        # The grant stays until the EVSE says Deauthorized; asking again repeats the command only.
        self._withdraw_at(evse, now)
        if not grant.withdrawn:
            self._publish(grant.rebuilt(evse.id), "Withdrawn")
            grant.withdrawn = True
        return True

    # What the rest is made of.

    def _evse(self, evse_id) -> Evse | None:
        if type(evse_id) is int and 1 <= evse_id <= len(self.evses):
            return self.evses[evse_id - 1]
        return None

    def _referenced(self, token: dict) -> list[Evse]:
        """The EVSEs that a token may mean, each once, in the token's order."""
        return [evse for evse in self._named(token) if not evse.is_unavailable()]

    def _named(self, token: dict) -> list[Evse]:
        """The EVSEs that a token names, or all, whatever their state."""
        if "connectors" not in token:
            return self.evses
        evses: list[Evse] = []
        for evse_id in token["connectors"]:
            evse = self._evse(evse_id)
            if evse and evse not in evses:
                evses.append(evse)
        return evses

    def _unix(self, now: int) -> int | None:
        """The time of day, seconds; None while it is not known."""
        clock = self._clock
        return clock and clock[0] + (now - clock[1]) // 1000

    def _leave_queue(self, evse: Evse) -> None:
        if evse in self._queue:
            self._queue.remove(evse)

    def _publish(self, token: dict, status: str, messages: list = NO_MESSAGES) -> None:
        self.effects.append((STATUS, token, status, messages))

    def _finish(self, process: Process, status: str, token: dict | None = None) -> None:
        """The one way out of processing."""
        self._tokens.remove(process)
        self._publish(token or process.token, status)

    def _stop_at(self, evse: Evse, reason: str, id_tag: dict | None = None) -> None:
        evse.stopping = reason  # first: without memory for it, it is said at the next report
        self.effects.append((STOP_TRANSACTION, evse.id, reason, id_tag))

    def _withdraw_at(self, evse: Evse, now: int) -> None:
        self.effects.append((WITHDRAW_AUTHORIZATION, evse.id))
        evse.withdrawal_sent(now)

    def _respond(self, evse: Evse, token: dict, result: dict) -> None:
        self.effects.append((AUTHORIZE_RESPONSE, evse.id, token, result))

    def _refuse(self, counter: str, error: str) -> str:
        self.counters[counter] += 1
        return error
