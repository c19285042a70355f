"""Writing the parts of a cards file: head, terms, records, fences, trailer."""

import struct
from array import array

from tapauth.cards.codec import (
    BODY,
    CACHE,
    DELETED,
    DELTA_PAGES,
    FENCES,
    FORMAT,
    HASH,
    MAGIC,
    MAX_CARDS,
    PAGE,
    PER_PAGE,
    PLATE,
    RECORD,
    Damaged,
    Full,
    hiding,
    is_cache,
    seal,
)
from tapauth.compat import const

_PER_FENCE_PAGE = const(126)
_DELTA_FENCES = const(40)


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
        self, kind: str, day: int, key_id: int, seq: int, version: int, counts: tuple, size=PAGE
    ):
        """Write the head ("H") or the trailer ("T"), in which a delta's fences follow.

        `counts`: list, cache, run terms, run records, tail terms, delta records.
        """
        self._clear()
        struct.pack_into(
            PLATE,
            self._page,
            0,
            MAGIC,
            FORMAT,
            ord(kind),
            day & 0xFFFF,
            key_id,
            self._seed,
            seq,
            version,
            *counts,
        )
        if not self._is_run:
            self._page[_DELTA_FENCES : _DELTA_FENCES + 3 * DELTA_PAGES] = self._fences
        self._seal(size)

    def trailer(self, day: int, key_id: int, seq: int, version: int, counts: tuple):
        """Write a delta's trailer: all but a byte, and then that, which needs no flash block.

        A generator. When it is given up in between, what lies there is no trailer.
        """
        self.plate("T", day, key_id, seq, version, counts, PAGE - 1)
        last = self._page[PAGE - 1] ^ 0xFF
        try:
            yield
            last ^= 0xFF
        finally:
            self._file.write(bytes((last,)))

    def terms(self, slots):
        """Write the slots of a table of terms, padded to whole pages; a step per slot."""
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
        info = record[7]
        if info & CACHE:
            self.cached += 1
        elif info & 15 != DELETED:
            self.listed += 1
        if self._fill == BODY:
            self._seal()

    def end_records(self) -> None:
        """Write the last, unfilled page."""
        if self._fill:
            for i in range(self._fill, BODY):
                self._page[i] = 0xFF
            self._seal()

    def fences(self) -> None:
        """Write how many records lie below each hash range, behind a run."""
        below = 0
        for i in range(FENCES):
            at = i % _PER_FENCE_PAGE * 2
            struct.pack_into("<H", self._page, at, below)
            below += self._fences[i]
            if at == 2 * (_PER_FENCE_PAGE - 1):
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
    for record, number in numbered:
        yield hiding(record) if number <= cleared and is_cache(record) else record


def _in_order(journal):
    """(record, number) of the newest change of each hash, in order of the hashes."""
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
    """The records of sorted sources in order; of equal hashes the first source's."""
    heads = [next(source, None) for source in sources]
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
