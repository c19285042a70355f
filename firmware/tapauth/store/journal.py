"""The journal: the newest changes, in small files that littlefs keeps inside its directory.

A change costs no erase there. A copy of it is in RAM, in a buffer that never grows.
"""

from tapauth.compat import const
from tapauth.store.codec import (
    HASH,
    RECORD,
    SEGMENT_RECORDS,
    Damaged,
    pack_segment,
    unpack_segment,
)

SEGMENTS = const(5)
_EMPTY = pack_segment(0, 0, 0, (0, 0), b"")  # as no seed is 0, of no cards file


def read_file(fs, path: str) -> bytes | None:
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


def write_file(fs, path: str, data: bytes) -> None:
    """Replace a small file; on littlefs the new content appears at the close, as a whole.

    Raises OSError, and then the old content stays.
    """
    file = fs.open(path, "wb")
    try:
        file.write(data)
    finally:
        file.close()


def replace_file(fs, folder: str, name: str, data: bytes) -> None:
    """Create or replace a small file in one step, so that none is ever empty. Raises OSError.

    Its temporary name is its own: a setting may be kept while a cards file is being written.
    """
    path = folder + "/" + name
    write_file(fs, path + ".new", data)
    fs.rename(path + ".new", path)


class Journal:
    """Changes `after`+1 ... `seq`, where `after` is the last one that the cards file holds."""

    def __init__(self, fs, folder: str):
        self._fs = fs
        self._folder = folder
        self._records = bytearray(SEGMENTS * SEGMENT_RECORDS * RECORD)
        self._slot = 0
        self.reset(0)

    def reset(self, after: int) -> None:
        """Forget all changes: the cards file holds everything up to `after`."""
        self.after = self.seq = after
        self._start = after  # the change before the current segment's first
        self._used = 0  # segments that hold changes which the cards file does not

    def _path(self, slot: int) -> str:
        return f"{self._folder}/j{slot}"

    def is_unused(self) -> bool:
        """Whether no segment was ever written."""
        for slot in range(SEGMENTS):
            data = read_file(self._fs, self._path(slot))
            if data is not None and data[4:8] != bytes(4):
                return False
        return True

    def load(self, seed: int, after: int):
        """Read the changes that follow `after` in the cards file with this seed.

        Returns (version, (list, cache)) as of the newest, or None if there is none. Raises
        Damaged if one is missing; those after the gap are kept then, as nothing is newer.
        """
        self.reset(after)
        damaged = False
        segments = []
        for slot in range(SEGMENTS):
            try:
                data = read_file(self._fs, self._path(slot))
                if data is None:  # at the first start, or missing: then there is a gap
                    replace_file(self._fs, self._folder, f"j{slot}", _EMPTY)
                    data = _EMPTY
                segment = unpack_segment(data)
                if segment[0] == seed:
                    segments.append((segment[1], slot, segment))
            except Damaged:
                damaged = True
        segments.sort(key=lambda item: item[:2])
        newest = None
        for first, slot, (_, _, version, counts, records) in segments:
            last = first + len(records) // RECORD - 1
            if last < after or (last == after and records):
                continue
            if first != self.seq + 1:
                damaged = True
                self.reset(first - 1)
            at = (first - self.after - 1) * RECORD
            self._records[at : at + len(records)] = records
            self._slot = slot
            self._start = first - 1
            self.seq = last
            self._used += 1
            newest = (version, counts)
        if damaged:
            raise Damaged("journal")
        return newest

    def check(self, seed: int):
        """Raises Damaged if the flash does not hold the changes that are in RAM. A generator;
        it gives up when a change comes in between."""
        held, seq, after = 0, self.seq, self.after
        for slot in range(SEGMENTS):
            found, first, _, _, records = unpack_segment(
                read_file(self._fs, self._path(slot)) or b""
            )
            at = (first - self.after - 1) * RECORD
            if found == seed and at >= 0:
                if self._records[at : at + len(records)] != records:
                    raise Damaged("journal")
                held += len(records) // RECORD
            yield
            if self.seq != seq or self.after != after:
                return
        if held != len(self):
            raise Damaged("journal")

    def __len__(self) -> int:
        return self.seq - self.after

    def has_room(self, count: int) -> bool:
        """Whether `count` more changes can be written as one."""
        if self._used and self.seq - self._start + count <= SEGMENT_RECORDS:
            return True
        return self._used < SEGMENTS and count <= SEGMENT_RECORDS

    def append(self, seed: int, version: int, counts: tuple, records: bytes) -> None:
        """Write changes, all or none of them; `version` and `counts` are what holds then.

        Without any, only the version is another. Raises OSError, and then nothing has changed.
        """
        start = self._start
        slot = self._slot
        fresh = (
            not self._used or (self.seq - start) * RECORD + len(records) > SEGMENT_RECORDS * RECORD
        )
        if fresh:
            start = self.seq
            slot = (slot + 1) % SEGMENTS
        at = (start - self.after) * RECORD
        end = (self.seq - self.after) * RECORD
        data = bytes(self._records[at:end]) + records
        write_file(
            self._fs, self._path(slot), pack_segment(seed, start + 1, version, counts, data)
        )
        self._records[end : end + len(records)] = records
        self.seq += len(records) // RECORD
        self._start = start
        self._slot = slot
        self._used += fresh

    def find(self, name: bytes):
        """(record, its number) of the newest change of this hash, or None."""
        records = self._records
        first, second, third = name[0], name[1], name[2]
        i = (self.seq - self.after) * RECORD
        while i > 0:
            i -= RECORD
            if records[i] == first and records[i + 1] == second and records[i + 2] == third:
                record = bytes(records[i : i + RECORD])
                if record[:HASH] == name:
                    return record, self.after + 1 + i // RECORD
        return None

    def in_order(self):
        """(record, number) of the newest change of each hash, in order of the hashes."""
        records = self._records

        def place(i):
            return bytes(records[i * RECORD : i * RECORD + HASH]) + bytes((255 - i,))

        last = b""
        for i in sorted(range(self.seq - self.after), key=place):
            record = bytes(records[i * RECORD : (i + 1) * RECORD])
            if record[:HASH] != last:
                last = record[:HASH]
                yield record, self.after + 1 + i

    def mend(self):
        """Replace the segments that cannot be read, one per step. Raises OSError."""
        for slot in range(SEGMENTS):
            try:
                unpack_segment(read_file(self._fs, self._path(slot)) or b"")
            except (Damaged, OSError):
                replace_file(self._fs, self._folder, f"j{slot}", _EMPTY)
            yield
