"""Small tables on flash, each in two copies, replaced whole: a power cut leaves old or new.

A file: `TAr1`, the count of records, each record behind its length, CRC-32 of all that. Numbers
are little-endian, two bytes; the CRC four.

A change goes through four states, and a start tells them by what is there and whole:

    1  PATH old, PATH.copy old            nothing has happened, whatever is in PATH.new
    2  PATH old                           the copy is gone before PATH is replaced
    3  PATH new                           the change is done, and acknowledged from here on
    4  PATH new, PATH.copy new            the next change may come

So a copy is never the older one. That is why it goes first: what was removed, such as a device or
an app's token, must not come back because the newer file was damaged later. The price is that in
the states 2 and 3 damage to the only file is a loss. Each start that finds one whole file makes
the other anew from it.

Two damaged files, or two whole ones that differ, are LOST: nobody can tell what was in them, so
nothing serves, the files stay as evidence, and a table answers no question about what it may have
held. The first put() after that begins a new table.

Records are held in RAM; flash is read at the start only. The change is made in RAM when it is on
flash, so what was refused there is refused here, and no start finds what was answered otherwise.
How a single file is replaced, and which steps may be done although they tell an error, is said in
small_file.py.
"""

import struct
from binascii import crc32

from tapauth.compat import SYSTEM_ERRORS, const
from tapauth.small_file import CRC, NEW, drop, move, read, sealed, write

_MAGIC = b"TAr1"
_HEAD = const(6)  # bytes of the magic and the count
_MAX_RECORDS = const(128)
_MAX_RECORD = const(1280)  # a rule has up to 1158
COPY = ".copy"

FRESH = const(0)
"""State: there was no file."""
GOOD = const(1)
"""State: the file is whole."""
MENDED = const(2)
"""State: the file or its copy was damaged or gone, the other one serves."""
LOST = const(3)
"""State: there is a file or a copy, and nothing of it can be relied on."""


class TableDamaged(Exception):
    """A table was lost, so nobody can tell what was in it; the text says what to do."""


class RecordFile:
    """A list of byte strings on flash.

    `fs` is small_file.Flash or like it.
    """

    def __init__(self, fs, path: str):
        self._fs = fs
        self._path = path
        self.state = FRESH

    def _read(self, end: str) -> tuple | None:
        """(records, CRC) of a file; () when it is damaged, None when there is none."""
        return read(self._fs, self._path + end, self._parse, ())

    def _parse(self, file) -> tuple:
        records = []
        head = file.read(_HEAD)
        if len(head) < _HEAD or not head.startswith(_MAGIC):
            return ()
        crc = crc32(head)
        count = struct.unpack_from("<H", head, len(_MAGIC))[0]
        if count > _MAX_RECORDS:
            return ()
        for _ in range(count):
            size = file.read(2)
            length = struct.unpack("<H", size)[0] if len(size) == 2 else _MAX_RECORD + 1
            if length > _MAX_RECORD:
                return ()
            # Piece by piece: the file as a whole is larger than a free block may be.
            record = file.read(length)
            crc = crc32(record, crc32(size, crc))
            records.append(record)
        # One byte more than the CRC: what goes on behind it is another file.
        return (records, crc) if file.read(CRC + 1) == struct.pack("<I", crc) else ()

    def load(self) -> list:
        """The records as last saved; none when they are LOST: `state` tells how they are."""
        own, copy = self._read(""), self._read(COPY)
        old = self._read(".old") is not None
        if old:
            # Of a firmware that kept the generation before there, and knew of no copy: there may
            # be one from before that. It may have been cut between its two renames.
            copy = None
            if own is None:
                own = self._read(NEW)
        whole = own or copy  # None and () are no files
        if not whole or own and copy and own != copy:
            self.state = LOST if old or own is not None or copy is not None else FRESH
            return []
        records, _ = whole
        # A copy that is not there was cut off, not damaged.
        self.state = MENDED if own == () or copy == () or own is None else GOOD
        try:
            if old or not own:
                self._put(records, "")
            if not copy:
                self._put(records, COPY)
            if old:
                drop(self._fs, self._path + ".old")
        except SYSTEM_ERRORS:
            pass  # at the next start
        return records

    def save(self, records: list) -> None:
        """Replace the records. When this returns they are on flash; raises OSError if not."""
        new = self._path + NEW
        write(self._fs, new, sealed(_pieces(records)))
        drop(self._fs, self._path + COPY)  # before there is anything newer
        move(self._fs, new, self._path)
        self.state = GOOD
        try:
            self._put(records, COPY)
        except SYSTEM_ERRORS:
            pass  # the records are on flash; the copy is made at the next start

    def _put(self, records: list, end: str) -> None:
        new = self._path + NEW
        write(self._fs, new, sealed(_pieces(records)))
        move(self._fs, new, self._path + end)


def _pieces(records: list):
    """Steps: the bytes of a file, but for its CRC."""
    yield _MAGIC + struct.pack("<H", len(records))
    for record in records:
        yield struct.pack("<H", len(record))
        yield record


class Table:
    """Records of a key and a value of fixed size, kept in RAM and saved with each change.

    `value_size` is in bytes, `capacity` in records.
    """

    def __init__(self, file: RecordFile, value_size: int, capacity: int):
        self._file = file
        self._size = value_size
        self.capacity = capacity
        self._records = file.load()

    @property
    def state(self) -> int:
        """How the table was found on flash: a state of this module."""
        return self._file.state

    def check(self) -> None:
        """Raises TableDamaged as long as the table is lost: until the first put()."""
        if self.state == LOST:
            raise TableDamaged("the table is damaged: add again what was in it")

    # Each change saves a new list, and takes it over when that has not raised.

    def clear(self) -> None:
        """Forget all records. Raises OSError."""
        self._file.save([])
        self._records = []

    def __len__(self) -> int:
        return len(self._records)

    def _at(self, key: bytes) -> int:
        # Always through all of them: the time must not tell whether the key is there.
        length = len(key) + self._size
        found = -1
        for at in range(len(self._records)):
            record = self._records[at]
            if record.startswith(key) and len(record) == length:
                found = at
        return found

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        at = self._at(key)
        # As much work for a key that is not there: -1 is the last record.
        value = self._records[at][len(key) :] if self._records else None
        return None if at < 0 else value

    def put(self, key: bytes, value: bytes) -> bool:
        """Set a value, on flash when this returns. False: no room. Raises OSError."""
        at = self._at(key)
        if at < 0 and len(self._records) >= self.capacity:
            return False
        records = list(self._records)
        if at < 0:
            records.append(key + value)
        else:
            records[at] = key + value
        self._file.save(records)
        self._records = records
        return True

    def remove(self, key: bytes) -> None:
        """Remove `key` if it is there, on flash when this returns. Raises OSError."""
        at = self._at(key)
        if at >= 0:
            records = self._records[:at] + self._records[at + 1 :]
            self._file.save(records)
            self._records = records

    def drop(self, unwanted) -> None:
        """Remove, in one save, each key for which `unwanted(key)` is true. Raises OSError."""
        records = [record for record in self._records if not unwanted(record[: -self._size])]
        if len(records) < len(self._records):
            self._file.save(records)
            self._records = records

    def keys(self, prefix: bytes) -> list:
        """The keys that begin with `prefix`, without it."""
        return [
            record[len(prefix) : -self._size]
            for record in self._records
            if record.startswith(prefix)
        ]
