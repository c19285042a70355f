"""The start of connection auth: reads what was kept, and makes PINs for a board that has none."""

import binascii
import json

from tapauth.compat import unload
from tapauth.conn.keeper import PIN, Account, Keeper, Random
from tapauth.conn.lockout import FREE, Lockout
from tapauth.conn.sessions import ADMIN, USER
from tapauth.mac import Mac


def _read(kept: dict) -> tuple:
    """(seed, accounts, failures) of the file's object. Raises whatever that cannot be read."""
    accounts = {}
    for role, name in ((ADMIN, "admin"), (USER, "user")):
        kind, record, pin = kept[name]
        account = accounts[role] = Account(kind, record, pin)
        if kind:
            account.iterations()
    return binascii.unhexlify(kept["seed"]), accounts, kept["failures"] + 0


def open_keeper(file, source, unique: bytes, pin_recoverable: bool, show, log, now: int):
    """The Keeper of this start; see there. A generator. Raises OSError.

    `source(n)` gives random bytes, `unique` is the board's own id, `now` is in seconds; a board
    that was locked is locked anew from now.
    """
    seed, accounts, failures = b"", {}, 0
    data = file.load()
    if data is not None:
        try:
            seed, accounts, failures = _read(json.loads(data.decode()))
        except (ValueError, LookupError, TypeError, AttributeError):
            log.error("conn", "the kept PINs and passwords are damaged: there are new PINs")
            # Whoever can damage the file must not get more tries by it.
            failures = FREE
    mac = Mac(seed)
    fresh = source(32)
    random = Random(mac(b"random", fresh, unique), source)
    keeper = Keeper(
        file,
        mac(b"key", fresh, unique),
        mac(b"seed", fresh, unique),
        random,
        accounts,
        Lockout(failures, now),
        pin_recoverable,
        show,
    )
    if accounts:
        keeper.keep(accounts)
        return keeper
    from tapauth.conn import kdf

    unload("tapauth.conn.kdf")
    for role in (ADMIN, USER):
        accounts[role] = yield from kdf.protect(PIN, kdf.new_pin(random), random)
    keeper.keep(accounts)
    for role in (ADMIN, USER):
        keeper.show_pin(role)
    return keeper
