"""The token store beside its alternatives, at one number of cards. Runs on MicroPython.

    micropython tools/bench/store_board.py 10000 esp32

Prints one JSON object per line: suite, case, metric, value, unit. Flash is a simulated one that
counts; speeds are of this machine, all else is what a board would see.
"""

import gc
import json
import sys
from io import BytesIO

sys.path.append(".")

from flash_sim import BLOCK, SETTINGS, Files, formatted

from tapauth.cards.codec import HASH, digest
from tapauth.cards.store import Store, finish
from tapauth.compat import mem_alloc, ticks_diff, ticks_us
from tools.cardlist.card_image import Builder

KEY = bytes(range(32))
NOW = 1_790_000_000
UNKNOWN = 1 << 24


def value(i):
    return f"04{i * 2654435761 & 0xFFFFFFFFFFFF:012X}"


def token(i):
    return {"value": value(i), "type": "ISO14443"}


class CountingFiles:
    """A file system whose files count how often they are read."""

    def __init__(self, files):
        self._open = files.open
        self.reads = 0
        self.remove, self.rename, self.mkdir = files.remove, files.rename, files.mkdir
        self.urandom = files.urandom

    def open(self, path, mode):
        return _CountingFile(self, self._open(path, mode))


class _CountingFile:
    def __init__(self, files, file):
        self._files = files
        self._file = file
        self.seek, self.write, self.close = file.seek, file.write, file.close

    def read(self, *arguments):
        self._files.reads += 1
        return self._file.read(*arguments)


class TapAuth:
    """The store of this project."""

    name = "tapauth"
    most = 50_000
    learns = 1500

    def __init__(self, files):
        self._files = files

    def fill(self, count):
        builder = Builder(KEY)
        for i in range(count):
            info: dict = {"authorization_status": "Accepted"}
            if i % 2:
                info["parent_id_token"] = {"value": f"FLEET{i % 20}", "type": "Central"}
            builder.add(token(i), info)
        file = BytesIO()
        builder.write(file, 1, 42)
        self._data = file.getvalue()
        self.size = len(self._data)
        self.open()

    def full_list(self):
        self._store.day(NOW)  # as on a board whose clock is set
        load = self._store.load()
        for at in range(0, self.size, 1024):
            finish(load.write(self._data[at : at + 1024]))
        finish(load.commit())
        self._data = b""
        self.close()

    def open(self):
        self._store = Store(self._files, "store", KEY, capacity=60_000)

    def close(self):
        self._store.close()
        del self._store

    def knows(self, i):
        return self._store.lookup(token(i), NOW)[0] is not None

    def learn(self, i):
        finish(self._store.learn(token(i), {"authorization_status": "Accepted"}, NOW))


class JsonDict:
    """One JSON file, loaded into a dict."""

    name = "json_dict"
    most = 50_000
    learns = 5

    def __init__(self, files):
        self._files = files

    def fill(self, count):
        self._cards = {}
        for i in range(count):
            self._cards[value(i)] = ["Accepted", f"FLEET{i % 20}" if i % 2 else "", 0]

    def full_list(self):
        self._save()
        self.close()

    def _save(self):
        text = json.dumps(self._cards)
        self.size = len(text)
        file = self._files.open("cards.new", "wb")
        file.write(text)
        file.close()
        self._files.rename("cards.new", "cards.json")

    def open(self):
        file = self._files.open("cards.json", "rb")
        self._cards = json.loads(file.read())
        file.close()

    def close(self):
        self._cards = {}

    def knows(self, i):
        return value(i) in self._cards

    def learn(self, i):
        self._cards[value(i)] = ["Accepted", "", 0]
        self._save()


class FilePerCard:
    """One JSON file per card, named by its UID."""

    name = "file_per_card"
    most = 1000  # littlefs searches a directory entry by entry: filling it takes n * n
    learns = 20

    def __init__(self, files):
        self._files = files

    def fill(self, count):
        self._count = count
        self._files.mkdir("p")

    def full_list(self):
        before = self._used()
        for i in range(self._count):
            self._write(i, f"FLEET{i % 20}" if i % 2 else "")
        self.size = self._used() - before

    def _used(self):
        status = self._files.lfs.statvfs("/")
        return (status[2] - status[3]) * BLOCK

    def _write(self, i, parent):
        file = self._files.open("p/" + value(i), "wb")
        file.write(json.dumps(["Accepted", parent, 0]))
        file.close()

    def open(self):
        pass

    close = open

    def knows(self, i):
        try:
            file = self._files.open("p/" + value(i), "rb")
        except OSError:
            return False
        found = json.loads(file.read())
        file.close()
        return found is not None

    def learn(self, i):
        self._write(i, "")


class SortedFile:
    """A sorted file of 12-byte records with a keyed hash, searched by bisection."""

    name = "binary_search_file"
    most = 50_000
    learns = 5

    def __init__(self, files):
        self._files = files

    def fill(self, count):
        names = sorted([digest(KEY, token(i))[:HASH] for i in range(count)])
        self._data = b"".join([name + bytes(5) for name in names])
        self.size = len(self._data)

    def full_list(self):
        file = self._files.open("sorted.new", "wb")
        for at in range(0, self.size, 1024):
            file.write(self._data[at : at + 1024])
        file.close()
        self._files.rename("sorted.new", "sorted")
        self._data = b""

    def open(self):
        self._file = self._files.open("sorted", "rb")
        self._count = self._file.seek(0, 2) // 12

    def close(self):
        self._file.close()
        self._file = None

    def _place(self, name):
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            self._file.seek(middle * 12)
            found = self._file.read(12)[:HASH]
            if found == name:
                return middle, True
            if found < name:
                low = middle + 1
            else:
                high = middle
        return low, False

    def knows(self, i):
        return self._place(digest(KEY, token(i))[:HASH])[1]

    def learn(self, i):
        name = digest(KEY, token(i))[:HASH]
        place, _ = self._place(name)
        self._file.seek(0)
        new = self._files.open("sorted.new", "wb")
        new.write(self._file.read(place * 12))
        new.write(name + bytes(5))
        new.write(self._file.read())
        new.close()
        self.close()
        self._files.rename("sorted.new", "sorted")
        self.open()


class KvStore:
    """chumicro-kvstore: a dict kept as one msgpack file."""

    name = "chumicro_kvstore"
    most = 50_000
    learns = 5

    def __init__(self, files):
        from chumicro_kvstore._backends.mp_littlefs import MpLittlefsBackend

        files.sync = lambda: None
        # Its default is 16 KB, which 400 cards fill.
        self._backend = MpLittlefsBackend("/kv", files, 1 << 24)

    def fill(self, count):
        self._count = count
        self.open()

    def full_list(self):
        for i in range(self._count):
            self._kv[value(i)] = ["Accepted", f"FLEET{i % 20}" if i % 2 else "", 0]
        self._kv.commit_if_changed()
        self.size = self._kv.bytes_used
        self.close()

    def open(self):
        from chumicro_kvstore import KVStore

        self._kv = KVStore(self._backend)

    def close(self):
        self._kv = None

    def knows(self, i):
        return value(i) in self._kv

    def learn(self, i):
        self._kv[value(i)] = ["Accepted", "", 0]
        self._kv.commit_if_changed()


def measure(kind, count, chip, show):
    settings = SETTINGS[chip]
    flash = formatted(3072, settings)
    files = Files(flash, settings)
    counting = CountingFiles(files)
    store = kind(files)
    store.fill(count)
    erases = flash.erases
    store.full_list()
    show("erases_per_full_list", flash.erases - erases, "erases")
    show("image_bytes_per_entry", round(store.size / count, 2), "bytes")
    gc.collect()
    before = mem_alloc()
    store.open()
    gc.collect()
    show("ram_held", mem_alloc() - before, "bytes")

    lookups = 2000 if count < 50_000 else 5000
    if kind is FilePerCard:
        lookups = 100
    for metric, first in (("hits", 0), ("misses", UNKNOWN)):
        gc.collect()
        start = ticks_us()
        for i in range(lookups):
            assert store.knows(first + i * 7 % count) == (not first)
        rate = lookups * 1_000_000 // ticks_diff(ticks_us(), start)
        show(metric + "_per_second", rate, "1/s")
    store.close()

    other = kind(counting)
    other.open()
    for metric, first in (("hit", 0), ("miss", UNKNOWN)):
        reads, most_reads, most_bytes = 0, 0, 0
        start = flash.read_bytes
        for i in range(lookups):
            earlier, earlier_bytes = counting.reads, flash.read_bytes
            other.knows(first + i * 7 % count)
            reads += counting.reads - earlier
            most_reads = max(most_reads, counting.reads - earlier)
            most_bytes = max(most_bytes, flash.read_bytes - earlier_bytes)
        show("file_reads_per_" + metric, round(reads / lookups, 3), "reads")
        show("most_file_reads_per_" + metric, most_reads, "reads")
        show("flash_bytes_per_" + metric, (flash.read_bytes - start) // lookups, "bytes")
        show("most_flash_bytes_per_" + metric, most_bytes, "bytes")
    other.close()

    store = kind(files)
    store.open()
    erases = flash.erases
    learns = store.learns if count < 50_000 or kind is TapAuth else 2
    for n in range(learns):
        store.learn(2 * UNKNOWN + n)
        if n == 299:
            show("erases_per_learned_unmerged", round((flash.erases - erases) / 300, 4), "erases")
    show("erases_per_learned", round((flash.erases - erases) / learns, 4), "erases")
    store.close()
    if kind is TapAuth:
        every_card(kind(counting), counting, flash, count, show)


def every_card(store, counting, flash, count, show):
    """Each card once, now that there is a delta to look into first."""
    store.open()
    most_reads = most_bytes = 0
    reads, start = counting.reads, flash.read_bytes
    for i in range(count):
        earlier, earlier_bytes = counting.reads, flash.read_bytes
        assert store.knows(i)
        most_reads = max(most_reads, counting.reads - earlier)
        most_bytes = max(most_bytes, flash.read_bytes - earlier_bytes)
    show("file_reads_with_delta", round((counting.reads - reads) / count, 3), "reads")
    show("most_file_reads_with_delta", most_reads, "reads")
    show("flash_bytes_with_delta", (flash.read_bytes - start) // count, "bytes")
    show("most_flash_bytes_with_delta", most_bytes, "bytes")
    store.close()


def main(count, chip):
    for kind in (TapAuth, JsonDict, FilePerCard, SortedFile, KvStore):
        if count > kind.most or chip != "esp32" and kind is not TapAuth:
            continue

        def show(metric, value, unit, name=kind.name):
            case = f"{name}/{count}" + ("" if chip == "esp32" else "/" + chip)
            row = {"suite": "store", "case": case, "metric": metric, "value": value, "unit": unit}
            print(json.dumps(row))

        measure(kind, count, chip, show)
        gc.collect()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
