"""The path of one token through the core, from its validators to its final status."""

from tapauth.core.effects import (
    AUTHORIZE_RESPONSE,
    STATUS,
    STOP_TRANSACTION,
    VALIDATE,
    WITHDRAW_AUTHORIZATION,
)
from tapauth.core.evse import Evse, Grant, key_of_parent
from tapauth.core.settings import AuthSettings
from tapauth.core.timestamps import parse_rfc3339

NO_MESSAGES: list = []
UNKNOWN = {"authorization_status": "Unknown", "tariff_messages": NO_MESSAGES}
"""The result of a validator that failed."""
_NOT_NOW = {"authorization_status": "NotAtThisTime", "tariff_messages": NO_MESSAGES}
_CARS = ("PlugAndCharge", "Autocharge")


class Process:
    """A token in process."""

    def __init__(self, token: dict, key: str, now: int):
        self.token = token
        """As it is to be published next."""
        self.key = key
        self.results: list[dict] = []
        """One for each validator that has answered or failed."""
        self.asked = 0
        """Validators asked so far."""
        self.request_id = 0
        """Of the validator being asked; 0 when none is, from the decision on."""
        self.deadline = now
        """When the validator, or the wait for a plug-in, has taken too long; ms."""
        self.trying = 0
        """Index of the result to authorize it with."""
        self.waiting = False
        """For a plug-in: results[trying] has been published as Accepted."""
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


def _accepted(result: dict) -> bool:
    return result["authorization_status"] == "Accepted"


def _downgraded(result: dict, status: str) -> dict:
    result = dict(result)
    result["authorization_status"] = status
    return result


def _permits(result: dict, evse: Evse) -> bool:
    return "evse_ids" not in result or evse.id in result["evse_ids"]


def _permits_any(result: dict, evses: list[Evse]) -> bool:
    for evse in evses:
        if _permits(result, evse):
            return True
    return False


def any_available(evses: list[Evse]) -> bool:
    """Whether a token could start a transaction at one of them."""
    for evse in evses:
        if evse.is_available():
            return True
    return False


class TokenPath:
    """State of the core, and the steps of processing; Authorizer adds the inputs."""

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

    def _refuse_early(self, token: dict, process: Process | None = None) -> None:
        """Reject a token without having tried to authorize it, `process` if it is in one.

        A car that authorizes itself stays in its authorize loop until it hears a refusal. An EVSE
        that another token uses hears none, and nor does the token's own transaction.
        """
        if token["authorization_type"] in _CARS and "connectors" in token:
            result = process.results[-1] if process and process.results else _NOT_NOW
            if _accepted(result):
                result = _downgraded(result, "NotAtThisTime")
            for evse in self.evses:
                if evse.id in token["connectors"] and not (evse.grant or evse.transaction_active):
                    self._respond(evse, token, result)
        if process:
            self._finish(process, "Rejected")
        else:
            self._publish(token, "Rejected")

    def _stop_locally(
        self, evse: Evse, token: dict, id_tag: dict, parent: dict | None
    ) -> tuple[dict, str]:
        """Stop the transaction of `token` or its parent. Returns what to publish."""
        used = _at(token, parent, [evse.id])
        if not self.settings.stop_transaction_on_reswipe:
            return used, "UsedToReauthorize"
        self._stop_at(evse, "Local", id_tag)
        return used, "UsedToStop"

    def _ask_next(self, process: Process, now: int) -> None:
        if process.asked >= self._validators:
            self._decide(process, now)
            return
        deadline = now + self.settings.validator_timeout_ms
        request_id = self._request_id + 1
        self.effects.append((VALIDATE, request_id, process.asked, process.token))
        self._request_id = process.request_id = request_id
        process.deadline = deadline
        process.asked += 1

    def _is_in_time(self, result: dict, now: int) -> bool:
        expiry = result.get("expiry_time")
        if expiry is None:
            return True
        if not self._clock:
            return self.settings.accept_expiry_without_clock
        at = parse_rfc3339(expiry)
        return at is not None and self._clock[0] + (now - self._clock[1]) // 1000 < at

    def _is_master_pass(self, result: dict) -> bool:
        parent = result.get("parent_id_token")
        return bool(
            self._group and parent and _accepted(result) and parent["value"].lower() == self._group
        )

    def _decide(self, process: Process, now: int) -> None:
        """All validators have answered: stop something, start something, or refuse."""
        # It is over after this, or waits for a plug-in. If there is no memory for either it is
        # refused at once: later the same token could mean something else, as a start for a stop.
        process.request_id = 0
        process.deadline = now
        results = process.results
        evses = self._referenced(process.token)
        for i in range(len(results)):
            if _accepted(results[i]) and not self._is_in_time(results[i], now):
                self.counters["expired"] += 1
                results[i] = _downgraded(results[i], "Expired")
        # Before anything else, and over all results: no other validator's word lets a token of
        # the group start a transaction.
        for result in results:
            if self._is_master_pass(result):
                self._use_master_pass(process, evses, result)
                return
            if _accepted(result) and "parent_id_token" in result:
                process.parents.append(result["parent_id_token"]["value"].lower())
        available = any_available(evses)
        if not (
            available and self.settings.prioritize_authorization_over_stopping_transaction
        ) and self._stop_by_parent(process, evses):
            return
        if not available:
            self._refuse_early(process.token, process)
            return
        process.candidates = [evse for evse in evses if not evse.grant]
        self._try_results(process, now)

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
            key = key_of_parent(parent) if _accepted(result) else None
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

    def _try_results(self, process: Process, now: int) -> None:
        """Walk the validators' results until one authorizes an EVSE, or wait for a plug-in."""
        results = process.results
        if self._group and self._group in process.parents:  # it was set while the token waited
            self._refuse_early(process.token, process)
            return
        while process.trying < len(results):
            result = results[process.trying]
            if _accepted(result):
                if not process.waiting:
                    process.token = _with_parent(process.token, result.get("parent_id_token"))
                    self._publish(process.token, "Accepted", result["tariff_messages"])
                evse = self._select(process, result)
                if evse:
                    if self._authorize(process, result, evse, now):
                        return
                elif _permits_any(result, process.candidates):
                    self._wait_for_plug_in(process, now)
                    return
                else:
                    results[process.trying] = _downgraded(result, "NotAtThisLocation")
                process.waiting = False
            process.trying += 1
        if not results:
            self._refuse_early(process.token, process)
            return
        # Plug & Charge stays in its authorize loop until it hears a refusal.
        if "connectors" in process.token:
            for evse in self.evses:
                if evse.id in process.token["connectors"]:
                    self._respond(evse, process.token, results[-1])
        self._finish(process, "Rejected")

    def _wait_for_plug_in(self, process: Process, now: int) -> None:
        process.waiting = True
        process.deadline = now + self._timeout * 1000
        self._tokens.remove(process)
        self._tokens.append(process)

    def _serve(self, evse: Evse, now: int) -> None:
        """Offer a plug-in to the tokens that wait for one, the longest waiting first.

        A token that may not be used there loses it to one that may; if none may, the driver is
        at the wrong EVSE and gets to know it.
        """
        for permitted in (True, False):
            for process in list(self._tokens):
                if (
                    process.waiting
                    and evse in process.candidates
                    and self._is_eligible(evse)
                    and _permits(process.results[process.trying], evse) == permitted
                ):
                    self._try_results(process, now)

    def _is_eligible(self, evse: Evse) -> bool:
        """Whether a plug-in may be used. Faults do not matter here, and nor does a transaction
        without a grant, unless for FindFirst: the EVSE may have been quicker than the validator.
        """
        if evse.grant or evse.stopping or evse.is_unavailable():
            return False
        return not evse.transaction_active or self.settings.selection_algorithm != "FindFirst"

    def _select(self, process: Process, result: dict) -> Evse | None:
        """The EVSE for the token now; None: none yet, which cannot be with FindFirst.

        A plug-in whose connector is faulted is the last choice. `evse_ids` limits the EVSE that
        is selected, not the candidates: one that is permitted is preferred, and without any the
        algorithm's choice stands, to be refused.
        """
        candidates = process.candidates
        if len(candidates) == 1:
            return candidates[0]
        algorithm = self.settings.selection_algorithm
        choices = [evse for evse in self._queue if evse in candidates and self._is_eligible(evse)]
        if algorithm == "PlugEventsLIFO":
            choices.reverse()
        elif algorithm == "FindFirst":
            choices += [evse for evse in candidates if evse.is_available()]
        chosen = None
        least = 4
        for evse in choices:
            drawback = 2 * evse.is_plug_faulty() + (not _permits(result, evse))
            if drawback < least:
                chosen = evse
                least = drawback
        return chosen

    def _refusal(self, result: dict, evse: Evse, now: int) -> str | None:
        """The AuthorizationStatus that keeps an accepted token from `evse`; None: nothing does."""
        if not _permits(result, evse):
            return "NotAtThisLocation"
        if not self._is_in_time(result, now):
            self.counters["expired"] += 1
            return "Expired"
        return None

    def _authorize(self, process: Process, result: dict, evse: Evse, now: int) -> bool:
        """Authorize `evse`, which ends the processing, or refuse it this one result."""
        status = self._refusal(result, evse, now)
        if status:
            result = _downgraded(result, status)
            process.results[process.trying] = result
            self._respond(evse, process.token, result)
            return False
        token = _at(process.token, None, [evse.id])
        # What needs memory comes first: without it nothing has happened.
        grant = Grant(token, process.key, result.get("parent_id_token"))
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

    def _respond(self, evse: Evse, token: dict, result: dict) -> None:
        self.effects.append((AUTHORIZE_RESPONSE, evse.id, token, result))
