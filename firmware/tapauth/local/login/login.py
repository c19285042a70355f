"""The command auth: the order of its checks, and its result codes."""

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
    """Steps: carry a request out for a ConnectionAuth."""
    code = yield from _evaluate(auth, connection, request, reply)
    reply["result"] = code == _OK
    reply["resultCode"] = code
    if code == _LOCKED:
        wait = auth.wait()
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
        return _grant(auth, connection, wanted, opened, reply)
    secret = request.get("credentials")
    if secret is None:
        return _NO_CREDENTIALS
    if secret == "":
        return _EMPTY
    if not isinstance(secret, str) or not fits(secret):
        return _WRONG
    if is_token_shaped(secret):
        old = auth.sessions.find(API, secret, auth.now())
        if not old:
            return _WRONG
        return _grant(auth, connection, wanted, {old.role: old}, reply, old)
    return (yield from _prove(auth, connection, wanted, secret, reply))


def _prove(auth, connection, wanted, secret: str, reply: dict):
    """Steps: a PIN or password is given; the rest of `_evaluate`."""
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
    return code or _grant(auth, connection, wanted, opened, reply)


def _try(auth, secret: str, opened: dict):
    """Steps: compare with all that is known, and put into `opened` a session for each role that
    `secret` is right for. Returns a result code."""
    # Others may have failed while this one waited for its turn.
    if auth.wait():
        return _LOCKED
    keeper = auth.keeper
    # It counts, on flash too, before it is looked at: no power cut makes it undone.
    keeper.lockout.begin(auth.now())
    keeper.keep(keeper.accounts)
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
    auth.unlock(ADMIN in opened)
    yield from _strengthen(auth, opened, secret)
    return _OK


def _strengthen(auth, opened: dict, secret: str):
    """Steps: derive a password anew that was made for a slower board."""
    for role, account in list(auth.keeper.accounts.items()):
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
        session = auth.sessions.new(role, old.secured, old.boot, old.expiry)
        if auth.single or old.connection is connection:
            # The session goes on, so that its tokens hold; a holder loses the HTTP tokens.
            session.sid = old.sid
            session.http = old.http + (old.connection not in (None, connection))
    auth.enter(connection, session, reply)
    return _OK


def _become_user(auth, connection, role, reply: dict) -> int:
    """The status change from administrator to user."""
    if role != "user":
        return _BAD_ROLE
    old = connection.session
    if not old or old.role != ADMIN:
        return _NOT_ADMIN
    if not auth.pro:
        return _NOT_PRO
    session = auth.sessions.new(USER, old.secured, old.boot, old.expiry)
    auth.enter(connection, session, reply)
    if old in auth.sessions.all:
        auth.end(old, TAKEN)
    return _OK
