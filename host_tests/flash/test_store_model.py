"""Random operations on a real littlefs, with crashes in the middle, against plain dicts."""

import copy
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from littlefs.context import UserContext

from tapauth.cards import codec, journal
from tapauth.cards.store import Store, finish
from tools.cardlist.card_image import Builder
from tools.desk.flash_image import LfsFiles

KEY = bytes(range(32))
NOW = 1_790_000_000
CARDS = 24
CHIPS = {"esp32": (32, 128), "rp2": (256, 1024)}
STATUSES = ("Accepted", "Accepted", "Blocked", "NoCredit")


class CutFlash(UserContext):
    """Flash that can go back to any moment since `mark`: as if the power had gone there."""

    def mark(self) -> None:
        self._before = bytes(self.buffer)
        self._log: list = []

    def prog(self, cfg, block, off, data):
        self._log.append((block * cfg.block_size + off, bytes(data)))
        return super().prog(cfg, block, off, data)

    def erase(self, cfg, block):
        self._log.append((block * cfg.block_size, b"\xff" * cfg.block_size))
        return super().erase(cfg, block)

    def cut(self, left: int) -> bool:
        """Leave what the flash held in the middle of operation `left`; False if there is none."""
        if left >= len(self._log):
            return False
        self.buffer[:] = self._before
        for at, data in self._log[:left]:
            self.buffer[at : at + len(data)] = data
        at, data = self._log[left]
        half = len(data) // 2
        self.buffer[at : at + half] = data[:half]
        return True


def files(flash, chip):
    """The mounted file system of a board with this flash."""
    found = LfsFiles(flash, *CHIPS[chip])
    # Both blocks of the root directory: a cut may leave one of them erased.
    if not any(byte != 0xFF for byte in flash.buffer[: 2 * 4096]):
        found.format()
    found.mount()
    return found


def token(i):
    return {"value": f"04{i:012X}", "type": "ISO14443"}


def info(status, group):
    found = {"authorization_status": status}
    if group:
        found["parent_id_token"] = {"value": f"GROUP{group}", "type": "Central"}
        found["evse_ids"] = [group]
    return found


class Model:
    """What the store should hold: dicts."""

    def __init__(self):
        self.list: dict = {}
        self.cache: dict = {}
        self.version = 0
        self.settings = (None, None)

    def put(self, i, card):
        self.cache.pop(i, None)
        self.list[i] = card

    def delete(self, i):
        self.cache.pop(i, None)
        self.list.pop(i, None)

    def answers(self):
        found = []
        for i in range(CARDS):
            card = self.list.get(i) or self.cache.get(i)
            if card is None:
                found.append((None, False))
            else:
                settles = i in self.list or card["authorization_status"] == "Accepted"
                found.append(({"tariff_messages": [], **card}, settles))
        counts = (len(self.list), len(self.cache))
        return found, self.version, counts, self.settings


def seen(store):
    answers = [store.lookup(token(i), NOW) for i in range(CARDS)]
    counts = (store.listed, store.cached)
    return answers, store.version, counts, (store.master_pass_group_id, store.connection_timeout)


def apply(store, model, operation):
    """Do it to both; the model first, as it cannot fail."""
    name, *arguments = operation
    if name == "put":
        i, card = arguments
        model.put(i, card)
        finish(store.put(token(i), card))
    elif name == "delete":
        (i,) = arguments
        model.delete(i)
        finish(store.delete(token(i)))
    elif name == "learn":
        i, card = arguments
        if i not in model.list:
            model.cache[i] = card
        finish(store.learn(token(i), card, NOW))
    elif name == "update":
        step, changes = arguments
        version = model.version + step
        if step > 0:
            model.version = version
            for i, card in changes:
                if card:
                    model.put(i, card)
                else:
                    model.delete(i)
        right = "Accepted" if step > 0 else "VersionMismatch"
        done = finish(store.update(version, [(token(i), card) for i, card in changes]))
        assert done == right
    elif name == "full":
        step, cards = arguments
        model.version = max(model.version + step, 1)
        model.list = dict(cards)
        for i in model.list:
            model.cache.pop(i, None)
        builder = Builder(KEY)
        for i, card in cards.items():
            builder.add(token(i), card)
        file = BytesIO()
        builder.write(file, model.version, 77)
        load = store.load()
        data = file.getvalue()
        for at in range(0, len(data), 700):
            finish(load.write(data[at : at + 700]))
        finish(load.commit())
    elif name == "clear":
        model.cache.clear()
        store.clear_cache()
    elif name == "group":
        model.settings = (arguments[0], model.settings[1])
        store.set_master_pass_group_id(arguments[0])
    elif name == "timeout":
        model.settings = (model.settings[0], arguments[0])
        store.set_connection_timeout(arguments[0])
    elif name == "tidy":
        finish(store.tidy(NOW))


cards = st.integers(0, CARDS - 1)
infos = st.builds(info, st.sampled_from(STATUSES), st.integers(0, 3))
operations = st.one_of(
    st.tuples(st.just("put"), cards, infos),
    st.tuples(st.just("learn"), cards, infos),
    st.tuples(st.just("delete"), cards),
    st.tuples(
        st.just("update"),
        st.integers(0, 2),
        st.lists(st.tuples(cards, st.none() | infos), max_size=15),
    ),
    st.tuples(st.just("full"), st.integers(-1, 2), st.dictionaries(cards, infos)),
    st.just(("clear",)),
    st.tuples(st.just("group"), st.sampled_from(("", "MASTER", "Z" * 36))),
    st.tuples(st.just("timeout"), st.integers(10, 300)),
    st.just(("tidy",)),
)
steps = st.tuples(operations, st.none() | st.integers(0, 25), st.booleans())


@pytest.fixture(autouse=True)
def small_levels(monkeypatch):
    """A journal and a delta so small that every run of operations goes through all levels."""
    monkeypatch.setattr(journal, "SEGMENTS", 2)
    monkeypatch.setattr(codec, "DELTA_PAGES", 1)  # rewrite.py is loaded anew each time


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(chip=st.sampled_from(sorted(CHIPS)), run=st.lists(steps, max_size=60))
def test_a_store_is_its_model_whatever_happens(chip, run):
    flash = CutFlash(64 * 4096)
    flash.mark()
    store = Store(files(flash, chip), "store", KEY)
    model = Model()
    for operation, cut, restart in run:
        before = copy.deepcopy(model)
        flash.mark()
        apply(store, model, operation)
        off = False
        if cut is not None or restart:
            store.close()
            off = cut is not None and flash.cut(cut)
            store = Store(files(flash, chip), "store", KEY)
        assert store.damage == ""
        found = seen(store)
        if off and found == before.answers():
            model = before
        assert found == model.answers()
