"""Opening and checking a cards file, which happens at the start and after a merge only."""

import struct
from collections import namedtuple

from tapauth.cards.cards_file import CardsFile, pages_for, term_pages
from tapauth.cards.codec import (
    DELTA_FENCES,
    DELTA_PAGES,
    FENCE_PAGES,
    FENCES,
    FENCES_PER_PAGE,
    FORMAT,
    HASH,
    MAGIC,
    PAGE,
    PER_PAGE,
    PLATE,
    TRAILER,
    Damaged,
    StoreError,
    is_intact,
)
from tapauth.compat import const

_SCAN = const(1024)  # pages that a torn append can have left: terms, delta, trailer

Plate = namedtuple(
    "Plate",
    (
        "magic",
        "format",
        "kind",
        "day",
        "key_id",
        "seed",
        "seq",
        "version",
        "listed",
        "cached",
        "run_terms",
        "run_count",
        "tail_terms",
        "delta_count",
    ),
)
"""What a head or a trailer says; `day` of a head is the day by which bytes of days are read."""


def read_plate(page) -> Plate:
    """The plate of a page, which may be anything: `magic` and `kind` tell, and a check of it."""
    return Plate(*struct.unpack_from(PLATE, page))


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


def reopen(store) -> None:
    """Open the cards file as it now is. Raises StoreError, OSError, and says so; MemoryError, and
    is to be called again (Store.opened).
    """
    store.close()
    store.due = True  # until it is open: a MemoryError leaves this to the next look-up
    try:
        store.cards = cards = open_cards(store.fs, store.path, store.key_id)
    except (StoreError, OSError) as error:
        store.due = False
        store.say(error)
        raise
    store.due = False
    if cards.seq <= store.journal.after:
        return  # the new one did not come into place
    store.version, store.listed, store.cached = cards.version, cards.listed, cards.cached
    store.note(cards.day)
    store.journal.reset(cards.seq)


def _read_plates(cards: CardsFile, key_id: int) -> None:
    """Fill in what head and trailer say."""
    cards.file.seek(0)
    page = cards.file.read(PAGE)
    if len(page) != PAGE or page[:8] != MAGIC:
        raise Damaged("not a cards file")
    head = read_plate(page)
    if head.format != FORMAT:  # before anything that another format may have elsewhere
        raise StoreError(f"format {head.format}, this firmware reads {FORMAT}")
    if not is_intact(page, head.seed, 0):
        raise Damaged("head")
    if head.key_id != key_id:
        raise StoreError("made with another site key")
    cards.seed, cards.written, cards.run_seq = head.seed, head.day, head.seq
    page = _find_trailer(cards, head, cards.file.seek(0, 2) // PAGE)
    trailer = read_plate(page)
    cards.day, cards.seq, cards.version = trailer.day, trailer.seq, trailer.version
    cards.listed, cards.cached = trailer.listed, trailer.cached
    cards.run_terms, cards.run_count = trailer.run_terms, trailer.run_count
    cards.tail_terms, cards.delta_count = trailer.tail_terms, trailer.delta_count
    cards.run_page = 1 + term_pages(cards.run_terms)
    cards.delta_fences = page[DELTA_FENCES : DELTA_FENCES + 3 * DELTA_PAGES]


def _find_trailer(cards: CardsFile, head: Plate, end: int) -> bytes:
    """The newest intact trailer of a file of `end` pages; tells `cards` where run and delta end.

    Behind the trailer may lie pages of an append that a power cut ended: their changes are still
    in the journal, or were never acknowledged. An intact trailer must fit the file all the same:
    by its figures everything else is found.
    """
    number = end
    while number > 1 and number > end - _SCAN:
        number -= 1
        cards.file.seek(number * PAGE)
        page = cards.file.read(PAGE)
        if page[:8] != MAGIC or not is_intact(page, head.seed, number):
            continue
        found = read_plate(page)
        run_pages = term_pages(found.run_terms) + pages_for(found.run_count) + FENCE_PAGES
        delta_page = number - pages_for(found.delta_count)
        if (
            found.kind == TRAILER
            and found.seed == head.seed
            and found.run_terms == head.run_terms
            and found.delta_count <= DELTA_PAGES * PER_PAGE
            and delta_page - term_pages(found.tail_terms) >= 1 + run_pages
        ):
            cards.run_end = 1 + run_pages
            cards.delta_page = delta_page
            return page
    raise Damaged("no trailer")


def _load_fences(cards: CardsFile) -> None:
    """Fit the fences into one byte each: they differ little from an even spread of hashes.

    The largest difference says by how many bits all of them are shifted. How far a guess can be
    off, `margin`, is what the shift loses, and by how much records between two fences scatter.
    """
    worst = 0
    for _, surplus in _surpluses(cards):
        worst = max(worst, abs(surplus))
    shift = 0  # 0 up to some ten thousand cards
    while worst >> shift > 126:
        shift += 1
    for i, surplus in _surpluses(cards):
        cards.fences[i] = surplus >> shift
    # 3.5 standard deviations of where a record lies between two fences.
    margin = 1 << shift
    # Squared, for want of a square root: margin < 3.5 / 2 * sqrt(records between two fences).
    while 16 * FENCES * margin * margin < 49 * cards.run_count:
        margin += 1
    cards.shift, cards.margin = shift, margin


def _surpluses(cards: CardsFile):
    """Steps: each gives a fence, and how many more records lie below it than if they were spread
    evenly.
    """
    page = cards.run_page + pages_for(cards.run_count)
    for i in range(FENCES):
        if i % FENCES_PER_PAGE == 0:
            data = cards.read(page + i // FENCES_PER_PAGE, 1)
        below = struct.unpack_from("<H", data, i % FENCES_PER_PAGE * 2)[0]
        yield i, below - cards.run_count * i // FENCES


def verify_cards(cards: CardsFile):
    """Steps: check every byte that a lookup can meet, a page each. Raises Damaged."""
    cards.read(cards.run_page + pages_for(cards.run_count), FENCE_PAGES)
    yield
    # Reading checks the CRCs; what is left is the order, without which a search misses a card.
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
