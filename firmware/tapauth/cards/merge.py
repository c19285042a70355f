"""Sorting the journal into the delta, and the delta into a new cards file.

Every function here is a generator to be run step by step; a step is less than a flash block.
"""

from tapauth.cards.cards_check import open_cards, verify_cards
from tapauth.cards.codec import (
    ACCEPTED,
    DAY,
    DELETED,
    DELTA_PAGES,
    PAGE,
    PER_PAGE,
    StoreError,
    expiry_of,
    is_cache,
    status_of,
)
from tapauth.cards.writer import Writer, merged, sources
from tapauth.compat import const

STEP = const(21)  # records between two steps of a merge: less than half a flash block
_TAIL_PAGES = const(320)  # deltas appended before a merge takes their space back
_UNUSED = const(253)  # ranks of what leaves the cache, above those of an age in days
_NOT_VALID = const(252)
_EXPIRED = const(251)


def flush(store, extra, new_terms, version: int, counts: tuple):
    """Append a delta with the journal and `extra` (sorted) in it; merge if that is too much.

    It is all done, or nothing: until its trailer is written, the appended pages do not count.
    """
    cards, journal = store.cards, store.journal
    records = cards.delta_count + len(journal) + len(extra)
    file = store.fs.open(store.path, "ab")
    may_count = False
    try:
        size = file.seek(0, 2)
        page = size // PAGE + 1
        append = (
            records <= DELTA_PAGES * PER_PAGE
            and page - cards.run_end < _TAIL_PAGES
            and sum(counts) <= store.capacity
        )
        if append:
            # littlefs copies the block that it goes on in: a step of its own. A page that is not
            # whole, or none, has no meaning.
            file.write(b"\0")
            yield
            file.write(bytes(PAGE - 1 - size % PAGE))
            yield
            writer = Writer(file, cards.seed, page, False)
            yield from writer.terms(_slots(cards, cards.run_terms, new_terms))
            for record in merged(iter(extra), *sources(store)[:2]):
                writer.add(record)
                if writer.count % STEP == 0:
                    yield
            writer.end_records()
            tail = (cards.tail_terms + len(new_terms), writer.count)
            plate = counts + (cards.run_terms, cards.run_count) + tail
            seq = journal.seq + (len(extra) or 1)  # a new version alone is a change too
            may_count = True
            yield from writer.trailer(store.today, store.key_id, seq, version, plate)
    finally:
        try:
            file.close()
        finally:
            if may_count:  # also when an error was told: flash may have it all the same
                reopen(store)
    if append:
        yield
    else:
        yield from merge(store, extra, new_terms, version)


def merge(store, extra, new_terms, version: int):
    """Write a new cards file with everything in it and put it in the place of the old."""
    cards = store.cards
    seq = store.journal.seq + (len(extra) or 1)
    today = store.today  # a lookup may see another one meanwhile
    evicts = yield from _eviction(store, today)
    file = store.fs.open(store.folder + "/new", "wb")
    done = False
    try:
        yield
        writer = Writer(file, store.new_seed(), 0, True)
        terms = (cards.run_terms + cards.tail_terms if cards else 0) + len(new_terms)
        head = (0, 0, terms, 0, 0, 0)
        writer.plate("H", today, store.key_id, seq, version, head)
        yield from writer.terms(_slots(cards, 0, new_terms) if cards else ())
        records = merged(iter(extra), *(sources(store) if cards else ()))
        for passed, record in enumerate(records):
            if is_cache(record):
                if not evicts(record):
                    writer.add(dated(store, record, today))
            elif status_of(record) != DELETED:
                writer.add(record)
            if passed % STEP == 0:
                yield
        writer.end_records()
        writer.fences()
        yield
        counts = (writer.listed, writer.cached, terms, writer.count, 0, 0)
        writer.plate("T", store.today, store.key_id, seq, version, counts)
        yield
        done = True
    finally:
        file.close()
        if not done:
            store.remove_new()
    yield from put_in_place(store)


def put_in_place(store):
    """Read the new cards file from end to end, then let it replace the old one."""
    new = store.folder + "/new"
    good = False
    try:
        yield
        fresh = open_cards(store.fs, new, store.key_id)
        try:
            yield from verify_cards(fresh)
            good = True
        finally:
            fresh.close()
    except StoreError as error:
        raise StoreError("what was written does not read back: " + str(error)) from error
    finally:
        if not good:
            store.remove_new()
    store.close()
    try:
        store.fs.rename(new, store.path)
    finally:
        reopen(store)
    yield


def reopen(store) -> None:
    """Open the cards file as it now is. Raises StoreError, OSError, and says so; MemoryError, and
    is to be called again (Store.opened).
    """
    store.close()
    store.due = True
    try:
        store.cards = cards = open_cards(store.fs, store.path, store.key_id)
    except (StoreError, OSError) as error:
        store.due = False
        store.say(error)
        raise
    store.due = False
    if cards.seq <= store.journal.after:
        return  # the new one did not come into place
    store.version, store.listed, store.cached = cards.version, cards.listed, cards.cached
    store.note(cards.day)
    store.journal.reset(cards.seq)


def _slots(cards, after: int, new_terms):
    for number in range(after + 1, cards.run_terms + cards.tail_terms + 1):
        cards.terms(number)
        yield cards.terms_data(number)
    yield from new_terms


def dated(store, record, today: int) -> bytes:
    """An entry of the cache as it is to be in a cards file with `today` in its head."""
    return record[:-1] + bytes((today - store.age(record, today) & 0xFF,))


def rank(store, record, today: int) -> int:
    """Which cache entries go first: the higher, the sooner."""
    age = store.age(record, today)
    if age > store.cache_days:
        return _UNUSED
    if status_of(record) != ACCEPTED:
        return _NOT_VALID
    expiry = expiry_of(record)
    if expiry is not None and expiry <= today * DAY:
        return _EXPIRED
    return age


def _eviction(store, today: int):
    """What a merge leaves out of the cache: returns a function of a record.

    Always what was unused for its lifetime; when over capacity, not-valid entries first, then
    expired, then oldest, down to fifteen sixteenths of the capacity.
    """
    over = store.listed + store.cached - store.capacity
    if over <= 0 or not store.cards:
        return lambda record: rank(store, record, today) == _UNUSED
    over += store.capacity // 16
    tally = bytearray(2 * (_UNUSED + 1))
    for passed, record in enumerate(merged(*sources(store))):
        if is_cache(record):
            at = 2 * rank(store, record, today)
            count = (tally[at] | tally[at + 1] << 8) + 1
            tally[at] = count & 0xFF
            tally[at + 1] = count >> 8
        if passed % STEP == 0:
            yield
    limit = _UNUSED
    while limit > 0:
        count = tally[2 * limit] | tally[2 * limit + 1] << 8
        if count >= over:
            break
        over -= count
        limit -= 1
    left = [over]

    def evicts(record):
        place = rank(store, record, today)
        if place == limit and left[0] > 0:
            left[0] -= 1
            return True
        return place > limit or place == _UNUSED

    return evicts
