"""Lives of a store: random changes, days that pass, power cuts at any point. Runs on MicroPython.

    micropython host_tests/on_micropython/store_lives.py esp32 1000 1

The power goes 1000 times, in the life with the random seed 1. Each time the store starts on what
the flash holds then, and life goes on from there. A model of plain dicts says what must hold:
every acknowledged change is there, nothing that was withdrawn is accepted, nothing is half done.
A cut may come while a cut is being mended, and again.
"""

import random
import sys
from io import BytesIO

sys.path.append(".")

from flash_sim import BLOCK, MODES, SETTINGS, Files, Flash, formatted

import tapauth.cards.codec as codec

# A delta so small that all levels of the store are gone through often. Before cards.py reads it.
codec.DELTA_PAGES = 2

from tapauth.cards.store import Store, finish  # noqa: E402
from tapauth.core.timestamps import format_rfc3339  # noqa: E402
from tools.cardlist.card_image import Builder  # noqa: E402

KEY = bytes(range(32))
DAY = 86_400
CARDS = 48
LEARNED = range(32, 60)  # cards from 32 on are learned, some of them are on lists too
CAPACITY = 90
CACHE_DAYS = 30
BLOCKS = 40
STATUSES = ("Accepted", "Accepted", "Accepted", "Blocked", "NoCredit")


def token(i):
    return {"value": f"04{i:012X}", "type": "ISO14443"}


class Model:
    """What was acknowledged.

    `listed`: card to info; `learned`: card to (info, day, day), the first and the last that may be
    the one of its last use; `seen`: the newest day on flash, at least.
    """

    def __init__(self):
        self.listed = {}
        self.learned = {}
        self.version = 0
        self.group = self.timeout = None
        self.seen = 0

    def copy(self):
        other = Model()
        for name in ("version", "group", "timeout", "seen"):
            setattr(other, name, getattr(self, name))
        other.listed, other.learned = dict(self.listed), dict(self.learned)
        return other

    def put(self, i, info):
        self.learned.pop(i, None)
        self.listed.pop(i, None)
        if info:
            self.listed[i] = info

    def wrong(self, store, now, newest):
        """What of this does not hold, or None; `newest`: the last day that the store was told."""
        if (store.version, store.master_pass_group_id, store.connection_timeout) != (
            self.version,
            self.group,
            self.timeout,
        ):
            return ("settings or version", store.version, store.master_pass_group_id)
        if store.listed != len(self.listed):
            return ("counted", store.listed, len(self.listed))
        for i in range(max(LEARNED) + 1):
            result, _ = store.lookup(token(i), now)
            found = result and result["authorization_status"]
            if i in self.listed:
                info = self.listed[i]
                if found != expected(info, now, False):
                    return ("listed", i, found, info, now)
            elif i in self.learned:
                info, first, last = self.learned[i]
                right = expected(info, now, True)
                gone = self.age(first, last, newest, now)
                if found is None and gone[1] > CACHE_DAYS:
                    continue
                if found not in right or gone[0] > CACHE_DAYS:
                    return ("learned", i, found, info, first, last, gone, now)
            elif found is not None:
                return ("unknown", i, found)
            parent = result and result.get("parent_id_token")
            if found and (parent and parent["value"]) != info.get("_parent"):
                return ("parent", i, result)
            if found and result.get("expiry_time") != shown(info, i not in self.listed):
                return ("expiry", i, result)
        return None

    def age(self, first, last, newest, now):
        """The least and the most days since the last use, as far as the store may know."""
        today = max(self.seen, now // DAY if now else 0)
        return today - last, max(newest, today) - first


def shown(info, cached):
    """The expiry as the store tells it."""
    expiry = info.get("_expiry")
    if expiry is None:
        return None
    return format_rfc3339(expiry // 21_600 * 21_600 if cached else expiry)


def expected(info, now, cached):
    """The status that a card has now; of a cached one all that it may have."""
    status = info["authorization_status"]
    expiry = info.get("_expiry")
    right = status
    if status == "Accepted" and expiry is not None:
        right = "NotAtThisTime" if now is None else "Accepted" if now < expiry else "Expired"
    if not cached:
        return right
    if right == "Accepted" and expiry is not None and now + 21_600 >= expiry:
        return right, "Expired"
    return (right,)


class Life:
    """A flash, the store on it, what it acknowledged, and the world's time."""

    def __init__(self, chip, seed):
        self.settings = SETTINGS[chip]
        random.seed(seed)
        self.flash = formatted(BLOCKS, self.settings)
        self.model = Model()
        self.cuts = self.done = self.kept = 0
        self.unix = 1_790_000_000 + random.randrange(400) * DAY
        self.now = None if random.random() < 0.2 else self.unix
        self.newest = 0  # the newest day that the store was told
        self.noise = bytearray(BLOCK)
        self.store = None
        self.start()

    # Chance

    def chance(self, share):
        return random.random() < share

    def pass_time(self):
        """Time goes on; sometimes by many days. The clock is unset or set back at times."""
        self.unix += random.randrange(10_000)
        if self.chance(0.04):
            self.unix += random.choice((1, 1, 2, 8, 31, 100, 300)) * DAY
        chance = random.random()
        if self.now is None and chance < 0.8:
            return
        if chance < 0.05:
            self.now = None
        elif chance < 0.1:
            self.now = self.unix - random.randrange(1, 400) * DAY
        else:
            self.now = self.unix

    def info(self):
        info = {"authorization_status": random.choice(STATUSES)}
        if self.chance(0.4):
            info["_parent"] = f"GROUP{random.randrange(30)}"
            info["parent_id_token"] = {"value": info["_parent"], "type": "Central"}
        if self.chance(0.2):
            # Whole minutes: the list rounds down to them.
            expiry = (self.unix // 60 + random.randrange(-2000, 60_000)) * 60
            info["_expiry"] = expiry
            info["expiry_time"] = format_rfc3339(expiry)
        return info

    def card(self):
        return random.randrange(CARDS)

    # What a store is asked for: each returns the change as a call, and does it to the model.

    def put(self, model):
        i, info = self.card(), self.info()
        model.put(i, info)
        return lambda store: finish(store.put(token(i), info))

    def delete(self, model):
        i = random.choice(list(model.listed) + list(model.learned) + [self.card()])
        model.put(i, None)
        return lambda store: finish(store.delete(token(i)))

    def learn(self, model):
        i, info, now = random.choice(LEARNED), self.info(), self.now
        today = self.told(model)
        if i not in model.listed:
            old = model.learned.get(i)
            if old and _same(old[0], info) and today[0] - old[2] <= CACHE_DAYS // 4:
                # A repeated answer renews the day, or writes nothing.
                model.learned[i] = (old[0], old[1], max(old[2], today[1]))
            else:
                model.learned[i] = (info, today[0], today[1])
                model.seen = max(model.seen, today[0])
        return lambda store: finish(store.learn(token(i), info, now))

    def told(self, model):
        """The days that may be today in the store, when it is told the time now."""
        day = self.now // DAY if self.now else 0
        self.newest = max(self.newest, day)
        first = max(model.seen, day)
        # A card of the time before any day was known gets its day later.
        return first, self.newest if first else 1_000_000

    def update(self, model):
        version = model.version + random.choice((0, 1, 1, 3))
        chosen = {self.card() for _ in range(random.choice((0, 1, 3, 12, 20)))}
        changes = [(i, self.info() if self.chance(0.6) else None) for i in chosen]
        if version > model.version:
            model.version = version
            for i, info in changes:
                model.put(i, info)
        return lambda store: finish(store.update(version, [(token(i), x) for i, x in changes]))

    def full_list(self, model):
        version = random.randrange(1, 100)
        cards = {i: self.info() for i in range(CARDS) if self.chance(0.5)}
        builder = Builder(KEY)
        for i, info in cards.items():
            builder.add(token(i), info)
        file = BytesIO()
        builder.write(file, version, 99)
        data = file.getvalue()
        model.version, model.listed = version, cards
        for i in cards:
            model.learned.pop(i, None)

        def place(store):
            load = store.load()
            for at in range(0, len(data), 700):
                finish(load.write(data[at : at + 700]))
            finish(load.commit())

        return place

    def clear(self, model):
        model.learned.clear()
        return lambda store: store.clear_cache()

    def group(self, model):
        model.group = group = random.choice(("", "MASTER", "Z" * 36))
        return lambda store: store.set_master_pass_group_id(group)

    def timeout(self, model):
        model.timeout = seconds = random.randrange(10, 300)
        return lambda store: store.set_connection_timeout(seconds)

    def tidy(self, model):
        now = self.now
        today = self.told(model)
        touched = self.store.touched
        model.seen = max(model.seen, today[0])
        for i, (info, first, last) in list(model.learned.items()):
            if touched and codec.digest(KEY, token(i))[:7] == touched[:7]:
                model.learned[i] = (info, first, max(last, today[1]))
        return lambda store: finish(store.tidy(now))

    def given_up(self, model):
        """A change that is given up somewhere: it is there or not, as a whole."""
        steps = random.randrange(1, 60)
        model.version = version = model.version + 1
        changes = [(i, self.info() if i % 2 else None) for i in range(random.randrange(20))]
        for i, info in changes:
            model.put(i, info)

        def give_up(store):
            going = store.update(version, [(token(i), info) for i, info in changes])
            for _ in range(steps):
                if next(going, self) is self:
                    break
            going.close()

        return give_up

    # Life

    def start(self):
        """Open the store; the power may go in the middle, and again."""
        while True:
            self.mark()
            self.store = Store(
                Files(self.flash, self.settings), "store", KEY, CAPACITY, CACHE_DAYS
            )
            if not self.chance(0.15) or not self.cut():
                self.flash.log = None
                return

    def mark(self):
        self.before = bytes(self.flash.data)
        self.flash.log = []

    def cut(self):
        """Leave what the flash held in the middle of a program or erase since `mark`."""
        log = self.flash.log
        self.flash.log = None
        if not log:
            return False
        flash = Flash(0)
        flash.blocks = BLOCKS
        flash.data = bytearray(self.before)
        at = random.randrange(len(log))
        for entry in log[:at]:
            flash.apply(entry)
        for i in range(BLOCK):
            self.noise[i] = random.getrandbits(8)
        flash.cut(log[at], random.choice(MODES), self.noise)
        self.flash = flash
        self.cuts += 1
        return True

    def live(self, cuts):
        choices = [self.put] * 6 + [self.learn] * 6 + [self.delete] * 3 + [self.update] * 3
        choices += [self.tidy] * 3 + [self.full_list, self.clear, self.group, self.timeout]
        choices += [self.given_up]
        while self.cuts < cuts:
            self.pass_time()
            before = self.model
            after = before.copy()
            choice = random.choice(choices)
            self.last = str(choice)
            change = choice(after)
            self.told(after)
            self.mark()
            change(self.store)
            self.done += 1
            if self.chance(0.5) and self.cut():
                self.start()
                if self.now is not None and self.chance(0.3):
                    self.now = None  # a start without a clock
                self.check(before, after)
            elif choice == self.given_up:
                self.flash.log = None
                self.check(before, after)
            else:
                self.flash.log = None
                self.model = after
                if self.chance(0.1):
                    self.store.close()
                    self.start()
                if self.chance(0.3):
                    self.check(after, after)
            if self.chance(0.02):
                finish(self.store.verify())
                assert not self.store.damage, self.store.damage

    def check(self, before, after):
        self.told(after)
        store = self.store
        assert not store.damage, (self.cuts, self.done, store.damage)
        halves = [model.wrong(store, self.now, self.newest) for model in (after, before)]
        assert None in halves, (self.cuts, self.done, self.last, halves)
        if halves == [None, None]:
            for i in set(after.learned) | set(before.learned):
                one, other = after.learned.get(i), before.learned.get(i)
                if one and other and _same(one[0], other[0]):
                    days = min(one[1], other[1]), max(one[2], other[2])
                    after.learned[i] = (one[0], days[0], days[1])
                else:  # too old to be seen, whichever it is
                    after.learned.pop(i, None)
                    finish(store.delete(token(i)))
            after.seen = min(after.seen, before.seen)
        self.kept += halves[0] is None
        self.model = after if halves[0] is None else before


def _same(info, other):
    return (
        info["authorization_status"] == other["authorization_status"]
        and info.get("_parent") == other.get("_parent")
        and info.get("_expiry", 0) // 21_600 == other.get("_expiry", 0) // 21_600
    )


def main(chip, cuts, seed):
    life = Life(chip, int(seed))
    life.live(int(cuts))
    print(life.cuts, "cuts in", life.done, "changes,", life.kept, "kept the change")


if __name__ == "__main__":
    main(*sys.argv[1:])
