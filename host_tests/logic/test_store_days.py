"""Days: a learned card that was unused for too long stays refused, however days move."""

import os

from store_kit import (
    DAY,
    KEY,
    NOW,
    accepted,
    again,
    list_file,
    new_store,
    plate,
    take_list,
    token,
    upload,
)

from tapauth.cards import files
from tapauth.cards.codec import HASH, HEAD, NO_DAY, TRAILER, digest, pack_mark, pack_record
from tapauth.cards.rewrite import Writer
from tapauth.cards.store import Store, finish

CACHE_DAYS = 30


def learn(store, i, now=NOW):
    assert finish(store.learn(token(i), accepted(), now))


def is_known(store, i, now):
    """Whether the card is accepted, and nobody else is asked; this is no use of it."""
    result, settled = store.lookup(token(i), now)
    store.touched = None
    assert result is None or settled and result["authorization_status"] == "Accepted"
    return result is not None


def merge(store):
    """Bring all into a new cards file, as many changes would."""
    finish(store.update(store.version + 1, [(token(10_000 + i), accepted()) for i in range(10)]))
    take_list(store)


def test_no_day_distance_revives_a_card():
    for start in (0, 100, 255):  # the byte of a day runs over at any of them
        first = NOW + start * DAY
        store = new_store("distance", cache_days=CACHE_DAYS)
        learn(store, 1, first)
        for day in range(0, 1001, 1 if start == 0 else 10):
            # A start each time: none of them saw a day between.
            store = again(store, cache_days=CACHE_DAYS)
            assert is_known(store, 1, first + day * DAY) == (day <= CACHE_DAYS), (start, day)


def test_no_day_distance_revives_a_card_beside_cards_that_are_learned_and_used():
    for gap in (3, 29, 47, 256):
        store = new_store("beside", cache_days=CACHE_DAYS)
        learn(store, 1)
        for day in range(gap, 600, gap):
            now = NOW + day * DAY
            learn(store, 1000 + day, now)
            finish(store.tidy(now))
            if day % 3 == 0:
                store = again(store, cache_days=CACHE_DAYS)
            assert is_known(store, 1, now) == (day <= CACHE_DAYS), (gap, day)
            assert is_known(store, 1000 + day, now)
            if day % 5 == 0:
                merge(store)


def test_the_longest_lifetime_has_no_day_too_many():
    for renewed in (False, True):
        store = new_store("longest", cache_days=240)
        learn(store, 1)
        if renewed:
            learn(store, 2, NOW + 200 * DAY)
        assert is_known(store, 1, NOW + 240 * DAY)
        for day in range(241, 600):
            assert not is_known(store, 1, NOW + day * DAY), (renewed, day)


def test_a_day_can_be_written_however_far_it_is_from_the_last_merge():
    for ahead in (0, 1, 14, 15, 16, 17, 255, 256, 257):
        for days in (1, CACHE_DAYS, 240):
            store = new_store("ahead", cache_days=days)
            store.day(NOW)
            merge(store)
            learn(store, 1, NOW + ahead * DAY)
            store = again(store, cache_days=days)
            assert is_known(store, 1, NOW + (ahead + days) * DAY), (ahead, days)
            assert not is_known(store, 1, NOW + (ahead + days + 1) * DAY), (ahead, days)


def test_a_card_refused_for_its_age_stays_refused_without_a_clock():
    store = new_store("without", cache_days=CACHE_DAYS)
    learn(store, 1)
    store = again(store, cache_days=CACHE_DAYS)
    assert is_known(store, 1, None) and is_known(store, 1, NOW + CACHE_DAYS * DAY)
    assert not is_known(store, 1, NOW + (CACHE_DAYS + 1) * DAY)
    finish(store.tidy(NOW + (CACHE_DAYS + 1) * DAY))
    for _ in range(3):
        store = again(store, cache_days=CACHE_DAYS)
        assert not is_known(store, 1, None)
        assert store.today == NOW // DAY + CACHE_DAYS + 1
        merge(store)


def test_the_day_outlives_a_full_journal_and_is_written_once():
    store = new_store("marks")
    learn(store, 1)
    for i in range(300):
        now = NOW + i % 100 * DAY
        finish(store.tidy(now))
        length = len(store.journal)
        finish(store.tidy(now))
        assert len(store.journal) == length
        if i % 10 == 0:
            store = again(store)
            assert store.today == NOW // DAY + min(i, 99)
    assert store.cached == 1 and store.listed == 0


def test_learned_cards_are_known_without_a_clock_after_a_start():
    store = new_store("start")
    for i in range(8):
        learn(store, i, NOW + i * DAY)
    store = again(store)
    assert store.today == NOW // DAY + 7
    assert [is_known(store, i, None) for i in range(8)] == [True] * 8
    merge(store)  # a full list, before the clock is set
    store = again(store)
    assert store.cached == 8
    assert [is_known(store, i, NOW + 8 * DAY) for i in range(8)] == [True] * 8


def test_a_clock_that_is_set_back_neither_refuses_nor_revives():
    for back in range(1, 1000, 41):
        store = new_store("back", cache_days=CACHE_DAYS)
        learn(store, 1)
        learn(store, 2, NOW + (CACHE_DAYS + 1) * DAY)
        now = NOW + (CACHE_DAYS + 1 - back) * DAY
        assert not is_known(store, 1, now) and is_known(store, 2, now)
        learn(store, 3, now)
        store = again(store, cache_days=CACHE_DAYS)
        for when in (None, now, NOW + (2 * CACHE_DAYS + 1) * DAY):
            assert not is_known(store, 1, when), (back, when)
            assert is_known(store, 2, when) and is_known(store, 3, when), (back, when)
        for day in range(2 * CACHE_DAYS + 2, 400, 11):
            assert not is_known(store, 2, NOW + day * DAY)
            assert not is_known(store, 3, NOW + day * DAY)


def test_a_clock_that_is_set_ahead_makes_cards_older_for_good():
    for ahead in range(CACHE_DAYS + 1, 1000, 41):
        store = new_store("ahead", cache_days=CACHE_DAYS)
        learn(store, 1)
        assert not is_known(store, 1, NOW + ahead * DAY)
        finish(store.tidy(NOW + ahead * DAY))
        assert not is_known(store, 1, NOW)
        learn(store, 2, NOW)
        store = again(store, cache_days=CACHE_DAYS)
        assert not is_known(store, 1, NOW) and is_known(store, 2, NOW)


def test_cards_learned_before_any_clock_age_from_the_day_it_is_set():
    for merged in (False, True):
        for start in (0, 100, 255):
            first = NOW + start * DAY
            store = new_store("never", cache_days=CACHE_DAYS)
            learn(store, 1, None)
            if merged:
                merge(store)
            store = again(store, cache_days=CACHE_DAYS)
            learn(store, 2, None)
            for now in (None, first):
                assert is_known(store, 1, now) and is_known(store, 2, now)
            learn(store, 3, first)
            finish(store.tidy(first))
            store = again(store, cache_days=CACHE_DAYS)
            assert store.cached == 3
            for day in range(0, 600, 3):
                for i in (1, 2, 3):
                    known = is_known(store, i, first + day * DAY)
                    assert known == (day <= CACHE_DAYS), (merged, start, day, i)


def test_a_clock_that_is_set_during_a_merge_confuses_no_day():
    for first, then in ((None, NOW), (NOW, NOW + 20 * DAY), (NOW, NOW + 300 * DAY)):
        store = new_store("meanwhile", cache_days=CACHE_DAYS)
        for i in range(100):
            learn(store, i, first)
        steps = store.update(1, [(token(1000 + i), accepted()) for i in range(100)])
        store.capacity = 150  # so that it is a merge, which evicts
        told = False
        for _ in steps:
            if not told and "new" in os.listdir(store.folder):  # the merge is under way
                store.lookup(token(1), then)
                told = True
        assert told
        store.capacity = 10_000
        kept = [i for i in range(100) if store.find(digest(KEY, token(i))[:HASH])]
        assert kept and len(kept) == store.cached
        finish(store.learn(token(500), accepted(), then))
        store = again(store, cache_days=CACHE_DAYS)
        known = [i for i in range(100) if is_known(store, i, then)]
        age = 0 if first is None else (then - first) // DAY
        assert known == (kept if age <= CACHE_DAYS else []), (first, then)
        for day in range(CACHE_DAYS + 1, 600, 7):
            assert not [i for i in (0, 50, 500) if is_known(store, i, then + day * DAY)]


def test_a_clock_that_is_set_during_an_upload_confuses_no_day():
    for first, then in ((None, NOW), (NOW, NOW + 20 * DAY)):
        store = new_store("upload", cache_days=CACHE_DAYS)
        for i in range(1, 9):  # one is read before the clock is set, the others after it
            learn(store, i, first)
        for step, _ in enumerate(upload(store, list_file(store, 2))):
            if step == 1:
                store.lookup(token(1), then)
        store.touched = None
        for day in range(0, 600, 7):
            store = again(store, cache_days=CACHE_DAYS)
            age = day + (0 if first is None else (then - first) // DAY)
            known = [i for i in range(1, 9) if is_known(store, i, then + day * DAY)]
            assert known == (list(range(1, 9)) if age <= CACHE_DAYS else []), (first, day)
            finish(store.tidy(then + day * DAY))


def old_file(store, written, cards):
    """Put a cards file of older firmware in place: (i, day of last use or -1) of each card."""
    store.close()
    for name in os.listdir(store.folder):
        os.remove(store.folder + "/" + name)
    os.remove(store.folder + ".witness")
    file = open(store.path, "wb")
    writer = Writer(file, 9, 0, True)
    fields = dict(plate(store, 1), day=written)
    writer.plate(HEAD, **fields)
    records = [pack_record(digest(KEY, token(i))[:HASH], 0, 0, None, day) for i, day in cards]
    for record in sorted(records):
        writer.add(record)
    writer.end_records()
    writer.fences()
    fields.update(listed=writer.listed, cached=writer.cached, run_count=writer.count)
    writer.plate(TRAILER, **fields)
    file.close()
    return Store(files, store.folder, KEY, cache_days=CACHE_DAYS)


def test_a_file_of_older_firmware_accepts_no_more_than_it_did():
    today = NOW // DAY
    for merged in (False, True):
        store = old_file(
            new_store("old"), today, [(1, -1), (2, today), (3, today - 30), (4, today - 31)]
        )
        for day in range(0, 1000, 3):
            now = NOW + day * DAY
            assert is_known(store, 1, now)
            assert is_known(store, 2, now) == (day <= CACHE_DAYS)
            assert is_known(store, 3, now) == (day == 0)
            assert not is_known(store, 4, now)
            if merged and day == 0:
                finish(store.update(2, [(token(900 + i), accepted()) for i in range(20)]))


def test_what_older_firmware_learned_under_no_clock_is_asked_for_anew():
    cards = [(1, -1)] + [(2 + day, day) for day in range(256)]
    for now in (None, NOW, NOW + 77 * DAY):
        store = old_file(new_store("old"), 0, cards)
        assert is_known(store, 1, now) and store.cached == 0
        assert not [i for i in range(2, 258) if is_known(store, i, now)]
        learn(store, 5, now)
        store = again(store, cache_days=CACHE_DAYS)
        assert (store.listed, store.cached) == (1, 1)
        assert is_known(store, 1, now) and is_known(store, 5, now)
        assert not [i for i in range(2, 258) if i != 5 and is_known(store, i, now)]


def test_a_store_tells_no_day_that_it_has_not_seen():
    store = again(new_store("none"))
    assert store.today == NO_DAY
    finish(store.put(token(1), accepted()))
    finish(store.tidy(None))
    store = again(store)
    assert store.today == NO_DAY
    finish(store.tidy(NOW))
    finish(store.tidy(0))
    store = again(store)
    assert store.today == NOW // DAY
    finish(store.tidy(NOW + 10**10))  # beyond what a head holds
    assert again(store).today == 0xFFFF
    assert len(pack_mark(0xFFFF)) == 12


def random(seed):
    """Numbers below `n`, the same on every Python."""
    state = [seed]

    def draw(n):
        state[0] = state[0] * 1103515245 + 12345 & 0x7FFFFFFF
        return (state[0] >> 8) % n

    return draw


def test_days_that_move_at_random_never_revive_a_card():
    for seed in range(6):
        draw = random(seed)
        store = new_store("random", cache_days=CACHE_DAYS)
        now = NOW
        newest = None  # the newest day seen
        sure = None  # and seen since before a `tidy`, so that a start keeps it
        used: dict = {}  # of each card: the day of its last use; None: before any was known
        for step in range(150):
            kind = draw(8)
            now += (0, 1, 1, 5, 29, 100, 300, -10)[draw(8)] * DAY
            seen = None if draw(3) == 0 else now
            if seen is not None and kind in (0, 1, 2, 4):
                newest = max(newest or 0, seen // DAY)
            i = draw(6)
            kept = kind in (2, 5)
            if kind < 2 and finish(store.learn(token(i), accepted(), seen)):
                kept = True
                used[i] = newest
            elif kind == 2:
                finish(store.tidy(seen))
            elif kind == 3:
                finish(store.delete(token(i)))
                used.pop(i, None)
            elif kind == 4:
                store.lookup(token(i), seen)
                store.touched = None
            elif kind == 5:
                merge(store)
            elif kind == 6:
                store = again(store, cache_days=CACHE_DAYS)
                newest = sure
            if kept:
                sure = newest
                if newest is not None:
                    used = {k: newest if day is None else day for k, day in used.items()}
            for k in range(6):
                right = k in used and (used[k] is None or newest - used[k] <= CACHE_DAYS)
                assert is_known(store, k, None) == right, (seed, step, k)
