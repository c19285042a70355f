"""Opening and checking a cards file, which happens at the start and after a merge only."""

import struct

from tapauth.cards.cards_file import CardsFile, pages_for, term_pages
from tapauth.cards.codec import (
    DELTA_PAGES,
    FENCE_PAGES,
    FENCES,
    FORMAT,
    HASH,
    MAGIC,
    PAGE,
    PER_PAGE,
    PLATE,
    Damaged,
    StoreError,
    is_intact,
)
from tapauth.compat import const

_PER_FENCE_PAGE = const(126)
_DELTA_FENCES = const(40)  # their place in a trailer, behind the plate
_SCAN = const(1024)  # pages that a torn append can have left: terms, delta, trailer
_TAIL = const(84)  # ord("T")


def open_cards(fs, path: str, key_id: int) -> CardsFile:
    """A cards file, open for lookups. Raises StoreError or OSError if it is not one."""
    cards = CardsFile(fs.open(path, "rb"))
    try:
        _read_plates(cards, key_id)
        _load_fences(cards)
    except Exception:
        cards.close()
        raise
    return cards


def _read_plates(cards: CardsFile, key_id: int) -> None:
    cards.file.seek(0)
    head = cards.file.read(PAGE)
    if len(head) != PAGE or head[:8] != MAGIC:
        raise Damaged("not a cards file")
    if head[8] != FORMAT:
        raise StoreError(f"format {head[8]}, this firmware reads {FORMAT}")
    plate = struct.unpack_from(PLATE, head)
    cards.written = plate[3]
    cards.seed = plate[5]
    cards.run_seq = plate[6]
    if not is_intact(head, cards.seed, 0):
        raise Damaged("head")
    if plate[4] != key_id:
        raise StoreError("made with another site key")
    trailer = _find_trailer(cards, plate, cards.file.seek(0, 2) // PAGE)
    (_, _, _, cards.day, _, _, cards.seq, cards.version, *counts) = struct.unpack_from(
        PLATE, trailer
    )
    cards.listed, cards.cached, cards.run_terms, cards.run_count = counts[:4]
    cards.tail_terms, cards.delta_count = counts[4:]
    cards.run_page = 1 + term_pages(cards.run_terms)
    cards.delta_fences = trailer[_DELTA_FENCES : _DELTA_FENCES + 3 * DELTA_PAGES]


def _find_trailer(cards: CardsFile, plate: tuple, end: int) -> bytes:
    """The newest intact trailer. Behind it may lie pages of an append that a power cut
    ended: their changes are still in the journal, or were never acknowledged."""
    page = end
    while page > 1 and page > end - _SCAN:
        page -= 1
        cards.file.seek(page * PAGE)
        trailer = cards.file.read(PAGE)
        if trailer[:8] == MAGIC and trailer[9] == _TAIL and is_intact(trailer, cards.seed, page):
            found = struct.unpack_from(PLATE, trailer)
            run_end = 1 + term_pages(found[10]) + pages_for(found[11]) + FENCE_PAGES
            cards.delta_page = page - pages_for(found[13])
            cards.run_end = run_end
            if (
                found[5] == plate[5]
                and found[10] == plate[10]
                and found[13] <= DELTA_PAGES * PER_PAGE
                and cards.delta_page - term_pages(found[12]) >= run_end
            ):
                return trailer
    raise Damaged("no trailer")


def _load_fences(cards: CardsFile) -> None:
    worst = 0
    for _, surplus in _surpluses(cards):
        worst = max(worst, abs(surplus))
    shift = 0
    while worst >> shift > 126:
        shift += 1
    for i, surplus in _surpluses(cards):
        cards.fences[i] = surplus >> shift
    # 3.5 standard deviations of where a record lies between two fences.
    margin = 1 << shift
    while 16 * FENCES * margin * margin < 49 * cards.run_count:
        margin += 1
    cards.shift, cards.margin = shift, margin


def _surpluses(cards: CardsFile):
    """Per fence, how many more records lie below it than if they were spread evenly."""
    page = cards.run_page + pages_for(cards.run_count)
    for i in range(FENCES):
        if i % _PER_FENCE_PAGE == 0:
            data = cards.read(page + i // _PER_FENCE_PAGE, 1)
        below = struct.unpack_from("<H", data, i % _PER_FENCE_PAGE * 2)[0]
        yield i, below - cards.run_count * i // FENCES


def verify_cards(cards: CardsFile):
    """Check every byte that a lookup can meet, one page per step. Raises Damaged."""
    cards.read(cards.run_page + pages_for(cards.run_count), FENCE_PAGES)
    yield
    for records, count in ((cards.run(), cards.run_count), (cards.delta(), cards.delta_count)):
        last = b""
        for record in records:
            if record[:HASH] <= last:
                raise Damaged("order")
            last = record[:HASH]
            count -= 1
            if count % PER_PAGE == 0:
                yield
    for number in range(1, cards.run_terms + cards.tail_terms + 1):
        cards.terms(number)
        if number % PER_PAGE == 0:
            yield
