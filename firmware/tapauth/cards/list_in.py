"""Taking a full list: a cards file, sent in pieces, checked, and put in place in one step.

Theory of operation. The list arrives as `python -m tools.cards build` writes it for this site key:
a run without a delta. Pieces of any length are cut into pages, and each page is a state on:

    head       key, version, counts, room: all that can refuse the list is asked here
    terms      written down as they come; their own CRCs are checked when all is read back
    records    checked page by page and record by record, and written again with the cache
    fences     checked and dropped: those of the file that is written are others
    trailer    must say what the head said; from then on the list has `_ended`
    behind it  nothing may come

The store's cache stays over a full list. So the records of the list and the cache entries of the
store are merged on the way, both sorted; where both know a card, the list wins. Terms of kept
entries are numbered anew behind those of the list; more than _CACHE_TERMS different ones are too
much to hold, and entries beyond them are dropped: they are asked for again.

All goes into the file `new`. `commit` ends it, and from there it is as with any merge: read back,
renamed, opened (rewrite.put_in_place). Until the rename the store is as it was, and whatever goes
wrong removes `new`: an error, an abort, a power cut at the next start. After the rename the list
holds, whatever is told.

A damaged store keeps nothing, takes the list, and is mended by it: the journal's unreadable files
are replaced, settings and witness written again. `busy` is held from the first piece to the
last, which can be minutes, so others wait or are told that.
"""

from tapauth.cards import rewrite
from tapauth.cards.cards_file import pages_for, term_pages
from tapauth.cards.codec import (
    FENCE_PAGES,
    FORMAT,
    HASH,
    HEAD,
    MAGIC,
    MAX_TERMS,
    MAX_VERSION,
    PAGE,
    PER_PAGE,
    RECORD,
    STATUSES,
    TRAILER,
    Busy,
    Damaged,
    Full,
    StoreError,
    is_cache,
    is_intact,
    pack_terms,
    status_of,
    terms_of,
    unpack_terms,
    with_terms,
)
from tapauth.cards.rewrite import STEP, UNUSED
from tapauth.compat import const, forget, late

_CACHE_TERMS = const(64)  # different terms among the cache entries that are kept

forget(rewrite)  # as this module itself is forgotten


class Load:
    """One full list on its way in. While it lasts, the store takes no other change.

    `write` every piece in order, then `commit`; or `abort`. All raise StoreError or OSError and
    are over then, with the store as it was. A damaged store takes a full list, and is mended.
    """

    def __init__(self, store):
        if store.busy:
            raise Busy("another change is under way")
        self._store = store
        self._file = None
        self._writer: rewrite.Writer | None = None
        self._page = bytearray(PAGE)
        self._fill = 0
        self._number = 0  # of the page that is being received
        self._left = 0  # records still to come
        self._today = store.today  # a lookup may see another one meanwhile
        self._kept = self._cache()
        self._head = None  # the next cache entry to be kept
        self._terms: dict = {}  # of kept cache entries: old number to new
        self._slots: list = []
        self._ended = False
        self.version = 0
        # At last: there may be no memory for this object. It has the turn for its life, as pieces
        # come by requests of their own; commit() ends in abort(), which gives it back.
        store.busy = True

    def write(self, data):
        """Steps: take the next piece, of any length."""
        try:
            view = memoryview(data)
            at = 0
            while at < len(view):
                count = min(PAGE - self._fill, len(view) - at)
                self._page[self._fill : self._fill + count] = view[at : at + count]
                self._fill += count
                at += count
                if self._fill == PAGE:
                    self._fill = 0
                    yield from self._take()
                    self._number += 1
        except (StoreError, OSError):
            self.abort()
            raise

    def _take(self):
        """Steps: take a whole page, by what is to come next."""
        page, number = self._page, self._number
        if self._writer is None:
            yield from self._take_head()
            return
        if self._ended:  # as if two lists had been sent as one
            raise Damaged("bytes behind the trailer")
        if number < self._first:  # terms; they say their own numbers, so they stay as they are
            self._write(page)
            self._writer.number += 1
        else:
            if not is_intact(page, self._seed, number):
                raise Damaged(f"page {number}")
            if self._left:
                for at in range(0, RECORD * min(self._left, PER_PAGE), RECORD):
                    yield from self._add(bytes(page[at : at + RECORD]))
                    self._left -= 1
            elif number == self._first + pages_for(self._count) + FENCE_PAGES:
                found = rewrite.cards_check.read_plate(page)
                if (
                    found.magic != MAGIC
                    or found.kind != TRAILER
                    or found.seed != self._seed
                    or found.listed != self._count
                    or found.run_count != self._count
                    or found.run_terms != self._run_terms
                    or found.cached
                    or found.tail_terms
                    or found.delta_count
                ):
                    raise Damaged("trailer")
                self._ended = True
        yield

    def _take_head(self):
        """Steps: take the head, and refuse the list here if it cannot be taken."""
        page, store = self._page, self._store
        if page[: len(MAGIC)] != MAGIC or page[len(MAGIC)] != FORMAT:
            raise StoreError(f"not a list of format {FORMAT}")
        head = rewrite.cards_check.read_plate(page)
        self._seed, self._count, self._run_terms = head.seed, head.listed, head.run_terms
        if not is_intact(page, self._seed, 0):
            raise Damaged("head")
        if head.key_id != store.key_id:
            raise StoreError("made with another site key")
        self.version = head.version
        # No list holds learned cards, and all that it holds is in its run.
        if not 0 < self.version <= MAX_VERSION or head.cached or head.run_count != self._count:
            raise StoreError("not a full list")
        if self._count > store.capacity:
            raise Full(f"{self._count} cards, room for {store.capacity}")
        if self._run_terms > MAX_TERMS:
            raise StoreError("too many parent ids")
        self._left = self._count
        self._first = 1 + term_pages(self._run_terms)
        self._file = store.fs.open(store.folder + "/new", "wb")
        yield
        self._writer = rewrite.Writer(self._file, store.new_seed(), 0, True)
        self._seq = store.journal.seq + 1
        self._writer.plate(
            HEAD,
            day=self._today,
            key_id=store.key_id,
            seq=self._seq,
            version=self.version,
            run_terms=self._run_terms,
        )
        yield from self._next()

    def _next(self):
        """Steps: go to the next cache entry to be kept."""
        while True:
            self._head = next(self._kept, None)
            yield
            if self._head != b"":
                return

    def _write(self, data) -> None:
        if self._file.write(data) != len(data):  # type: ignore
            raise Full("flash is full")

    def _add(self, record: bytes):
        """Steps: write a record of the list, and before it cache entries with smaller hashes."""
        if (
            is_cache(record)
            or status_of(record) >= len(STATUSES)
            or terms_of(record) > self._run_terms
        ):
            raise Damaged("record")
        # An entry of the cache with the same hash is left out: the list wins.
        while self._head is not None and self._head[:HASH] <= record[:HASH]:
            if self._head[:HASH] < record[:HASH]:
                self._writer.add(self._head)  # type: ignore
            yield from self._next()
        self._writer.add(record)  # type: ignore

    def _cache(self):
        """Steps: each gives a cache entry of the store, in order, under new terms; as many as can
        be read.

        Now and then comes an empty one, so that none is waited for over a whole list.
        """
        store = self._store
        if store.damage or not store.cards:
            return
        try:
            for passed, record in enumerate(rewrite.merged(*rewrite.sources(store))):
                if passed % STEP == 0:
                    yield b""
                if is_cache(record) and rewrite.rank(store, record, self._today) != UNUSED:
                    number = terms_of(record)
                    if number:
                        number = self._new_number(number)
                        if not number:
                            continue
                    yield rewrite.dated(store, with_terms(record, number), self._today)
        except (Damaged, OSError) as error:
            # The list is taken all the same; what could not be read is asked for again.
            store.say(error)

    def _new_number(self, old: int) -> int:
        """The number of these terms in the new file; 0 if the entry is to be dropped."""
        number = self._terms.get(old, 0)
        if not number:
            number = self._run_terms + len(self._slots) + 1
            if len(self._slots) == _CACHE_TERMS or number > MAX_TERMS:
                return 0
            cards = self._store.cards
            parent, evse_ids = unpack_terms(old, cards.terms_data(old))
            self._slots.append(pack_terms(number, parent, evse_ids))
            self._terms[old] = number
        return number

    def commit(self):
        """Steps: put the list in place; the store's version is then `version`."""
        store, writer = self._store, self._writer
        try:
            if not self._ended or self._fill or writer is None:
                raise Damaged("the list is not complete")
            while self._head is not None:
                writer.add(self._head)
                yield from self._next()
            writer.end_records()
            writer.fences()
            yield
            yield from writer.terms(iter(self._slots))
            writer.plate(
                TRAILER,
                day=store.today,
                key_id=store.key_id,
                seq=self._seq,
                version=self.version,
                listed=writer.listed,
                cached=writer.cached,
                run_terms=self._run_terms,
                run_count=writer.count,
                tail_terms=len(self._slots),  # those of the cache: a delta's place, without one
            )
            yield
            self._file.close()  # type: ignore
            self._file = None
            store.owes_witness = True  # from the rename on, whatever comes in between
            yield from rewrite.put_in_place(store)
            yield from _mended(store)
        finally:
            self.abort()

    def abort(self) -> None:
        """Give up, if it is not over already; the store is as before."""
        if self._store:
            if self._file:
                try:
                    self._file.close()
                except OSError:
                    pass
                self._file = None
                self._store.remove_new()
            self._store.busy = False
            self._store = None


def _mended(store):
    """Steps: a full list is in place, so leave no damage. Raises OSError."""
    if store.damage:
        with late("opening"):
            from tapauth.cards import opening

        forget(opening)
        yield from opening.mend_journal(store.journal)
        store.save(*store.settings)  # both copies, whatever was wrong with one
        store.hidden = False
        store.damage = ""
        yield
    store.witness()
