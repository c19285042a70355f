"""Giving the list away: as the cards file that list_in.py takes, without what was learned."""

from tapauth.cards import rewrite
from tapauth.cards.cards_file import pages_for, term_pages
from tapauth.cards.codec import (
    DELETED,
    FENCE_PAGES,
    HEAD,
    PAGE,
    TERM,
    TRAILER,
    Busy,
    Damaged,
    is_cache,
    status_of,
)
from tapauth.compat import forget

forget(rewrite)  # as this module itself is forgotten


class _Pages:
    """Where a Writer writes to: the pages that are to be sent next."""

    def __init__(self):
        self.pages: list[bytes] = []

    def write(self, data) -> int:
        self.pages.append(bytes(data))
        return len(data)


def export(store) -> tuple:
    """(bytes in all, generator of pieces of at most 1 KB). Raises Damaged.

    The generator raises Busy when the store changes meanwhile; what was sent then lacks its
    trailer, so no board takes it.
    """
    if store.damage or not store.cards:
        raise Damaged(store.damage)
    terms = store.cards.run_terms + store.cards.tail_terms
    pages = 2 + term_pages(terms) + pages_for(store.listed) + FENCE_PAGES
    return pages * PAGE, _pieces(store, terms)


def _pieces(store, terms: int):
    cards, seq, listed = store.cards, store.journal.seq, store.listed
    out = _Pages()
    writer = rewrite.Writer(out, store.new_seed(), 0, True)

    def sent(data: list):
        """Steps: each gives a page."""
        for page in data:
            yield page
            # A generator that waits long must not go on with files that are gone.
            if store.cards is not cards or store.journal.seq != seq:
                raise Busy("the list was changed meanwhile")
        data.clear()

    fields = {
        "day": store.today,
        "key_id": store.key_id,
        "seq": 1,
        "version": max(store.version, 1),  # 0 is the version of no list
        "listed": listed,
        "run_terms": terms,
        "run_count": listed,
    }
    writer.plate(HEAD, **fields)
    yield from sent(out.pages)
    for _ in writer.terms(cards.terms_data(number) for number in range(1, terms + 1)):
        if len(out.pages) * TERM >= PAGE:
            yield from sent(out.pages)
    for record in rewrite.merged(*rewrite.sources(store)):
        if not is_cache(record) and status_of(record) != DELETED:
            writer.add(record)
        if out.pages:
            yield from sent(out.pages)
    writer.end_records()
    writer.fences()
    writer.plate(TRAILER, **fields)
    yield from sent(out.pages)
