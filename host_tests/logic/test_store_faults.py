"""The token store when flash fails, tells errors, or lies: what was acknowledged stays."""

import os
import struct
from binascii import crc32

from store_kit import (
    BLOCKED,
    KEY,
    NOW,
    Pieces,
    Short,
    accepted,
    again,
    list_file,
    new_store,
    parent,
    plate,
    refuses,
    status_of,
    take_list,
    token,
    upload,
)

from tapauth.cards import files
from tapauth.cards.codec import HASH, HEAD, TRAILER, StoreError, digest, pack_record
from tapauth.cards.rewrite import Writer
from tapauth.cards.store import Store, finish


def list_of_records(store, records, slots=()):
    """A full list of version 9 with these records, whatever they say."""
    file = Pieces()
    writer = Writer(file, 9, 0, True)
    count = len(records)
    fields = plate(store, 9, listed=count, run_terms=len(slots), run_count=count)
    writer.plate(HEAD, **fields)
    for _ in writer.terms(iter(slots)):
        pass
    for record in sorted(records):
        writer.add(record)
    writer.end_records()
    writer.fences()
    writer.plate(TRAILER, **fields)
    return [b"".join(file.pieces)]


class Told:
    """A file that is written, and whose closing tells an error all the same."""

    def __init__(self, file):
        self.write, self.seek, self._close = file.write, file.seek, file.close

    def close(self):
        self._close()
        raise OSError(5)


class Lying(Short):
    """A file system on which a file is written, and which says that it could not."""

    def open(self, path, mode):
        if self.ending and (path[:-1] + " " + mode).endswith(self.ending):
            return Told(files.open(path, mode))
        return files.open(path, mode)


class At(Short):
    """A file system that tells an error of one path, whose file is written, or is not."""

    def __init__(self, ending, done):
        Short.__init__(self, ending, OSError(5))
        self.done = done

    def open(self, path, mode):
        if self.ending and (path + " " + mode).endswith(self.ending):
            if not self.done:
                raise self.error
            return Told(files.open(path, mode))
        return files.open(path, mode)


class NotPlaced:
    """A file system that does not let a new cards file into its place."""

    def __init__(self, error):
        self.open, self.remove = files.open, files.remove
        self.mkdir, self.urandom = files.mkdir, files.urandom
        self.error = error

    def rename(self, old, new):
        raise self.error


def damage(path, missing):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    if missing:
        os.remove(path)
        return
    data[-1] ^= 1
    with open(path, "wb") as file:
        file.write(data)


def fails(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        return True
    return False


def test_a_list_with_a_card_that_makes_no_sense_is_refused_and_not_only_its_tap():
    store = new_store("senseless")
    take_list(store, (1,))

    def record(i, status, terms=0):
        return pack_record(digest(KEY, token(i))[:HASH], status, terms, None)

    def slot(kind, value):
        data = struct.pack("<BBI36sH", kind, len(value), 0, value, 0)
        return data + struct.pack("<I", crc32(data, 1))

    for status in (12, 13, 14, 15):
        records = [record(1, 0), record(2, status), record(3, 1)]
        assert refuses(StoreError, upload(store, list_of_records(store, records)))
    # A parent id of no type would be none, and its card one of no group.
    for kind, value in ((8, b"P"), (254, b"P"), (0, b"\xff\xfe")):
        pages = list_of_records(store, [record(1, 0, 1)], [slot(kind, value)])
        assert refuses(StoreError, upload(store, pages)), kind
    assert store.version == 1 and not store.damage and not store.busy
    finish(upload(store, list_of_records(store, [record(2, 11, 1)], [slot(7, b"P")])))
    assert store.version == 9 and store.lookup(token(2), NOW)[0]["parent_id_token"]


def test_damage_is_found_also_when_the_store_is_changed_during_the_look():
    new_parent = accepted(parent_id_token=parent("NEW"))  # closes the file and opens it again
    changes = [lambda store: finish(store.put(token(900), new_parent))]
    changes.append(lambda store: fails(finish, store.put(token(901), accepted())))
    for change in changes:
        for damaged in (True, False):
            at, steps = 0, 1
            while at < steps:
                store = new_store("look")
                take_list(store, range(150))
                finish(store.put(token(200), accepted()))
                if damaged:
                    with open(store.path, "r+b") as file:
                        file.seek(256 * 3 + 40)  # of the run
                        byte = file.read(1)[0]
                        file.seek(256 * 3 + 40)
                        file.write(bytes((byte ^ 1,)))
                store.journal.fs = Lying("/j wb", None) if change is changes[1] else files
                steps = 0
                for step, _ in enumerate(store.verify()):
                    steps = step + 1
                    if step == at:
                        change(store)
                    assert steps < 100
                assert bool(store.damage) == damaged, (at, store.damage)
                at += 1


def test_a_store_whose_file_cannot_be_opened_any_more_knows_no_card_and_says_so():
    store = new_store("closed")
    finish(store.put(token(2), accepted(parent_id_token=parent("P"))))
    finish(store.learn(token(1), accepted(), NOW))
    finish(store.put(token(3), accepted(parent_id_token=parent("P"))))
    assert len(store.journal) == 2
    store.close()  # as after a merge whose new file could not be opened
    for i in (1, 2, 3, 4):
        assert store.lookup(token(i), NOW) == (None, False)
    assert store.damage


def fill_journal(store):
    for i in range(45):  # the last nine are those that only what takes away has room for
        finish(store.put(token(i), accepted() if i < 36 else BLOCKED))
    assert not store.journal.has_room(1, True)


def test_a_store_goes_on_when_memory_was_short_for_its_new_cards_file():
    for first in ("look up", "change"):
        store = new_store("short")
        fill_journal(store)
        store.fs = Short("cards rb", MemoryError())
        assert refuses(MemoryError, store.put(token(1), BLOCKED))
        assert not store.busy
        store.fs.ending = ""
        if first == "look up":
            assert status_of(store, token(1)) == status_of(store, token(2)) == "Accepted"
        finish(store.put(token(1), BLOCKED))
        store = again(store)
        assert not store.damage and store.listed == 45
        assert status_of(store, token(1)) == "Blocked" and status_of(store, token(2)) == "Accepted"


def test_a_card_that_is_removed_after_an_error_is_removed_after_the_next_start():
    block = [(token(i), BLOCKED) for i in range(9)]
    accept = [(token(i), accepted()) for i in range(9)]
    for held in (0, 1, 8, 9, 12):  # within a file of the journal, or in a new one
        for count in (1, 9):
            store = new_store("told")
            for i in range(held):
                finish(store.put(token(50 + i), accepted()))
            store.fs = store.journal.fs = Lying("/j wb", None)
            assert refuses(OSError, store.update(1, accept[:count]))
            store.fs.ending = ""
            assert status_of(store, token(0)) is None
            assert not finish(store.delete(token(0)))
            store = again(store)
            assert status_of(store, token(0)) is None, (held, count)
            finish(store.put(token(0), accepted()))
            store.fs = store.journal.fs = Lying("/j wb", None)
            assert refuses(OSError, store.update(1, block[:count]))
            store.fs.ending = ""
            finish(store.put(token(0), accepted()))
            finish(store.put(token(99), BLOCKED))
            store = again(store)
            assert not store.damage and store.version == 0, (held, count)
            assert status_of(store, token(0)) == "Accepted"
            assert status_of(store, token(99)) == "Blocked"


def test_a_cleared_cache_stays_cleared_also_of_what_was_learned_under_an_error():
    store = new_store("told cache")
    finish(store.learn(token(1), accepted(), NOW))
    store.journal.fs = Lying("/j wb", None)
    assert refuses(OSError, store.learn(token(2), accepted(), NOW))
    store.journal.fs.ending = ""
    store.clear_cache()
    store = again(store)
    assert status_of(store, token(1)) is status_of(store, token(2)) is None


def test_an_error_that_was_told_of_a_change_is_nodamage():
    store = new_store("told look")
    store.journal.fs = Lying("/j wb", None)
    assert refuses(OSError, store.put(token(1), accepted()))
    finish(store.verify())
    assert not store.damage


def test_a_card_blocked_after_a_journal_was_sorted_in_under_an_error_stays_blocked():
    for held in (1, 45):
        store = new_store("told flush")
        for i in range(held):
            finish(store.put(token(i), accepted()))
        store.fs = Lying("card ab", None)
        changes = [(token(i), accepted()) for i in range(60, 75)]
        assert refuses(OSError, store.update(1, changes))
        store.fs.ending = ""
        finish(store.put(token(0), BLOCKED))
        store = again(store)
        assert not store.damage and status_of(store, token(0)) == "Blocked"


def test_a_list_version_is_not_forgotten_when_the_next_list_does_not_come_into_place():
    for error in (MemoryError(), OSError(28)):
        store = new_store("version")
        take_list(store, range(5))
        assert finish(store.update(5, [])) == "Accepted"
        store.fs = NotPlaced(error)
        assert refuses(type(error), upload(store, list_file(store, 9, range(3))))
        assert store.version == 5
        assert finish(store.update(3, [(token(9), accepted())])) == "VersionMismatch"


def test_what_was_cut_or_failed_is_acknowledged_with_a_witness_only():
    """Also when it is asked for again, and there is nothing more to do."""

    def full_list(store):
        take_list(store, (2,))

    def delete(store):
        finish(store.delete(token(1)))

    for change, restarts in (
        (delete, True),
        (delete, False),
        (full_list, True),
        (full_list, False),
    ):
        store = new_store("unwitnessed")
        finish(store.put(token(1), accepted()))
        store.fs = Short(".witness wb", OSError(28))
        for _ in range(2):
            try:
                change(store)
                raise AssertionError("acknowledged")
            except OSError:
                pass
        if restarts:
            store.close()
            store = Store(Short(".witness wb", OSError(28)), store.folder, KEY)
        assert status_of(store, token(1)) is None
        assert refuses(OSError, store.delete(token(1)))
        store.fs.ending = ""
        assert finish(store.delete(token(1))) is False
        assert not store.owes_witness and again(store).damage == ""


def test_a_setting_that_is_saved_amid_a_change_does_not_stand_for_its_witness():
    def delete(store):
        return store.delete(token(1))

    def block(store):  # with a parent id that the cards file does not have
        return store.put(token(1), dict(BLOCKED, parent_id_token=parent("P")))

    def list_without(store):
        return upload(store, list_file(store, 9, (2,)))

    for change in (delete, block, list_without):
        at = 0
        passed = False
        while not passed:
            store = new_store("amid")
            fill_journal(store)
            passed = True
            for step, _ in enumerate(change(store)):
                if step == at:
                    store.set_connection_timeout(20 + at % 200)
                    passed = False
            told = store.witnessed
            assert told == (store.journal.seq, store.version, store.saved), (change, at)
            assert status_of(again(store), token(1)) != "Accepted"
            at += 1


def test_a_change_that_is_asked_for_again_when_memory_is_back_has_its_witness():
    store = new_store("asked again")
    for i in range(45):
        finish(store.put(token(i), accepted()))
    blocked = dict(BLOCKED, parent_id_token=parent("P"))  # flushed with the rest of the journal
    store.fs = Short("cards rb", MemoryError())
    assert refuses(MemoryError, store.put(token(1), blocked))
    store.set_connection_timeout(20)
    store.fs.ending = ""
    finish(store.put(token(1), blocked))
    assert store.witnessed == (store.journal.seq, store.version, store.saved)


def test_a_cache_that_is_cleared_under_an_error_counts_what_it_holds():
    for ending in (".settings wb", "/settings wb"):
        for done in (True, False):
            store = new_store("cleared count")
            finish(store.put(token(1), accepted()))
            finish(store.learn(token(2), accepted(), NOW))
            store.fs = At(ending, done)
            assert fails(store.clear_cache)
            store.fs.ending = ""
            for _ in range(2):
                known = status_of(store, token(2)) is not None
                assert store.cached == known and store.listed == 1, (ending, done)
                store = again(store)
            store.clear_cache()
            store = again(store)
            assert store.cached == 0 and status_of(store, token(2)) is None


def test_a_damaged_bit_does_not_let_a_master_pass_card_charge():
    for missing in (False, True):
        for path in range(2):
            store = new_store("group")
            store.set_connection_timeout(45)
            finish(store.learn(token(1), accepted(), NOW))
            store.clear_cache()
            finish(store.learn(token(2), accepted(), NOW))
            store.set_master_pass_group_id("MASTERS")
            damage(store.settings_paths()[path], missing)
            for _ in range(2):
                store = again(store)
                assert (store.damage, store.master_pass_group_id) == ("", "MASTERS")
                assert store.connection_timeout == 45
                assert status_of(store, token(1)) is None and status_of(store, token(2))
                damage(store.settings_paths()[path], missing)
            store = again(store)
            damage(store.settings_paths()[1 - path], missing)  # which the starts have mended
            assert again(store).master_pass_group_id == "MASTERS"


def test_settings_that_are_lost_are_told_however_often_they_were_written():
    for count in (1, 32_767, 32_768, 40_000, 65_534, 65_535):
        store = new_store("often")
        finish(store.put(token(5), accepted()))
        finish(store.learn(token(1), accepted(), NOW))
        store.clear_cache()
        store.saved = count - 1  # what so many changes of a setting leave
        store.witness()
        for seconds in (50, 60):
            store.set_connection_timeout(seconds)
        store = again(store)
        assert store.saved and not store.damage
        for path in store.settings_paths():
            os.remove(path)
        store = again(store)
        assert store.damage and status_of(store, token(1)) is None, count


def test_a_setting_that_is_said_again_is_not_written_again_but_after_an_error():
    store = new_store("said again")
    for error in (None, OSError(28)):
        for path in store.settings_paths():
            store.set_master_pass_group_id("FORMER")
            name = path.rsplit("/")[-1]
            store.fs = Short(name + " wb", error) if error else Lying(name[:-1] + " wb", None)
            assert fails(store.set_master_pass_group_id, "MASTERS")
            finish(store.verify())
            assert not store.damage
            store.fs.ending = ""
            store.set_master_pass_group_id("MASTERS")
            store.set_connection_timeout(100)
            saved = store.saved
            store.set_master_pass_group_id("MASTERS")
            store.set_connection_timeout(100)
            assert store.saved == saved
            store = again(store)
            assert not store.damage and store.master_pass_group_id == "MASTERS"
            assert store.connection_timeout == 100
            damage(store.settings_paths()[0], True)
            store = again(store)
            assert store.master_pass_group_id == "MASTERS" and not store.damage


def test_a_group_that_older_firmware_did_not_know_of_has_its_second_copy_after_a_start():
    store = new_store("one copy")
    store.set_master_pass_group_id("MASTERS")
    first, second = store.settings_paths()
    os.remove(second)
    store = again(store)
    damage(first, False)
    assert again(store).master_pass_group_id == "MASTERS"


def test_a_group_that_is_lost_in_both_copies_is_told():
    for missing in (False, True):
        store = new_store("no copy")
        finish(store.learn(token(1), accepted(), NOW))
        store.clear_cache()
        store.set_master_pass_group_id("MASTERS")
        store = again(store)
        for path in store.settings_paths():
            damage(path, missing)
        store = again(store)
        assert store.damage and status_of(store, token(1)) is None


def test_a_group_of_the_store_that_was_removed_does_not_return_in_a_new_one():
    store = new_store("removed")
    store.set_master_pass_group_id("MASTERS")
    store.close()
    for name in os.listdir(store.folder):
        os.remove(store.folder + "/" + name)
    os.rmdir(store.folder)
    store = again(store)
    assert (store.damage, store.master_pass_group_id) == ("", None)
