"""The tables of a token and of an EVSE say what the core can do, and the document shows them."""

import random
import re

from auth_fixture import T1, T2, Charger, id_token, result
from auth_watched import Watched, WatchedModel

from tools import charts

RUNS = 1500


class WatchedCharger(Charger):
    """Two EVSEs with a connector each; every card is accepted, and waits for a plug-in."""

    def __init__(self, **values):
        super().__init__((1, 1), (lambda provided: result(),), **values)
        self.auth = Watched(self.auth.settings, [1, 1], 1)

    def keep_waiting(self):
        """T2 waits for a plug-in, and that of EVSE 1 is no use: T1's grant keeps it from T2."""
        self.auth.set_connection_timeout(300, self.now)
        self.swipe(T2)
        self.auth.set_connection_timeout(10, self.now)
        self.swipe(T1, [1])
        self.ev(1)
        assert (self.letters(T1), self.letters(T2)) == ("PAS", "PA")


# What random inputs seldom come to.


def a_disabled_evse_comes_back(charger):
    charger.swipe(T2)
    charger.event(1, "Disabled")
    charger.ev(1)
    charger.event(1, "Enabled")


def a_disabled_evse_starts(charger):
    charger.swipe(T2)
    charger.event(1, "Disabled")
    charger.ev(1)
    charger.tx(1)


def a_plug_in_is_told_again_after_a_grant_timed_out(charger):
    charger.keep_waiting()
    charger.wait(10_000)
    charger.ev(1)


def a_grant_that_timed_out_is_given_up(charger):
    charger.keep_waiting()
    charger.wait(10_000)
    charger.event(1, "Deauthorized")


def a_withdrawn_grant_is_given_up(charger):
    charger.keep_waiting()
    charger.withdraw(evse_id=1, id_token=id_token(T1))
    charger.event(1, "Deauthorized")


def a_late_start_ends(charger):
    charger.swipe(T1, [1])
    charger.wait(1000)
    charger.ev(1)
    charger.wait(1000)
    charger.tx(1)
    charger.event(1, "TransactionFinished")


FOR_T2 = (
    a_disabled_evse_comes_back,
    a_disabled_evse_starts,
    a_plug_in_is_told_again_after_a_grant_timed_out,
    a_grant_that_timed_out_is_given_up,
    a_withdrawn_grant_is_given_up,
)


def seen() -> tuple[set, set]:
    token_ways: set = set()
    evse_ways: set = set()
    cores = []
    for scene in (*FOR_T2, a_late_start_ends):
        charger = WatchedCharger()
        scene(charger)
        assert scene not in FOR_T2 or charger.letters(T2) == "PAS"
        cores.append(charger.auth)
    for seed in range(RUNS):
        rng = random.Random(seed)
        model = WatchedModel(rng.getrandbits(32))
        for _ in range(80):
            model.step(rng.getrandbits(32))
        model.finish(seed)
        cores.append(model.auth)
    for core in cores:
        token_ways |= core.token_ways
        evse_ways |= core.evse_ways
    return token_ways, evse_ways


def test_the_tables_hold_what_the_core_can_do_and_nothing_else():
    token_ways, evse_ways = seen()
    assert token_ways == charts.ways(charts.TOKEN)
    assert evse_ways == charts.ways(charts.EVSE)


def test_the_document_shows_the_tables():
    text = charts.DOCUMENT.read_text()
    assert charts.drawn(text) == text, "run python -m tools.charts"


def plug_in_order(cell: str) -> int:
    return 0 if "first" in cell else 1


def came_to(algorithm: str, cells: list[str], evse_ids: str) -> str:
    """What becomes of a card, in the document's words."""
    answer = result(evse_ids=[int(evse_ids)]) if evse_ids else result()
    charger = Charger(
        (1, 1, 1),
        (lambda provided: answer,),
        selection_algorithm=algorithm,
        connection_timeout=60,
        prioritize_authorization_over_stopping_transaction=True,
    )
    for number, cell in sorted(enumerate(cells, 1), key=lambda pair: plug_in_order(pair[1])):
        if cell == "charging":
            charger.swipe(T2, [number], prevalidated=True)
            charger.tx(number)
        elif cell != "free":
            assert cell.startswith("plugged in"), cell
            charger.ev(number)
            if "started" in cell:
                charger.tx(number)
            if "faulted" in cell:
                charger.flt(number, 1)
    charger.swipe(T1)
    letters = charger.letters()
    if letters == "PAS":
        return str(charger.last("UsedToStart")["connectors"][0])
    return {"PA": "waits", "PAR": "Rejected"}[letters]


def test_the_documents_examples_are_what_the_core_does():
    text = charts.DOCUMENT.read_text()
    rows = re.search(r"(?s)\| EVSE 1 \|.*?\n((?:\|.*?\n)+)", text)
    assert rows
    head, *examples = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in rows[0].splitlines()
    ]
    examples = examples[1:]
    assert len(examples) >= 10
    for cells in examples:
        for column in (4, 5, 6):
            algorithm = head[column].strip("`")
            assert came_to(algorithm, cells[:3], cells[3]) == cells[column], (algorithm, cells)
