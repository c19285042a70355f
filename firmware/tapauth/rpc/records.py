"""Small tables on flash, each one file that is replaced whole: a power cut leaves old or new.

The file: `TAr1`, the count of records, each record behind its length, CRC-32 of all that. Numbers
are little-endian, two bytes; the CRC four. `PATH.new` is what was being written when the power
went, `PATH.old` the generation before, which serves when the file itself is damaged.
"""

import struct
from binascii import crc32

from tapauth.compat import const

_MAGIC = b"TAr1"
_MAX_RECORDS = const(128)
_MAX_RECORD = const(1024)

FRESH = const(0)
"""State: there was no file."""
GOOD = const(1)
"""State: the file is whole."""
PREVIOUS = const(2)
"""State: the file is damaged or gone, the generation before it serves."""
LOST = const(3)
"""State: a file is there, and neither it nor the generation before is whole."""


class RecordFile:
    """A list of byte strings on flash.

    `fs.open(path, mode)` and `fs.rename(old, new)` are as in Python, raise OSError, and have
    reached flash when the file is closed or the call returns (littlefs does so).
    """

    def __init__(self, fs, path: str):
        self._fs = fs
        self._path = path
        self.state = FRESH
        self._keep = False

    def _read(self, path: str) -> list | None:
        """The records, or None when the file is not whole. Raises OSError when there is none."""
        records = []
        with self._fs.open(path, "rb") as file:
            head = file.read(6)
            if len(head) < 6 or head[:4] != _MAGIC:
                return None
            crc = crc32(head)
            count = struct.unpack("<H", head[4:])[0]
            if count > _MAX_RECORDS:
                return None
            for _ in range(count):
                size = file.read(2)
                length = struct.unpack("<H", size)[0] if len(size) == 2 else _MAX_RECORD + 1
                if length > _MAX_RECORD:
                    return None
                record = file.read(length)
                crc = crc32(record, crc32(size, crc))
                records.append(record)
            return records if file.read(5) == struct.pack("<I", crc) else None

    def load(self) -> list:
        """The records as last saved, as far as they can be had; `state` tells how they are."""
        found = False
        for path, state in ((self._path, GOOD), (self._path + ".old", PREVIOUS)):
            try:
                records = self._read(path)
            except OSError:
                records = None
                if not self._exists(path):
                    continue
            found = True
            if records is not None:
                self._keep = state == GOOD
                self.state = state
                return records
        self.state = LOST if found else FRESH
        return []

    def _exists(self, path: str) -> bool:
        try:
            self._fs.open(path, "rb").close()
        except OSError:
            return False
        return True

    def save(self, records: list) -> None:
        """Replace the records. When this returns they are on flash; raises OSError if not."""
        with self._fs.open(self._path + ".new", "wb") as file:
            head = _MAGIC + struct.pack("<H", len(records))
            crc = crc32(head)
            file.write(head)
            for record in records:
                size = struct.pack("<H", len(record))
                crc = crc32(record, crc32(size, crc))
                file.write(size)
                file.write(record)
            file.write(struct.pack("<I", crc))
        if self._keep:
            # Only a whole file becomes the generation before. Between the two renames there is
            # only that one, and load() takes it.
            self._keep = False
            self._fs.rename(self._path, self._path + ".old")
        self._fs.rename(self._path + ".new", self._path)
        self._keep = True
        self.state = GOOD


class Table:
    """Records of a key and a value of fixed size, kept in RAM and saved with each change."""

    def __init__(self, file: RecordFile, value_size: int, capacity: int):
        self._file = file
        self._size = value_size
        self.capacity = capacity
        self._records = file.load()

    @property
    def state(self) -> int:
        """How the table was found on flash: a state of this module."""
        return self._file.state

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

    def keys(self, prefix: bytes) -> list:
        """The keys that begin with `prefix`, without it."""
        return [
            record[len(prefix) : -self._size]
            for record in self._records
            if record.startswith(prefix)
        ]
