"""Who may start and stop where: EVerest's auth behaviour without any input or output of its own.

Inputs are method calls that carry the time (`now`, milliseconds of a clock that never goes back);
outputs are effects (effects.py), which the shell fetches with take_effects() after each call and
carries out in order.

A token in process waits for a validator or for a plug-in, and leaves with exactly one final
status. Nothing is reserved here: whoever builds reservations asks them in provide_token() before
validating and in TokenPath._refusal() before authorizing, and tells them of connector changes in
session_event().
"""

from tapauth.core.effects import AUTHORIZE_RESPONSE as AUTHORIZE_RESPONSE
from tapauth.core.effects import SAVE
from tapauth.core.effects import STATUS as STATUS
from tapauth.core.effects import STOP_TRANSACTION as STOP_TRANSACTION
from tapauth.core.effects import VALIDATE as VALIDATE
from tapauth.core.effects import WITHDRAW_AUTHORIZATION as WITHDRAW_AUTHORIZATION
from tapauth.core.evse import TRANSITIONS, Evse, Grant, key_of, key_of_parent
from tapauth.core.shapes import (
    check_connection_timeout,
    check_master_pass_group_id,
    check_provided_token,
    check_session_event,
    check_validation_result,
    check_validation_result_update,
    check_withdraw_request,
)
from tapauth.core.token_path import NO_MESSAGES, UNKNOWN, Process, TokenPath, any_available

_NO_EFFECTS: tuple = ()


class Authorizer(TokenPath):
    """The authorization of up to 8 EVSEs of up to 4 connectors each.

    `connectors[i]` is how many connectors EVSE i + 1 has; `validators` are asked in order, from
    index 0. After a restart nothing is authorized. Raises ValueError, naming the setting at
    fault.
    """

    def take_effects(self) -> list | tuple:
        """The effects since the last call, in order."""
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
        if self._is_duplicate(key, self._named(token)):
            self.counters["duplicates"] += 1
            return None
        evses = self._referenced(token)
        self._publish(token, "Processing")
        if token["authorization_type"] == "RFID":
            for evse in evses:
                if evse.grant and evse.grant.key == key:  # its transaction runs: no duplicate
                    self._publish(*self._stop_locally(evse, token, token, evse.grant.parent))
                    return None
        if not self._is_worth_validating(evses):
            self._refuse_early(token)
        elif len(self._tokens) >= self.settings.max_tokens_in_process:
            self.counters["over_limit"] += 1
            self._refuse_early(token)
        else:
            process = Process(token, key, now)
            self._tokens.append(process)
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
            if process.request_id == request_id and request_id:
                break
        else:
            return self._refuse("late_results", "no such validation is under way")
        error = None
        if result is not None:
            error = check_validation_result(result)
            if error:
                self.counters["refused_results"] += 1
        if result is None or error:
            self.counters["validator_failures"] += 1
            result = UNKNOWN
            settled = False
        elif "tariff_messages" not in result:
            result = dict(result)
            result["tariff_messages"] = NO_MESSAGES
        process.results.append(result)
        if settled:
            process.asked = self._validators
        self._ask_next(process, now)
        return error

    def validator_unreached(self, request_id: int, now: int) -> None:
        """The request of that id was lost on its way, for want of memory.

        What its validator would have said is not known, so no other one's word may count for it.
        """
        for process in self._tokens:
            if process.request_id == request_id:
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
        key = key_of(request["id_token"]) if "id_token" in request else None
        found = False
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
            self._time_out(due, now)

    # What is due.

    def _time_out(self, due: int, now: int) -> None:
        for evse in self.evses:
            if evse.deadline == due:
                self._evse_timed_out(evse, now)
                return
        for process in self._tokens:
            if process.deadline == due:
                if process.waiting:
                    self._finish(process, "TimedOut")
                elif not process.request_id:
                    self._refuse_early(process.token, process)
                else:
                    self.counters["validator_failures"] += 1
                    process.results.append(UNKNOWN)
                    self._ask_next(process, now)
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
        evse.transaction_active = True
        evse.deadline = None
        evse.lapsed = evse.copied = 0
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
        self._drop_at_evse(evse, evse.grant, now)
        evse.used(now)
        evse.transaction_active = False
        evse.stopping = ""
        evse.end_grant()
        self._leave_queue(evse)

    def _drop_at_evse(self, evse: Evse, grant: Grant | None, now: int) -> None:
        """What an EVSE reported has ended a grant that no transaction has used.

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
        if self._group or any_available(evses):
            return True
        for evse in evses:
            if evse.grant and evse.grant.parent_key:
                return True
        return False

    def _refuse(self, counter: str, error: str) -> str:
        self.counters[counter] += 1
        return error
