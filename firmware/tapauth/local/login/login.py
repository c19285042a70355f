"""The command auth: the order of its checks, and its result codes.

Theory of operation. _evaluate() is a row of checks; the first that fails gives the result code,
and only the last step, _grant(), changes the connection. The codes are those of the document that
`auth` is from (docs/local-server.md has them in words). The row:

    no `type`       11, unless a `role` stands alone: the status change to user, with 9, 3, 2
    `type`          10 for an unknown one
    `role`          9 for an unknown one; it may be left out: the highest that is opened counts
    "unsecured"     4 when no role is open; credentials are not looked at
    credentials     12 missing, 7 empty, 8 no text or too long
    a token         8 when it is not valid; nothing is counted, and a lock does not matter
    PIN, password   4 when admin is open, 2 without the plan: neither while there is a boot PIN
    the lock        6, before and after the wait for a turn, and when too many wait
    the try         counted and kept on flash; 8 when nothing is opened by it
    the grant       5 when the wanted role is not among the opened, 2 for user without the plan

Cheap checks come first, and none before the lock depends on a PIN or password: a stranger learns
only how the board is set up. A try is compared with both roles whatever role is wanted, so the
time of a try does not tell which role it fits, and code 5 is for a proof that is right. Code 1
comes from auth.py, for any failure inside.

While a try has the turn other requests run, but none that changes an account: those need the turn
too. From the turn's end to the grant nothing else runs, so no new secret can overtake a proof.
"""

from tapauth.compat import const
from tapauth.crypto.hmac import equal
from tapauth.local.login.kdf import best_iterations, matches, protect
from tapauth.local.login.kept import PASSWORD, UNSECURED
from tapauth.local.login.sessions import (
    ADMIN,
    API,
    FOREVER,
    ROLES,
    TAKEN,
    USER,
    Refused,
    fits,
    is_token_shaped,
)

_OK = const(0)
_NOT_PRO = const(2)
_NOT_ADMIN = const(3)
_WRONG_SECURITY = const(4)
_OTHER_ROLE = const(5)
_LOCKED = const(6)
_EMPTY = const(7)
_WRONG = const(8)
_BAD_ROLE = const(9)
_BAD_TYPE = const(10)
_NO_TYPE = const(11)
_NO_CREDENTIALS = const(12)


def handle(auth, connection, request: dict, reply: dict):
    """Steps: carry the request out for a ConnectionAuth. Raises OSError, MemoryError."""
    code = yield from _evaluate(auth, connection, request, reply)
    reply["result"] = code == _OK
    reply["resultCode"] = code
    if code == _LOCKED:
        wait = auth.wait()
        # 0 when the queue was full: a second is a fair guess.
        if wait != FOREVER:
            reply["retryAfter"] = max(wait, 1)
    if code:
        auth.log.info("conn", "auth refused with code {}", code)


def _evaluate(auth, connection, request: dict, reply: dict):
    """Steps: the checks in their order. Returns a result code."""
    if "type" not in request:
        if "credentials" in request or "role" not in request:
            return _NO_TYPE
        return _become_user(auth, connection, request["role"], reply)
    kind = request["type"]
    if kind not in ("secured", "unsecured"):
        return _BAD_TYPE
    # The form of the request first: it costs nothing and says nothing about the board.
    wanted = None
    if "role" in request:
        wanted = request["role"]
        wanted = ROLES.get(wanted) if isinstance(wanted, str) else None
        if wanted is None:
            return _BAD_ROLE
    if kind == "unsecured":
        opened = {}
        for role, account in auth.keeper.accounts.items():
            if account.kind == UNSECURED:
                opened[role] = auth.session(role, False, False)
        if not opened:
            return _WRONG_SECURITY
        return _grant(auth, connection, wanted, opened=opened, reply=reply)
    secret = request.get("credentials")
    if secret is None:
        return _NO_CREDENTIALS
    if secret == "":
        return _EMPTY
    if not isinstance(secret, str) or not fits(secret):
        return _WRONG
    # No password may look like a token, so a wrong token is never tried, or counted, as one.
    if is_token_shaped(secret):
        old = auth.sessions.find(API, secret, auth.now())
        if not old:
            return _WRONG
        return _grant(auth, connection, wanted, opened={old.role: old}, reply=reply, old=old)
    return (yield from _prove(auth, connection, wanted, secret=secret, reply=reply))


def _prove(auth, connection, wanted, secret: str, reply: dict):
    """Steps: the rest of _evaluate() for a PIN or password. Returns a result code."""
    # A boot PIN was typed at the board itself, and opens admin whatever else is set.
    if not auth.boot_pin:
        if not auth.keeper.accounts[ADMIN].kind:
            return _WRONG_SECURITY
        if not auth.pro:
            return _NOT_PRO
    if auth.wait():
        return _LOCKED
    opened: dict = {}
    try:
        code = yield from auth.in_turn(_try(auth, secret, opened))
    except Refused:  # too many wait
        return _LOCKED
    return code or _grant(auth, connection, wanted, opened=opened, reply=reply)


def _try(auth, secret: str, opened: dict):
    """Steps: compare with all that is known, and put into `opened` a session for each role that
    `secret` is right for. Returns a result code."""
    # Others may have failed while this one waited for its turn.
    if auth.wait():
        return _LOCKED
    keeper = auth.keeper
    # The try counts, on flash too, before it is looked at: no power cut makes a try undone.
    keeper.lockout.begin(auth.now())
    keeper.keep(keeper.accounts)
    # Both, also when the first one fits: the time must not tell which role it was right for.
    for role, account in keeper.accounts.items():
        if account.kind and auth.pro and (yield from matches(account, secret)):
            opened[role] = auth.session(role, True, False)
    if auth.boot_pin:
        given = auth.sessions.digest(secret.upper().encode())
        if equal(given, auth.boot_pin):
            opened[ADMIN] = auth.session(ADMIN, True, True)
    if not opened:
        auth.log.warning("conn", "wrong PIN or password, {} in a row", keeper.lockout.failures)
        return _WRONG
    # A user's login takes back its own count only: see Lockout.passed().
    auth.unlock(ADMIN in opened)
    yield from _strengthen(auth, opened, secret)
    return _OK


def _strengthen(auth, opened: dict, secret: str):
    """Steps: derive a password anew that was made for a slower board; now its text is known."""
    for role, account in list(auth.keeper.accounts.items()):
        # The boot PIN opens admin too, and is not admin's password.
        if account.kind != PASSWORD or role not in opened or opened[role].boot:
            continue
        best = yield from best_iterations(auth)
        # Measurements scatter; the flash shall not be written for that.
        if best * 4 > account.iterations() * 5:
            stronger = yield from protect(PASSWORD, secret, auth.keeper.random, best)
            accounts = dict(auth.keeper.accounts)
            accounts[role] = stronger
            try:
                auth.keeper.keep(accounts)
            except OSError as error:
                auth.log.warning("conn", "a password stays as it was: {}", error)


def _grant(auth, connection, wanted, opened: dict, reply: dict, old=None) -> int:
    """Authorize a connection for one of the roles that its proof opened.

    `old` is the session that its token belongs to, for a token. Returns a result code.
    """
    if wanted and wanted not in opened:
        return _OTHER_ROLE
    role = wanted or max(opened)
    if role == USER and not auth.pro:
        return _NOT_PRO
    session = opened[role]
    if old:
        # With the rest of the old session's time, however often a token is shown.
        session = auth.sessions.new(role, old.secured, old.boot, old.expiry)
        if auth.single or old.connection is connection:
            # The session goes on, so that its tokens hold; a holder loses the HTTP tokens.
            session.sid = old.sid
            session.http = old.http + (old.connection not in (None, connection))
    auth.enter(connection, session, reply)
    return _OK


def _become_user(auth, connection, role, reply: dict) -> int:
    """Turn an administrator's connection into a user's. Returns a result code."""
    if role != "user":
        return _BAD_ROLE
    old = connection.session
    if not old or old.role != ADMIN:
        return _NOT_ADMIN
    if not auth.pro:
        return _NOT_PRO
    session = auth.sessions.new(USER, old.secured, old.boot, old.expiry)
    auth.enter(connection, session, reply)
    # The admin's token must not lead back; seat() has ended its session only if it needed a place.
    if old in auth.sessions.all:
        auth.end(old, TAKEN)
    return _OK
