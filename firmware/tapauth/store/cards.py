"""Reading a cards file: the sorted run and, behind it, the delta that was appended last.

RAM held is the same for 10 cards and for 50,000: one byte per fence tells by how much the count
of smaller hashes differs from an even spread, so that one read of two or three pages almost
always holds the record.
"""

import struct
from array import array

from tapauth.compat import const
from tapauth.store.codec import (
    BODY,
    DELTA_PAGES,
    FENCE_PAGES,
    FENCES,
    FORMAT,
    HASH,
    MAGIC,
    PAGE,
    PER_PAGE,
    PLATE,
    RECORD,
    TERM,
    Damaged,
    StoreError,
    is_intact,
    unpack_terms,
)

_PER_FENCE_PAGE = const(126)
_DELTA_FENCES = const(40)  # their place in a trailer, behind the plate
_SCAN = const(1024)  # pages that a torn append can have left: terms, delta, trailer
_TAIL = const(84)  # ord("T")


def pages_for(records: int) -> int:
    """How many pages this many records take."""
    return (records + PER_PAGE - 1) // PER_PAGE


def term_pages(terms: int) -> int:
    """How many pages this many terms take."""
    return (terms * TERM + PAGE - 1) // PAGE


class Cards:
    """A cards file, open for reading. Raises StoreError or OSError if it is not one."""

    def __init__(self, fs, path: str, key_id: int):
        self._file = fs.open(path, "rb")
        try:
            self._open(key_id)
        except Exception:
            self._file.close()
            raise

    def _open(self, key_id: int) -> None:
        self._file.seek(0)
        head = self._file.read(PAGE)
        if len(head) != PAGE or head[:8] != MAGIC:
            raise Damaged("not a cards file")
        if head[8] != FORMAT:
            raise StoreError(f"format {head[8]}, this firmware reads {FORMAT}")
        plate = struct.unpack_from(PLATE, head)
        self.written = plate[3]  # the day of the head: codec.py says what it is for
        self.seed = plate[5]
        self.run_seq = plate[6]
        if not is_intact(head, self.seed, 0):
            raise Damaged("head")
        if plate[4] != key_id:
            raise StoreError("made with another site key")
        trailer = self._find_trailer(plate, self._file.seek(0, 2) // PAGE)
        (_, _, _, self.day, _, _, self.seq, self.version, *counts) = struct.unpack_from(
            PLATE, trailer
        )
        self.listed, self.cached, self.run_terms, self.run_count = counts[:4]
        self.tail_terms, self.delta_count = counts[4:]
        self.run_page = 1 + term_pages(self.run_terms)
        self._delta_fences = trailer[_DELTA_FENCES : _DELTA_FENCES + 3 * DELTA_PAGES]
        self._load_fences()

    def _find_trailer(self, plate: tuple, end: int) -> bytes:
        """The newest intact trailer. Behind it may lie pages of an append that a power cut
        ended: their changes are still in the journal, or were never acknowledged."""
        page = end
        while page > 1 and page > end - _SCAN:
            page -= 1
            self._file.seek(page * PAGE)
            trailer = self._file.read(PAGE)
            if (
                trailer[:8] == MAGIC
                and trailer[9] == _TAIL
                and is_intact(trailer, self.seed, page)
            ):
                found = struct.unpack_from(PLATE, trailer)
                run_end = 1 + term_pages(found[10]) + pages_for(found[11]) + FENCE_PAGES
                self._delta_page = page - pages_for(found[13])
                self.run_end = run_end
                if (
                    found[5] == plate[5]
                    and found[10] == plate[10]
                    and found[13] <= DELTA_PAGES * PER_PAGE
                    and self._delta_page - term_pages(found[12]) >= run_end
                ):
                    return trailer
        raise Damaged("no trailer")

    def _load_fences(self) -> None:
        worst = 0
        for _, surplus in self._surpluses():
            worst = max(worst, abs(surplus))
        self._shift = 0
        while worst >> self._shift > 126:
            self._shift += 1
        self._fences = array("b", bytes(FENCES))
        for i, surplus in self._surpluses():
            self._fences[i] = surplus >> self._shift
        # 3.5 standard deviations of where a record lies between two fences.
        self._margin = 1 << self._shift
        while 16 * FENCES * self._margin * self._margin < 49 * self.run_count:
            self._margin += 1

    def _surpluses(self):
        """Per fence, how many more records lie below it than if they were spread evenly."""
        page = self.run_page + pages_for(self.run_count)
        for i in range(FENCES):
            if i % _PER_FENCE_PAGE == 0:
                data = self._read(page + i // _PER_FENCE_PAGE, 1)
            below = struct.unpack_from("<H", data, i % _PER_FENCE_PAGE * 2)[0]
            yield i, below - self.run_count * i // FENCES

    def close(self) -> None:
        """Close the file; nothing can be read afterwards."""
        self._file.close()

    def _read(self, page: int, count: int) -> bytes:
        """Whole pages, checked. Raises Damaged."""
        self._file.seek(page * PAGE)
        data = self._file.read(count * PAGE)
        if len(data) != count * PAGE:
            raise Damaged(f"page {page}")
        view = memoryview(data)
        for i in range(count):
            if not is_intact(view[i * PAGE : (i + 1) * PAGE], self.seed, page + i):
                raise Damaged(f"page {page + i}")
        return data

    def _fence(self, i: int) -> int:
        if i == FENCES:
            return self.run_count
        return self.run_count * i // FENCES + (self._fences[i] << self._shift)

    def find_run(self, name: bytes) -> bytes | None:
        """The run's record of this hash. Raises Damaged when it lies on a damaged page."""
        if not self.run_count:
            return None
        low, high = 0, (self.run_count - 1) // PER_PAGE
        scaled = (name[0] << 8 | name[1]) * FENCES
        guess = self._fence(scaled >> 16)
        guess += (self._fence((scaled >> 16) + 1) - guess) * (scaled & 0xFFFF) >> 16
        first = (guess - self._margin) // PER_PAGE
        last = (guess + self._margin) // PER_PAGE
        tries = 0
        while low <= high:
            first = min(max(first, low), high)
            last = min(max(last, first), high)
            data = self._read(self.run_page + first, last - first + 1)
            found = _search(data, name)
            if found:
                return found
            if name < data[:HASH]:
                high = first - 1
            else:
                left = self.run_count - last * PER_PAGE
                end = len(data) - PAGE + RECORD * (min(left, PER_PAGE) - 1)
                if name < data[end : end + HASH]:
                    return None
                low = last + 1
            tries += 1
            if tries == 1:
                first, last = (high - 1, high) if high < first else (low, low + 1)
            else:  # never on hashes; bounds the time on a file made to be slow
                first = last = (low + high) // 2
        return None

    def find_delta(self, name: bytes) -> bytes | None:
        """The delta's record of this hash. Raises Damaged when it lies on a damaged page."""
        prefix = name[:3]
        for i in range(pages_for(self.delta_count) - 1, -1, -1):
            fence = self._delta_fences[3 * i : 3 * i + 3]
            if fence <= prefix:
                found = _search(self._read(self._delta_page + i, 1), name)
                if found or fence < prefix:
                    return found
        return None

    def run(self):
        """All records of the run in order of their hashes. Raises Damaged."""
        return self._records(self.run_page, self.run_count)

    def delta(self):
        """All records of the delta in order of their hashes. Raises Damaged."""
        return self._records(self._delta_page, self.delta_count)

    def _records(self, page: int, count: int):
        while count > 0:
            data = self._read(page, 1)
            for at in range(0, RECORD * min(count, PER_PAGE), RECORD):
                yield data[at : at + RECORD]
            page += 1
            count -= PER_PAGE

    def terms_data(self, number: int) -> bytes:
        """The bytes of the terms with this number, which counts from 1."""
        if number <= self.run_terms:
            at = PAGE + (number - 1) * TERM
        else:
            number -= self.run_terms
            at = (self._delta_page - term_pages(self.tail_terms)) * PAGE + (number - 1) * TERM
        self._file.seek(at)
        return self._file.read(TERM)

    def terms(self, number: int) -> tuple:
        """(parent id token or None, EVSE ids or None). Raises Damaged."""
        if number > self.run_terms + self.tail_terms:
            raise Damaged("terms")
        return unpack_terms(number, self.terms_data(number))

    def verify(self):
        """Check every byte that a lookup can meet, one page per step. Raises Damaged."""
        self._read(self.run_page + pages_for(self.run_count), FENCE_PAGES)
        yield
        for records, count in ((self.run(), self.run_count), (self.delta(), self.delta_count)):
            last = b""
            for record in records:
                if record[:HASH] <= last:
                    raise Damaged("order")
                last = record[:HASH]
                count -= 1
                if count % PER_PAGE == 0:
                    yield
        for number in range(1, self.run_terms + self.tail_terms + 1):
            self.terms(number)
            if number % PER_PAGE == 0:
                yield


def _search(data: bytes, name: bytes) -> bytes | None:
    at = data.find(name)
    while at >= 0:
        if at % PAGE < BODY and at % PAGE % RECORD == 0:
            return data[at : at + RECORD]
        at = data.find(name, at + 1)
    return None
