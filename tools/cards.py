"""Cards for a board's token store: from a table to the board, and back.

    python -m tools.cards new-key site.key
    python -m tools.cards build cards.csv --key site.key --list-version 7 -o cards.img
    python -m tools.cards install cards.img --flash build/desktop/flash.img
    python -m tools.cards update changes.csv --version 8 --from 7 --port /dev/ttyUSB0
    python -m tools.cards add 04:a1:b2:c3:d4:e5:f6 --parent-id FLEET --port /dev/ttyUSB0

A table is a .csv whose first line names its columns, or a .json array of objects with the same
names: uid, and if wanted type (ISO14443), status (Accepted), parent_id, parent_type (Central),
evse_ids (1;3) and expiry (2027-06-30, or an RFC 3339 time). A table of changes (update) is the
same, and its status may be Removed. A store holds no card in plain: keep the table. --flash is
the image of a charger that is not running.
"""

import argparse
import csv
import io
import os
import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

from tapauth.cards.cards_check import open_cards, read_plate, verify_cards
from tapauth.cards.cards_file import CardsFile
from tapauth.cards.codec import (
    BODY,
    HASH,
    STATUSES,
    StoreError,
    digest,
    expiry_of,
    key_id,
    status_of,
    terms_of,
)
from tapauth.cards.store import MAX_UPDATE, finish
from tapauth.core.timestamps import DAY, format_rfc3339
from tools.cardlist.card_image import Builder
from tools.cardlist.card_rows import COLUMNS, BadCard, card, change, read_rows
from tools.cardlist.store_target import BoardTarget, ImageTarget
from tools.desk.flash_image import lock_image

EMPTY = "If no card at all shall be known, say so: --empty"
SHOWN = 20
"""Bad rows and duplicates shown by line; the rest is counted."""


class _LocalFiles:
    open = staticmethod(open)


def read_key(path: str) -> bytes:
    """A site key from its file. Raises SystemExit."""
    try:
        key = Path(path).read_bytes()
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from error
    if len(key) != 32:
        raise SystemExit(f"{path} is not a site key: it must have 32 bytes, not {len(key)}")
    return key


class _Report:
    """Lines about single rows, of which only the first are shown."""

    def __init__(self, what: str):
        self._what = what
        self.count = 0

    def __call__(self, text: str) -> None:
        self.count += 1
        if self.count <= SHOWN:
            print(text)
        elif self.count == SHOWN + 1:
            print(f"... and more {self._what}")


def collect(path: Path, builder: Builder) -> tuple[int, int, int, int]:
    """Put a table's cards into `builder`; prints what is wrong with it.

    Returns how many cards are good, bad, and duplicates of an earlier line (the last one counts),
    and how many rows write a value otherwise than the list, case aside.
    """
    bad, duplicate = _Report("bad rows"), _Report("duplicates")
    lines: dict[tuple, int] = {}
    respelled = 0
    shown = time.monotonic()
    for line, fields in read_rows(path):
        try:
            if not isinstance(fields, dict):
                raise BadCard("not an object")
            token, info = card(fields)
            builder.add(token, info)
            place = (token["type"], token["value"].upper())
            if place in lines:
                duplicate(f"line {line}: the same card as line {lines[place]}; this one counts")
            lines[place] = line
            respelled += str(fields["uid"]).upper() != place[1]
        except (BadCard, StoreError) as error:
            bad(f"line {line}: {error}")
        if time.monotonic() - shown > 1:
            shown = time.monotonic()
            print(f"  {len(lines)} cards read", file=sys.stderr)
    return len(lines), bad.count, duplicate.count, respelled


def new_key(arguments) -> None:
    """Make a site key; never overwrites one."""
    try:
        handle = os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SystemExit(f"{arguments.file}: {error.strerror}") from error
    with os.fdopen(handle, "wb") as file:
        file.write(os.urandom(32))
    print(f"{arguments.file}: a new site key. Whoever has it can test guesses at your cards.")


def build(arguments) -> None:
    """Check a table and write it as the full list that a board takes."""
    builder = Builder(read_key(arguments.key) if arguments.key else bytes(32))
    good, bad, duplicates, respelled = collect(Path(arguments.table), builder)
    print(f"{good} cards, {bad} bad rows, {duplicates} duplicates")
    if respelled:
        print(f"{respelled} rows in another spelling: the list has their hex digits alone")
    if bad and not arguments.skip_bad:
        raise SystemExit("nothing written: mend the rows, or leave them out with --skip-bad")
    if not good and not arguments.empty:
        raise SystemExit(f"nothing written: there is no card to put on the list. {EMPTY}")
    if arguments.dry_run:
        return
    if not (arguments.key and arguments.output and arguments.list_version):
        raise SystemExit("to write it, give --key, --list-version and -o; else --dry-run")
    if not 0 < arguments.list_version < 1 << 31:
        raise SystemExit("a list version is 1 to 2147483647")
    data = io.BytesIO()
    seed = int.from_bytes(os.urandom(4), "little") or 1
    builder.write(data, arguments.list_version, seed, int(time.time()) // DAY)
    Path(arguments.output).write_bytes(data.getvalue())
    size = len(data.getvalue())
    print(f"{arguments.output}: version {arguments.list_version}, {size} bytes")


def open_image(path: str) -> CardsFile:
    """A cards file, checked from end to end. Raises SystemExit."""
    try:
        with open(path, "rb") as file:
            head = file.read(BODY)
        found = read_plate(head).key_id if len(head) == BODY else 0
        cards = open_cards(_LocalFiles, path, found)
        finish(verify_cards(cards))
        return cards
    except StoreError as error:
        raise SystemExit(f"{path}: damaged or no cards file: {error}") from error
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from error


def records(cards: CardsFile) -> Iterable[bytes]:
    """Every record that counts."""
    for record in cards.run():
        yield cards.find_delta(record[:HASH]) or record
    for record in cards.delta():
        if not cards.find_run(record[:HASH]):
            yield record


def describe(arguments) -> None:
    """Check an image and say what is in it."""
    cards = open_image(arguments.image)
    size = os.path.getsize(arguments.image)
    count = cards.listed + cards.cached
    print(f"{arguments.image}: sound, {size} bytes, {size / max(count, 1):.1f} a card")
    print(f"list version {cards.version}, {cards.listed} cards listed, {cards.cached} cached")
    tally: dict[str, int] = {}
    for record in records(cards):
        if status_of(record) < len(STATUSES):
            name = STATUSES[status_of(record)]
            tally[name] = tally.get(name, 0) + 1
    for name, number in sorted(tally.items()):
        print(f"  {name}: {number}")
    print(f"{cards.run_terms + cards.tail_terms} pairs of parent id and EVSEs")
    if arguments.key:
        with open(arguments.image, "rb") as file:
            found = read_plate(file.read(BODY)).key_id
        same = found == key_id(read_key(arguments.key))
        print("made with this site key" if same else "made with another site key")
        if not same:
            raise SystemExit(1)


def export(arguments) -> None:
    """Write what an image holds as CSV; cards by name only if a table of them is given."""
    cards = open_image(arguments.image)
    names = {}
    if arguments.table:
        if not arguments.key:
            raise SystemExit("to find the table's cards in the image, give its --key")
        key = read_key(arguments.key)
        for _, fields in read_rows(Path(arguments.table)):
            try:
                token, _ = card(fields) if isinstance(fields, dict) else ({}, {})
                names[digest(key, token)[:HASH]] = token
            except (BadCard, KeyError):
                continue
    place = (
        open(arguments.output, "w", newline="") if arguments.output else nullcontext(sys.stdout)
    )
    with place as out:
        writer = csv.writer(out)
        writer.writerow([*COLUMNS, "hash"])
        for record in records(cards):
            if status_of(record) >= len(STATUSES):
                continue
            number = terms_of(record)
            parent, evse_ids = cards.terms(number) if number else (None, None)
            token = names.get(record[:HASH], {})
            expiry = expiry_of(record)
            writer.writerow(
                [
                    token.get("value", ""),
                    token.get("type", ""),
                    STATUSES[status_of(record)],
                    parent["value"] if parent else "",
                    parent["type"] if parent else "",
                    ";".join(str(n) for n in evse_ids or ()),
                    format_rfc3339(expiry) if expiry is not None else "",
                    record[:HASH].hex(),
                ]
            )


def _target(arguments) -> ImageTarget | BoardTarget:
    if arguments.flash:
        path = Path(arguments.flash)
        return ImageTarget(path, arguments.capacity, lock_image(path))
    return BoardTarget(arguments.port, arguments.capacity, arguments.resume, arguments.now)


def _card(arguments) -> tuple[dict, dict]:
    fields = {name: getattr(arguments, name, None) or "" for name in COLUMNS}
    try:
        return card(fields)
    except BadCard as error:
        raise SystemExit(str(error)) from error


def set_key(arguments) -> None:
    """Put a site key on a board. A store made with another one then needs a full list."""
    _target(arguments).set_key(read_key(arguments.file))
    print("done")


def install(arguments) -> None:
    """Put an image in place as the full list. The cards that the board has learned stay."""
    if not open_image(arguments.image).listed and not arguments.empty:
        raise SystemExit(f"not installed: the list is empty. {EMPTY}")
    _target(arguments).install(Path(arguments.image).read_bytes())
    print("in place")


def _as_written(token: dict, uid: str) -> dict:
    """The token in the spelling it was given in: older firmware may have kept that one."""
    written = uid.strip()
    return {**token, "value": written} if len(written) <= 36 else token


def add(arguments) -> None:
    """Put one card on a board's list."""
    token, info = _card(arguments)
    token = _as_written(token, arguments.uid)
    _target(arguments).ask(f"finish(store.put({token!r}, {info!r}))")
    print("on the list")


def remove(arguments) -> None:
    """Take one card off a board's list and cache."""
    token, _ = _card(arguments)
    token = _as_written(token, arguments.uid)
    found = _target(arguments).ask(f"finish(store.delete({token!r}))")
    print("removed" if found else "was not there")


def read_changes(path: Path) -> list:
    """(id token, info or None) of each row of a table of changes. Raises SystemExit, when it has
    shown what is wrong with any: a differential list is taken whole or not at all.
    """
    bad = _Report("bad rows")
    lines: dict[tuple, int] = {}
    changes = []
    for line, fields in read_rows(path):
        try:
            if not isinstance(fields, dict):
                raise BadCard("not an object")
            token, info = change(fields)
            place = (token["type"], token["value"].upper())
            if place in lines:
                raise BadCard(f"the same card as line {lines[place]}")
            lines[place] = line
            changes.append((_as_written(token, fields["uid"]), info))
        except BadCard as error:
            bad(f"line {line}: {error}")
    if bad.count:
        raise SystemExit(f"nothing is changed: {bad.count} bad rows")
    if len(changes) > MAX_UPDATE:
        raise SystemExit(
            f"nothing is changed: {len(changes)} cards, an update takes {MAX_UPDATE}. "
            "Make several of it, or a full list: build and install"
        )
    return changes


def update(arguments) -> None:
    """Change, add and remove the cards of a table, whole or not at all: a differential list."""
    version, base = arguments.list_version, arguments.base
    if not 0 < version < 1 << 31:
        raise SystemExit("a list version is 1 to 2147483647")
    changes = read_changes(Path(arguments.table))
    status, held = _target(arguments).update(version, changes, base)
    if status != "Accepted" and held == version:
        # Such as after an attempt whose answer was lost; the board does not keep what it was sent.
        raise SystemExit(
            f"nothing is changed: the board has list version {held} already. If this table was "
            f"sent before, it is in place; else give one above {held}"
        )
    if status != "Accepted":
        wanted = f"above {held}" if base in (None, held) else f"made from {held}, not from {base}"
        raise SystemExit(f"not updated: the board has list version {held}, so one {wanted}")
    removed = sum(info is None for _, info in changes)
    print(f"list version {held}: {len(changes) - removed} cards put, {removed} removed")


def clear_cache(arguments) -> None:
    """Forget what a board has learned from validators; its list stays."""
    _target(arguments).ask("store.clear_cache()")
    print("what was learned is forgotten")


def find(arguments) -> None:
    """Show what a board knows about one card."""
    token, _ = _card(arguments)
    result, _ = _target(arguments).ask(f"store.lookup({token!r}, {int(time.time())})")
    if result is None:
        print("unknown")
        return
    for name, value in sorted(result.items()):
        if value:
            print(f"{name}: {value}")


def master_pass(arguments) -> None:
    """Show or set the group whose cards stop every transaction."""
    target = _target(arguments)
    if arguments.group is not None:
        target.ask(f"store.set_master_pass_group_id({arguments.group!r})")
    group = target.ask("store.master_pass_group_id")
    print(f"master pass group: {group}" if group else "no master pass group")


def status(arguments) -> None:
    """Show how a board's store is."""
    for name, value in _target(arguments).ask("store.status()").items():
        print(f"{name}: {value}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m tools.cards",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="command")

    def command(name: str, action, on_board: bool = False) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=action.__doc__, description=action.__doc__)
        made.set_defaults(action=action)
        if on_board:
            where = made.add_mutually_exclusive_group(required=True)
            where.add_argument("--flash", metavar="FILE", help="flash image of a stopped charger")
            where.add_argument("--port", help="serial port of a board, as mpremote names it")
            made.add_argument("--capacity", type=int, default=10000, help="cards (10000)")
            made.add_argument(
                "--now", action="store_true", help="stop the board even while a car charges there"
            )
            made.add_argument(
                "--resume", action="store_true", help="do not reset the board before and after"
            )
        return made

    command("new-key", new_key).add_argument("file")
    made = command("build", build)
    made.add_argument("table", help=".csv or .json")
    made.add_argument("--dry-run", action="store_true", help="only check the table")
    made.add_argument("--skip-bad", action="store_true", help="leave bad rows out")
    made.add_argument("--empty", action="store_true", help="also a list without any card")
    made.add_argument("--key", metavar="FILE", help="the site key")
    made.add_argument("--list-version", type=int, help="higher than the board's")
    made.add_argument("-o", "--output", metavar="FILE")
    made = command("describe", describe)
    made.add_argument("image")
    made.add_argument("--key", metavar="FILE", help="say whether it was made with this one")
    made = command("export", export)
    made.add_argument("image")
    made.add_argument("--table", help="name the cards that are in this table")
    made.add_argument("--key", metavar="FILE")
    made.add_argument("-o", "--output", metavar="FILE")
    command("set-key", set_key, True).add_argument("file")
    made = command("install", install, True)
    made.add_argument("image")
    made.add_argument("--empty", action="store_true", help="also a list without any card")
    for name, action in (("add", add), ("remove", remove), ("find", find)):
        made = command(name, action, True)
        made.add_argument("uid", help="in any common writing")
        made.add_argument("--type", help="ISO14443")
        if action is add:
            made.add_argument("--status", help="Accepted")
            made.add_argument("--parent-id", dest="parent_id")
            made.add_argument("--parent-type", dest="parent_type", help="Central")
            made.add_argument("--evse-ids", dest="evse_ids", help="such as 1;3")
            made.add_argument("--expiry", help="a date or an RFC 3339 time")
    made = command("update", update, True)
    made.add_argument("table", help=f".csv or .json of at most {MAX_UPDATE} cards")
    made.add_argument(
        "--version",
        dest="list_version",
        type=int,
        metavar="N",
        required=True,
        help="above the board's",
    )
    made.add_argument(
        "--from", dest="base", type=int, metavar="N", help="only if the board has this one"
    )
    command("clear-cache", clear_cache, True)
    command("master-pass", master_pass, True).add_argument(
        "group", nargs="?", help='none: show it; "": switch it off'
    )
    command("status", status, True)
    return top


def main(words: list[str] | None = None) -> None:
    """Run one command. Raises SystemExit with a message when it is refused."""
    arguments = parser().parse_args(words)
    arguments.action(arguments)


if __name__ == "__main__":
    main()
