"""Reading a cards file: the sorted run and, behind it, the delta that was appended last.

RAM held is the same for 10 cards and for 50,000: one byte per fence tells by how much the count
of smaller hashes differs from an even spread, so that one read of two or three pages almost
always holds the record.
"""

from array import array

from tapauth.cards.codec import (
    BODY,
    FENCES,
    HASH,
    PAGE,
    PER_PAGE,
    RECORD,
    TERM,
    Damaged,
    is_intact,
    unpack_terms,
)


def pages_for(records: int) -> int:
    """How many pages this many records take."""
    return (records + PER_PAGE - 1) // PER_PAGE


def term_pages(terms: int) -> int:
    """How many pages this many terms take."""
    return (terms * TERM + PAGE - 1) // PAGE


class CardsFile:
    """A cards file, open for reading; cards_check.py opens it and fills this in."""

    seed: int
    written: int  # the day of the head: codec.py says what it is for
    day: int
    run_seq: int
    seq: int
    version: int
    listed: int
    cached: int
    run_terms: int
    run_count: int
    tail_terms: int
    delta_count: int
    run_page: int
    run_end: int
    delta_page: int
    delta_fences: bytes
    shift: int
    margin: int

    def __init__(self, file):
        self.file = file
        self.fences = array("b", bytes(FENCES))

    def close(self) -> None:
        """Close the file; nothing can be read afterwards."""
        self.file.close()

    def read(self, page: int, count: int) -> bytes:
        """Whole pages, checked. Raises Damaged."""
        self.file.seek(page * PAGE)
        data = self.file.read(count * PAGE)
        if len(data) != count * PAGE:
            raise Damaged(f"page {page}")
        view = memoryview(data)
        for i in range(count):
            if not is_intact(view[i * PAGE : (i + 1) * PAGE], self.seed, page + i):
                raise Damaged(f"page {page + i}")
        return data

    def _fence(self, i: int) -> int:
        """How many records lie below hash range `i`, give or take `margin`."""
        if i == FENCES:
            return self.run_count
        return self.run_count * i // FENCES + (self.fences[i] << self.shift)

    def find_run(self, name: bytes) -> bytes | None:
        """The run's record of this hash. Raises Damaged when it lies on a damaged page.

        An interpolation search. Hashes are spread evenly, so a record's place follows from its
        hash: the fences on both sides of it say how many records lie below them, and the hash
        how far from one to the other it is. The place guessed is right within `margin` records
        almost always, so the first read takes all pages within it. Otherwise these pages tell on
        which side the record lies, and two more pages there are read. From the third time on
        the search halves what is left, which no real file needs.
        """
        if not self.run_count:
            return None
        low, high = 0, (self.run_count - 1) // PER_PAGE  # the pages that can hold it
        # In fences: the whole ones in the upper bits, the fraction in the lower 16.
        scaled = (name[0] << 8 | name[1]) * FENCES
        guess = self._fence(scaled >> 16)
        guess += (self._fence((scaled >> 16) + 1) - guess) * (scaled & 0xFFFF) >> 16
        first = (guess - self.margin) // PER_PAGE
        last = (guess + self.margin) // PER_PAGE
        tries = 0
        while low <= high:
            first = min(max(first, low), high)
            last = min(max(last, first), high)
            data = self.read(self.run_page + first, last - first + 1)
            found = _search(data, name)
            if found:
                return found
            if name < data[:HASH]:
                high = first - 1
            else:
                # Where the last record read is: the run's last page may not be full.
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
        # Fences are the starts of the pages' first hashes: where two are equal, the earlier page
        # may hold it as well.
        prefix = name[:3]
        for i in range(pages_for(self.delta_count) - 1, -1, -1):
            fence = self.delta_fences[3 * i : 3 * i + 3]
            if fence <= prefix:
                found = _search(self.read(self.delta_page + i, 1), name)
                if found or fence < prefix:
                    return found
        return None

    def run(self):
        """All records of the run in order of their hashes. Raises Damaged."""
        return self._records(self.run_page, self.run_count)

    def delta(self):
        """All records of the delta in order of their hashes. Raises Damaged."""
        return self._records(self.delta_page, self.delta_count)

    def _records(self, page: int, count: int):
        while count > 0:
            data = self.read(page, 1)
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
            at = (self.delta_page - term_pages(self.tail_terms)) * PAGE + (number - 1) * TERM
        self.file.seek(at)
        return self.file.read(TERM)

    def terms(self, number: int) -> tuple:
        """(parent id token or None, EVSE ids or None). Raises Damaged."""
        if number > self.run_terms + self.tail_terms:
            raise Damaged("terms")
        return unpack_terms(number, self.terms_data(number))


def _search(data: bytes, name: bytes) -> bytes | None:
    """The record of this hash in whole pages; the bytes of a hash may be elsewhere in them too."""
    at = data.find(name)
    while at >= 0:
        if at % PAGE < BODY and at % PAGE % RECORD == 0:
            return data[at : at + RECORD]
        at = data.find(name, at + 1)
    return None
