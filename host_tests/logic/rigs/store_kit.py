"""What the store's logic tests share: tokens, and a store in a fresh folder."""

import os

from tapauth.cards import files
from tapauth.cards.codec import HASH, HEAD, TRAILER, digest, pack_record
from tapauth.cards.rewrite import Writer
from tapauth.cards.store import Store, finish

KEY = bytes(range(32))
NOW = 1_790_000_000  # 2026-09-21
DAY = 86_400
BLOCKED = {"authorization_status": "Blocked"}
FOLDER = "build/store-test"


def token(i, kind="ISO14443"):
    return {"value": f"04{i:012X}", "type": kind}


def accepted(**more):
    return dict(authorization_status="Accepted", **more)


def parent(value):
    return {"value": value, "type": "Central"}


def new_store(name, **options):
    """An empty store in a folder of its own."""
    # The process's number keeps runs side by side apart; MicroPython has none to give.
    folder = f"{FOLDER}-{name}-{options.pop('run', getattr(os, 'getpid', int)())}"
    try:
        for entry in os.listdir(folder):
            os.remove(folder + "/" + entry)
    except OSError:
        pass
    for beside in (".witness", ".settings"):
        try:
            os.remove(folder + beside)
        except OSError:
            pass
    return Store(files, folder, KEY, **options)


def again(store, **options):
    """The same store after a restart."""
    store.close()
    return Store(files, store.folder, KEY, **options)


def status_of(store, id_token, now=NOW):
    result, _ = store.lookup(id_token, now)
    return result and result["authorization_status"]


class Pieces:
    """A Writer's file: what was written, in a list."""

    def __init__(self):
        self.pieces = []

    def write(self, data):
        self.pieces.append(bytes(data))
        return len(data)


def plate(store, version, **counts):
    """What a head or trailer says, for Writer.plate."""
    return dict(day=0, key_id=store.key_id, seq=1, version=version, **counts)


def list_file(store, version, cards=()):
    """A full list with these cards, all accepted, in pages."""
    file = Pieces()
    writer = Writer(file, 9, 0, True)
    fields = plate(store, version, listed=len(cards), run_count=len(cards))
    writer.plate(HEAD, **fields)
    records = [pack_record(digest(KEY, token(i))[:HASH], 0, 0, None) for i in cards]
    for record in sorted(records):
        writer.add(record)
    writer.end_records()
    writer.fences()
    writer.plate(TRAILER, **fields)
    return file.pieces


def upload(store, pages):
    """Take a full list. A generator."""
    load = store.load()
    try:
        for page in pages:
            yield from load.write(page)
        yield from load.commit()
    finally:
        load.abort()


def take_list(store, cards=()):
    """Put a full list of the next version in place."""
    finish(upload(store, list_file(store, store.version + 1, cards)))


def refuses(error, steps):
    """Whether these steps end with this error."""
    try:
        finish(steps)
    except error:
        return True
    return False


class Short:
    """The file system of a board on which opening or writing some file fails."""

    def __init__(self, ending, error):
        self.rename, self.remove = files.rename, files.remove
        self.mkdir, self.urandom = files.mkdir, files.urandom
        self.ending, self.error = ending, error

    def open(self, path, mode):
        if self.ending and (path.rsplit("/")[-1] + " " + mode).endswith(self.ending):
            raise self.error
        return files.open(path, mode)
