"""The commands beside auth: how the roles are protected, and tokens."""

from tapauth.compat import const, is_scarce
from tapauth.local.login.kdf import LEAST, best_iterations, new_pin, protect
from tapauth.local.login.kept import KINDS, PASSWORD, PIN, UNSECURED, Account
from tapauth.local.login.sessions import (
    ADMIN,
    ADMIN_CHANGED,
    ADMIN_OPENED,
    HTTP,
    MONTH_S,
    ROLES,
    USER,
    USER_CHANGED_BY_ADMIN,
    USER_CHANGED_BY_USER,
    Refused,
    fits,
    is_token_shaped,
    role_name,
)

_DAY_S = const(86_400)
_MIN_PASSWORD = const(8)
_ADMIN_FIRST = "protect admin first"


def handle(auth, connection, request: dict, reply: dict):
    """Steps: carry a request out for a ConnectionAuth. Raises Refused."""
    steps = _METHODS[request["method"]](auth, connection, request, reply)
    if steps:
        yield from steps
    reply["result"] = True


def _set_auth_params(auth, connection, request: dict, reply: dict):
    """Steps: check what is asked for, and change it in its turn."""
    auth.require(connection, USER)
    role = request.get("userType")
    role = ROLES.get(role) if isinstance(role, str) else None
    kind = request.get("authType")
    if role is None or kind not in KINDS:
        raise Refused("userType or authType is invalid")
    kind = KINDS.index(kind)
    # A user may give the role user another secret, but neither open the role to everybody nor
    # close an open one: somebody who has come in without a proof would shut out all others.
    if role == ADMIN or kind == UNSECURED or auth.keeper.accounts[USER].kind == UNSECURED:
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
    steps = _protect(
        auth,
        connection,
        role=role,
        kind=kind,
        secret=secret,
        asking=connection.session.role,
        reply=reply,
    )
    yield from auth.in_turn(steps)


def _protect(auth, connection, role: int, kind: int, secret: str, asking: int, reply: dict):
    """Steps: derive from the new secret, and put it in force if the connection still has the role
    `asking`. Raises Refused, OSError.
    """
    # Admin's protection may have changed while this request waited for its turn.
    if kind and role == USER and not auth.keeper.accounts[ADMIN].kind:
        raise Refused(_ADMIN_FIRST)
    account = Account()
    if kind:
        count = (yield from best_iterations(auth)) if kind == PASSWORD else LEAST
        account = yield from protect(kind, secret, auth.keeper.random, count)
    auth.require(connection, asking)
    if kind == PIN:
        reply["newPin"] = secret
    _put(auth, connection, role, account=account, reply=reply)


def _put(auth, connection, role: int, account: Account, reply: dict) -> None:
    accounts = dict(auth.keeper.accounts)
    accounts[role] = account
    opens_user = role == ADMIN and not account.kind and accounts[USER].kind
    if opens_user:
        accounts[USER] = Account()
    own = connection.session.role == role
    session = None
    if own:
        lifetime = _DAY_S if account.kind == PIN else MONTH_S
        session = auth.session(role, account.kind != UNSECURED, False, lifetime)
        auth.promise(session, reply)
        del reply["previleges"]  # spelt so in the document that `auth` is from
    if is_scarce():
        raise MemoryError
    # Nothing below may fail: a secret that is in force and that nobody was told shuts all out.
    auth.keeper.keep(accounts)
    if session:
        auth.closed(connection)
    if role == ADMIN:
        auth.end_all(ADMIN, ADMIN_CHANGED)
    else:
        auth.end_all(USER, USER_CHANGED_BY_USER if own else USER_CHANGED_BY_ADMIN)
    if opens_user:
        auth.end_all(USER, ADMIN_OPENED)
    if session:
        auth.seat(connection, session)
    auth.note("{} is now protected by: {}", role_name(role), KINDS[account.kind])


def _get_auth_info(auth, connection, request: dict, reply: dict):
    auth.require(connection, USER)
    for role, name in ((ADMIN, "adminAuth"), (USER, "userAuth")):
        account = auth.keeper.accounts[role]
        info = reply[name] = {"security": KINDS[account.kind]}
        if account.pin and connection.session.role == ADMIN:
            info["pin"] = account.pin


def _get_http_token(auth, connection, request: dict, reply: dict):
    auth.require(connection, USER)
    reply["token"] = auth.sessions.token(HTTP, connection.session, auth.now())


def _clear_tokens(auth, connection, request: dict, reply: dict):
    auth.require(connection, ADMIN)
    every = auth.sessions.all
    at = len(every)
    # First the part that needs no memory.
    while at:
        at -= 1
        if not every[at].connection:
            del every[at]
    for session in every:
        auth.sessions.renew(session)


def _set_version(auth, connection, request: dict, reply: dict):
    if request.get("version") not in ("1", "2"):
        raise Refused("versions 1 and 2 are known")


def renew_pin(auth, role: int):
    """Steps: give a role a new PIN, show it, and end a lock. Raises OSError, Refused."""
    # Patient: the person at the board waits, however many others do. No flood may shut them out.
    yield from auth.in_turn(_renew(auth, role), patient=True)


def _renew(auth, role: int):
    """Steps: see renew_pin()."""
    if role == USER and not auth.keeper.accounts[ADMIN].kind:
        raise Refused(_ADMIN_FIRST)
    pin = new_pin(auth.keeper.random)
    account = yield from protect(PIN, pin, auth.keeper.random)
    accounts = dict(auth.keeper.accounts)
    accounts[role] = account
    auth.keeper.lockout.passed(True)
    auth.keeper.keep(accounts)
    auth.end_all(role, ADMIN_CHANGED if role == ADMIN else USER_CHANGED_BY_ADMIN)
    auth.keeper.show_pin(role)


_METHODS = {
    "setAuthParams": _set_auth_params,
    "getAuthInfo": _get_auth_info,
    "getTokenForHttpServer": _get_http_token,
    "clearTokens": _clear_tokens,
    "setUsedApiVersion": _set_version,
}
