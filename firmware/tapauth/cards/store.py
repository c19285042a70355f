"""The token store: up to 50,000 cards on flash, about 2 KB of RAM (docs/store-format.md).

Theory of operation. The store is a log-structured merge tree with three levels:

    journal   the newest changes, up to 45: small files on flash, and a copy in RAM
    delta     up to 672 records, sorted, appended behind the run
    run       all the others, sorted; run and delta are one file, `cards`

A record says what is so of one card, by a hash; one with the status DELETED says that nothing of
it in an older level counts. Of a hash the newest record wins: journal before delta before run. A
lookup asks the levels in this order, and never writes.

Changes. Every change goes through `_change` or `learn`: they hold the one turn (`_Turn`), pack
the records, make room, leave out what is so already, and write. Up to nine records are one
journal file; more of them, or terms that the store has not, make a delta at once, with the
journal in it. A full journal becomes a new delta (rewrite.flush), a full delta a new `cards` file
(rewrite.merge). Each of these is one write that counts or does not, with the list version in it,
so a change is whole whatever happens; `version`, `listed` and `cached` are set when it is made.

List and cache. A list record is the operator's word: it wins over anything learned, which is not
even kept beside it. A cache record is a validator's answer. It ages by days without use (see
"Days" in codec.py), goes first when the store is full, and all of them can be cleared by a word:
`settings` then name the last change of which cache records do not count.

What is acknowledged: change, then witness, then the return. When flash tells an error, the write
may be there all the same; `settle` puts flash back to what RAM has, before the next change is
judged. So RAM and flash agree about everything that was ever acknowledged.

Damage is kept in `damage`, the first that is found. Then lookups answer only what is beyond
doubt, changes are refused, and only a full list (list_in.py) mends the store. Damage wins over
everything: no lost record may turn into an acceptance.

Work that can take more than one flash block is a generator: run it to its end, a step at a time,
with other work in between. Its return value is the result. A generator that is given up must be
closed; it then leaves things as they were. `busy` is true from its first step to its last. Code
for large changes only (opening.py, rewrite.py, list_in.py) is loaded for them and forgotten.
"""

from tapauth.cards.cards_file import CardsFile
from tapauth.cards.codec import (
    ACCEPTED,
    CACHE_DAYS,
    DAYS_AHEAD,
    DELETED,
    HASH,
    MAX_CARDS,
    MAX_TERMS,
    MAX_VERSION,
    NO_DAY,
    PER_PAGE,
    SEGMENT_RECORDS,
    STATUSES,
    Busy,
    Damaged,
    Full,
    StoreError,
    check_listed,
    day_of,
    digest,
    expiry_of,
    former_name,
    hiding,
    is_cache,
    is_refused,
    key_id,
    later,
    pack_mark,
    pack_record,
    pack_settings,
    pack_terms,
    pack_witness,
    parse_time,
    status_of,
    terms_of,
)
from tapauth.cards.journal import Journal, write_file
from tapauth.compat import const, forget, late
from tapauth.core.timestamps import format_rfc3339

MAX_UPDATE = const(100)
"""Entries that one differential list may hold: they are sorted in RAM."""
# Answers that hold for a moment only.
_NOT_CACHED = ("ConcurrentTx", "Timeout", "PinRequired", "NotAtThisTime")


def finish(steps):
    """Run a generator of this package to its end at once. Returns its value."""
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        return stop.value


def takes_away(changes) -> bool:
    """Whether changes, as for Store.update, accept no card, and so must not fail for want of
    memory: up to nine of them need no code that is loaded for them.
    """
    for _, info in changes:
        if info and info["authorization_status"] == "Accepted":
            return False
    return True


def _rewriting():
    """The module of large changes, forgotten at once: lookups and most changes do without. A
    change that is under way keeps it until its end."""
    with late("rewrite"):
        from tapauth.cards import rewrite

    forget(rewrite)
    return rewrite


def _opening():
    """The module that opens and verifies a store, forgotten at once."""
    with late("opening"):
        from tapauth.cards import opening

    forget(opening)
    return opening


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


class Store:
    """One store in `folder` of `fs` (tapauth.cards.files), under a site key of 32 bytes.

    Opening never fails: `damage` then says what is wrong, as after any later finding. A damaged
    store answers what is beyond doubt, accepts no change, and is mended by a full list.
    """

    def __init__(
        self,
        fs,
        folder: str,
        key: bytes,
        capacity: int = 10000,
        cache_days: int = 90,
        accept_expiry_without_clock: bool = False,
    ):
        if len(key) != 32:
            raise ValueError("a site key has 32 bytes")
        if not (0 < capacity <= MAX_CARDS and 0 < cache_days <= CACHE_DAYS):
            raise ValueError("capacity 1 to 65535, cache_days 1 to 240")
        self.fs = fs
        self.folder = folder
        self.path = folder + "/cards"
        self.key = key
        self.key_id = key_id(key)
        self.capacity = capacity
        self.cache_days = cache_days
        self._without_clock = accept_expiry_without_clock
        self.journal = Journal(fs, folder)
        self.cards: CardsFile | None = None
        self.today = NO_DAY
        """The newest day that the store has seen, in days since 1970; NO_DAY: none yet."""
        self.noted = NO_DAY  # the newest day that is on flash
        self.touched: bytes | None = None  # a cache entry whose day of use is to be renewed
        self.damage = ""
        self.busy = False
        self.due = False  # whether there was no memory to open the cards file again
        self.hidden = False  # changes are missing, so nothing older than the rest is certain
        self.version = self.listed = self.cached = 0
        self.settings: tuple[int, int, int, str | None] = (0, 0, 0, None)
        self.saved = 0  # how often settings were written, 1 again after 65535; 0: never
        self.unsaved = False  # whether flash may have others, as an error was told
        self.witnessed: tuple | None = None  # what the witness file says
        self.owes_witness = False  # whether a change is to be witnessed before it is acknowledged
        _opening().open_store(self)

    # The witness

    def witness_path(self) -> str:
        return self.folder + ".witness"

    def witness(self) -> None:
        """Leave a witness of the newest change outside of the folder. Raises OSError.

        littlefs keeps a folder, and with it the journal and the settings, in two flash blocks.
        When the newer one is damaged, it goes back to the older one, or loses the last commits,
        and says nothing: all is intact then, and as it once was. A witness in the folder above
        does not go back with it. It is written after the change and before its acknowledgement,
        so it is never newer than an intact store, wherever the power is cut. It may be older: by
        what a cut left unacknowledged, and by changes whose loss takes a permission away.
        """
        found = (self.journal.seq, self.version, self.saved)
        if found != self.witnessed:
            write_file(self.fs, self.witness_path(), pack_witness(*found))
            self.witnessed = found
        self.owes_witness = False

    def note(self, day: int) -> None:
        """This day is on flash."""
        self.noted = max(self.noted, day)
        self.today = max(self.today, day)

    def remove_new(self, name: str = "/new") -> None:
        """Remove what was not finished: "/new" of a merge or load, of which one runs at a time."""
        try:
            self.fs.remove(self.folder + name)
        except OSError:
            pass

    def new_seed(self) -> int:
        """A number for a new cards file, so that no page or segment of another one fits it."""
        return int.from_bytes(self.fs.urandom(4), "little") or 1

    def close(self) -> None:
        """Close the file that lookups read."""
        if self.cards:
            self.cards.close()
            self.cards = None

    def say(self, error: Exception) -> None:
        """Keep the first thing found damaged."""
        self.damage = self.damage or str(error) or "unreadable"

    # Records

    def cleared(self) -> int:
        """Cache entries of changes up to this one do not count."""
        if self.cards and not self.cards.written:
            return self.journal.seq  # see "Days" in codec.py
        seed, number, _, _ = self.settings
        if self.cards and seed == self.cards.seed:
            return number
        return -1

    def opened(self) -> CardsFile:
        """The open cards file; opened now, if memory was short when it was to be opened again.

        Raises StoreError, OSError, MemoryError.
        """
        if self.due:
            with late("cards_check"):
                from tapauth.cards import cards_check

            forget(cards_check)
            cards_check.reopen(self)
        if not self.cards:
            raise Damaged(self.damage)
        return self.cards

    def settle(self) -> None:
        """Be sure, before a change, that flash holds what lookups answer; see Journal.settle.

        Raises StoreError, OSError, MemoryError.
        """
        seed = self.opened().seed
        self.journal.settle(seed, self.version, (self.listed, self.cached))

    def find(self, name: bytes) -> bytes | None:
        """The newest record of this hash. Raises StoreError, OSError when that is in doubt."""
        cards = self.opened()
        found = self.journal.find(name)
        if found:
            record, number = found
        else:
            if self.hidden:
                raise Damaged(self.damage)
            # A record of the delta is as old as the trailer at most, one of the run as its head:
            # that is what a cleared cache is compared with.
            record = cards.find_delta(name)
            number = cards.seq
            if record is None:
                record = cards.find_run(name)
                number = cards.run_seq
            if record is None:
                return None
        if status_of(record) == DELETED or is_cache(record) and number <= self.cleared():
            return None
        return record

    # Lookup

    def day(self, now: int | None) -> int:
        """Today, where `now` is the time in seconds since 1970, or None."""
        self.today = later(self.today, now)
        return self.today

    def age(self, record, today: int) -> int:
        """For how many days an entry of the cache was not used; 0 while no day was known."""
        day = day_of(record, self.cards.written)  # type: ignore
        return 0 if day == NO_DAY else max(today - day, 0)

    def lookup(self, id_token: dict, now: int | None) -> tuple:
        """What the store knows: (ValidationResult or None, whether that settles the question).

        `now` is in seconds since 1970, None while the clock is not set. Settled is what the list
        says and what the cache accepts; a cached refusal holds only while no validator can be
        asked. Damage is told in `damage` and answers (None, False).

        Of a card that an older firmware put there in another spelling, and in this one, the
        stricter entry counts: one that does not accept, else the one for fewer EVSEs, else the
        one that expires first.
        """
        self.day(now)
        if is_refused(id_token):
            return {"authorization_status": "Invalid", "tariff_messages": []}, True
        try:
            answer = self._answer(digest(self.key, id_token)[:HASH], now)
            former = former_name(self.key, id_token)
            if former:
                answer = min(answer, self._answer(former, now), key=_strictness)
            return answer
        except (StoreError, OSError, IndexError) as error:
            self.say(error)
            return None, False

    def is_learned(self, id_token: dict) -> bool:
        """Whether it is from the cache that a card is known. Raises StoreError, OSError."""
        record = self.find(digest(self.key, id_token)[:HASH])
        return record is not None and bool(is_cache(record))

    def _answer(self, name: bytes, now: int | None) -> tuple:
        """What the record of this hash answers. Raises StoreError, OSError, IndexError."""
        record = self.find(name)
        if record is None:
            return None, False
        number = terms_of(record)
        parent, evse_ids = self.cards.terms(number) if number else (None, None)  # type: ignore
        status = STATUSES[status_of(record)]
        cached = is_cache(record)
        if cached:
            age = self.age(record, self.today)
            if age > self.cache_days:
                return None, False
            if age > self.cache_days // 4:  # not at each tap: no flash write for that
                self.touched = record
        expiry = expiry_of(record)
        if status == "Accepted" and expiry is not None:
            if now is None:
                if not self._without_clock:
                    status = "NotAtThisTime"
            elif now >= expiry:
                status = "Expired"
        result: dict = {"authorization_status": status, "tariff_messages": []}
        if parent:
            result["parent_id_token"] = parent
        if evse_ids:
            result["evse_ids"] = evse_ids
        if expiry is not None:
            result["expiry_time"] = format_rfc3339(expiry)
        return result, not cached or status == "Accepted"

    def verify(self):
        """Steps: look for damage through the whole store, a page each."""
        return _opening().verify(self)

    def status(self) -> dict:
        """What a status message tells: counts, list version, fill in percent, damage or ""."""
        cards = self.cards
        return {
            "version": self.version,
            "list": self.listed,
            "cache": self.cached,
            "capacity": self.capacity,
            "fill": 100 * (self.listed + self.cached) // self.capacity,
            "journal": len(self.journal),
            "delta": cards.delta_count if cards else 0,
            "terms": cards.run_terms + cards.tail_terms if cards else 0,
            "damage": self.damage,
        }

    # Settings, kept over power cuts

    def settings_paths(self) -> tuple:
        """Where settings are: in the folder, and outside, where no damage of it reaches them.

        The second is to the first what the witness is to a change.
        """
        return self.folder + "/settings", self.folder + ".settings"

    def save(self, seed: int, cleared: int, timeout: int, group: str | None) -> None:
        settings = (seed, cleared, timeout, group)
        if settings == self.settings and not self.unsaved and not self.damage:
            return
        # From here until both copies are written it is in doubt which of them flash holds.
        self.unsaved = True
        saved = (self.saved + 1) & 0xFFFF or 1
        data = pack_settings(saved, settings)
        first, second = self.settings_paths()
        write_file(self.fs, first, data)
        self.settings = settings
        self.saved = saved
        if self.cleared() >= self.journal.seq:
            self.cached = 0
        write_file(self.fs, second, data)
        self.unsaved = False

    @property
    def master_pass_group_id(self) -> str | None:
        """The group whose cards stop every transaction; "" for none, None if never set here."""
        _, _, _, group = self.settings
        return group

    def set_master_pass_group_id(self, group: str) -> None:
        """Keep the group id, at most 36 characters. Raises ValueError, OSError."""
        if len(group) > 36:
            raise ValueError("a group id has at most 36 characters")
        seed, cleared, timeout, _ = self.settings
        self.save(seed, cleared, timeout, group)  # one file holds all, so the others go along

    @property
    def connection_timeout(self) -> int | None:
        """Seconds to plug in after a tap; None if it was never set here."""
        _, _, timeout, _ = self.settings
        return timeout or None

    def set_connection_timeout(self, seconds: int) -> None:
        """Keep the timeout, 10 to 300 seconds. Raises ValueError, OSError."""
        if not 10 <= seconds <= 300:
            raise ValueError("10 to 300 seconds")
        seed, cleared, _, group = self.settings
        self.save(seed, cleared, seconds, group)

    def clear_cache(self) -> None:
        """Forget everything learned; the space comes back with the next merge."""
        if self.busy:
            raise Busy("another change is under way")
        self.settle()
        _, _, timeout, group = self.settings
        # No record is touched: those of changes up to now do not count any more (cleared()).
        self.save(self.opened().seed, self.journal.seq, timeout, group)

    # Changes

    def put(self, id_token: dict, info: dict):
        """Steps: put one card on the list, or another status on a card.

        `info` is shaped like a ValidationResult: authorization_status, and what it needs of
        parent_id_token, evse_ids (1 to 32; empty: all) and expiry_time. Raises ValueError,
        StoreError, OSError.
        """
        yield from self._change(((id_token, info),), None)

    def delete(self, id_token: dict):
        """Steps: take a card off list and cache. Returns whether it was there."""
        return (yield from self._change(((id_token, None),), None)) > 0

    def update(self, version: int, changes, base: int | None = None):
        """Steps: apply a differential list, whole or not at all.

        `changes` are (id_token, info) as for `put`, at most MAX_UPDATE, info None to delete; of
        two for one card the last counts. `base` is the version that they change, None for any.
        Returns "Accepted", or "VersionMismatch" if `version` is not above the present one, as
        OCPP has it, or that one is not `base`. Raises ValueError, StoreError, OSError.
        """
        if version <= self.version or base not in (None, self.version):
            # It may be this very one, asked for again: to hear that it is there is to trust it.
            if self.owes_witness:
                with _Turn(self):
                    self.witness()
            return "VersionMismatch"
        if version > MAX_VERSION or len(changes) > MAX_UPDATE:
            raise ValueError(f"at most {MAX_UPDATE} entries, versions below 2**31")
        yield from self._change(changes, version)
        return "Accepted"

    def _pack(self, id_token: dict, info: dict, terms: dict, new_terms: list, used: int = -1):
        """Steps: the record for a card. Terms not yet in the store are added to `new_terms`;
        `terms` are those that this change has met, to their numbers.
        """
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
            status=STATUSES.index(info["authorization_status"]),
            terms=number,
            expiry=parse_time(expiry) if expiry else None,
            used=used,
        )

    def _terms_number(self, wanted: bytes):
        """Steps: the number of terms that the cards file holds, or 0."""
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
        """Steps: one change of any number of cards. Returns of how many cards anything was new.

        `changes` as for `update`; `version` is the list's from then on, None for the present one.
        """
        with _Turn(self):
            records: dict = {}  # by their hashes: of two for one card the last counts
            terms: dict = {}
            new_terms: list = []
            for id_token, info in changes:
                former = former_name(self.key, id_token)
                if former:  # what older firmware kept under this spelling ends with any change
                    records[former] = hiding(former)
                if info is None:
                    name = digest(self.key, id_token)[:HASH]
                    records[name] = hiding(name)
                else:
                    check_listed(id_token)
                    record = yield from self._pack(id_token, info, terms, new_terms)
                    records[record[:HASH]] = record
            yield from self._room(len(records), new_terms, takes_away(changes))
            # How the counts change, and what of it is so already: what changes nothing is not
            # written, so that whoever repeats a change wears no flash.
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
                if len(changes) > 1:  # each look-up reads flash; one alone is no wait
                    yield
            if listed > 0 and self.listed + listed > self.capacity:
                raise Full("the list is full")
            count = len(records)
            if count or version is not None:  # a version alone is a change too
                ordered = [records[name] for name in sorted(records)]
                yield from self._write(
                    ordered, new_terms, version=version, listed=listed, cached=cached
                )
            if self.owes_witness:
                self.witness()
            return count

    def learn(self, id_token: dict, result: dict, now: int | None):
        """Steps: remember a validator's answer in the cache. Returns whether it did.

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
            record = yield from self._pack(id_token, result, {}, new_terms, used=today)
            old = self.find(record[:HASH])
            repeated = True
            if old:
                if not is_cache(old):
                    return False
                repeated = old[: HASH + 4] == record[: HASH + 4]
                # As at lookups: the day of use is not written at each tap.
                if repeated and self.age(old, today) <= self.cache_days // 4:
                    return False
            elif self.listed >= self.capacity:
                # A list that fills the store leaves no room for what is learned.
                return False
            yield from self._renew()
            yield from self._room(1, new_terms, status != "Accepted")
            # Only now: making room may have evicted the entry.
            cached = 0 if self.find(record[:HASH]) else 1
            # The first of a day says which day it is, and that must not be lost either.
            harmless = repeated and today <= self.noted
            yield from self._write(
                [record], new_terms, version=None, listed=0, cached=cached, harmless=harmless
            )
            self.noted = today
            if self.owes_witness:
                self.witness()
            return True

    def load(self):
        """Begin to take a full list (list_in.py). Raises Busy."""
        with late("list_in", stays=True):
            from tapauth.cards import list_in

        forget(list_in)
        return list_in.Load(self)

    def tidy(self, now: int | None):
        """Steps: do what is better done before someone waits for it; for idle times."""
        today = self.day(now)
        if self.busy or self.damage or not self.cards:
            return
        with _Turn(self):
            touched = self.touched
            self.touched = None
            # Cards that were learned before any day was known get their day by a merge.
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
                yield from self._write([record], (), version=None, listed=0, cached=0)
                self.noted = today
                self.witness()
            # The next change would wait for this one, and the last segment is kept for some.
            if not self.journal.has_room(SEGMENT_RECORDS, True):
                yield from self._flush()

    def _renew(self):
        """Steps: put today into the head of the cards file, if a day needs that to be written."""
        cards = self.cards
        assert cards is not None
        if self.today - cards.written > DAYS_AHEAD or not cards.written:
            yield from _rewriting().merge(self, (), (), self.version)

    def _room(self, count: int, new_terms, takes_away: bool = False):
        """Steps: make room in the journal for so many records, if it is there that they go.

        Before they are counted: a merge may leave out what they replace. Changes that take
        acceptances away seldom have to wait for that: see Journal.has_room.
        """
        large = new_terms or count > SEGMENT_RECORDS
        if not large and not self.journal.has_room(count, takes_away):
            yield from self._flush()

    def _flush(self):
        """Steps: sort the journal into the delta, or into a new cards file."""
        counts = (self.listed, self.cached)
        yield from _rewriting().flush(self, (), (), version=self.version, counts=counts)

    def _write(self, records, new_terms, version: int | None, listed, cached, harmless=False):
        """Steps: make sorted records durable, all in one; `listed`, `cached`: by how many more.

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
            yield from _rewriting().flush(self, records, new_terms, version=version, counts=counts)
            return
        self.journal.append(self.cards.seed, version, counts, b"".join(records))
        # It is on flash, and only from here on true.
        self.version = version
        self.listed, self.cached = counts
        yield


def _strictness(answer: tuple) -> tuple:
    """By which answers of a lookup are in order, the strictest first."""
    result, settled = answer
    if not result:
        return (2,)
    accepts = result["authorization_status"] == "Accepted"
    evse_ids = result.get("evse_ids")
    return accepts, not settled, len(evse_ids) if evse_ids else 33, result.get("expiry_time", "~")
