"""Opening a store, and looking whether its flash still holds what it should. Needed at the start,
and to mend a damaged store; store.py forgets it in between.

Theory of operation. A power cut leaves one of few things, and all of them are no damage: a file
`new` (removed here), pages behind the last trailer (not looked at), a journal file or settings
with the old content, a witness that is behind. All else that is found is damage. A start never
fails for it: `damage` then says what it is, and how much is lost depends on what it hit.

    order       looked at               when it is not as it should be
    1 witness   how far changes went    no change is accepted
    2 settings  the second copy, then   the other copy counts; when the first went back, or none
                the first               is left: all that was learned counts as cleared
    3 cards     head, last trailer      nothing is answered
    4 journal   files that go on from   what is older than the gap counts no more (`hidden`)
                the cards file

The winner. Of two copies of the settings the second, which lies outside of the folder: it is
written last, so when the first is behind it, the folder has gone back. The witness wins over a
journal that is intact and behind it, as littlefs can go back to an older folder without a word:
then changes are lost that took a permission away, so nothing older may be believed.

A missing file is no damage only where one may be missing: all of them in a new folder, a journal
file when the witness tells what it held. So a store is made (`_create`) only where nothing says
that there was one. At the end the witness catches up, if all is well.

`verify` reads the whole flash against what is in RAM, in steps, while changes may go on; a
comparison that a change has crossed is given up. `mend_journal` belongs to a full list: then all
that was lost is replaced, and only files that cannot be read are left to be put right.
"""

import struct
from binascii import crc32

from tapauth.cards import cards_check
from tapauth.cards.codec import (
    COUNTED,
    RECORD,
    SEGMENT,
    SEGMENT_HEAD,
    SETTINGS,
    SETTINGS_HEAD,
    WITNESS,
    WITNESS_SIZE,
    Damaged,
    StoreError,
    day_marked,
    day_of,
    is_cache,
    pack_segment,
)
from tapauth.cards.journal import SEGMENTS, write_file
from tapauth.compat import forget, late

forget(cards_check)  # as this module itself is forgotten

_NO_SETTINGS = (0, (0, 0, 0, None))


def _read_file(fs, path: str) -> bytes | None:
    """All of a small file; None if there is none."""
    try:
        file = fs.open(path, "rb")
    except OSError as error:
        if error.args[0] == 2:  # ENOENT
            return None
        raise
    try:
        return file.read()
    finally:
        file.close()


def _unpack_segment(data: bytes) -> tuple:
    """(seed, first, version, (list, cache), records). Raises Damaged."""
    if (
        len(data) < SEGMENT_HEAD
        or (len(data) - SEGMENT_HEAD) % RECORD
        or crc32(data[4:], SEGMENT_HEAD) != struct.unpack_from("<I", data)[0]
    ):
        raise Damaged("journal")
    _, seed, first, version, cards, cache = struct.unpack_from(SEGMENT, data)
    return seed, first, version, (cards, cache), data[SEGMENT_HEAD:]


def _unpack_settings(data: bytes | None) -> tuple:
    """(saved, settings), as pack_settings has them. Raises Damaged.

    Older firmware did not count: its files are those of the time 0. The file is empty when the
    power went while it was made.
    """
    if not data:
        return _NO_SETTINGS
    for head in (COUNTED, SETTINGS_HEAD):
        if len(data) >= head and crc32(data[4:], head) == struct.unpack_from("<I", data)[0]:
            _, seed, cleared, timeout = struct.unpack_from(SETTINGS, data)
            saved = struct.unpack_from("<H", data, 14)[0] if head == COUNTED else 0
            group = data[head:].decode()
            return saved, (seed, cleared, timeout, None if not group else group.strip("\0"))
    raise Damaged("settings")


def _unpack_witness(data: bytes) -> tuple:
    """(seq, version, saved). Raises Damaged."""
    if (
        len(data) != WITNESS_SIZE
        or crc32(data[4:], WITNESS_SIZE) != struct.unpack_from("<I", data)[0]
    ):
        raise Damaged("witness")
    return struct.unpack_from(WITNESS, data)[1:]


def open_store(store) -> None:
    """Fill a new Store in with what is on flash; `damage` says what is wrong there."""
    try:
        store.fs.mkdir(store.folder)
        # The folder is new: what lies beside it was of another one.
        store.remove_new(".settings")
        store.fs.remove(store.witness_path())
    except OSError:
        pass
    store.remove_new()
    store.remove_new("/settings.new")  # a journal file's is replaced: that file is missing then
    try:
        data = _read_file(store.fs, store.witness_path())
        if data:
            store.witnessed = seq, _, _ = _unpack_witness(data)
            store.journal.reset(seq)  # a mended store counts on from there
    except (Damaged, OSError) as error:
        store.say(error)
    all_cleared = False
    try:
        _open_settings(store)
    except (Damaged, OSError) as error:
        store.say(error)
        all_cleared = True
    try:
        try:
            store.cards = cards_check.open_cards(store.fs, store.path, store.key_id)
        except OSError as error:
            if error.args[0] != 2:  # ENOENT
                raise
            _create(store)
    except (StoreError, OSError) as error:
        store.say(error)
        return
    _open_journal(store)
    if all_cleared:
        _, _, timeout, group = store.settings
        store.settings = (store.cards.seed, store.journal.seq, timeout, group)
    if store.cleared() >= store.journal.seq:
        store.cached = 0
    if not store.damage:
        store.owes_witness = True
        try:
            store.witness()
        except OSError:
            pass  # flash is full; the next change tries again


def _open_settings(store) -> None:
    """Fill in the settings: from their second copy, when the first is of no use.

    Raises Damaged, OSError when there is none, and when the first is whole and has gone back:
    older firmware knows of no second, and may have saved others since.
    """
    paths = store.settings_paths()
    files = [b"", b""]
    least = None  # how often settings were written at least
    if store.witnessed:
        _, _, least = store.witnessed
    wrong: Exception | None = None
    kept = b""
    for i in (1, 0):  # the first is written first, so it is never behind
        gone_back = False
        try:
            data = _read_file(store.fs, paths[i])
            saved, _ = _unpack_settings(data)
            if data and least is not None and (saved - least) & 0x8000:
                gone_back = True
            elif data:
                files[i] = kept = data
                least = saved
        except (Damaged, OSError) as error:
            wrong = error
    store.saved, store.settings = _unpack_settings(kept)
    if not kept:
        store.saved = least or 0
    if gone_back or not kept and (wrong or store.saved):
        raise wrong or Damaged("settings have gone back")
    for i in (0, 1):
        if files[i] != kept:
            try:
                write_file(store.fs, paths[i], kept)
            except OSError:
                pass  # flash is full; the next start tries again


def _create(store) -> None:
    if store.witnessed or not _is_unused(store.journal):
        raise Damaged("the cards file is missing")
    with late("rewrite"):
        from tapauth.cards import rewrite

    forget(rewrite)
    for _ in rewrite.merge(store, (), (), 0):
        pass


def _open_journal(store) -> None:
    cards, journal = store.cards, store.journal
    store.version, store.listed, store.cached = cards.version, cards.listed, cards.cached
    damage: Exception | None = None
    try:
        # A segment may be missing when the witness tells what it held, and at the first start.
        may_miss = store.witnessed or cards.seq <= 1 and not store.damage and _is_unused(journal)
        newest = _load_journal(journal, cards.seed, cards.seq, may_miss)
        if newest:
            store.version, (store.listed, store.cached) = newest
    except (Damaged, OSError) as error:
        damage = error
    if store.witnessed:
        seq, version, _ = store.witnessed
        if (journal.seq, store.version) < (seq, version):
            damage = damage or Damaged("changes have gone back")
            journal.reset(seq)
    elif damage:
        journal.reset(journal.seq)  # what cannot be read may be the newest
    if damage:
        store.hidden = True
        store.say(damage)
    # Today is the newest day that is anywhere: it must not go back.
    store.note(cards.day)
    store.note(cards.written)
    for at in range(0, len(journal) * RECORD, RECORD):
        record = bytes(journal.records[at : at + RECORD])
        store.note(day_marked(record))
        if is_cache(record) and cards.written:
            store.note(day_of(record, cards.written))


def verify(store):
    """Steps: Store.verify."""
    cards = store.cards
    try:
        # Where a write told an error, flash may differ from RAM: that is settled, not damage.
        if cards and not store.damage and not _is_unsure(store):
            yield from _check_journal(store.journal, cards.seed)
            if not _is_unsure(store):
                _check_small(store)
            yield
        cards = None
        while store.cards and cards is not store.cards:  # a change closes it and opens another
            cards = store.cards
            for _ in cards_check.verify_cards(cards):
                yield
                if cards is not store.cards:
                    break
    except (Damaged, OSError) as error:
        store.say(error)


def _is_unsure(store) -> bool:
    """Whether flash may hold something else than RAM, as an error was told; that is no damage."""
    return store.journal.unsure is not None or store.unsaved or store.owes_witness


def _check_small(store) -> None:
    data = _read_file(store.fs, store.witness_path())
    if store.witnessed and _unpack_witness(data or b"") != store.witnessed:
        raise Damaged("witness")
    data = _read_file(store.fs, store.folder + "/settings")
    if _unpack_settings(data) != (store.saved, store.settings):
        raise Damaged("settings")


# The journal's files


def _put_empty(journal, slot: int) -> None:
    """Make segment `slot` one that holds nothing, in one step, so that no file is ever empty.

    Its temporary name is its own: a setting may be kept while a cards file is being written.
    """
    path = journal.path(slot)
    # As no seed is 0, it is of no cards file.
    write_file(
        journal.fs,
        path + ".new",
        pack_segment(seed=0, first=0, version=0, counts=(0, 0), records=b""),
    )
    journal.fs.rename(path + ".new", path)


def _is_unused(journal) -> bool:
    """Whether no segment was ever written."""
    for slot in range(SEGMENTS):
        data = _read_file(journal.fs, journal.path(slot))
        if data is not None and data[4:8] != bytes(4):
            return False
    return True


def _load_journal(journal, seed: int, after: int, may_miss):
    """Read the changes that follow `after` in the cards file with this seed.

    `may_miss`: whether a segment may be missing; else that is a gap.
    Returns (version, (list, cache)) as of the newest, or None if there is none. Raises
    Damaged if one is missing; those after the gap are kept then, as nothing is newer.
    """
    journal.reset(after)
    damaged = False
    segments = []  # of this cards file
    for slot in range(SEGMENTS):
        try:
            data = _read_file(journal.fs, journal.path(slot))
            if data is None and may_miss:
                _put_empty(journal, slot)
                continue
            found, first, version, counts, records = _unpack_segment(data or b"")
            if found == seed:
                segments.append((first, slot, version, counts, records))
        except Damaged:
            damaged = True
    # Segments are used in turn, so the order of their files is not that of their changes.
    segments.sort(key=lambda item: item[:2])
    newest = None
    for first, slot, version, counts, records in segments:
        last = first + len(records) // RECORD - 1
        # One without records has a version: it counts also where the cards file has all changes.
        if last < after or (last == after and records):
            continue
        if first != journal.seq + 1:  # what was in between is lost, and the older with it
            damaged = True
            journal.reset(first - 1)
        at = (first - journal.after - 1) * RECORD
        journal.records[at : at + len(records)] = records
        journal.slot = slot
        journal.start = first - 1
        journal.seq = last
        journal.used += 1
        newest = (version, counts)
    if damaged:
        raise Damaged("journal")
    return newest


def _check_journal(journal, seed: int):
    """Steps: raise Damaged if flash does not hold the changes that are in RAM. A change that
    comes in between ends it.
    """
    held, seq, after = 0, journal.seq, journal.after
    for slot in range(SEGMENTS):
        data = _read_file(journal.fs, journal.path(slot))
        found, first, _, _, records = _unpack_segment(data or b"")
        at = (first - journal.after - 1) * RECORD
        # A segment of before the last flush holds nothing any more, whatever is in it.
        if found == seed and at >= 0:
            if journal.records[at : at + len(records)] != records:
                raise Damaged("journal")
            held += len(records) // RECORD
        yield
        if journal.seq != seq or journal.after != after or journal.unsure is not None:
            return
    if held != len(journal):
        raise Damaged("journal")


def mend_journal(journal):
    """Steps: replace the segments that cannot be read, one each. Raises OSError."""
    for slot in range(SEGMENTS):
        try:
            _unpack_segment(_read_file(journal.fs, journal.path(slot)) or b"")
        except (Damaged, OSError):
            _put_empty(journal, slot)
        yield
