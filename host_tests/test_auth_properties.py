"""Random interleavings of everything that can happen to the authorization core.

A model watches the effects and knows only what must never be otherwise. TAPAUTH_INTERLEAVINGS
sets how many interleavings are tried (2,000 by default).
"""

import os
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapauth.core import auth
from tapauth.core.auth import Authorizer
from tapauth.core.settings import ALGORITHMS, AuthSettings
from tapauth.core.timestamps import parse_rfc3339

INTERLEAVINGS = int(os.environ.get("TAPAUTH_INTERLEAVINGS", "2000"))

CARDS = ("A1", "a1", "B2", "C3", "Fleet", "GROUP", "")
PARENTS = (None, None, "FLEET", "fleet", "Group", "a1", "")
FINAL = ("Rejected", "UsedToStart", "UsedToStop", "TimedOut", "Withdrawn", "UsedToReauthorize")
BEGIN = parse_rfc3339("2026-06-01T12:00:00Z") or 0
EXPIRIES = ["2020-01-01T00:00:00Z", "never"]
EXPIRIES += [f"2026-06-01T12:{minute:02}:30+00:00" for minute in range(8)]
GARBAGE = (None, [], {}, 5, "x", {"event": 1}, {"evseId": 1}, {"evse_id": True}, {"id_token": {}})


def id_token(rng: random.Random, value: str | None = None) -> dict:
    if value is None:
        value = rng.choice(CARDS)
    return {"value": value, "type": rng.choice(("ISO14443", "ISO14443", "Local"))}


def provided_token(rng: random.Random) -> dict:
    token = {
        "id_token": id_token(rng),
        "authorization_type": rng.choice(("RFID", "RFID", "RFID", "PlugAndCharge", "OCPP")),
    }
    if rng.random() < 0.4:
        token["connectors"] = [rng.randrange(0, 6) for _ in range(rng.randrange(4))]
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


class Model:
    """Feeds one Authorizer, and checks its effects after each input."""

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
        connectors = [rng.randrange(1, 4) for _ in range(self.evses)]
        self.auth = Authorizer(self.settings, connectors, self.validators)
        self.now = 0
        self.clock: tuple[int, int] | None = None
        self.group = self.settings.master_pass_group_id.lower()
        if flip():
            self.clock = (BEGIN, 0)
            self.auth.set_clock(BEGIN, 0)
        self.requests: dict[int, str] = {}  # validations asked for, answered or not
        self.open: dict[str, list] = {}  # cards in process: the results that came for them
        self.authorized: dict[int, str] = {}  # EVSE id: card
        self.running: set[int] = set()  # EVSEs with a transaction
        self.op = ""

    # Inputs.

    def step(self, seed: int) -> None:
        rng = random.Random(seed)
        # What is due comes first, so that the effects of the input are its own.
        self.op = "poll"
        self.now += rng.choice((0, 0, 0, 0, 0, 0, 10, 1000, 5000, 20_000, 70_000))
        self.auth.poll(self.now)
        self.watch(None)
        due = self.auth.next_deadline()
        assert due is None or due > self.now
        kind = rng.choices(
            (self.swipe, self.answer, self.event, self.withdraw, self.change, self.garbage),
            (30, 30, 30, 5, 8, 2),
        )[0]
        self.op = kind.__name__
        kind(rng)

    def swipe(self, rng: random.Random) -> None:
        token = provided_token(rng)
        key = token["id_token"]["value"].lower()
        duplicate = key in self.open
        self.auth.provide_token(token, self.now)
        if duplicate:
            assert self.auth.take_effects() == ()
            return
        if token.get("prevalidated"):
            vouched = {"authorization_status": "Accepted"}
            if "parent_id_token" in token:
                vouched["parent_id_token"] = token["parent_id_token"]
            self.watch(key, [vouched])
        else:
            self.watch(key, [])

    def answer(self, rng: random.Random) -> None:
        asked = sorted(self.requests)
        if rng.random() < 0.85:  # mostly one that is still open
            asked = [r for r in asked if self.requests[r] in self.open]
        request_id = rng.choice(asked or [7])
        result = validation_result(rng)
        settled = rng.random() < 0.2
        late = self.auth.counters["late_results"]
        card = self.requests.get(request_id)
        results = self.open.get(card) if card is not None else None
        if results is not None:
            results.append(result)
        self.auth.validation_result(request_id, result, self.now, settled)
        if self.auth.counters["late_results"] > late:
            assert self.auth.take_effects() == ()
            if results is not None:
                results.pop()
            return
        self.watch(card)

    def event(self, rng: random.Random) -> None:
        name = rng.choices(
            ("SessionStarted", "TransactionStarted", "TransactionFinished", "SessionFinished")
            + ("Deauthorized", "SessionResumed", "ChargingStarted", "Disabled", "Enabled")
            + ("PermanentFault", "PermanentFaultCleared"),
            (30, 12, 8, 16, 5, 1, 1, 2, 5, 2, 6),
        )[0]
        evse_id = rng.randrange(0, self.evses + 2)
        event: dict = {"event": name}
        if name == "SessionStarted":
            reason = rng.choice(("EVConnected", "EVConnected", "Authorized"))
            event["session_started"] = {"reason": reason}
        if rng.random() < 0.3:
            event["connector_id"] = rng.randrange(0, 5)
        if 1 <= evse_id <= self.evses:
            if name in ("TransactionStarted", "SessionResumed"):
                self.running.add(evse_id)
            elif name in ("TransactionFinished", "SessionFinished"):
                self.running.discard(evse_id)
            if name in ("TransactionFinished", "SessionFinished", "Deauthorized"):
                self.authorized.pop(evse_id, None)
        self.auth.session_event(evse_id, event, self.now)
        self.watch(None)

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
                assert not self.open and not self.authorized.keys() - self.running
        else:
            unknown = not 1 <= request.get("evse_id", 1) <= self.evses
            assert result == ("EvseNotFound" if unknown else "AuthorizationNotFound")
            assert self.auth.take_effects() == ()
            assert request or not (self.open or self.running or self.authorized)

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
            assert self.auth.take_effects() == [(auth.SAVE, "master_pass_group_id", group)]
        elif which == 2:
            seconds = rng.choice((None, BEGIN, BEGIN + 29, BEGIN + 400))
            self.clock = None if seconds is None else (seconds, self.now)
            self.auth.set_clock(seconds, self.now)
            assert self.auth.take_effects() == ()
        else:
            evse_id = rng.randrange(0, self.evses + 2)
            update = {"connector_id": evse_id, "validation_result": validation_result(rng)}
            refused = self.auth.validation_result_update(update, self.now)
            effects = self.auth.take_effects()
            assert len(effects) == (0 if refused else 1)
            for effect in effects:
                assert effect[2] == "Accepted" and effect[1]["connectors"] == [evse_id]
                assert evse_id in self.authorized

    def garbage(self, rng: random.Random) -> None:
        junk = rng.choice(GARBAGE)
        assert self.auth.provide_token(junk, self.now)
        assert self.auth.session_event(1, junk, self.now)
        assert self.auth.validation_result_update(junk, self.now)
        if junk != {}:
            assert self.auth.withdraw(junk, self.now) == "Rejected"
        assert self.auth.take_effects() == ()

    # Effects.

    def watch(self, card: str | None, results: list | None = None) -> None:
        """Check the effects of one input; `results` if it may have opened `card`."""
        effects = list(self.auth.take_effects())
        before: tuple = ()
        stopped: list[int] = []
        for position, effect in enumerate(effects):
            kind = effect[0]
            after = effects[position + 1] if position + 1 < len(effects) else ()
            if kind == auth.STATUS:
                self.watch_status(effect, before, stopped, results)
                stopped = []
            elif kind == auth.VALIDATE:
                key = effect[3]["id_token"]["value"].lower()
                assert effect[1] not in self.requests and key in self.open
                assert 0 <= effect[2] < self.validators
                self.requests[effect[1]] = key
            elif kind == auth.AUTHORIZE_RESPONSE:
                assert 1 <= effect[1] <= self.evses
                if effect[3]["authorization_status"] == "Accepted":
                    self.watch_authorization(effect, after)
            elif kind == auth.WITHDRAW_AUTHORIZATION:
                assert effect[1] not in self.running
                self.authorized.pop(effect[1], None)
            elif kind == auth.STOP_TRANSACTION:
                assert effect[2] == "Local" or effect[1] in self.running
                if effect[2] == "DeAuthorized":
                    assert effect[3] is None and self.op in ("withdraw", "event")
                else:
                    stopped.append(effect[1])
            else:
                assert kind == auth.SAVE
            before = effect
        assert stopped == []
        self.check_bounds()

    def watch_status(self, effect: tuple, before: tuple, stopped: list, results) -> None:
        token, status, messages = effect[1:]
        assert isinstance(messages, list)
        key = token["id_token"]["value"].lower()
        if status == "Processing":
            assert key not in self.open and results is not None
            self.open[key] = results
            return
        if status == "Accepted":
            assert key in self.open
            return
        assert status in FINAL
        at = token.get("connectors")
        if key in self.open and not self.is_after_grant(status, before, at):
            del self.open[key]
            for request_id in [r for r in self.requests if self.requests[r] == key]:
                self.requests[request_id] = "\0"  # answers to it are late from now on
        else:
            assert status in ("TimedOut", "Withdrawn")
            assert before == (auth.WITHDRAW_AUTHORIZATION, at[0]) and len(at) == 1
        if status == "UsedToStart":
            assert before[:2] == (auth.AUTHORIZE_RESPONSE, at[0]) and before[2] is token
        assert (status == "UsedToStop") == bool(stopped)
        if stopped:
            assert at == stopped

    @staticmethod
    def is_after_grant(status: str, before: tuple, at: list | None) -> bool:
        """Whether a TimedOut or Withdrawn ends a grant, not the card's processing elsewhere."""
        withdrawn = before[:1] == (auth.WITHDRAW_AUTHORIZATION,) and at == [before[1]]
        return status in ("TimedOut", "Withdrawn") and withdrawn

    def watch_authorization(self, effect: tuple, after: tuple) -> None:
        evse_id, token, result = effect[1:]
        key = token["id_token"]["value"].lower()
        assert evse_id not in self.authorized, "authorized twice"
        self.authorized[evse_id] = key
        assert after[:3] == (auth.STATUS, token, "UsedToStart")
        assert token["connectors"] == [evse_id]
        accepted = [
            r
            for r in self.open[key]
            if isinstance(r, dict) and r.get("authorization_status") == "Accepted"
        ]
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

    def check_bounds(self) -> None:
        core = self.auth
        assert core.tokens_in_process() == len(self.open) <= self.settings.max_tokens_in_process
        assert len(core._queue) == len(set(map(id, core._queue))) <= self.evses
        assert len(core.counters) == 11
        for process in core._tokens:
            assert process.deadline is not None
            assert len(process.results) <= max(self.validators, 1)

    def finish(self) -> None:
        """Let every timer run out."""
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
        for evse in self.auth.evses:
            assert evse.transaction_active == (evse.id in self.running)
            assert evse.grant is None or evse.transaction_active


@settings(
    max_examples=INTERLEAVINGS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.integers(0, 2**32), min_size=60, max_size=100),
)
def test_any_interleaving(seed, steps):
    model = Model(seed)
    for step in steps:
        model.step(step)
    model.finish()
