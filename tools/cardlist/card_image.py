"""Writing a cards file (docs/store-format.md) from plain cards: the list that a board takes.

Runs on CPython and on MicroPython, where the tests of the store use it.
"""

from tapauth.cards.codec import (
    HASH,
    HEAD,
    MAX_TERMS,
    STATUSES,
    TRAILER,
    Full,
    check_listed,
    digest,
    key_id,
    pack_record,
    pack_terms,
    parse_time,
)
from tapauth.cards.rewrite import Writer


class Builder:
    """Collects cards under a site key, then writes them as one file."""

    def __init__(self, key: bytes):
        self._key = key
        self._records: dict = {}
        self._terms: dict = {}
        self._slots: list = []

    def add(self, id_token: dict, info: dict) -> bool:
        """Take a card; `info` as for `Store.put`. Returns False if the token was there already,
        which this replaces. Raises ValueError, StoreError."""
        check_listed(id_token)
        name = digest(self._key, id_token)[:HASH]
        expiry = info.get("expiry_time")
        record = pack_record(
            name,
            STATUSES.index(info["authorization_status"]),
            self._terms_number(info.get("parent_id_token"), info.get("evse_ids")),
            parse_time(expiry) if expiry else None,
        )
        fresh = name not in self._records
        self._records[name] = record
        return fresh

    def _terms_number(self, parent, evse_ids) -> int:
        if not parent and not evse_ids:
            return 0
        wanted = pack_terms(0, parent, evse_ids)[:44]
        if wanted not in self._terms:
            number = len(self._slots) + 1
            if number > MAX_TERMS:
                raise Full("more than 2047 different pairs of parent id and EVSEs")
            self._slots.append(pack_terms(number, parent, evse_ids))
            self._terms[wanted] = number
        return self._terms[wanted]

    def write(self, file, version: int, seed: int, day: int = 0) -> int:
        """Write the cards file to an open file. Returns how many cards it holds."""
        writer = Writer(file, seed, 0, True)
        count = len(self._records)
        fields = {
            "day": day,
            "key_id": key_id(self._key),
            "seq": 1,
            "version": version,
            "listed": count,
            "run_terms": len(self._slots),
            "run_count": count,
        }
        writer.plate(HEAD, **fields)
        for _ in writer.terms(iter(self._slots)):
            pass
        for name in sorted(self._records):
            writer.add(self._records[name])
        writer.end_records()
        writer.fences()
        writer.plate(TRAILER, **fields)
        return count
