"""What connection auth remembers while it is not loaded: plain values, so that no code stays."""

from tapauth.conn.auth import ConnectionAuth
from tapauth.conn.keeper import Account, Keeper, Random
from tapauth.conn.lockout import Lockout
from tapauth.conn.sessions import Session


def freeze(auth) -> tuple:
    """All that a ConnectionAuth without connections knows. It must not be used afterwards."""
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


def thaw(kept: tuple, file, source, pin_recoverable: bool, show, settings, clock, log, on_lost):
    """The ConnectionAuth that freeze() put by; the other arguments are those of its parts."""
    (key, seed, random_key, boot_pin), accounts, (failures, until), sessions, iterations = kept
    lockout = Lockout(failures, 0)
    lockout.until = until
    keeper = Keeper(
        file,
        key,
        seed,
        Random(random_key, source),
        {role: Account(kind, record, pin) for role, kind, record, pin in accounts},
        lockout,
        pin_recoverable,
        show,
    )
    auth = ConnectionAuth(settings, keeper, clock, log, on_lost)
    for role, secured, boot, expiry, sid, http in sessions:
        session = Session(role, secured, boot, expiry, sid)
        session.http = http
        auth.sessions.all.append(session)
    auth.boot_pin = boot_pin
    auth.iterations = iterations
    return auth
