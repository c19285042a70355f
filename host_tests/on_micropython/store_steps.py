"""What each step of the store asks of the flash. Runs on MicroPython.

    micropython host_tests/on_micropython/store_steps.py esp32 5000

Prints a line of JSON per operation, with the worst of its steps: bytes read, reads, programs,
erases, and how many calls of the file system erased; then the worst of these calls, where littlefs
goes through a whole directory block to write its content anew. A call that erased is counted
there alone.
"""

import json
import sys
from io import BytesIO

sys.path.append(".")

from flash_sim import SETTINGS, Files, formatted

from tapauth.cards.store import Store
from tools.cardlist.card_image import Builder

KEY = bytes(range(32))
NOW = 1_790_000_000
TERMS = 2000  # of at most 2047: what the table of terms makes dear


class Watch:
    """A flash and its file system, and what is asked of them."""

    def __init__(self, chip, blocks):
        self.settings = SETTINGS[chip]
        self.flash = formatted(blocks, self.settings)
        self._files = files = Files(self.flash, self.settings)
        self.erasing = 0  # calls that erased
        self.own = [0] * 4  # what they did in this step
        self.worst = [0] * 4  # what the worst of them did
        self.remove, self.rename = self._watched(files.remove), self._watched(files.rename)
        self.mkdir, self.urandom = self._watched(files.mkdir), files.urandom
        self._open = self._watched(files.open)
        self.rows: dict = {}

    def open(self, path, mode):
        return _File(self._open(path, mode), self._watched)

    def _watched(self, function):
        def call(*arguments):
            before = self._counts()
            try:
                return function(*arguments)
            finally:
                did = _less(self._counts(), before)
                if did[3]:
                    self.erasing += 1
                    self.own = [self.own[i] + did[i] for i in range(4)]
                    self.worst = list(map(max, self.worst, did))

        return call

    def _counts(self):
        flash = self.flash
        return flash.read_bytes, flash.reads, flash.programs, flash.erases

    def run(self, name, steps):
        """Take the steps of an operation to their end. Returns its value."""
        row = self.rows.get(name, [0] * len(COLUMNS))
        self.rows[name] = row
        result, going = None, True
        while going:
            before = self._counts()
            self.erasing = 0
            self.own, self.worst = [0] * 4, [0] * 4
            try:
                next(steps)
            except StopIteration as stop:
                result, going = stop.value, False
            did = _less(self._counts(), before)
            step = [did[i] - self.own[i] for i in range(3)]
            step += [did[3], self.erasing, self.worst[0], self.worst[1], self.worst[3]]
            row[0] += 1
            row[1] += did[3] > 0
            row[2:] = list(map(max, row[2:], step))
        return result

    def call(self, name, function, *arguments):
        """The same for what has no steps."""

        def steps():
            return function(*arguments)
            yield

        return self.run(name, steps())


def _less(now, before):
    return [now[i] - before[i] for i in range(4)]


class _File:
    def __init__(self, file, watched):
        self.seek, self.read = file.seek, file.read
        self.write, self.close = watched(file.write), watched(file.close)


COLUMNS = (
    "steps",
    "erasing_steps",
    "read_bytes",
    "reads",
    "programs",
    "erases",
    "erasing_calls",
    "call_read_bytes",
    "call_reads",
    "call_erases",
)


def token(i):
    return {"value": f"04{i * 2654435761 & 0xFFFFFFFFFFFF:012X}", "type": "ISO14443"}


def card(i, status="Accepted"):
    parent = {"value": f"FLEET{i % TERMS}", "type": "Central"}
    return {"authorization_status": status, "parent_id_token": parent}


def full_list(watch, store, data):
    load = store.load()
    for at in range(0, len(data), 1024):
        watch.run("full_list", load.write(data[at : at + 1024]))
    watch.run("full_list_commit", load.commit())


def image(count, version):
    builder = Builder(KEY)
    for i in range(count):
        builder.add(token(i), card(i))
    file = BytesIO()
    builder.write(file, version, 42)
    return file.getvalue()


def measure(chip, count):
    """The rows of a board's life: name to the numbers of COLUMNS."""
    watch = Watch(chip, 64 + count // 60)
    plain = {"authorization_status": "Accepted"}

    def opened():
        return watch.call("open", Store, watch, "store", KEY, count + 5000)

    store = watch.call("first_open", Store, watch, "store", KEY, count + 5000)
    full_list(watch, store, image(count, 1))
    for i in range(1500):
        watch.run("learn", store.learn(token(count + i), plain, NOW))
    for i in range(200):
        watch.run("put", store.put(token(i), card(TERMS - 1, "Blocked" if i % 2 else "Accepted")))
        watch.run("delete", store.delete(token(200 + i)))
        watch.call("lookup", store.lookup, token(i * 7), NOW)
    for i in range(20):
        watch.run("learn_new_parent", store.learn(token(count + 3000 + i), card(1998), NOW))
    for i in range(16):
        changes = [(token(400 + 100 * i + n), card(n * 19, "Blocked")) for n in range(100)]
        watch.run("update", store.update(10 + i, changes))
    watch.run("update_new_parents", store.update(30, [(token(n), _other(n)) for n in range(40)]))
    for i in range(50):
        watch.call("set_timeout", store.set_connection_timeout, 10 + i)
        watch.run("put", store.put(token(3), card(1, "Blocked" if i % 2 else "Accepted")))
        watch.call("clear_cache", store.clear_cache)
    watch.run("verify", store.verify())
    watch.run("tidy", store.tidy(NOW))
    store.close()
    store = opened()
    assert not store.damage, store.damage
    full_list(watch, store, image(count - 1, 2))
    store.close()
    store = opened()
    assert not store.damage and store.version == 2
    return watch.rows


def _other(n):
    return {
        "authorization_status": "Accepted",
        "parent_id_token": {"value": f"OTHER{n}", "type": "Central"},
    }


if __name__ == "__main__":
    for name, row in sorted(measure(sys.argv[1], int(sys.argv[2])).items()):
        told = {"operation": name}
        for i in range(len(row)):
            told[COLUMNS[i]] = row[i]
        print(json.dumps(told))
