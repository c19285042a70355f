"""Authorizes the connections of the local interface: the command `auth` and its kin.

Theory of operation. A connection has a session or none; the session has a role and an end, and
tokens stand for it. A session is in one of these states:

    made   session(): it does not count yet, none of its tokens opens anything
    held   seat(): it is in `sessions.all`, and a connection has it
    loose  closed(): its connection is gone; its tokens hold, and any connection may show one
    ended  end(): it is off `sessions.all`, all its tokens are void, its connection is told why

A request is a generator of steps: it yields the milliseconds for which the caller may sleep, so
taps are served while a PIN or password is derived from, which takes half a second. Other requests
run between its steps, so all that was checked before a step is checked again after it.

Order of the checks, so that every situation has one answer and nobody learns more than they may:
first expire(), then the form of the request, then a token, then the lock, then a PIN or password,
and the role at last. login.py has them one by one.

The lock (sessions.Lockout) counts wrong tries for the whole board. A try is kept on flash as a
wrong one before it is looked at. in_turn() lets one request derive at a time; two may wait, more
are refused, so that a flood of guesses costs neither memory nor the answer to the first.

In a conflict:

* A lock wins over a right PIN or password; a token wins over the lock, and so does somebody at
  the board itself, whom no queue keeps out.
* The newest login wins: with single_session it ends all others of its role; else, of MOST
  sessions, one makes room (seat). A refused request leaves the connection as it was.
* Flash wins over memory: a change counts when it is kept. All that may fail is done before that
  (promise); the rest (seat, end) goes on also when telling or logging fails.
* A new secret wins over all who came in with the old one, except the connection that set it.

Here is what every request needs; login.py, params.py and kdf.py are in memory while one runs.
"""

from tapauth.compat import SYSTEM_ERRORS, const, forget, late
from tapauth.local.login.sessions import (
    API,
    EXPIRED,
    HTTP,
    MAX_SECRET,
    MONTH_S,
    MOST,
    NEVER,
    TAKEN,
    Refused,
    Session,
    Sessions,
    is_token_shaped,
    role_name,
)

_INTERNAL = const(1)
_METHODS = (
    "auth",
    "setAuthParams",
    "getAuthInfo",
    "getTokenForHttpServer",
    "clearTokens",
    "setUsedApiVersion",
)
_MIN_BOOT_PIN = const(6)
_QUEUE = const(2)
_WAIT_MS = const(50)


def reply_to(request: dict) -> dict:
    """The beginning of every reply: the method and the request's id, as text.

    Nothing else that a stranger sends is given back: its nesting alone could be too deep to write
    down. Both are cut, as a reply needs memory.
    """
    method = request.get("method")
    number = request.get("requestId", "")
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        number = str(number)
    elif not isinstance(number, str):
        number = ""
    text = method[:64] if isinstance(method, str) else ""
    return {"method": text, "requestId": number[:64]}


def nobody_is_told(connection, cause: int) -> None:
    """Tell nobody: this is `on_lost` as long as there are no connections."""


class ConnectionAuth:
    """`settings` is the checked "server" object of the configuration, `keeper` a kept.Keeper,
    `clock.now()` gives milliseconds, `measure()` is a generator that returns the number of
    iterations that suits the board, None for kdf.calibrate. The owner of the connections sets
    `on_lost(connection, cause)`, which tells a connection to authorize itself again.

    A connection is any object with an attribute `session`, None at first; closed() parts the two.
    """

    def __init__(self, settings: dict, keeper, clock, log, measure=None):
        self.pro = settings["plan_pro"]
        self.single = settings["single_session"]
        self.keeper = keeper
        self._clock = clock
        self.log = log
        self.on_lost = nobody_is_told
        self.measure = measure
        self.sessions = Sessions(keeper.key, keeper.random)
        self.boot_pin: bytes | None = None
        self._deriving = False
        self._waiting = 0
        self.iterations = 0
        self._running = 0
        self._late: list = []  # modules that are forgotten when nothing of theirs runs

    def now(self) -> int:
        """Seconds since the start."""
        return self._clock.now() // 1000

    # For the server.

    def role(self, connection) -> int:
        """ADMIN, USER, or 0 for a connection without authorization."""
        self.expire()  # not only at the next tick: an expired session opens nothing
        return connection.session.role if connection.session else 0

    def http_role(self, token) -> int:
        """ADMIN, USER, or 0 for a token that is no valid HTTP token."""
        self.expire()
        found = isinstance(token, str) and self.sessions.find(HTTP, token, self.now())
        return found.role if found else 0

    def closed(self, connection) -> None:
        """Part a connection and its session; a token can take the session up again."""
        if connection.session:
            connection.session.connection = None
            connection.session = None

    def expire(self) -> None:
        """End the sessions that have expired. To be called now and then."""
        now = self.now()
        for session in list(self.sessions.all):
            if now >= session.expiry:
                self.end(session, EXPIRED)

    def wait(self) -> int:
        """Seconds until a PIN or password is looked at again; 0, or FOREVER."""
        return self.keeper.lockout.wait(self.now())

    # For someone at the board itself.

    def set_boot_pin(self, pin: str) -> bool:
        """Let a PIN open the role admin until the reboot, and end a lock. False: the PIN is
        unsuitable. Raises OSError.
        """
        if not _MIN_BOOT_PIN <= len(pin) <= MAX_SECRET or is_token_shaped(pin):
            return False
        # Only a digest, under the key of this start: a look at the memory opens no other board.
        self.boot_pin = self.sessions.digest(pin.upper().encode())
        self.unlock()
        return True

    def renew_pin(self, role: int):
        """Steps: give a role a new PIN, show it, and end a lock. Raises OSError, Refused."""
        with late("params"):
            from tapauth.local.login import kdf, params

        yield from self._with((params, kdf), params.renew_pin(self, role))

    def unlock(self, forget: bool = True) -> None:
        """End a lock, and `forget` the failures in a row: see Lockout.passed(). Raises OSError."""
        if self.keeper.lockout.passed(forget):
            self.keeper.keep(self.keeper.accounts)

    # Requests.

    def handle(self, connection, request: dict):
        """Steps: carry out a request. Returns the reply, None for a method that is not here."""
        method = request.get("method")
        if method not in _METHODS:
            return None
        reply = reply_to(request)
        self.expire()
        try:
            with late("login"):
                from tapauth.local.login import kdf

                if method == "auth":
                    from tapauth.local.login import login as room
                else:
                    from tapauth.local.login import params as room  # type: ignore

            yield from self._with((room, kdf), room.handle(self, connection, request, reply))
        except Refused as error:
            reply["result"] = False
            reply["error"] = error.args[0]
        except Exception as error:
            self.log.error("conn", "{}: {}", method, error)
            self.log.trace(error)
            # A new reply: the old one may have a token or a PIN in it already.
            reply = reply_to(request)
            reply["result"] = False
            if method == "auth":
                reply["resultCode"] = _INTERNAL
            else:
                reply["error"] = "internal error"
        return reply

    def _with(self, modules: tuple, steps):
        """Steps: those of a generator of `modules`, which are forgotten when nothing runs."""
        for module in modules:
            if module not in self._late:
                self._late.append(module)
        # A count, as another request may need the same modules when this one ends.
        self._running += 1
        try:
            yield from steps
        finally:
            self._running -= 1
            while self._late and not self._running:
                forget(self._late.pop())

    def in_turn(self, steps, patient: bool = False):
        """Steps: those of a generator that derives, once no other one does; returns its value.

        Raises Refused when too many wait already, unless it is `patient`: it waits beside them.
        """
        if self._deriving and self._waiting >= _QUEUE and not patient:
            raise Refused("busy")
        place = 0 if patient else 1
        # Both `finally` matter: a connection that goes closes its generator at any step.
        self._waiting += place
        try:
            while self._deriving:
                yield _WAIT_MS
        finally:
            self._waiting -= place
        self._deriving = True
        try:
            return (yield from steps)
        finally:
            self._deriving = False

    # Sessions.

    def session(self, role: int, secured: bool, boot: bool, lifetime: int = MONTH_S) -> Session:
        """A session for `lifetime` seconds, or until the restart; it does not count yet."""
        expiry = NEVER if boot else self.now() + lifetime
        return self.sessions.new(role, secured, boot, expiry)

    def enter(self, connection, session: Session, reply: dict) -> None:
        """Make `session` that of a connection, and put its tokens into the reply."""
        self.promise(session, reply)
        self.seat(connection, session)

    def promise(self, session: Session, reply: dict) -> None:
        """Put the tokens of a session into the reply: all of entering that may fail."""
        now = self.now()
        reply["token"] = self.sessions.token(API, session, now)
        reply["tokenForHttpServer"] = self.sessions.token(HTTP, session, now)
        reply["previleges"] = session.role  # spelt so in the document that `auth` is from

    def seat(self, connection, session: Session) -> None:
        """Make a session that of a connection, instead of its own and in another's place."""
        # The connection's former session ends if it has the same role, or if a place is needed.
        # Else it is left loose, so that its token can lead back to it.
        full = not self.single and len(self.sessions.all) >= MOST
        old = connection.session
        ended = old if old and (full or old.role == session.role) else None
        if full and not ended:
            ended = self._least_needed(session.role)
        # Before anything ends: a session that its connection leaves by itself was not lost.
        self.closed(connection)
        if self.single:
            self.end_all(session.role, TAKEN)
        elif ended:
            self.end(ended, TAKEN)
        self.sessions.all.append(session)
        session.connection = connection
        connection.session = session
        self.note("a connection is {}", role_name(session.role))

    def note(self, text: str, *arguments) -> None:
        """Log a thing that is done; want of memory for the log does not undo the thing."""
        try:
            self.log.info("conn", text, *arguments)
        except SYSTEM_ERRORS:
            pass

    def _least_needed(self, role: int) -> Session:
        """The session that makes room for a newcomer: the oldest loose one, else the oldest; none
        of an admin for a user, as long as there is a user's.
        """
        rivals = [one for one in self.sessions.all if one.role <= role] or self.sessions.all
        for session in rivals:
            if not session.connection:
                return session
        return rivals[0]

    # Ending needs no memory: the new secret is in force already, and nobody may stay inside.

    def end(self, session: Session, cause: int) -> None:
        """End a session; a connection that has it is told the cause."""
        self.sessions.all.remove(session)
        connection = session.connection
        if connection:
            self.closed(connection)
            try:
                self.on_lost(connection, cause)
            except SYSTEM_ERRORS:
                pass  # a connection that could not be told finds out at the next request

    def end_all(self, role: int, cause: int) -> None:
        """End all sessions of a role."""
        every = self.sessions.all
        at = len(every)
        # From the end, as each goes off the list; and no copy of it, which might not be had.
        while at:
            at -= 1
            if every[at].role == role:
                self.end(every[at], cause)

    def require(self, connection, role: int) -> None:
        """Refuse a connection that has not at least this role. Raises Refused."""
        if not connection.session:
            raise Refused("not authorized")
        if connection.session.role < role:
            raise Refused("admin only")
