"""The start of connection auth: reads the kept file, and makes PINs for a board that has none.

freeze() and thaw() put a ConnectionAuth by while the door is shut, as plain values, so that no
code stays.
"""

import binascii

from tapauth.compat import forget, late
from tapauth.crypto.hmac import Hmac
from tapauth.json_in import load
from tapauth.local.login.auth import ConnectionAuth
from tapauth.local.login.kept import PIN, Account, Keeper, Random
from tapauth.local.login.sessions import ADMIN, FREE, USER, Lockout, Session


def _read(kept: dict) -> tuple:
    """(seed, accounts, failures) of the file's object. Raises ValueError, LookupError, TypeError
    or AttributeError where the object is not as Keeper.keep() makes one.
    """
    accounts = {}
    for role, name in ((ADMIN, "admin"), (USER, "user")):
        kind, record, pin = kept[name]
        account = accounts[role] = Account(kind, record, pin)
        if kind:
            account.iterations()
    return binascii.unhexlify(kept["seed"]), accounts, kept["failures"] + 0


def open_keeper(file, source, unique: bytes, pin_recoverable: bool, show, log, now: int):
    """Steps: read the file, or make PINs. Returns the Keeper of this start. Raises OSError.

    `file` is a StateFile, `source(n)` gives random bytes, `unique` is the board's own id, `now` is
    in seconds; a board that was locked is locked anew from now. See Keeper for the others.
    """
    seed, accounts, failures = b"", {}, 0
    data = file.load()
    if data is not None:
        try:
            seed, accounts, failures = _read(load(data))
        except (ValueError, LookupError, TypeError, AttributeError):
            log.error("conn", "the kept PINs and passwords are damaged: there are new PINs")
            # To damage the file must not bring more tries.
            failures = FREE
    mac = Hmac(seed)
    fresh = source(32)
    random = Random(mac(b"random", fresh, unique), source)
    keeper = Keeper(
        file,
        key=mac(b"key", fresh, unique),
        seed=mac(b"seed", fresh, unique),
        random=random,
        accounts=accounts,
        lockout=Lockout(failures, now),
        pin_recoverable=pin_recoverable,
        show=show,
    )
    if accounts:
        keeper.keep(accounts)
        return keeper
    with late("kdf"):
        from tapauth.local.login import kdf

    forget(kdf)
    for role in (ADMIN, USER):
        accounts[role] = yield from kdf.protect(PIN, kdf.new_pin(random), random)
    keeper.keep(accounts)
    for role in (ADMIN, USER):
        keeper.show_pin(role)
    return keeper


def freeze(auth) -> tuple:
    """All that a ConnectionAuth without connections knows, as plain values for thaw(). `auth` must
    not be used afterwards. Raises MemoryError.
    """
    keeper = auth.keeper
    accounts = [(role, one.kind, one.record, one.pin) for role, one in keeper.accounts.items()]
    sessions = [
        (one.role, one.secured, one.boot, one.expiry, one.sid, one.http)
        for one in auth.sessions.all
    ]
    # Random numbers go on under a new key, which nobody can have seen.
    secrets = (keeper.key, keeper.seed, keeper.random(32), auth.boot_pin)
    lockout = (keeper.lockout.failures, keeper.lockout.until)
    return secrets, accounts, lockout, sessions, auth.iterations


def thaw(kept: tuple, file, source, pin_recoverable: bool, show, settings, clock, log):
    """The ConnectionAuth that freeze() put by; the other arguments are those of its parts."""
    (key, seed, random_key, boot_pin), accounts, (failures, until), sessions, iterations = kept
    lockout = Lockout(failures, 0)
    lockout.until = until
    keeper = Keeper(
        file,
        key=key,
        seed=seed,
        random=Random(random_key, source),
        accounts={role: Account(kind, record, pin) for role, kind, record, pin in accounts},
        lockout=lockout,
        pin_recoverable=pin_recoverable,
        show=show,
    )
    auth = ConnectionAuth(settings, keeper, clock, log)
    for role, secured, boot, expiry, sid, http in sessions:
        session = Session(role, secured=secured, boot=boot, expiry=expiry, sid=sid)
        session.http = http
        auth.sessions.all.append(session)
    auth.boot_pin = boot_pin
    auth.iterations = iterations
    return auth
