"""Authorizes the connections of the local interface: the command `auth` and its kin.

The order of the checks is fixed, so that every situation has one result code and nobody learns
more than they may. A request is handled by a generator: it yields while a PIN or password is
being checked, the milliseconds for which the caller may sleep before it goes on.
"""

from tapauth.compat import const, unload
from tapauth.conn.account import (
    KINDS,
    MAX_SECRET,
    PASSWORD,
    PIN,
    UNSECURED,
    Account,
    fits,
    new_pin,
)
from tapauth.conn.kdf import calibrate
from tapauth.conn.lockout import FOREVER
from tapauth.conn.sessions import (
    ADMIN,
    API,
    HTTP,
    MOST,
    NEVER,
    USER,
    Session,
    Sessions,
    is_token_shaped,
)
from tapauth.mac import Mac, equal

OK = const(0)
INTERNAL = const(1)
NOT_PRO = const(2)
NOT_ADMIN = const(3)
WRONG_SECURITY = const(4)
OTHER_ROLE = const(5)
LOCKED = const(6)
EMPTY = const(7)
WRONG = const(8)
BAD_ROLE = const(9)
BAD_TYPE = const(10)
NO_TYPE = const(11)
NO_CREDENTIALS = const(12)

# Why a connection lost its authorization: the cause in the event authorizationNeeded.
TAKEN = const(1)
ADMIN_UNSECURED = const(2)
ADMIN_CHANGED = const(3)
USER_CHANGED_BY_ADMIN = const(4)
USER_CHANGED_BY_USER = const(5)
NOT_LICENSED = const(6)
EXPIRED = const(8)

ROLES = {"admin": ADMIN, "user": USER}

_MONTH_S = const(2_592_000)
_MIN_BOOT_PIN = const(6)
_QUEUE = const(2)
_WAIT_MS = const(50)


def reply_to(request: dict) -> dict:
    """The beginning of every reply: the method and the request's id, as text."""
    number = request.get("requestId", "")
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        number = str(number)
    elif not isinstance(number, str):
        number = ""
    return {"method": request.get("method"), "requestId": number[:64]}


class Refused(Exception):
    """A command other than auth is refused; the argument is the text for `error`."""


class ConnectionAuth:
    """`keeper` is a Keeper that was opened, `clock.now()` gives milliseconds, `on_lost(connection,
    cause)` tells a connection that it has to authorize itself again, `measure()` is a generator of
    the number of iterations that suits the board.

    A connection is any object with an attribute `session`, None at first; closed() ends it.
    """

    def __init__(self, settings: dict, keeper, clock, log, on_lost, measure=calibrate):
        self.pro = settings["plan_pro"]
        self._single = settings["single_session"]
        self.keeper = keeper
        self._clock = clock
        self.log = log
        self._on_lost = on_lost
        self._measure = measure
        self.sessions = Sessions(keeper.key, keeper.random)
        self._boot_mac = Mac(keeper.random(32))
        self._boot_pin: bytes | None = None
        self.busy = False
        self._waiting = 0
        self._iterations = 0
        self._methods = {
            "auth": self._auth,
            "setAuthParams": self._set_auth_params,
            "getAuthInfo": self._get_auth_info,
            "getTokenForHttpServer": self._get_http_token,
            "clearTokens": self._clear_tokens,
            "setUsedApiVersion": self._set_version,
        }

    def _now(self) -> int:
        return self._clock.now() // 1000

    # What the server asks.

    def role(self, connection) -> int:
        """ADMIN, USER, or 0 for a connection without authorization."""
        self.expire()
        return connection.session.role if connection.session else 0

    def http_role(self, token) -> int:
        """ADMIN, USER, or 0 for a token that is no valid HTTP token."""
        self.expire()
        found = isinstance(token, str) and self.sessions.find(HTTP, token, self._now())
        return found.role if found else 0

    def closed(self, connection) -> None:
        """A connection is gone; its token can take its session up again."""
        if connection.session:
            connection.session.connection = None
            connection.session = None

    def expire(self) -> None:
        """End what has expired. To be called now and then."""
        now = self._now()
        for session in list(self.sessions.all):
            if now >= session.expiry:
                self._end(session, EXPIRED)

    def set_plan(self, pro: bool) -> None:
        """The plan is Pro from now on, or no longer."""
        self.pro = pro
        for session in list(self.sessions.all):
            if not pro and (session.role == USER or session.secured and not session.boot):
                self._end(session, NOT_LICENSED)

    def wait(self) -> int:
        """Seconds until a PIN or password is looked at again; 0, or FOREVER."""
        return self.keeper.lockout.wait(self._now())

    # What someone at the board itself may do.

    def set_boot_pin(self, pin: str) -> bool:
        """A PIN that opens the role admin until the reboot, and ends a lock. False: unsuitable."""
        if not _MIN_BOOT_PIN <= len(pin) <= MAX_SECRET or is_token_shaped(pin):
            return False
        self._boot_pin = self._boot_mac(pin.upper().encode())
        self._unlock()
        return True

    def renew_pin(self, role: int):
        """Give a role a new PIN, show it, and end a lock. A generator. Raises OSError."""
        while self.busy:
            yield _WAIT_MS
        self.busy = True
        try:
            yield from self._renew_pin(role)
        finally:
            self.busy = False

    def _renew_pin(self, role: int):
        account = Account()
        yield from account.protect(PIN, new_pin(self.keeper.random), self.keeper.random)
        accounts = dict(self.keeper.accounts)
        accounts[role] = account
        self.keeper.keep(accounts)
        self._unlock()
        self.end_all(role, ADMIN_CHANGED if role == ADMIN else USER_CHANGED_BY_ADMIN)
        self.keeper.show_pin(role)

    def _unlock(self) -> None:
        if self.keeper.lockout.passed():
            self.keeper.keep(self.keeper.accounts)

    # Requests.

    def handle(self, connection, request: dict):
        """Carry out a request. A generator; returns the reply, None for another's method."""
        method = request.get("method")
        handler = self._methods.get(method) if isinstance(method, str) else None
        if not handler:
            return None
        reply = reply_to(request)
        self.expire()
        try:
            yield from handler(connection, request, reply)
        except Refused as error:
            reply["result"] = False
            reply["error"] = error.args[0]
        except Exception as error:
            self.log.error("conn", "{}: {}", method, error)
            self.log.trace(error)
            reply = reply_to(request)
            reply["result"] = False
            if method == "auth":
                reply["resultCode"] = INTERNAL
            else:
                reply["error"] = "internal error"
        return reply

    def _auth(self, connection, request: dict, reply: dict):
        code = yield from self._evaluate(connection, request, reply)
        reply["result"] = code == OK
        reply["resultCode"] = code
        if code == LOCKED:
            wait = self.wait()
            if wait != FOREVER:
                reply["retryAfter"] = max(wait, 1)
        if code:
            self.log.info("conn", "auth refused with code {}", code)

    def _evaluate(self, connection, request: dict, reply: dict):
        if "type" not in request:
            if "credentials" in request or "role" not in request:
                return NO_TYPE
            return self._become_user(connection, request["role"], reply)
        kind = request["type"]
        if kind not in ("secured", "unsecured"):
            return BAD_TYPE
        wanted = None
        if "role" in request:
            wanted = request["role"]
            wanted = ROLES.get(wanted) if isinstance(wanted, str) else None
            if wanted is None:
                return BAD_ROLE
        if kind == "unsecured":
            opened = {}
            for role, account in self.keeper.accounts.items():
                if account.kind == UNSECURED:
                    opened[role] = self.session(role, False, False)
            if not opened:
                return WRONG_SECURITY
            return self._grant(connection, wanted, opened, reply)
        secret = request.get("credentials")
        if secret is None:
            return NO_CREDENTIALS
        if secret == "":
            return EMPTY
        if not isinstance(secret, str) or not fits(secret):
            return WRONG
        if is_token_shaped(secret):
            old = self.sessions.find(API, secret, self._now())
            if not old:
                return WRONG
            return self._grant(connection, wanted, {old.role: old}, reply, old)
        return (yield from self._prove(connection, wanted, secret, reply))

    def _prove(self, connection, wanted, secret: str, reply: dict):
        """A PIN or password is given: the rest of `_evaluate`."""
        keeper = self.keeper
        if not self._boot_pin:
            if not keeper.accounts[ADMIN].kind:
                return WRONG_SECURITY
            if not self.pro:
                return NOT_PRO
        if self.wait():
            return LOCKED
        if not (yield from self.take_turn()):
            return LOCKED
        try:
            # Others may have failed while this one waited for its turn.
            if self.wait():
                return LOCKED
            opened = {}
            for role, account in keeper.accounts.items():
                if account.kind and self.pro and (yield from account.matches(secret)):
                    opened[role] = self.session(role, True, False)
            if self._boot_pin:
                given = self._boot_mac(secret.upper().encode())
                if equal(given, self._boot_pin):
                    opened[ADMIN] = self.session(ADMIN, True, True)
            if not opened:
                if keeper.lockout.failed(self._now()):
                    keeper.keep(keeper.accounts)
                self.log.warning(
                    "conn", "wrong PIN or password, {} in a row", keeper.lockout.failures
                )
                return WRONG
            self._unlock()
            yield from self._strengthen(opened, secret)
        finally:
            self.busy = False
        return self._grant(connection, wanted, opened, reply)

    def take_turn(self):
        """One derivation at a time. A generator; False: too many wait already."""
        if self.busy:
            if self._waiting >= _QUEUE:
                return False
            self._waiting += 1
            try:
                while self.busy:
                    yield _WAIT_MS
            finally:
                self._waiting -= 1
        self.busy = True
        return True

    def best_iterations(self):
        if not self._iterations:
            self._iterations = yield from self._measure()
        return self._iterations

    def _strengthen(self, opened: dict, secret: str):
        """Derive a password anew that was made for a slower board."""
        for role, account in list(self.keeper.accounts.items()):
            if account.kind != PASSWORD or role not in opened or opened[role].boot:
                continue
            best = yield from self.best_iterations()
            # Measurements scatter; the flash shall not be written for that.
            if best * 4 > account.iterations() * 5:
                stronger = Account()
                yield from stronger.protect(PASSWORD, secret, self.keeper.random, best)
                accounts = dict(self.keeper.accounts)
                accounts[role] = stronger
                try:
                    self.keeper.keep(accounts)
                except OSError as error:
                    self.log.warning("conn", "a password stays as it was: {}", error)

    # Sessions.

    def session(self, role: int, secured: bool, boot: bool, lifetime: int = _MONTH_S) -> Session:
        expiry = NEVER if boot else self._now() + lifetime
        return self.sessions.new(role, secured, boot, expiry)

    def _grant(self, connection, wanted, opened: dict, reply: dict, old=None) -> int:
        """Authorize a connection for one of the roles that its proof opened.

        `old` is the session that its token belongs to, for a token. Returns a result code.
        """
        if wanted and wanted not in opened:
            return OTHER_ROLE
        role = wanted or max(opened)
        if role == USER and not self.pro:
            return NOT_PRO
        session = opened[role]
        if old:
            session = self.sessions.new(role, old.secured, old.boot, old.expiry)
            if self._single:
                # The session goes on, so that its tokens hold; a holder loses the HTTP tokens.
                session.sid = old.sid
                session.http = old.http + (old.connection not in (None, connection))
        self.enter(connection, session, reply)
        return OK

    def enter(self, connection, session: Session, reply: dict) -> None:
        """Make `session` that of a connection, and put its tokens into the reply."""
        now = self._now()
        # First what may fail: until here nothing has changed.
        token = self.sessions.token(API, session, now)
        http = self.sessions.token(HTTP, session, now)
        reply["previleges"] = session.role
        reply["token"] = token
        reply["tokenForHttpServer"] = http
        self.closed(connection)
        if self._single:
            self.end_all(session.role, TAKEN)
        elif len(self.sessions.all) >= MOST:
            self._end(self._least_needed(), TAKEN)
        self.sessions.all.append(session)
        session.connection = connection
        connection.session = session
        self.log.info("conn", "a connection is {}", "admin" if session.role == ADMIN else "user")

    def _least_needed(self) -> Session:
        for session in self.sessions.all:
            if not session.connection:
                return session
        return self.sessions.all[0]

    def _end(self, session: Session, cause: int) -> None:
        self.sessions.all.remove(session)
        connection = session.connection
        if connection:
            self.closed(connection)
            self._on_lost(connection, cause)

    def end_all(self, role: int, cause: int) -> None:
        for session in list(self.sessions.all):
            if session.role == role:
                self._end(session, cause)

    def _become_user(self, connection, role, reply: dict) -> int:
        """The status change from administrator to user."""
        if role != "user":
            return BAD_ROLE
        old = connection.session
        if not old or old.role != ADMIN:
            return NOT_ADMIN
        if not self.pro:
            return NOT_PRO
        session = self.sessions.new(USER, old.secured, old.boot, old.expiry)
        self.enter(connection, session, reply)
        if old in self.sessions.all:
            self._end(old, TAKEN)
        return OK

    # The other commands.

    def require(self, connection, role: int) -> None:
        if not connection.session:
            raise Refused("not authorized")
        if connection.session.role < role:
            raise Refused("admin only")

    def _set_auth_params(self, connection, request: dict, reply: dict):
        # Used once in a board's life, so it is in memory only meanwhile.
        from tapauth.conn import params

        try:
            yield from params.change(self, connection, request, reply)
        finally:
            # Unless another connection is about to.
            if not (self.busy or self._waiting):
                unload("tapauth.conn.params")

    def _get_auth_info(self, connection, request: dict, reply: dict):
        self.require(connection, USER)
        for role, name in ((ADMIN, "adminAuth"), (USER, "userAuth")):
            account = self.keeper.accounts[role]
            info = reply[name] = {"security": KINDS[account.kind]}
            if account.pin and connection.session.role == ADMIN:
                info["pin"] = account.pin
        reply["result"] = True
        return
        yield

    def _get_http_token(self, connection, request: dict, reply: dict):
        self.require(connection, USER)
        reply["token"] = self.sessions.token(HTTP, connection.session, self._now())
        reply["result"] = True
        return
        yield

    def _clear_tokens(self, connection, request: dict, reply: dict):
        self.require(connection, ADMIN)
        for session in list(self.sessions.all):
            if session.connection:
                self.sessions.renew(session)
            else:
                self.sessions.all.remove(session)
        reply["result"] = True
        return
        yield

    def _set_version(self, connection, request: dict, reply: dict):
        if request.get("version") not in ("1", "2"):
            raise Refused("versions 1 and 2 are known")
        reply["result"] = True
        return
        yield


def role_name(role: int) -> str:
    """A role in words."""
    return "admin" if role == ADMIN else "user"
