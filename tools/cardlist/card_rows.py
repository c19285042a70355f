"""Reading cards that people wrote: CSV or JSON, UIDs in any common writing."""

import csv
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tapauth.cards.changes_in import REMOVED
from tapauth.cards.codec import is_refused, parse_time
from tapauth.core.shapes import ID_TYPES, STATUSES, normal
from tapauth.core.timestamps import format_rfc3339

COLUMNS = ("uid", "type", "status", "parent_id", "parent_type", "evse_ids", "expiry")
UID_BYTES = {"ISO14443": (4, 7, 10), "ISO15693": (8,), "MacAddress": (6, 8)}


_DIGITS = re.compile(r"\s*[0-9]+\s*").fullmatch


class BadCard(ValueError):
    """A card that cannot be taken; the text says why, without the card's value."""


def normal_value(text: str, kind: str) -> str:
    """The one writing of an id token's value. Raises BadCard.

    UIDs and MAC addresses become upper-case hex digits: 04:a1:b2:c3, 04 A1 B2 C3, 0x04a1b2c3.
    """
    value = normal({"value": text.strip(), "type": kind}).upper()
    if kind in UID_BYTES:
        sizes = UID_BYTES[kind]
        try:
            size = len(bytes.fromhex(value))
        except ValueError:
            raise BadCard("the UID is not pairs of hex digits") from None
        if size not in sizes:
            wanted = " or ".join(str(n) for n in sizes)
            raise BadCard(f"the UID has {size} bytes, {kind} has {wanted}")
    if not value or len(value) > 36 or not value.isascii() or not value.isprintable():
        raise BadCard("the value must be 1 to 36 printable ASCII characters")
    if is_refused({"value": value, "type": kind}):
        raise BadCard("a random UID (4 bytes beginning 08), or all zeros or all ones")
    return value


def _choice(text: str, choices: tuple, what: str) -> str:
    for choice in choices:
        if choice.lower() == text.strip().lower():
            return choice
    raise BadCard(f"{what} is not one of {', '.join(choices)}")


def _expiry(text: str) -> str:
    """An RFC 3339 time; a date alone means to the end of that day, UTC."""
    text = text.strip()
    try:
        if len(text) == 10:
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
            return format_rfc3339(int((day + timedelta(days=1)).timestamp()))
        return format_rfc3339(parse_time(text))
    except ValueError:
        raise BadCard("expiry is neither a date nor an RFC 3339 date-time") from None


def _evse_ids(value) -> list[int]:
    parts = value if isinstance(value, list) else str(value).replace(",", ";").split(";")
    # Not what int() makes of anything: 1.9 and true would be 1.
    if not all(type(part) is int or type(part) is str and _DIGITS(part) for part in parts):
        raise BadCard("evse_ids are not whole numbers")
    ids = sorted({int(part) for part in parts})
    if not all(1 <= n <= 32 for n in ids):
        raise BadCard("evse_ids go from 1 to 32")
    return ids


def card(fields: dict) -> tuple[dict, dict]:
    """(id token, info as Store.put takes it) of one row by column name. Raises BadCard."""
    unknown = set(fields) - set(COLUMNS)
    if unknown:
        raise BadCard(f"unknown column {sorted(map(str, unknown))[0]!r}")
    if fields.get("evse_ids") == []:
        # In EVerest's answers an empty list permits no EVSE, in a table an empty cell all.
        raise BadCard("evse_ids is an empty list: leave it out for every EVSE, or block the card")
    given = {name: value for name, value in fields.items() if value != ""}
    for name, value in given.items():
        if value is None:
            raise BadCard(f"{name} is null: leave it out for what is usual")
        if name != "evse_ids" and not isinstance(value, str):
            raise BadCard(f"{name} is not text")
    if "uid" not in given:
        raise BadCard("no uid")
    kind = _choice(given.get("type", "ISO14443"), ID_TYPES, "type")
    token = {"value": normal_value(given["uid"], kind), "type": kind}
    info: dict = {
        "authorization_status": _choice(given.get("status", "Accepted"), STATUSES, "status")
    }
    if "parent_id" in given:
        parent = given["parent_id"].strip()
        if not 0 < len(parent) <= 36 or not parent.isascii() or not parent.isprintable():
            raise BadCard("parent_id must be 1 to 36 printable ASCII characters")
        parent_kind = _choice(given.get("parent_type", "Central"), ID_TYPES, "parent_type")
        info["parent_id_token"] = {"value": parent, "type": parent_kind}
    if "evse_ids" in given:
        info["evse_ids"] = _evse_ids(given["evse_ids"])
    if "expiry" in given:
        info["expiry_time"] = _expiry(given["expiry"])
    return token, info


def change(fields: dict) -> tuple[dict, dict | None]:
    """The same of a row of changes, None for the info of a card that goes. Raises BadCard."""
    status = fields.get("status")
    if not isinstance(status, str) or status.strip().lower() != REMOVED.lower():
        try:
            return card(fields)
        except BadCard as error:
            if str(error).startswith("status is not"):
                raise BadCard(f"{error}, {REMOVED}") from None
            raise
    for name, value in fields.items():
        if name not in ("uid", "type", "status") and value != "":
            raise BadCard(f"{name} of a card that is removed")
    token, _ = card({**fields, "status": ""})
    return token, None


def _json_objects(text: str) -> Iterator[tuple[int, object]]:
    """(line, object) of each element of a JSON array. Raises SystemExit when it is none."""
    decoder = json.JSONDecoder()
    at = 0

    def skip(marks: str) -> None:
        nonlocal at
        while at < len(text) and text[at] in " \t\r\n" + marks:
            at += 1

    skip("")
    if text[at : at + 1] != "[":
        raise SystemExit("the JSON file is not an array of cards")
    at += 1
    line, counted = 1, 0
    while True:
        skip(",")
        if text[at : at + 1] == "]":
            return
        line += text.count("\n", counted, at)
        counted = at
        try:
            found, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise SystemExit(f"line {error.lineno}: not JSON: {error.msg}") from error
        yield line, found


def read_rows(path: Path) -> Iterator[tuple[int, object]]:
    """(line, what stands there) of each row of a .csv or .json file.

    A CSV has a first line of column names. Raises SystemExit if the file as a whole is of no use.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"{path}: {error}") from error
    if path.suffix.lower() == ".json":
        yield from _json_objects(text)
        return
    lines = text.splitlines()
    if not lines:
        raise SystemExit(f"{path} is empty")
    mark = ";" if lines[0].count(";") > lines[0].count(",") else ","
    reader = csv.DictReader(lines, delimiter=mark, restkey="more columns than names", restval="")
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    if "uid" not in names:
        raise SystemExit(f"{path}: the first line names the columns; one must be uid")
    for at, name in enumerate(names):
        wrong = "is no column" if name not in COLUMNS else "is there twice"
        if name not in COLUMNS or name in names[:at]:
            raise SystemExit(
                f"{path}: the first line names the columns; {name!r} {wrong}. "
                f"There are {', '.join(COLUMNS)}"
            )
    reader.fieldnames = names
    for row in reader:
        yield reader.line_num, row
