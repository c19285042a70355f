"""A model of the authorization core that feeds one with random inputs.

It watches the effects and knows only what must never be otherwise.
"""

import random

from tapauth.core import authorizer
from tapauth.core.authorizer import Authorizer
from tapauth.core.choice import ALGORITHMS
from tapauth.core.evse import STATES
from tapauth.core.settings import AuthSettings
from tapauth.core.timestamps import parse_rfc3339

CARDS = ("A1", "a1", "B2", "C3", "Fleet", "GROUP", "")
PARENTS = (None, None, "FLEET", "fleet", "Group", "a1", "")
FINAL = ("Rejected", "UsedToStart", "UsedToStop", "TimedOut", "Withdrawn", "UsedToReauthorize")
BEGIN = parse_rfc3339("2026-06-01T12:00:00Z") or 0
EXPIRIES = ["2020-01-01T00:00:00Z", "never"]
EXPIRIES += [f"2026-06-01T12:{minute:02}:30+00:00" for minute in range(8)]
ANSWER_MS = 5000
CARS = ("PlugAndCharge", "Autocharge")
GARBAGE = (None, [], {}, 5, "x", {"event": 1}, {"evseId": 1}, {"evse_id": True}, {"id_token": {}})


def id_token(rng: random.Random, parent: str | None = None) -> dict:
    """A card's, or a parent's: mostly of one type each, so that families come about."""
    if parent is not None:
        return {"value": parent, "type": rng.choice(("Local",) * 5 + ("ISO14443",))}
    return {"value": rng.choice(CARDS), "type": rng.choice(("ISO14443", "ISO14443", "Local"))}


def provided_token(rng: random.Random) -> dict:
    token = {
        "id_token": id_token(rng),
        "authorization_type": rng.choice(("RFID", "RFID", "RFID", "OCPP") + CARS),
    }
    if rng.random() < 0.4:
        low = rng.choice((-1, 0, 1, 1, 1, 1, 1, 1))
        token["connectors"] = [rng.randrange(low, 6) for _ in range(rng.randrange(4))]
    if rng.random() < 0.2:
        token["prevalidated"] = rng.random() < 0.7
    if rng.random() < 0.2:
        token["parent_id_token"] = id_token(rng, rng.choice(PARENTS) or "FLEET")
    return token


def validation_result(rng: random.Random) -> dict | None:
    if rng.random() < 0.08:
        return rng.choice(GARBAGE)
    status = "Accepted" if rng.random() < 0.7 else rng.choice(("Invalid", "Blocked", "Unknown"))
    result: dict = {"authorization_status": status}
    if rng.random() < 0.9:
        result["tariff_messages"] = []
    parent = rng.choice(PARENTS)
    if parent is not None:
        result["parent_id_token"] = id_token(rng, parent)
    if rng.random() < 0.45:
        result["expiry_time"] = rng.choice(EXPIRIES)
    if rng.random() < 0.2:
        result["evse_ids"] = [rng.randrange(0, 5) for _ in range(rng.randrange(3))]
    return result


def key_of(token: dict) -> tuple:
    """A token is its type and its value, whatever the case."""
    return token["type"], token["value"].lower()


def names_no_evse(members: dict, name: str) -> bool:
    """Whether a list of EVSE ids holds what is none."""
    return any(evse_id < 1 for evse_id in members.get(name, ()))


class Card:
    """A card in process: its token as it was provided, and the results that came for it."""

    def __init__(self, token: dict, results: list):
        self.token = token
        self.results = results

    def accepted(self) -> list[dict]:
        return [
            result
            for result in self.results
            if isinstance(result, dict) and result.get("authorization_status") == "Accepted"
        ]


class Granted:
    """What an EVSE was authorized for, as the model knows it."""

    def __init__(self, number: int, card: tuple, parent: dict | None):
        self.number = number
        self.card = card
        self.parent = parent
        self.withdrawn = False
        self.left: bool | None = None  # whether its command may have left the board


class Model:
    """Feeds one Authorizer, and checks its effects after each input.

    It knows on its own which EVSE has a grant, of which card, and in which family; where a
    transaction runs; which plug-ins may still be used; and which withdrawals are unanswered.
    """

    make = Authorizer

    def __init__(self, seed: int):
        rng = random.Random(seed)
        flip = lambda: rng.random() < 0.5  # noqa: E731
        self.settings = AuthSettings(
            selection_algorithm=rng.choice(ALGORITHMS + ("PlugEvents",)),
            connection_timeout=rng.choice((1, 300, 300)),
            master_pass_group_id=rng.choice(("", "Group")),
            prioritize_authorization_over_stopping_transaction=flip(),
            ignore_connector_faults=flip(),
            plug_in_timeout_enabled=flip(),
            stop_transaction_on_reswipe=flip(),
            accept_expiry_without_clock=flip(),
            max_tokens_in_process=rng.choice((1, 3, 8)),
            validator_timeout_ms=rng.choice((100, 5000)),
        )
        self.evses = rng.choice((1, 2, 3, 3, 4))
        self.validators = rng.choice((0, 1, 1, 1, 2, 3))
        self.connectors = [rng.randrange(1, 4) for _ in range(self.evses)]
        self.auth = self.make(self.settings, list(self.connectors), self.validators)
        self.auth.unreached = self.unreached = flip()
        self.now = 0
        self.clock: tuple[int, int] | None = None
        self.group = self.settings.master_pass_group_id.lower()
        if flip():
            self.clock = (BEGIN, 0)
            self.auth.set_clock(BEGIN, 0)
        self.requests: dict[int, tuple] = {}  # validations asked for, answered or not
        self.open: dict[tuple, Card] = {}  # cards in process
        self.grants: dict[int, Granted] = {}  # by EVSE id
        self.granted = 0  # grants so far
        self.running: set[int] = set()  # EVSEs with a transaction
        self.plug_ins: set[int] = set()  # EVSEs whose plug-in may still be used
        self.plugged: dict[int, int] = {}  # the connector of the last plug-in
        # Withdrawals that are not answered: when they are too old, and the grant at that time.
        self.unanswered: dict[int, list] = {n + 1: [] for n in range(self.evses)}
        # EVSEs whose grant ended unused, and that may not know yet: until when.
        self.lapsed: dict[int, int] = {}
        self.lapsed_card: dict[int, tuple] = {}  # whose grants those were
        # EVSEs whose grant was used, and that may hold a copy of it: until when.
        self.copied: dict[int, int] = {}
        self.stopping: dict[int, str] = {}  # EVSEs whose transaction was told to stop, and why
        self.op = ""
        self.resumed = False

    # Inputs.

    def step(self, seed: int) -> None:
        rng = random.Random(seed)
        # Due timers come first, so that the effects of the input are its own.
        self.op = "poll"
        self.now += rng.choice((0, 0, 0, 0, 0, 0, 10, 1000, 5000, 20_000, 70_000))
        self.auth.poll(self.now)
        self.watch(None)
        due = self.auth.next_deadline()
        assert due is None or due > self.now
        kind = rng.choices(
            (self.swipe, self.answer, self.event, self.withdraw, self.change, self.garbage)
            + (self.reach, self.hold),
            (30, 30, 30, 7, 8, 2, 1, 4),
        )[0]
        self.op = kind.__name__
        kind(rng)
        self.check_grants()

    def swipe(self, rng: random.Random) -> None:
        self.provide(provided_token(rng))

    def provide(self, token: dict) -> None:
        key = key_of(token["id_token"])
        refused = self.auth.provide_token(token, self.now)
        assert bool(refused) == names_no_evse(token, "connectors")
        if refused or key in self.open:
            assert self.auth.take_effects() == ()
            return
        results: list = []
        if token.get("prevalidated"):
            vouched = {"authorization_status": "Accepted"}
            if "parent_id_token" in token:
                vouched["parent_id_token"] = token["parent_id_token"]
            results.append(vouched)
        self.watch(Card(token, results))

    def answer(self, rng: random.Random) -> None:
        asked = sorted(self.requests)
        if rng.random() < 0.85:  # mostly one that is still open
            asked = [r for r in asked if self.requests[r] in self.open]
        request_id = rng.choice(asked or [7])
        result = validation_result(rng)
        settled = rng.random() < 0.2
        late = self.auth.counters["late_results"]
        card = self.open.get(self.requests.get(request_id, ()))
        if card:
            malformed = isinstance(result, dict) and names_no_evse(result, "evse_ids")
            card.results.append(None if malformed else result)
        self.auth.validation_result(request_id, result, self.now, settled)
        if self.auth.counters["late_results"] > late:
            assert self.auth.take_effects() == ()
            if card:
                card.results.pop()
            return
        self.watch(None)

    def event(self, rng: random.Random) -> None:
        name = rng.choices(
            ("SessionStarted", "TransactionStarted", "TransactionFinished", "SessionFinished")
            + ("Deauthorized", "SessionResumed", "ChargingStarted", "Disabled", "Enabled")
            + ("PermanentFault", "PermanentFaultCleared"),
            (30, 12, 8, 16, 9, 4, 1, 2, 5, 9, 6),
        )[0]
        evse_id = rng.randrange(0, self.evses + 2)
        event: dict = {"event": name}
        if name == "SessionStarted":
            reason = rng.choice(("EVConnected", "EVConnected", "Authorized"))
            event["session_started"] = {"reason": reason}
        if name == "SessionResumed" and rng.random() < 0.3:
            event["event"] += ":"
        if rng.random() < 0.3:
            event["connector_id"] = rng.randrange(-2, 5)
        self.report(evse_id, event)

    def report(self, evse_id: int, event: dict) -> None:
        name = event["event"].rstrip(":")
        connector = event.get("connector_id", 1)
        known = 1 <= evse_id <= self.evses and 1 <= connector <= self.connectors[evse_id - 1]
        crossed = withdrawn = asked = False
        reason = self.stopping.get(evse_id)  # a transaction that is told of again has not heard it
        if known:
            grant = self.grants.get(evse_id)
            unused = None if evse_id in self.running else grant
            if name == "SessionStarted" and event["session_started"]["reason"] == "EVConnected":
                self.plugged[evse_id] = connector
                if evse_id not in self.running:
                    self.plug_ins.add(evse_id)
            elif name == "TransactionStarted":
                lapsed = self.lapsed.get(evse_id, 0) > self.now
                copied = self.copied.get(evse_id, 0) > self.now
                crossed = bool(reason or lapsed or copied or grant and grant.withdrawn)
                if grant or crossed:
                    self.plug_ins.discard(evse_id)
                self.running.add(evse_id)
            elif name == "SessionResumed":
                crossed = bool(reason)
                self.plug_ins.discard(evse_id)
                self.plugged.pop(evse_id, None)
                if unused:
                    withdrawn = asked = True
                    del self.grants[evse_id]
                self.running.add(evse_id)
            elif name in ("TransactionFinished", "SessionFinished"):
                if grant and evse_id in self.running:
                    self.copied[evse_id] = self.now + ANSWER_MS
                self.running.discard(evse_id)
                self.stopping.pop(evse_id, None)
                self.plug_ins.discard(evse_id)
                self.grants.pop(evse_id, None)
                if name == "SessionFinished":
                    self.plugged.pop(evse_id, None)
            elif name == "Deauthorized":
                asked = self.deauthorized(evse_id)
            if name in ("TransactionStarted", "SessionResumed"):
                self.lapsed.pop(evse_id, None)
            if name in ("TransactionStarted", "SessionResumed", "SessionFinished", "Deauthorized"):
                self.copied.pop(evse_id, None)
            if name.startswith(("Transaction", "SessionFinished", "SessionResumed")):
                self.unanswered[evse_id].clear()
            if unused and evse_id not in self.grants and not unused.withdrawn and not asked:
                # The EVSE may have said so before it was authorized.
                self.lapsed[evse_id] = self.now + ANSWER_MS
                self.lapsed_card[evse_id] = unused.card
                withdrawn = True
        refused = self.auth.session_event(evse_id, event, self.now)
        assert bool(refused) != known
        if refused:
            assert self.auth.take_effects() == ()
            return
        stop = (authorizer.STOP_TRANSACTION, evse_id, reason or "DeAuthorized", None)
        assert (stop in self.auth.effects) == crossed
        withdrawal = (authorizer.WITHDRAW_AUTHORIZATION, evse_id)
        if not self.unreached:  # else one may go before a grant
            assert (withdrawal in self.auth.effects) == withdrawn
        self.resumed = name == "SessionResumed"
        self.watch(None)

    def deauthorized(self, evse_id: int) -> bool:
        """The oldest withdrawal is answered (True), or the EVSE speaks of itself."""
        waiting = self.unanswered[evse_id]
        while waiting and waiting[0][0] <= self.now:
            waiting.pop(0)
        about = waiting.pop(0)[1] if waiting else None
        grant = self.grants.get(evse_id)
        if grant and (about is None or about >= grant.number):
            del self.grants[evse_id]
        self.lapsed.pop(evse_id, None)
        return about is not None

    def reach(self, rng: random.Random) -> None:
        wanted = []
        if self.unreached:
            at_rest = set(range(1, self.evses + 1)) - self.running - self.grants.keys()
            wanted = [(authorizer.WITHDRAW_AUTHORIZATION, n) for n in sorted(at_rest)]
        self.unreached = False
        self.auth.evses_reached(self.now)
        assert list(self.auth.effects) == wanted
        self.watch(None)

    def hold(self, rng: random.Random) -> None:
        if rng.random() < 0.5:
            self.auth.commands_leave(self.now)
            for grant in self.grants.values():
                grant.left = True
            assert self.auth.take_effects() == ()
            return
        self.auth.commands_wait(self.now)
        for grant in self.grants.values():
            grant.left = bool(grant.left)
        for waiting in self.unanswered.values():
            waiting[:] = [[self.now + ANSWER_MS, n] for until, n in waiting if until > self.now]
        for windows in (self.lapsed, self.copied):
            for evse_id, until in windows.items():
                if until > self.now:
                    windows[evse_id] = self.now + ANSWER_MS
        assert self.auth.take_effects() == ()

    def withdraw(self, rng: random.Random) -> None:
        request: dict = {}
        if rng.random() < 0.5:
            request["evse_id"] = rng.randrange(0, self.evses + 2)
        if rng.random() < 0.5:
            request["id_token"] = id_token(rng)
        result = self.auth.withdraw(request, self.now)
        if result == "Accepted":
            assert self.auth.effects
            self.watch(None)
            if not request:
                assert not self.open
                assert all(g.withdrawn or n in self.running for n, g in self.grants.items())
        else:
            unknown = not 1 <= request.get("evse_id", 1) <= self.evses
            assert result == ("EvseNotFound" if unknown else "AuthorizationNotFound")
            assert self.auth.take_effects() == ()
            assert request or not (self.open or self.running or self.grants)

    def change(self, rng: random.Random) -> None:
        which = rng.choice((0, 1, 1, 1, 2, 3))
        if which == 0:
            seconds = rng.choice((9, 10, 300, 301))
            assert self.auth.set_connection_timeout(seconds, self.now) == (seconds in (10, 300))
            self.watch(None)
        elif which == 1:
            group = rng.choice(("", "Group", "FLEET"))
            assert self.auth.set_master_pass_group_id(group, self.now)
            self.group = group.lower()
            effects = list(self.auth.effects)
            assert effects[0] == (authorizer.SAVE, "master_pass_group_id", group)
            members = [
                (authorizer.WITHDRAW_AUTHORIZATION, n)
                for n, grant in sorted(self.grants.items())
                if group
                and n not in self.running
                and grant.parent
                and grant.parent["value"].lower() == self.group
            ]
            assert [e for e in effects if e[0] == authorizer.WITHDRAW_AUTHORIZATION] == members
            self.op = "withdraw"
            self.watch(None)
        elif which == 2:
            seconds = rng.choice((None, BEGIN, BEGIN + 29, BEGIN + 400))
            self.clock = None if seconds is None else (seconds, self.now)
            self.auth.set_clock(seconds, self.now)
            assert self.auth.take_effects() == ()
        else:
            evse_id = rng.randrange(0, self.evses + 2)
            result = validation_result(rng)
            update = {"connector_id": evse_id, "validation_result": result}
            refused = self.auth.validation_result_update(update, self.now)
            effects = self.auth.take_effects()
            assert len(effects) == (0 if refused else 1)
            for effect in effects:
                assert effect[2] == "Accepted" and effect[1]["connectors"] == [evse_id]
                grant = self.grants[evse_id]
                assert not grant.withdrawn and not names_no_evse(result, "evse_ids")
                grant.parent = result.get("parent_id_token")

    def garbage(self, rng: random.Random) -> None:
        junk = rng.choice(GARBAGE)
        assert self.auth.provide_token(junk, self.now)
        assert self.auth.session_event(1, junk, self.now)
        assert self.auth.validation_result_update(junk, self.now)
        if junk != {}:
            assert self.auth.withdraw(junk, self.now) == "Rejected"
        assert self.auth.take_effects() == ()

    # Effects.

    def watch(self, card: Card | None) -> None:
        """Check the effects of one input, which may have brought `card`."""
        effects = list(self.auth.take_effects())
        before: tuple = ()
        stopped: list[int] = []
        refusals: list[tuple] = []
        for position, effect in enumerate(effects):
            kind = effect[0]
            after = effects[position + 1] if position + 1 < len(effects) else ()
            if kind == authorizer.STATUS:
                self.watch_status(effect, before, stopped, refusals, card)
                stopped = []
                refusals = []
            elif kind == authorizer.VALIDATE:
                key = key_of(effect[3]["id_token"])
                assert effect[1] not in self.requests and key in self.open
                assert 0 <= effect[2] < self.validators
                self.requests[effect[1]] = key
            elif kind == authorizer.AUTHORIZE_RESPONSE:
                assert 1 <= effect[1] <= self.evses
                if effect[3]["authorization_status"] == "Accepted":
                    self.watch_authorization(effect, before, after)
                else:
                    refusals.append(effect)
            elif kind == authorizer.WITHDRAW_AUTHORIZATION:
                self.watch_withdrawal(effect[1], after)
            elif kind == authorizer.STOP_TRANSACTION:
                assert effect[1] in self.running
                if effect[3] is None:
                    assert self.op in ("withdraw", "event")
                    assert effect[2] in ("DeAuthorized", self.stopping.get(effect[1]))
                else:
                    stopped.append(effect[1])
                    if effect[2] == "Local":
                        self.watch_stop(effect, card)
                self.stopping[effect[1]] = effect[2]
            else:
                assert kind == authorizer.SAVE
            before = effect
        assert stopped == []
        self.check_bounds()

    def watch_stop(self, effect: tuple, card: Card | None) -> None:
        """A stop is by the very token of the transaction, or by its family."""
        _, evse_id, _, id_tag = effect
        grant = self.grants[evse_id]
        key = key_of(id_tag["id_token"])
        if grant.card == key and card and id_tag == card.token:
            assert id_tag["authorization_type"] == "RFID"
            return
        assert id_tag["connectors"] == [evse_id]
        assert grant.parent and grant.parent["value"]
        parents = [
            result["parent_id_token"]["value"].lower()
            for result in self.open[key].accepted()
            if "parent_id_token" in result
        ]
        assert grant.parent["value"].lower() in parents

    def watch_withdrawal(self, evse_id: int, after: tuple) -> None:
        grant = self.grants.get(evse_id)
        before_grant = (
            self.unreached
            and after[:2] == (authorizer.AUTHORIZE_RESPONSE, evse_id)
            and after[3]["authorization_status"] == "Accepted"
        )
        # One that makes sure that a grant is over is not owed an answer.
        if self.op != "event" or self.resumed or before_grant:
            self.unanswered[evse_id].append([self.now + ANSWER_MS, self.granted])
            del self.unanswered[evse_id][:-8]
        if before_grant:
            assert not grant
        elif self.op == "poll":  # a timeout
            assert evse_id not in self.running
            if grant:
                if grant.left is not False:
                    self.lapsed[evse_id] = self.now + ANSWER_MS
                    self.lapsed_card[evse_id] = grant.card
                del self.grants[evse_id]
            else:
                self.plug_ins.discard(evse_id)
        elif self.op == "withdraw":
            assert grant and evse_id not in self.running
            grant.withdrawn = True
        else:
            assert self.op in ("event", "reach") and not grant

    def watch_status(
        self, effect: tuple, before: tuple, stopped: list, refusals: list, card: Card | None
    ) -> None:
        token, status, messages = effect[1:]
        assert isinstance(messages, list)
        key = key_of(token["id_token"])
        if status == "Processing":
            assert key not in self.open and card and token == card.token
            self.open[key] = card
            return
        if status == "Accepted":
            assert key in self.open
            return
        assert status in FINAL
        at = token.get("connectors")
        if key in self.open and not self.is_after_grant(status, before, at):
            if status == "Rejected":
                self.watch_refusal(self.open[key].token, refusals)
            del self.open[key]
            for request_id in [r for r in self.requests if self.requests[r] == key]:
                self.requests[request_id] = ()  # answers to it are late from now on
        else:
            assert status in ("TimedOut", "Withdrawn")
            assert before == (authorizer.WITHDRAW_AUTHORIZATION, at[0]) and len(at) == 1
        if status == "UsedToStart":
            assert before[:2] == (authorizer.AUTHORIZE_RESPONSE, at[0]) and before[2] is token
        assert (status == "UsedToStop") == bool(stopped)
        if stopped:
            assert at == stopped

    def watch_refusal(self, token: dict, refusals: list) -> None:
        """A car hears of it, at the EVSEs that nobody has."""
        if token["authorization_type"] not in CARS:
            return
        at_rest = set(range(1, self.evses + 1)) - self.running - self.grants.keys()
        heard = {effect[1] for effect in refusals if effect[2]["id_token"] == token["id_token"]}
        assert at_rest.intersection(token.get("connectors", ())) <= heard

    @staticmethod
    def is_after_grant(status: str, before: tuple, at: list | None) -> bool:
        """Whether a TimedOut or Withdrawn ends a grant, not the card's processing elsewhere."""
        withdrawn = before[:1] == (authorizer.WITHDRAW_AUTHORIZATION,) and at == [before[1]]
        return status in ("TimedOut", "Withdrawn") and withdrawn

    def watch_authorization(self, effect: tuple, before: tuple, after: tuple) -> None:
        evse_id, token, result = effect[1:]
        key = key_of(token["id_token"])
        assert evse_id not in self.grants, "authorized twice"
        if self.unreached:
            assert before == (authorizer.WITHDRAW_AUTHORIZATION, evse_id)
        if evse_id in self.running:
            assert self.settings.selection_algorithm != "FindFirst"
            assert evse_id in self.plug_ins, "a stranger has a charge that runs"
            assert evse_id not in self.stopping, "or that is being stopped"
        self.check_faulted_plug(evse_id, self.open[key].token)
        self.granted += 1
        self.grants[evse_id] = Granted(self.granted, key, result.get("parent_id_token"))
        self.plug_ins.discard(evse_id)
        self.copied.pop(evse_id, None)
        answered = all(until <= self.now for until, _ in self.unanswered[evse_id])
        if answered or self.lapsed_card.get(evse_id) == key:
            self.lapsed.pop(evse_id, None)  # what starts now is of this grant
        assert after[:3] == (authorizer.STATUS, token, "UsedToStart")
        assert token["connectors"] == [evse_id]
        accepted = self.open[key].accepted()
        assert any({**r, "tariff_messages": []} == result for r in accepted)
        for other in accepted:
            parent = other.get("parent_id_token", {}).get("value", "").lower()
            if "expiry_time" not in other:
                assert not (self.group and parent == self.group), "a master pass started"
        assert evse_id in result.get("evse_ids", [evse_id])
        if "expiry_time" in result:
            at = parse_rfc3339(result["expiry_time"])
            assert at is not None
            if self.clock is None:
                assert self.settings.accept_expiry_without_clock
            else:
                assert self.clock[0] + (self.now - self.clock[1]) // 1000 < at

    def is_plug_faulty(self, evse_id: int) -> bool:
        states = self.auth.evses[evse_id - 1].connectors
        plugged = self.plugged.get(evse_id)
        return plugged is not None and "FAULTED" in STATES[states[plugged - 1]]

    def check_faulted_plug(self, evse_id: int, token: dict) -> None:
        """A faulted plug was chosen only for want of another one."""
        if self.op not in ("swipe", "answer") or not self.is_plug_faulty(evse_id):
            return
        find_first = self.settings.selection_algorithm == "FindFirst"
        for other in self.auth.evses:
            if other.id not in token.get("connectors", [other.id]):
                continue
            if other.grant or other.id in self.stopping:  # such a one may not be used
                continue
            if not self.is_plug_faulty(other.id) and not other.is_unavailable():
                if find_first:
                    assert not other.is_available()
                else:
                    assert other not in self.auth._queue

    def check_bounds(self) -> None:
        core = self.auth
        assert core.tokens_in_process() == len(self.open) <= self.settings.max_tokens_in_process
        assert len(core._queue) == len(set(map(id, core._queue))) <= self.evses
        assert len(core.counters) == 11
        for process in core._tokens:
            assert process.deadline is not None
            assert len(process.results) <= max(self.validators, 1)

    def check_grants(self) -> None:
        """The core and the model agree on who is authorized where, and on what runs."""
        for evse in self.auth.evses:
            grant = self.grants.get(evse.id)
            assert (evse.grant is None) == (grant is None), evse.id
            if grant:
                assert key_of(evse.grant.token["id_token"]) == grant.card
                assert evse.grant.withdrawn == grant.withdrawn
            assert evse.transaction_active == (evse.id in self.running)
            assert len(evse.answers) <= 8

    def finish(self, seed: int) -> None:
        """Let every timer run out; then nothing of it all keeps a driver out."""
        self.op = "poll"
        for _ in range(200):
            due = self.auth.next_deadline()
            if due is None:
                break
            self.now = due
            self.auth.poll(due)
            self.watch(None)
        assert self.auth.next_deadline() is None
        assert self.open == {} and self.auth.tokens_in_process() == 0
        self.check_grants()
        for evse in self.auth.evses:
            assert evse.grant is None or evse.transaction_active
        rng = random.Random(seed)
        self.op = "event"
        for evse_id in range(1, self.evses + 1):
            # The end of the last session, or all that an EVSE says after a power loss.
            ends = rng.choice((("SessionFinished",), ("SessionResumed", "TransactionFinished")))
            for name in ends:
                self.report(evse_id, {"event": name})
            for connector in range(1, self.connectors[evse_id - 1] + 1):
                for name in ("Enabled", "PermanentFaultCleared"):
                    self.report(evse_id, {"event": name, "connector_id": connector})
        for evse_id in range(1, self.evses + 1):
            self.op = "swipe"
            driver = {
                "id_token": {"value": f"driver {evse_id}", "type": "Local"},
                "authorization_type": "RFID",
                "connectors": [evse_id],
                "prevalidated": True,
            }
            self.provide(driver)
            assert self.grants[evse_id].card == key_of(driver["id_token"]), "kept out for ever"
