"""The bytes of the token store, without any file access (docs/store-format.md).

Theory of operation. Everything on flash is one of five things, and each can be checked alone:

    record     12 bytes: one card
    terms      48 bytes: a parent id, and the EVSEs that cards are allowed on
    page       256 bytes: 21 records, a head or trailer ("plate"), or fences; and a CRC
    segment    a journal file: what it follows and what held then, up to 9 records; and a CRC
    settings, witness   small files with a CRC

A record:

    0..6   the hash: SHA-256 of site key, type, length and upper-cased value, cut off
    7..8   16 bits from the lowest on: 4 status, 1 learned (CACHE), 11 number of the terms
    9..11  of the list: the expiry in minutes since 2024
           of the cache: the expiry in units of six hours since then, and the day of last use

Records have no CRC of their own: they are believed where their page or segment is intact. A CRC
starts from something that tells its place (the file's seed and the page's number; a number for
each kind of file), so that an intact page of another file, or at another place, is not taken.

Rounding is always against acceptance: expiries round down, a value beyond the range becomes the
range's end. Numbers on flash are little-endian. All of this changes only with FORMAT.
"""

import struct
from binascii import crc32
from hashlib import sha256

from tapauth.compat import const
from tapauth.core.shapes import ID_TYPES, UID_TYPES, check_id_token, normal
from tapauth.core.shapes import STATUSES as STATUSES
from tapauth.core.timestamps import DAY, parse_rfc3339

FORMAT = const(1)
PAGE = const(256)
BODY = const(252)  # a page's bytes before its CRC
RECORD = const(12)
PER_PAGE = const(21)
HASH = const(7)
# The places of the other bytes of a record, as the table above has them.
_STATUS = const(7)  # with CACHE, and the lowest bits of the number of the terms
_TERMS = const(8)
_TIME = const(9)
_USED = const(11)
TERM = const(48)
MAX_TERMS = const(2047)  # 11 bits; 0 means no terms
MAX_CARDS = const(65535)
MAX_VERSION = const(0x7FFFFFFF)  # of a list
FENCES = const(504)  # counts kept per hash range, four pages of 126
FENCE_PAGES = const(4)
DELTA_PAGES = const(32)
SEGMENT_RECORDS = const(9)  # with its head 128 bytes: littlefs keeps that inline on every port

DELETED = const(15)  # the status of a record that hides an older one
ACCEPTED = const(0)
CACHE = const(16)

MAGIC = b"TapCards"
PLATE = "<8sBBHIIIIHHHHHH"  # the fields of cards_check.Plate
HEAD = const(72)  # ord("H"): a plate's kind
TRAILER = const(84)  # ord("T")
FENCES_PER_PAGE = const(126)
DELTA_FENCES = const(40)  # their place in a trailer, behind the plate
SEGMENT = "<IIIIHH"
SEGMENT_HEAD = const(20)
SETTINGS = "<IIIH"
SETTINGS_HEAD = const(14)
COUNTED = const(16)  # the head of settings that say how often they were written
WITNESS = "<IIIH"
WITNESS_SIZE = const(14)

_UID_DIGITS = {"ISO14443": (8, 14, 20), "ISO15693": (16,)}
_EPOCH = const(1704067200)  # 2024-01-01
_MAX_MINUTES = const(0xFFFFFF)  # 2055-11-24
_SIX_HOURS = const(21600)
CACHE_DAYS = const(240)  # the longest that an unused cache entry can be kept
DAYS_AHEAD = const(15)
NO_DAY = const(1)
_LAST_DAY = const(0xFFFF)
_MARK = b"\0\0\0\0\0\0\0\x0f"
_HIDE = b"\x0f\0\0\0\0"  # what follows the hash in a record that hides an older one


class StoreError(Exception):
    """The store could not do it; the text says why."""


class Damaged(StoreError):
    """Bytes on flash are not what was written. Only a full list mends it."""


class Full(StoreError):
    """No room: on flash, below the capacity, or in the table of terms."""


class Busy(StoreError):
    """Another change is under way."""


def is_refused(id_token: dict) -> bool:
    """Whether no store may know this token: no value, a random UID, or no UID at all.

    ISO 14443-3: a 4-byte UID beginning 08 is drawn anew on each activation.
    """
    value = normal(id_token)
    if id_token["type"] not in UID_TYPES:
        return not value
    if not value.strip("0") or not value.strip("f"):
        return True
    return id_token["type"] == "ISO14443" and len(value) == 8 and value.startswith("08")


def check_listed(id_token: dict) -> None:
    """Raises ValueError, which says why, for a token that no list may hold: one that nobody can
    present is put there by mistake, and whoever blocks it so would believe it to be blocked.
    """
    error = check_id_token(id_token)
    if error:
        raise ValueError(error)
    if is_refused(id_token):
        raise ValueError("a random or empty UID")
    sizes = _UID_DIGITS.get(id_token["type"])
    digits = normal(id_token)
    if sizes and (len(digits) not in sizes or digits.strip("0123456789abcdef")):
        raise ValueError("no UID of a card: 4, 7 or 10 bytes (ISO15693: 8), each two hex digits")


def digest(key: bytes, id_token: dict) -> bytes:
    """The keyed hash of a token, in whichever spelling it comes."""
    return spelling_hash(key, id_token["type"], normal(id_token))


def spelling_hash(key: bytes, kind: str, value: str) -> bytes:
    """SHA-256 of key, type, length and upper-cased value."""
    data = value.upper().encode()
    hasher = sha256(key)
    hasher.update(kind.encode() + bytes((0, len(data))))
    hasher.update(data)
    return hasher.digest()


def former_name(key: bytes, id_token: dict) -> bytes | None:
    """The start of the hash that firmware which took spellings as they came gave to this one;
    None where that is the same."""
    value = id_token["value"]
    if value.lower() == normal(id_token):
        return None
    return spelling_hash(key, id_token["type"], value)[:HASH]


def key_id(key: bytes) -> int:
    """A number that tells site keys apart and says nothing about them."""
    return int.from_bytes(sha256(key + b"key id").digest()[:4], "little")


# Time


def parse_time(text: str) -> int:
    """Seconds since 1970 of an RFC 3339 date-time. Raises ValueError."""
    unix = parse_rfc3339(text)
    if unix is None:
        raise ValueError("not an RFC 3339 date-time")
    return unix


# Records


def pack_record(name: bytes, status: int, terms: int, expiry: int | None, used: int = -1) -> bytes:
    """One record: of the list, or of the cache when `used` (a day number) is given.

    Expiries round down, to the minute for the list and to six hours for the cache, so that
    nothing is accepted for longer than it was allowed. Beyond the range they are its end.
    """
    if used < 0:
        time = 0
        if expiry is not None:
            time = min(max((expiry - _EPOCH) // 60, 1), _MAX_MINUTES)
    else:
        status |= CACHE
        time = (used & 0xFF) << 16
        if expiry is not None:
            time |= min(max((expiry - _EPOCH) // _SIX_HOURS, 1), 0xFFFF)
    return name + struct.pack("<HBH", status | terms << 5, time & 0xFF, time >> 8)


def hiding(record) -> bytes:
    """The record that hides all older ones of the same hash."""
    return record[:HASH] + _HIDE


def status_of(record) -> int:
    """The index into STATUSES, or DELETED."""
    return record[_STATUS] & 15


def is_cache(record) -> int:
    """Not 0 for an entry learned from a validator."""
    return record[_STATUS] & CACHE


def terms_of(record) -> int:
    """The number of the record's terms, 0 for none."""
    return record[_STATUS] >> 5 | record[_TERMS] << 3


def with_terms(record: bytes, terms: int) -> bytes:
    """The same record under other terms."""
    return record[:_STATUS] + struct.pack("<H", record[_STATUS] & 31 | terms << 5) + record[_TIME:]


def expiry_of(record) -> int | None:
    """When the record stops being valid, in seconds since 1970; None for never."""
    if is_cache(record):
        time = record[_TIME] | record[_TIME + 1] << 8
        return _EPOCH + time * _SIX_HOURS if time else None
    time = record[_TIME] | record[_TIME + 1] << 8 | record[_TIME + 2] << 16
    return _EPOCH + time * 60 if time else None


# Days. A cache entry has one byte for its last day of use: the day modulo 256. It means one day,
# and the same for ever, by three rules, where W is the day in the head of the cards file:
#
# 1. The writer of a cards file on day W leaves out what is older than W-240, and puts W there.
# 2. A byte is written for the days up to W+15 only. Later, the store is merged first, so that W
#    is today. So a byte stands for one of the 256 days W-240 ... W+15.
# 3. Today is the newest day that the store has seen: in the cards file, in the journal, from the
#    clock. It never goes back. Once a day it goes into the journal as a mark, so that a start
#    without a clock does not take back a day that has passed.
#
# An age is then today less that day, without any modulo. A clock that is set back or unset makes
# days stand still; one that is set ahead makes cards older, and they stay so.
#
# While no day was ever known, all is NO_DAY. A card of that day has no age until a merge under a
# known day gives it that one. A head with day 0 was written by older firmware that did not know
# the day: its bytes mean nothing, and nothing that was learned counts (store.py).


def day_of(record, written: int) -> int:
    """The day of last use of an entry of the cache, in a cards file with `written` in its head."""
    first = written - CACHE_DAYS
    return first + (record[_USED] - first & 0xFF)


def later(today: int, now: int | None) -> int:
    """The newest day seen, when it was `today` and `now` is the time, or None."""
    return today if now is None else max(today, min(now // DAY, _LAST_DAY))


def pack_mark(today: int) -> bytes:
    """The record that keeps a day: it deletes the card with the hash 0, which nobody has."""
    return _MARK + struct.pack("<BHB", 0, today, 0)


def day_marked(record) -> int:
    """The day that a record keeps; 0 if it is not a mark."""
    return record[_TIME] | record[_TIME + 1] << 8 if record[: len(_MARK)] == _MARK else 0


def pack_terms(number: int, parent: dict | None, evse_ids: list | None) -> bytes:
    """One entry of the table of terms. Raises ValueError for what it cannot hold."""
    value = parent["value"].encode() if parent else b""
    kind = ID_TYPES.index(parent["type"]) if parent else 0xFF
    if len(value) > 36:
        raise ValueError("a parent id of more than 36 bytes")
    mask = 0
    for evse_id in evse_ids or ():
        if not 1 <= evse_id <= 32:
            raise ValueError("EVSE ids go from 1 to 32")
        mask |= 1 << (evse_id - 1)
    data = struct.pack("<BBI36sH", kind, len(value), mask, value, 0)
    return data + struct.pack("<I", crc32(data, number))


def unpack_terms(number: int, data: bytes) -> tuple:
    """(parent id token or None, EVSE ids or None). Raises Damaged."""
    if len(data) != TERM or crc32(data[:44], number) != struct.unpack("<I", data[44:])[0]:
        raise Damaged("terms")
    kind, length, mask = struct.unpack_from("<BBI", data)
    parent = None
    if kind != 0xFF:
        try:
            parent = {"value": data[6 : 6 + length].decode(), "type": ID_TYPES[kind]}
        except (ValueError, IndexError):
            raise Damaged("terms")
    return parent, [i + 1 for i in range(32) if mask >> i & 1] or None


# Pages and small files


def seal(page: bytearray, seed: int, number: int) -> None:
    """Write the CRC of page `number` of the file with this seed."""
    struct.pack_into(
        "<I", page, BODY, crc32(memoryview(page)[:BODY], (seed + number) & 0xFFFFFFFF)
    )


def is_intact(page, seed: int, number: int) -> bool:
    """Whether a page is the one that was written at this place of this file."""
    found = crc32(memoryview(page)[:BODY], (seed + number) & 0xFFFFFFFF)
    return found == struct.unpack_from("<I", page, BODY)[0]


def pack_segment(seed: int, first: int, version: int, counts: tuple, records: bytes) -> bytes:
    """A piece of the journal: records `first`, `first`+1, ... and what held after the last."""
    data = struct.pack(SEGMENT, 0, seed, first, version, counts[0], counts[1])[4:] + records
    return struct.pack("<I", crc32(data, SEGMENT_HEAD)) + data


def pack_settings(saved: int, settings: tuple) -> bytes:
    """The settings file, written for the time `saved` (modulo 65536).

    `settings`: (cleared seed, cleared, timeout, group). Timeout 0 and group None stand for
    "never set".
    """
    seed, cleared, timeout, group = settings
    data = struct.pack(SETTINGS + "H", 0, seed, cleared, timeout, saved)[4:]
    if group is not None:
        data += group.encode() or b"\0"
    return struct.pack("<I", crc32(data, COUNTED)) + data


def pack_witness(seq: int, version: int, saved: int) -> bytes:
    """The witness file: a change's number, list version, how often settings were written."""
    data = struct.pack(WITNESS, 0, seq, version, saved)[4:]
    return struct.pack("<I", crc32(data, WITNESS_SIZE)) + data
