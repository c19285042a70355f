"""Sorting the journal into the delta, and the delta into a new cards file: what takes long.

Theory of operation. Both are merges of sorted sources (`merged`): of equal hashes the record of
the first source wins, and sources go from the newest to the oldest: the records of the change,
the journal in order of its hashes, the delta, the run.

A flush appends behind the cards file: terms, the new delta, its trailer. Everything before stays
as it is, and the last trailer counts, so the old delta is garbage from the moment on at which the
new trailer is whole. That one is written but for its last byte, and then that byte: the moment is
one byte that goes into a block which littlefs has at hand. A cut before it leaves pages behind
the old trailer that mean nothing. Appending stops when the delta would be too large, when there
is too much garbage, or when the store is over its capacity: then it is a merge.

A merge writes all records that count into the file `new`, reads that back from end to end, and
renames it to `cards`. The rename is the moment. Deleted records end here, as nothing is older
that they could hide; so do cache entries that were unused for their lifetime, and, over the
capacity, the least useful (`_eviction` says in what order). All days become days of the new head.

In a conflict: until the moment the old file and the journal hold everything, and a generator that
is given up removes what it wrote. From then on the new file holds the journal's changes too, and
`cards_check.reopen` finds that by the number in its trailer. Where flash tells an error at the
very moment, what is on flash decides, by that number.

Memory: a page, and fences of 1 KB for a run. Every function that can take long is a generator, to
be run step by step; a step is less than a flash block. The module is forgotten between changes.
"""

import struct
from array import array

from tapauth.cards import cards_check
from tapauth.cards.codec import (
    ACCEPTED,
    BODY,
    DELETED,
    DELTA_FENCES,
    DELTA_PAGES,
    FENCES,
    FENCES_PER_PAGE,
    FORMAT,
    HASH,
    HEAD,
    MAGIC,
    MAX_CARDS,
    PAGE,
    PER_PAGE,
    PLATE,
    RECORD,
    TRAILER,
    Damaged,
    Full,
    StoreError,
    expiry_of,
    hiding,
    is_cache,
    seal,
    status_of,
)
from tapauth.compat import const, forget
from tapauth.core.timestamps import DAY

forget(cards_check)  # as this module itself is forgotten
STEP = const(21)  # records between two steps of a merge: less than half a flash block
_TAIL_PAGES = const(320)  # deltas appended before a merge takes their space back
UNUSED = const(253)  # ranks of what leaves the cache, above those of an age in days
_NOT_VALID = const(252)
_EXPIRED = const(251)


class Writer:
    """Writes sealed pages to `file`, from page `number` of a cards file on.

    `count`, `listed` and `cached` say how many records went in, and how many were of the list
    and of the cache. Every write is a whole page, so a step of a few records is a bounded wait.
    """

    def __init__(self, file, seed: int, number: int, is_run: bool):
        self._file = file
        self._seed = seed
        self._page = bytearray(PAGE)
        self._fill = 0
        self._last = b""
        self._is_run = is_run
        # Of a run: records per hash range. Of a delta: the first hash of each page, shortened.
        self._fences = array("H", bytes(2 * FENCES)) if is_run else bytearray(3 * DELTA_PAGES)
        self.number = number
        self.count = self.listed = self.cached = 0

    def _seal(self, size: int = PAGE) -> None:
        seal(self._page, self._seed, self.number)
        if self._file.write(memoryview(self._page)[:size]) != size:
            raise Full("flash is full")
        self.number += 1
        self._fill = 0

    def _clear(self) -> None:
        for i in range(PAGE):
            self._page[i] = 0

    def plate(
        self,
        kind: int,
        day: int,
        key_id: int,
        seq: int,
        version: int,
        listed: int = 0,
        cached: int = 0,
        run_terms: int = 0,
        run_count: int = 0,
        tail_terms: int = 0,
        delta_count: int = 0,
        size: int = PAGE,
    ):
        """Write a plate, of the kind HEAD or TRAILER; behind a delta's trailer follow its fences.

        `size`: how many bytes of its page are written now.
        """
        self._clear()
        counts = (listed, cached, run_terms, run_count, tail_terms, delta_count)
        struct.pack_into(
            PLATE,
            self._page,
            0,
            MAGIC,
            FORMAT,
            kind,
            day & 0xFFFF,
            key_id,
            self._seed,
            seq,
            version,
            *counts,
        )
        if not self._is_run:
            self._page[DELTA_FENCES : DELTA_FENCES + 3 * DELTA_PAGES] = self._fences
        self._seal(size)

    def trailer(self, **fields):
        """Steps: write a delta's trailer: all but a byte, then that, which needs no flash block.

        Given up in between, it leaves no valid trailer.
        """
        self.plate(TRAILER, size=PAGE - 1, **fields)
        last = self._page[PAGE - 1] ^ 0xFF  # a wrong byte: the CRC does not fit then
        try:
            yield
            last ^= 0xFF
        finally:
            # Also when given up: the file must be whole pages, for what is appended next.
            self._file.write(bytes((last,)))

    def terms(self, slots):
        """Steps: write the slots of a table of terms, one a step, padded to whole pages."""
        fill = 0
        for slot in slots:
            fill += len(slot)
            if self._file.write(slot) != len(slot):
                raise Full("flash is full")
            yield
        pad = -fill % PAGE
        if pad and self._file.write(bytes(pad)) != pad:
            raise Full("flash is full")
        self.number += (fill + pad) // PAGE

    def add(self, record) -> None:
        """Take the next record. Raises Damaged if its hash is not above the last one's."""
        name = record[:HASH]
        if name <= self._last:
            raise Damaged("order")
        self._last = name
        if self._is_run:
            self._fences[(name[0] << 8 | name[1]) * FENCES >> 16] += 1
        elif self._fill == 0:
            at = self.count // PER_PAGE * 3
            self._fences[at : at + 3] = name[:3]
        self._page[self._fill : self._fill + RECORD] = record
        self._fill += RECORD
        self.count += 1
        if self.count > (MAX_CARDS if self._is_run else DELTA_PAGES * PER_PAGE):
            raise Full("too many cards")
        # A record that only hides is no card, and counts as neither.
        if is_cache(record):
            self.cached += 1
        elif status_of(record) != DELETED:
            self.listed += 1
        if self._fill == BODY:
            self._seal()

    def end_records(self) -> None:
        """Write the last, unfilled page."""
        if self._fill:
            for i in range(self._fill, BODY):
                self._page[i] = 0xFF  # no hash: a search of the page passes it by
            self._seal()

    def fences(self) -> None:
        """Write how many records lie below each hash range, behind a run."""
        below = 0
        for i in range(FENCES):
            at = i % FENCES_PER_PAGE * 2
            struct.pack_into("<H", self._page, at, below)
            below += self._fences[i]
            if at == 2 * (FENCES_PER_PAGE - 1):
                self._seal()


def sources(store) -> list:
    """All records of a store as sorted sources, the newest first.

    Those of a cleared cache are replaced by ones that hide what is older.
    """
    cards = store.cards
    cleared = store.cleared()
    return [
        _live(_in_order(store.journal), cleared),
        _live(((record, cards.seq) for record in cards.delta()), cleared),
        _live(((record, cards.run_seq) for record in cards.run()), cleared),
    ]


def _live(numbered, cleared: int):
    """Steps: each gives a record of (record, number); one that a cleared cache had only hides."""
    for record, number in numbered:
        yield hiding(record) if number <= cleared and is_cache(record) else record


def _in_order(journal):
    """Steps: each gives (record, number) of the newest change of a hash, in order of the hashes.

    A sort in MicroPython does not keep the order of equals, so the key has the place in it.
    """
    records = journal.records

    def place(i):
        return bytes(records[i * RECORD : i * RECORD + HASH]) + bytes((255 - i,))

    last = b""
    for i in sorted(range(len(journal)), key=place):
        record = bytes(records[i * RECORD : (i + 1) * RECORD])
        if record[:HASH] != last:
            last = record[:HASH]
            yield record, journal.after + 1 + i


def merged(*sources):
    """Steps: each gives a record of sorted sources, in order; of equals the first source's."""
    heads = [next(source, None) for source in sources]  # None: at its end
    while True:
        best = None
        for head in heads:
            if head is not None and (best is None or head[:HASH] < best[:HASH]):
                best = head
        if best is None:
            return
        name = best[:HASH]
        for i in range(len(heads)):
            head = heads[i]
            if head is not None and head[:HASH] == name:
                heads[i] = next(sources[i], None)
        yield best


def flush(store, extra, new_terms, version: int, counts: tuple):
    """Steps: append a delta with the journal and `extra` (sorted) in it, or merge all.

    It is all done, or nothing: until its trailer is written, the appended pages do not count.
    """
    cards, journal = store.cards, store.journal
    records = cards.delta_count + len(journal) + len(extra)  # at most: some may be equal
    file = store.fs.open(store.path, "ab")
    may_count = False  # whether the new trailer may be on flash
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
            # Pages of the same file: its seed, and their places in it.
            writer = Writer(file, cards.seed, page, False)
            # All that were appended before, too: the trailer finds no others.
            yield from writer.terms(_slots(cards, cards.run_terms, new_terms))
            for record in merged(iter(extra), *sources(store)[:2]):
                writer.add(record)
                if writer.count % STEP == 0:
                    yield
            writer.end_records()
            may_count = True
            yield from writer.trailer(
                day=store.today,
                key_id=store.key_id,
                seq=journal.seq + (len(extra) or 1),  # a new version alone is a change too
                version=version,
                listed=counts[0],
                cached=counts[1],
                run_terms=cards.run_terms,
                run_count=cards.run_count,
                tail_terms=cards.tail_terms + len(new_terms),
                delta_count=writer.count,
            )
    finally:
        try:
            file.close()
        finally:
            if may_count:  # also when an error was told: flash may have it all the same
                cards_check.reopen(store)
    if append:
        yield
    else:
        yield from merge(store, extra, new_terms, version)


def merge(store, extra, new_terms, version: int):
    """Steps: write a new cards file with everything in it, in the place of the old one."""
    cards = store.cards
    seq = store.journal.seq + (len(extra) or 1)  # a new version alone is a change too
    today = store.today  # a lookup may see another one meanwhile
    limit, left = yield from _eviction(store, today)
    file = store.fs.open(store.folder + "/new", "wb")
    done = False
    try:
        yield
        # A new seed: no page of an older file at this place of flash can be taken for its own,
        # and no segment of the journal goes on from it.
        writer = Writer(file, store.new_seed(), 0, True)
        terms = (cards.run_terms + cards.tail_terms if cards else 0) + len(new_terms)
        # How many records there will be, the trailer tells.
        writer.plate(
            HEAD,
            day=today,
            key_id=store.key_id,
            seq=seq,
            version=version,
            run_terms=terms,
        )
        yield from writer.terms(_slots(cards, 0, new_terms) if cards else ())
        records = merged(iter(extra), *(sources(store) if cards else ()))
        for passed, record in enumerate(records):
            if is_cache(record):
                place = rank(store, record, today)
                if place < limit or place == limit and left <= 0:
                    writer.add(dated(store, record, today))
                elif place == limit:
                    left -= 1
            elif status_of(record) != DELETED:
                writer.add(record)
            if passed % STEP == 0:
                yield
        writer.end_records()
        writer.fences()
        yield
        writer.plate(
            TRAILER,
            day=store.today,
            key_id=store.key_id,
            seq=seq,
            version=version,
            listed=writer.listed,
            cached=writer.cached,
            run_terms=terms,
            run_count=writer.count,
        )
        yield
        done = True
    finally:
        file.close()  # may tell that flash is full: then `new` stays until the next start or merge
        if not done:
            store.remove_new()
    yield from put_in_place(store)


def put_in_place(store):
    """Steps: read the new cards file from end to end, then let it replace the old one."""
    new = store.folder + "/new"
    good = False
    try:
        yield
        fresh = cards_check.open_cards(store.fs, new, store.key_id)
        try:
            yield from cards_check.verify_cards(fresh)
            good = True
        finally:
            fresh.close()
    except StoreError as error:
        raise StoreError("what was written does not read back: " + str(error)) from error
    finally:
        if not good:
            store.remove_new()
    store.close()  # littlefs: the old file goes with the rename, and must not be open then
    try:
        store.fs.rename(new, store.path)
    finally:
        cards_check.reopen(store)
    yield


def _slots(cards, after: int, new_terms):
    """Steps: each gives the data of terms: those numbered above `after`, then the new ones."""
    for number in range(after + 1, cards.run_terms + cards.tail_terms + 1):
        cards.terms(number)  # raises Damaged: no copy is made of what is damaged
        yield cards.terms_data(number)
    yield from new_terms


def dated(store, record, today: int) -> bytes:
    """An entry of the cache as it is to be in a cards file with `today` in its head."""
    return record[:-1] + bytes((today - store.age(record, today) & 0xFF,))


def rank(store, record, today: int) -> int:
    """Which cache entries go first: the higher, the sooner."""
    age = store.age(record, today)
    if age > store.cache_days:
        return UNUSED
    if status_of(record) != ACCEPTED:
        return _NOT_VALID
    expiry = expiry_of(record)
    if expiry is not None and expiry <= today * DAY:
        return _EXPIRED
    return age


def _eviction(store, today: int):
    """Steps: what a merge leaves out of the cache. Returns (limit, left): all entries of a rank
    above `limit` go, and the first `left` that have this rank.

    An entry that was unused for its lifetime always goes; when the store is over its capacity,
    then not-valid entries first, then expired, then oldest, down to fifteen sixteenths of the
    capacity.
    """
    over = store.listed + store.cached - store.capacity
    if over <= 0 or not store.cards:
        return UNUSED - 1, 0
    over += store.capacity // 16  # more than must be, so that not every merge has to do it again
    tally = array("H", bytes(2 * (UNUSED + 1)))  # how many entries have each rank
    for passed, record in enumerate(merged(*sources(store))):
        if is_cache(record):
            tally[rank(store, record, today)] += 1
        if passed % STEP == 0:
            yield
    limit = UNUSED
    while limit > 0 and (limit == UNUSED or tally[limit] < over):
        over -= tally[limit]
        limit -= 1
    return limit, max(over, 0)
