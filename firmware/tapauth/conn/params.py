"""The command setAuthParams: another protection for a role."""

from tapauth.compat import const
from tapauth.conn.account import KINDS, PASSWORD, PIN, UNSECURED, Account, fits, new_pin
from tapauth.conn.auth import (
    ADMIN_CHANGED,
    ADMIN_UNSECURED,
    ROLES,
    USER_CHANGED_BY_ADMIN,
    USER_CHANGED_BY_USER,
    Refused,
    role_name,
)
from tapauth.conn.kdf import LEAST
from tapauth.conn.sessions import ADMIN, USER, is_token_shaped

_MONTH_S = const(2_592_000)
_DAY_S = const(86_400)
_MIN_PASSWORD = const(8)


def change(auth, connection, request: dict, reply: dict):
    """Carry the request out for a ConnectionAuth. A generator. Raises auth.Refused."""
    auth.require(connection, USER)
    role = request.get("userType")
    role = ROLES.get(role) if isinstance(role, str) else None
    kind = request.get("authType")
    if role is None or kind not in KINDS:
        raise Refused("userType or authType is invalid")
    kind = KINDS.index(kind)
    asking = connection.session.role
    # A user may give the role user another secret, but not open it to everybody.
    if role == ADMIN or kind == UNSECURED:
        auth.require(connection, ADMIN)
    if kind and not auth.pro:
        raise Refused("the plan is not Pro")
    secret = request.get("password", "")
    if kind == PIN:
        secret = new_pin(auth.keeper.random)
    elif kind == PASSWORD:
        if not isinstance(secret, str) or not fits(secret) or is_token_shaped(secret):
            raise Refused("the password is not suitable")
        if len(secret) < _MIN_PASSWORD:
            raise Refused("the password is shorter than 8 characters")
    if not (yield from auth.take_turn()):
        raise Refused("busy")
    try:
        # Both may have changed while it waited.
        if kind and role == USER and not auth.keeper.accounts[ADMIN].kind:
            raise Refused("protect admin first")
        account = Account()
        if kind:
            count = (yield from auth.best_iterations()) if kind == PASSWORD else LEAST
            yield from account.protect(kind, secret, auth.keeper.random, count)
        auth.require(connection, asking)
        _put(auth, connection, role, account, reply)
    finally:
        auth.busy = False
    if kind == PIN:
        reply["newPin"] = secret
    reply["result"] = True


def _put(auth, connection, role: int, account: Account, reply: dict) -> None:
    accounts = dict(auth.keeper.accounts)
    accounts[role] = account
    opens_user = role == ADMIN and not account.kind and accounts[USER].kind
    if opens_user:
        accounts[USER] = Account()
    own = connection.session.role == role
    session = None
    if own:
        lifetime = _DAY_S if account.kind == PIN else _MONTH_S
        session = auth.session(role, account.kind != UNSECURED, False, lifetime)
    auth.keeper.keep(accounts)
    if session:
        auth.closed(connection)
    if role == ADMIN:
        auth.end_all(ADMIN, ADMIN_CHANGED)
    else:
        auth.end_all(USER, USER_CHANGED_BY_USER if own else USER_CHANGED_BY_ADMIN)
    if opens_user:
        auth.end_all(USER, ADMIN_UNSECURED)
    if session:
        auth.enter(connection, session, reply)
        del reply["previleges"]
    auth.log.info("conn", "{} is now protected by: {}", role_name(role), KINDS[account.kind])
