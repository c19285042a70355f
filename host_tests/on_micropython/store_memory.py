"""Memory runs out at any point of a change to the store. Runs on MicroPython.

    micropython -X heapsize=512k host_tests/on_micropython/store_memory.py /tmp/folder put 32

All of the heap but some bytes is taken, for every number of bytes up to what the change needs.
It must then be done or not, and told; the store goes on when there is memory again, and is after
a restart what it was before. A withdrawal that was acknowledged stays, witness and all.
"""

import gc
import os
import struct
import sys

sys.path.append("host_tests/logic/rigs")

from store_kit import DAY, KEY, NOW, accepted, list_file, parent, status_of, token, upload

from tapauth.cards import files
from tapauth.cards.codec import WITNESS, StoreError
from tapauth.cards.store import Store, finish

BLOCKED = {"authorization_status": "Blocked"}
CARDS = 24
PAGES = []
LEARNED = range(16, CARDS)


def few(store):
    for i in range(LEARNED[0]):
        finish(store.put(token(i), accepted(parent_id_token=parent(f"GROUP{i % 3}"))))
    for i in LEARNED:
        finish(store.learn(token(i), accepted(), NOW))
    store.set_master_pass_group_id("MASTERS")


def plain(store):
    pass


def full(store, takes_away=True):
    """The journal takes nothing more."""
    i = CARDS
    while store.journal.has_room(1, takes_away):
        finish(store.put(token(i), BLOCKED))
        i += 1


def nearly(store):
    """The journal takes nothing more but what takes acceptances away."""
    full(store, False)


def old(store):
    """Today cannot be written any more before a merge."""
    store.day(NOW + 20 * DAY)


def touched(store):
    status_of(store, token(20), NOW + 14 * DAY)


def listed(store):
    """The list takes no memory later."""
    PAGES[:] = list_file(store, 99, range(4, 8))


def _put(store):
    finish(store.put(token(1), BLOCKED))


def _learn(store):
    finish(store.learn(token(17), BLOCKED, NOW))


CASES = {
    "put": (plain, _put),
    "delete": (plain, lambda store: finish(store.delete(token(1)))),
    "learn": (plain, _learn),
    "put_flush": (full, _put),
    "learn_flush": (full, _learn),
    "delete_nearly": (nearly, lambda store: finish(store.delete(token(1)))),
    "learn_nearly": (nearly, _learn),
    "terms": (plain, lambda store: finish(store.put(token(1), accepted(evse_ids=[3])))),
    "merge": (old, lambda store: finish(store.learn(token(17), BLOCKED, NOW + 20 * DAY))),
    "update": (
        plain,
        lambda store: finish(store.update(5, [(token(i), BLOCKED) for i in range(12)])),
    ),
    "full_list": (listed, lambda store: finish(upload(store, PAGES))),
    "tidy": (touched, lambda store: finish(store.tidy(NOW + 14 * DAY))),
    "clear": (plain, lambda store: store.clear_cache()),
    "setting": (plain, lambda store: store.set_connection_timeout(77)),
}


def state(store):
    answers = [status_of(store, token(i)) for i in range(CARDS)]
    return (
        answers,
        store.version,
        store.listed,
        store.cached,
        store.connection_timeout,
        store.master_pass_group_id,
    )


def read(path):
    with open(path, "rb") as file:
        return file.read()


class Folder:
    """The store's files, and what they held once."""

    def __init__(self, folder):
        self.folder = folder + "/store"
        self.kept = {}
        try:
            os.mkdir(folder)
        except OSError:
            pass

    def paths(self):
        try:
            return [self.folder + "/" + name for name in os.listdir(self.folder)] + [
                self.folder + ".witness",
                self.folder + ".settings",
            ]
        except OSError:
            return []

    def clear(self):
        for path in self.paths():
            try:
                os.remove(path)
            except OSError:
                pass

    def keep(self):
        self.kept = {path: read(path) for path in self.paths()}

    def restore(self):
        self.clear()
        for path, data in self.kept.items():
            with open(path, "wb") as file:
                file.write(data)

    def open(self):
        return Store(files, self.folder, KEY, capacity=200, cache_days=30)


HOGS = [None] * 400
# Made here: when it is needed there is no memory for it.
REFUSALS = (MemoryError, StoreError, OSError)


def squeeze(left):
    """Take the heap, but for `left` bytes and scraps; release() gives it back."""
    gc.collect()
    room = bytearray(left)
    size = 1 << 16
    at = 0
    while size >= 64 and at < len(HOGS):
        try:
            HOGS[at] = bytearray(size)
            at += 1
        except MemoryError:
            size //= 2
    del room
    gc.collect()


def release():
    for i in range(len(HOGS)):
        HOGS[i] = None
    gc.collect()


def witnessed(store):
    told = struct.unpack(WITNESS, read(store.folder + ".witness"))[1:]
    return told >= (store.journal.seq, store.version)


def attempt(folder, prepare, change, left, whole):
    """Whether the change was made with so little memory, after all is checked."""
    folder.restore()
    store = folder.open()
    prepare(store)
    before = state(store)
    done = False
    squeeze(left)
    try:
        change(store)
        done = True
    except REFUSALS:
        pass
    release()
    after = state(store)
    assert not store.busy and not store.damage, ("unusable", left, store.damage)
    if done:
        assert witnessed(store), ("no witness", left)
    store.close()
    store = folder.open()
    assert not store.damage, (left, store.damage)
    assert state(store) == after, ("restart", left, state(store), after)
    # A change that was not acknowledged is there as a whole, or is not.
    assert after in ((whole,) if done else (before, whole)), ("half done", left, before, after)
    change(store)  # it goes on, and what is asked for again is done
    assert state(store) == whole and witnessed(store), ("not done later", left, state(store))
    store.close()
    return done


def main(path, name, step):
    folder = Folder(path)
    prepare, change = CASES[name]
    folder.clear()
    store = folder.open()
    few(store)
    store.close()
    folder.keep()
    store = folder.open()
    prepare(store)
    change(store)
    whole = state(store)
    store.close()
    left = tried = told = 0
    in_a_row = 0
    while in_a_row < 4:
        done = attempt(folder, prepare, change, left, whole)
        in_a_row = in_a_row + 1 if done else 0
        told += not done
        tried += 1
        left += int(step)
        assert left < 100_000
    folder.clear()
    print(name, tried, "tried,", told, "told, with", left, "bytes all was done")


if __name__ == "__main__":
    main(*sys.argv[1:])
