"""What one token costs in the authorization core, on MicroPython.

    MICROPYPATH=build/firmware:.frozen micropython -X heapsize=192k tools/bench/auth_core.py

Prints one row a line, JSON. A token's cost is all of it: the event that is parsed already, its
checks, its validator's answer, its effects fetched. Bytes are those of this port, whose words
have 64 bits; a board's are about half.
"""

import gc
import json

from tapauth.compat import mem_alloc, ticks_diff, ticks_us
from tapauth.core.authorizer import VALIDATE, Authorizer
from tapauth.core.settings import AuthSettings

ROUNDS = 500
TAPS = 10_000

PLUGGED = {"event": "SessionStarted", "session_started": {"reason": "EVConnected"}}
STARTED = {"event": "TransactionStarted"}
STOPPED = {"event": "TransactionFinished"}
FINISHED = {"event": "SessionFinished"}
ACCEPTED = {
    "authorization_status": "Accepted",
    "tariff_messages": [],
    "parent_id_token": {"value": "FLEET-7", "type": "Local"},
}
INVALID = {"authorization_status": "Invalid", "tariff_messages": []}


def card(value):
    return {
        "id_token": {"value": value, "type": "ISO14443"},
        "authorization_type": "RFID",
        "connectors": [1, 2],
    }


CARD = card("04a1b2c3d4e5f6")
STRANGER = card("04ffffffffffff")


class Bench:
    """One core with two EVSEs and one validator, and the taps of a day."""

    def __init__(self):
        settings = AuthSettings(connection_timeout=60, selection_algorithm="PlugEvents")
        self.core = Authorizer(settings, [1, 2])
        self.now = 0
        self.statuses = 0

    def tap(self, token, answer):
        core = self.core
        core.provide_token(token, self.now)
        effects = core.take_effects()
        while effects:
            for effect in effects:
                if effect[0] == VALIDATE:
                    core.validation_result(effect[1], answer, self.now)
                else:
                    self.statuses += 1
            effects = core.take_effects()

    def event(self, event):
        self.core.session_event(1, event, self.now)

    def start(self):
        self.tap(CARD, ACCEPTED)

    def stop(self):
        self.tap(CARD, ACCEPTED)

    def refuse(self):
        self.tap(STRANGER, INVALID)

    def duplicate(self):
        self.tap(CARD, ACCEPTED)

    def session(self, measure):
        """Four taps of one session, each through `measure(case, tap)`."""
        self.now += 1000
        self.event(PLUGGED)
        measure("refused", self.refuse)
        measure("starts", self.start)
        measure("duplicate", self.duplicate)
        self.event(STARTED)
        measure("stops", self.stop)
        self.event(STOPPED)
        self.event(FINISHED)


def show(case, metric, value, unit):
    print(
        json.dumps(
            {"suite": "auth core", "case": case, "metric": metric, "value": value, "unit": unit}
        )
    )


def main():
    bench = Bench()
    spent: dict[str, int] = {}
    allocated: dict[str, int] = {}

    def time(case, tap):
        begin = ticks_us()
        tap()
        spent[case] = spent.get(case, 0) + ticks_diff(ticks_us(), begin)

    def count(case, tap):
        gc.collect()
        gc.disable()
        begin = mem_alloc()
        tap()
        allocated[case] = mem_alloc() - begin
        gc.enable()

    def only(case, tap):
        tap()

    for _ in range(ROUNDS):
        bench.session(time)
    bench.session(count)
    for case in ("starts", "stops", "refused", "duplicate"):
        show(case, "time per token", spent[case] / ROUNDS, "us")
        show(case, "allocated per token", allocated[case], "B")

    bench.session(only)
    gc.collect()
    before = mem_alloc()
    for _ in range(TAPS // 4):
        bench.session(only)
    gc.collect()
    show("10000 taps", "heap growth", mem_alloc() - before, "B")
    # P A S, P X, P R of each session, and their EVSE commands: proof that the taps did their work.
    show("10000 taps", "effects per session", bench.statuses / (ROUNDS + 2 + TAPS // 4), "effects")


main()
