"""The token store: up to 50,000 cards on flash, about 2 KB of RAM (docs/store-format.md).

A change goes to the journal; a full journal is sorted into a delta behind the cards file; a
full delta is merged into a new cards file. Whatever can take more than one flash block is a
generator: run it to its end, a step at a time, with other work in between. Its return value is
the result. A generator that is given up must be closed; it then leaves things as they were.
"""

from tapauth.cards.codec import (
    ACCEPTED,
    DAYS_AHEAD,
    DELETED,
    HASH,
    MAX_TERMS,
    NO_DAY,
    PER_PAGE,
    SEGMENT_RECORDS,
    STATUSES,
    Busy,
    Damaged,
    Full,
    check_listed,
    digest,
    former_name,
    hiding,
    is_cache,
    is_refused,
    pack_mark,
    pack_record,
    pack_terms,
    parse_time,
    status_of,
)
from tapauth.cards.journal import SEGMENTS
from tapauth.cards.shelf import Shelf, finish, unload_writers
from tapauth.compat import const

__all__ = ["MAX_UPDATE", "Store", "finish"]

MAX_UPDATE = const(100)
"""Entries that one differential list may hold: they are sorted in RAM."""
# Answers that hold for a moment only.
_NOT_CACHED = ("ConcurrentTx", "Timeout", "PinRequired", "NotAtThisTime")


def _flush(store, records, new_terms, version: int, counts: tuple):
    # Imported at the change that needs it: lookups alone do without.
    from tapauth.cards.merge import flush

    unload_writers()
    return flush(store, records, new_terms, version, counts)


class _Turn:
    """The one right to change the store, as a context."""

    def __init__(self, store):
        if store.busy:
            raise Busy("another change is under way")
        if store.damage:
            raise Damaged(store.damage)
        store.settle()
        self._store = store

    def __enter__(self):
        self._store.busy = True

    def __exit__(self, _, error, __):
        self._store.busy = False
        if isinstance(error, Damaged):
            self._store.say(error)


class Store(Shelf):
    """One store in `folder` of `fs` (tapauth.cards.files), under a site key of 32 bytes.

    Opening never fails: `damage` then says what is wrong, as after any later finding. A damaged
    store answers what is beyond doubt, accepts no change, and is mended by a full list.
    """

    def put(self, id_token: dict, info: dict):
        """Put one card on the list, or another status on a card. A generator.

        `info` is shaped like a ValidationResult: authorization_status, and what it needs of
        parent_id_token, evse_ids (1 to 32; empty: all) and expiry_time. Raises ValueError,
        StoreError, OSError.
        """
        yield from self._change(((id_token, info),), None)

    def delete(self, id_token: dict):
        """Take a card off list and cache. A generator; returns whether it was there."""
        return (yield from self._change(((id_token, None),), None)) > 0

    def update(self, version: int, changes):
        """Apply a differential list, whole or not at all. A generator.

        `changes` are (id_token, info) as for `put`, at most MAX_UPDATE, info None to delete.
        Returns "Accepted", or "VersionMismatch" if `version` is not above the current one.
        """
        if version <= self.version:
            return "VersionMismatch"
        if version > 0x7FFFFFFF or len(changes) > MAX_UPDATE:
            raise ValueError(f"at most {MAX_UPDATE} entries, versions below 2**31")
        yield from self._change(changes, version)
        return "Accepted"

    def _pack(self, id_token: dict, info: dict, terms: dict, new_terms: list, used: int = -1):
        """The record for a card. A generator. Terms not yet in the store are added to
        `new_terms`; `terms` are those that this change has met, to their numbers."""
        number = 0
        parent, evse_ids = info.get("parent_id_token"), info.get("evse_ids")
        if parent or evse_ids:
            wanted = pack_terms(0, parent, evse_ids)[:44]
            number = terms.get(wanted, 0)
            if not number:
                number = yield from self._terms_number(wanted)
                if not number:
                    cards = self.cards
                    assert cards is not None
                    number = cards.run_terms + cards.tail_terms + len(new_terms) + 1
                    if number > MAX_TERMS:
                        raise Full("too many parent ids")
                    new_terms.append(pack_terms(number, parent, evse_ids))
                terms[wanted] = number
        expiry = info.get("expiry_time")
        return pack_record(
            digest(self.key, id_token)[:HASH],
            STATUSES.index(info["authorization_status"]),
            number,
            parse_time(expiry) if expiry else None,
            used,
        )

    def _terms_number(self, wanted: bytes):
        """The number of terms that the cards file holds, or 0. A generator."""
        cards = self.cards
        assert cards is not None
        for number in range(1, cards.run_terms + cards.tail_terms + 1):
            if cards.terms_data(number)[:44] == wanted:
                cards.terms(number)
                return number
            if number % PER_PAGE == 0:
                yield
        return 0

    def _change(self, changes, version: int | None):
        with _Turn(self):
            records: dict = {}
            terms: dict = {}
            new_terms: list = []
            for id_token, info in changes:
                former = former_name(self.key, id_token)
                if former:
                    records[former] = hiding(former)
                if info is None:
                    name = digest(self.key, id_token)[:HASH]
                    records[name] = hiding(name)
                else:
                    check_listed(id_token)
                    record = yield from self._pack(id_token, info, terms, new_terms)
                    records[record[:HASH]] = record
            yield from self._room(len(records), new_terms)
            listed = cached = 0
            for name in sorted(records):
                old = self.find(name)
                if old and is_cache(old):
                    cached -= 1
                elif old:
                    listed -= 1
                if status_of(records[name]) != DELETED:
                    listed += 1
                if old == records[name] or not old and status_of(records[name]) == DELETED:
                    del records[name]
                if len(changes) > 1:
                    yield
            if listed > 0 and self.listed + listed > self.capacity:
                raise Full("the list is full")
            count = len(records)
            if count or version is not None:
                ordered = [records[name] for name in sorted(records)]
                yield from self._write(ordered, new_terms, version, listed, cached)
            if self.owes_witness:
                self.witness()
            return count

    def learn(self, id_token: dict, result: dict, now: int | None):
        """Remember a validator's answer in the cache. A generator; returns whether it did.

        Not remembered: what the list knows, random UIDs, types Central and NoAuthorization,
        statuses that hold for a moment only, and what is accepted under a condition that a record
        cannot hold: an empty list of EVSEs, which in an answer permits none and in the store would
        permit all, a reservation, some modes of energy transfer only. An acceptance that was
        learned before goes then. A repeated answer writes nothing.
        """
        status = result["authorization_status"]
        if (
            status in _NOT_CACHED
            or id_token["type"] in ("Central", "NoAuthorization")
            or is_refused(id_token)
        ):
            return False
        if status == "Accepted" and (
            result.get("evse_ids") == []
            or "reservation_id" in result
            or "allowed_energy_transfer_modes" in result
        ):
            old = self.find(digest(self.key, id_token)[:HASH])
            if old and is_cache(old) and status_of(old) == ACCEPTED:
                yield from self._change(((id_token, None),), None)
            return False
        with _Turn(self):
            new_terms: list = []
            today = self.day(now)
            record = yield from self._pack(id_token, result, {}, new_terms, today)
            old = self.find(record[:HASH])
            repeated = True
            if old:
                if not is_cache(old):
                    return False
                repeated = old[: HASH + 4] == record[: HASH + 4]
                if repeated and self.age(old, today) <= self.cache_days // 4:
                    return False
            elif self.listed >= self.capacity:
                return False
            yield from self._renew()
            yield from self._room(1, new_terms)
            cached = 0 if self.find(record[:HASH]) else 1
            # The first of a day says which day it is, and that must not be lost either.
            harmless = repeated and today <= self.noted
            yield from self._write([record], new_terms, None, 0, cached, harmless)
            self.noted = today
            if self.owes_witness:
                self.witness()
            return True

    def load(self):
        """Begin to take a full list (load.py). Raises Busy."""
        # Imported when needed: most boards see a full list rarely.
        from tapauth.cards.list_in import Load

        unload_writers()
        return Load(self)

    def tidy(self, now: int | None):
        """Do what is better done before someone waits for it. A generator, for idle times."""
        today = self.day(now)
        if self.busy or self.damage or not self.cards:
            return
        with _Turn(self):
            touched = self.touched
            self.touched = None
            if touched or self.cached and self.cards.written == NO_DAY:
                yield from self._renew()
            if touched or today > self.noted:
                yield from self._room(1, ())
                record = pack_mark(today)
                # It may have been deleted, blocked or learned anew since.
                if touched and self.find(touched[:HASH]) == touched:
                    record = touched[:-1] + bytes((today & 0xFF,))
                elif today <= self.noted:
                    return
                yield from self._write([record], (), None, 0, 0)
                self.noted = today
                self.witness()
            if len(self.journal) > (SEGMENTS - 1) * SEGMENT_RECORDS:
                yield from _flush(self, (), (), self.version, (self.listed, self.cached))

    def _renew(self):
        """Put today into the head of the cards file, if a day could not be written otherwise."""
        cards = self.cards
        assert cards is not None
        if self.today - cards.written > DAYS_AHEAD or not cards.written:
            from tapauth.cards.merge import merge

            unload_writers()
            yield from merge(self, (), (), self.version)

    def _room(self, count: int, new_terms):
        """Make room in the journal for so many records, if it is there that they go.

        Before they are counted: a merge may leave out what they replace.
        """
        large = new_terms or count > SEGMENT_RECORDS
        if not large and not self.journal.has_room(count):
            yield from _flush(self, (), (), self.version, (self.listed, self.cached))

    def _write(self, records, new_terms, version: int | None, listed, cached, harmless=False):
        """Make sorted records durable, all in one; `listed`, `cached`: by how many more.

        The caller then owes a witness, if its loss is not `harmless`: one that accepts nothing
        which would not be accepted with it.
        """
        assert self.cards is not None
        if not harmless:
            self.owes_witness = True
        if version is None:
            version = self.version
        counts = (self.listed + listed, self.cached + cached)
        if new_terms or len(records) > SEGMENT_RECORDS:
            yield from _flush(self, records, new_terms, version, counts)
            return
        self.journal.append(self.cards.seed, version, counts, b"".join(records))
        self.version = version
        self.listed, self.cached = counts
        yield
