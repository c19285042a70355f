"""Scenarios for power_cuts.py: the operations of the card store, and the settings beside it.

After each cut the store is opened on what the flash holds, and must be as it was before or after
the change that was under way, with every acknowledged one in it.
"""

import sys
from io import BytesIO

sys.path.append(".")

from flash_sim import Cut, Files
from power_cuts import Scenario

from tapauth.cards.store import Store, finish
from tools.cardlist.card_image import Builder

KEY = bytes(range(32))
NOW = 1_790_000_000
LARGE = 10_000


def token(i):
    return {"value": f"04{i:012X}", "type": "ISO14443"}


def card(i, status=None):
    info = {"authorization_status": status or ("Blocked" if i % 5 == 0 else "Accepted")}
    if i % 3 == 0:
        info["parent_id_token"] = {"value": f"FLEET{i % 4}", "type": "Central"}
    return info


def image(cards, version):
    builder = Builder(KEY)
    for i in cards:
        builder.add(token(i), card(i))
    file = BytesIO()
    builder.write(file, version, 99)
    return file.getvalue()


def open_store(device, settings):
    return Store(Files(device, settings), "store", KEY, capacity=12_000)


def place(store, data):
    load = store.load()
    for at in range(0, len(data), 1000):
        finish(load.write(data[at : at + 1000]))
    finish(load.commit())


def answer(store, i):
    result, _ = store.lookup(token(i), NOW)
    if result is None:
        return None
    parent = result.get("parent_id_token")
    return result["authorization_status"], parent and parent["value"]


def expected(i, status=None):
    info = card(i, status)
    parent = info.get("parent_id_token")
    return info["authorization_status"], parent and parent["value"]


def put(i, status=None):
    return lambda store: finish(store.put(token(i), card(i, status)))


def delete(i):
    return lambda store: finish(store.delete(token(i)))


def learn(i):
    return lambda store: finish(store.learn(token(i), card(i), NOW))


def later(days, *actions):
    """The clock goes on, and the board is idle."""

    def run(store):
        finish(store.tidy(NOW + days * 86_400))
        several(*actions)(store)

    return run


def update(version, changes):
    return lambda store: finish(
        store.update(version, [(token(i), status and card(i, status)) for i, status in changes])
    )


def several(*actions):
    def run(store):
        for action in actions:
            action(store)

    return run


def nothing(store):
    pass


# Cards from 20,000 on are learned, those from 50,000 on are new.
few = several(*(put(i) for i in range(1, 8)), learn(20_001))


def with_cards(count, *more):
    def run(store):
        place(store, image(range(count), 3))
        several(*more)(store)

    return run


ALMOST_FULL_JOURNAL = [put(60_000 + i) for i in range(44)]
ALMOST_FULL_DELTA = [
    update(10 + n, [(30_000 + 90 * n + i, "Accepted") for i in range(90)]) for n in range(7)
]
# name: (what the flash holds before: a function of the store, or None for no store; the changes
# of which each is all or nothing).
CHANGES = {
    "first_start": (None, [nothing]),
    "put": (few, [put(3, "Expired")] + [put(50_001 + i) for i in range(0, 20, 2)]),
    "put_new_parent": (few, [put(50_004), put(50_001)]),
    "delete": (few, [delete(2), delete(20_001), delete(4)]),
    "learn": (few, [learn(20_002), learn(20_004)]),
    "clear_cache": (few, [lambda store: store.clear_cache(), learn(20_005)]),
    "new_day": (few, [later(1), later(20), learn(20_005), later(300)]),
    "journal_full": (
        with_cards(500, *ALMOST_FULL_JOURNAL),
        [put(50_000), put(50_001), put(50_002)],
    ),
    "update_small": (few, [update(5, [(1, None), (2, "Blocked"), (50_001, "Accepted")])]),
    "update_large": (
        with_cards(500, learn(20_001)),
        [update(5, [(i, "Expired" if i % 2 else None) for i in range(490, 530)])],
    ),
    "settings": (
        few,
        [
            lambda store: store.set_master_pass_group_id("MASTERS"),
            lambda store: store.set_master_pass_group_id("B" * 36),
            lambda store: store.set_connection_timeout(77),
        ],
    ),
    "settings_often": (
        few,
        [
            change
            for i in range(8)
            for change in (
                lambda store, i=i: store.set_connection_timeout(60 + i),
                lambda store, i=i: store.set_master_pass_group_id("M" * (36 - i)),
            )
        ],
    ),
    "merge": (
        with_cards(LARGE, learn(20_001), learn(20_003), *ALMOST_FULL_DELTA),
        [update(100, [(50_000 + i, "Accepted") for i in range(60)])],
    ),
    "full_list": (
        with_cards(LARGE, learn(20_001), learn(20_003), put(50_000)),
        [lambda store: place(store, image(range(100, LARGE + 100), 4))],
    ),
}
PROBES = (
    list(range(8))
    + [99, 100, 490, 491, 499, 500, 529, 9_999, 10_000, 10_099]
    + list(range(20_001, 20_006))
    + [30_000, 30_089, 30_100]
    + [50_000, 50_001, 50_002, 50_010, 50_059, 60_000, 60_043]
)


def state(store):
    """All that a cut may not halve."""
    return (
        [answer(store, i) for i in PROBES],
        store.version,
        store.listed,
        store.cached,
        store.master_pass_group_id,
        store.connection_timeout,
        store.today,
    )


class StoreChanges(Scenario):
    """A row of CHANGES."""

    blocks = 256
    root = None
    slow = True

    def __init__(self, before, changes):
        self.before = before
        self.all = changes

    def prepare(self, board):
        if self.before:
            store = open_store(board.device, board.settings)
            self.before(store)
            assert not store.damage
            store.close()

    def changes(self, board):
        if self.before:
            store = open_store(board.device, board.settings)
            yield state(store)
        else:
            store = None
            yield state(open_store(Cut(board.device), board.settings))
        for change in self.all:
            if store is None:
                store = open_store(board.device, board.settings)
            change(store)
            yield state(store)

    def state(self, board):
        store = open_store(board.device, board.settings)
        assert not store.damage, store.damage
        found = state(store)
        store.close()
        return found

    def go_on(self, board, found, point):
        """As if nothing had been: a change is kept over the next start."""
        if point % 4:
            return
        store = open_store(board.device, board.settings)
        i = 70_000 + point % 50
        finish(store.put(token(i), card(i)))
        store.close()
        store = open_store(board.device, board.settings)
        assert not store.damage and answer(store, i)
        if point % 64 == 0:
            finish(store.verify())
            assert not store.damage, store.damage
        store.close()


SCENARIOS = {name: StoreChanges(*row) for name, row in CHANGES.items()}
