"""The journal: the newest changes, in small files that littlefs keeps inside its directory.

Theory of operation. Changes are numbered for the life of a store, from 1. The cards file holds
all up to `after`, the journal `after`+1 ... `seq`. On flash these are up to SEGMENTS files, used
in turn, each with up to 9 records: 128 bytes, which littlefs keeps inline, so that a change costs
no erase. In RAM they are one buffer that never grows, and the only copy that lookups read.

A change rewrites the file that it is added to, whole, under the same name: littlefs shows the new
content when the file is closed, or the old one. A file says which number its first record has,
and which cards file (by its seed) it goes on from. So when a flush or a merge has put the changes
into the cards file, nothing in the journal must be removed: files whose numbers are too low, or
whose seed is another, hold nothing. `reset` only begins to count anew.

States of a segment: unused (not of this cards file, or all of it is in there), in use, current
(the one in use that takes the next change). `used` counts the last two; with all in use and
the current one full, there is no room, and the store flushes. For that it loads code, which wants
memory; so the last segment is kept for changes that take acceptances away, and a card goes off
the list also when there is none.

When a write tells an error, flash may hold it all the same. RAM wins: the segment is `unsure`
until `settle` has written there what is in RAM, which must come before the next change is judged,
as that one may find nothing to do and be acknowledged for what a restart would show otherwise.
"""

from tapauth.cards.codec import HASH, RECORD, SEGMENT_RECORDS, pack_segment
from tapauth.compat import const

SEGMENTS = const(5)


def write_file(fs, path: str, data: bytes) -> None:
    """Replace a small file; on littlefs the new content appears at the close, as a whole.

    In its place, without a file beside it and a rename: that is one commit of the directory more,
    and each file of the store has a checksum, a second place that tells when it is gone or has
    gone back, and a way to be written again. Raises OSError: the old content stays, or the new one
    is there all the same; see Journal.settle and Store.save.
    """
    file = fs.open(path, "wb")
    try:
        file.write(data)
    finally:
        file.close()


class Journal:
    """Changes `after`+1 ... `seq`, where `after` is the last one that the cards file holds.

    opening.py reads them from flash.
    """

    def __init__(self, fs, folder: str):
        self.fs = fs
        self._folder = folder
        self.records = bytearray(SEGMENTS * SEGMENT_RECORDS * RECORD)
        self.slot = 0
        self.unsure: int | None = None  # a segment that may hold what was never acknowledged
        self.reset(0)

    def reset(self, after: int) -> None:
        """Forget all changes: the cards file holds everything up to `after`."""
        self.after = self.seq = after
        self.start = after  # the change before the current segment's first
        self.used = 0  # segments that hold changes which the cards file does not

    def path(self, slot: int) -> str:
        """Where segment `slot` is."""
        return f"{self._folder}/j{slot}"

    def __len__(self) -> int:
        return self.seq - self.after

    def has_room(self, count: int, takes_away: bool = False) -> bool:
        """Whether `count` more changes can be written as one. The last segment is only for those
        that take acceptances away.
        """
        most = SEGMENTS if takes_away else SEGMENTS - 1
        if self.used < most:
            return count <= SEGMENT_RECORDS
        return self.used == most and self.seq - self.start + count <= SEGMENT_RECORDS

    def append(self, seed: int, version: int, counts: tuple, records: bytes) -> None:
        """Write changes, all or none of them; `version` and `counts` are what holds then.

        Without any, only the version is another. Raises OSError, and then nothing has changed
        here; what flash has of it, settle() takes back.
        """
        start = self.start
        slot = self.slot
        # A new file, when none is in use or the current one has no room for all of them.
        fresh = (
            not self.used or (self.seq - start) * RECORD + len(records) > SEGMENT_RECORDS * RECORD
        )
        if fresh:
            start = self.seq
            slot = (slot + 1) % SEGMENTS
        at = (start - self.after) * RECORD
        end = (self.seq - self.after) * RECORD
        data = bytes(self.records[at:end]) + records
        data = pack_segment(seed, start + 1, version=version, counts=counts, records=data)
        self.unsure = slot
        write_file(self.fs, self.path(slot), data)
        self.unsure = None
        # It is on flash: only from here on RAM has it, and look-ups find it.
        self.records[end : end + len(records)] = records
        self.seq += len(records) // RECORD
        self.start = start
        self.slot = slot
        self.used += fresh

    def settle(self, seed: int, version: int, counts: tuple) -> None:
        """Put flash back to what is here, where a change told an error and may be on flash.

        Before the next one is judged: it may leave out what is so here, and be acknowledged.
        Raises OSError.
        """
        if self.unsure is None:
            return
        # Of no cards file: it holds nothing.
        data = pack_segment(seed=0, first=0, version=0, counts=(0, 0), records=b"")
        if self.used and self.unsure == self.slot:
            held = self.records[(self.start - self.after) * RECORD : len(self) * RECORD]
            data = pack_segment(
                seed, self.start + 1, version=version, counts=counts, records=bytes(held)
            )
        write_file(self.fs, self.path(self.unsure), data)
        self.unsure = None

    def find(self, name: bytes):
        """(record, its number) of the newest change of this hash, or None."""
        records = self.records
        # Three bytes are compared without making any object; they seldom are equal by chance.
        first, second, third = name[0], name[1], name[2]
        i = (self.seq - self.after) * RECORD
        while i > 0:
            i -= RECORD
            if records[i] == first and records[i + 1] == second and records[i + 2] == third:
                record = bytes(records[i : i + RECORD])
                if record[:HASH] == name:
                    return record, self.after + 1 + i // RECORD
        return None
