"""Authorizations of connections, the tokens that stand for them, and the lockout.

A token is `kind*nonce*expiry*mac`. The MAC is over those and the session that it belongs to, under
a key made at each start: a token needs no memory, dies with its session, and none outlives a
reboot. Times are seconds since the start.

Text is looked at whole or as bytes: MicroPython keeps every character that an index or a loop
takes out of a string, for ever, and a stranger could show a token of ever other ones.

Wrong PINs and passwords in a row are counted once for the whole board: a count for each address
is as easy to dodge as an address is to change. A try counts, and makes the others wait, before
the try is looked at: to cut the power or to go away meanwhile gains nothing.
"""

import binascii

from tapauth.compat import const
from tapauth.crypto.hmac import Hmac, equal

USER = const(1)
ADMIN = const(2)
ROLES = {"admin": ADMIN, "user": USER}

# Why a connection lost its authorization: the cause in the event authorizationNeeded. The document
# that `auth` is from has 6 too, for a plan that was not renewed; here a plan changes at a restart.
TAKEN = const(1)  # by another login
ADMIN_OPENED = const(2)
ADMIN_CHANGED = const(3)
USER_CHANGED_BY_ADMIN = const(4)
USER_CHANGED_BY_USER = const(5)
EXPIRED = const(8)

API = "1"
HTTP = "4"
_HTTP_LIFETIME = const(300)
NEVER = const(999_999_999_999)
"""The expiry of what lasts until the reboot."""

MAX_SECRET = const(128)
"""Most bytes of a PIN, password or token: the work for a longer one would not be bounded."""
MOST = const(8)
"""Sessions at a time, when a role may have several."""
MONTH_S = const(2_592_000)
"""The life of a session, if nothing ends it."""
_NONCE = const(16)
_ALPHANUMERIC = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


FREE = const(5)
"""Failures in a row before the first wait."""
FOREVER = const(-1)
_FIRST_S = const(30)
_LAST_S = const(900)
_CEILING = const(100)


class Refused(Exception):
    """A command is refused; the argument is the text for `error`."""


def role_name(role: int) -> str:
    """A role in words."""
    return "admin" if role == ADMIN else "user"


def is_token_shaped(text: str) -> bool:
    """Whether `text` looks like a token, right or wrong: no password may look so."""
    parts = text.split("*")
    if len(parts) != 4:
        return False
    kind, nonce, expiry, mac = parts
    return (
        _only(kind, "0123456789")
        and len(nonce) == _NONCE
        and _only(nonce, _ALPHANUMERIC.decode())
        and len(expiry) <= 12
        and _only(expiry, "0123456789")
        and len(mac) == 64
        and _only(mac, "0123456789ABCDEF")
    )


def fits(secret: str) -> bool:
    """Whether a secret is text of at most MAX_SECRET bytes."""
    if len(secret) > MAX_SECRET:
        return False
    try:
        return len(secret.encode()) <= MAX_SECRET
    except ValueError:  # halves of characters
        return False


def _only(text: str, characters: str) -> bool:
    return text != "" and not text.strip(characters)


class Session:
    """One authorization: a role until `expiry`, in seconds since the start, and `connection`,
    which has the authorization now, or None.

    `secured` is False for a session that needed no proof, `boot` True for a session that the boot
    PIN opened: that lasts until the restart. `sid` goes into the MAC of the session's tokens, so
    that a new `sid` voids the tokens. Each holder of a token can take the session up again.
    """

    def __init__(self, role: int, secured: bool, boot: bool, expiry: int, sid: bytes):
        self.role = role
        self.secured = secured
        self.boot = boot
        self.expiry = expiry
        self.sid = sid
        self.connection = None
        self.http = 0
        """Raised by one, all HTTP tokens of the session so far are void."""


class Sessions:
    """All sessions. `key` is the secret of this start, `random(n)` gives n random bytes."""

    def __init__(self, key: bytes, random):
        self.all: list[Session] = []
        self._mac = Hmac(key)
        self._random = random

    def new(self, role: int, secured: bool, boot: bool, expiry: int) -> Session:
        """A session that is not among all of them yet."""
        return Session(role, secured=secured, boot=boot, expiry=expiry, sid=self._random(8))

    def renew(self, session: Session) -> None:
        """Void all tokens of a session, which itself goes on."""
        session.sid = self._random(8)

    def _sign(self, kind: str, nonce: str, expiry: str, session: Session) -> bytes:
        which = f"{kind}|{nonce}|{expiry}|{session.role}|{session.http if kind == HTTP else 0}|"
        return self._mac(which.encode(), session.sid)

    def digest(self, secret: bytes) -> bytes:
        """The memory of the boot PIN. No token is signed like this: none has a space."""
        return self._mac(b"boot ", secret)

    def token(self, kind: str, session: Session, now: int) -> str:
        """A new token of `kind`. A token ends with its session, an HTTP token after five minutes
        at the latest; `now` in seconds.
        """
        drawn = bytearray()
        while len(drawn) < _NONCE:
            for byte in self._random(_NONCE):
                # The last eight values would favour some characters.
                if byte < 248 and len(drawn) < _NONCE:
                    drawn.append(_ALPHANUMERIC[byte % 62])
        nonce = drawn.decode()
        expiry = min(session.expiry, now + _HTTP_LIFETIME) if kind == HTTP else session.expiry
        mac = binascii.hexlify(self._sign(kind, nonce, str(expiry), session)).decode().upper()
        return f"{kind}*{nonce}*{expiry}*{mac}"

    def find(self, kind: str, token: str, now: int) -> Session | None:
        """The session of a valid token of this kind, or None; `now` in seconds."""
        if not is_token_shaped(token):
            return None
        own, nonce, expiry, text = token.split("*")
        mac = binascii.unhexlify(text)
        found = None
        for session in self.all:
            if equal(self._sign(own, nonce, expiry, session), mac):
                found = session
        if own != kind or found is None or now >= int(expiry):
            return None
        return found


class Lockout:
    """After FREE wrong tries in a row all must wait, longer each time. `failures` counts the
    tries, `until` is the end of the wait; a board that starts with FREE or more starts locked.
    Times are in seconds since the start.
    """

    def __init__(self, failures: int, now: int):
        self.failures = failures
        self.until = 0
        self._lock(now)

    def _lock(self, now: int) -> None:
        over = self.failures - FREE
        if over >= 0:
            self.until = now + min(_FIRST_S << min(over, 5), _LAST_S)

    def wait(self, now: int) -> int:
        """Seconds until the next try: 0 for none, FOREVER until someone acts at the board."""
        if self.failures >= _CEILING:
            return FOREVER
        return max(0, self.until - now)

    def begin(self, now: int) -> None:
        """Count a try: a PIN or password is wrong until it has turned out right. The count is to
        be kept now.
        """
        self.failures += 1
        self._lock(now)

    def passed(self, forget: bool) -> bool:
        """Take back the try that was right. Returns whether the new count must be kept.

        `forget` the failures before that try too: the secret was admin's, or someone acts at the
        board itself. Otherwise the holder of user's secret could guess at admin's for ever, a few
        times between two logins.
        """
        before = self.failures
        self.failures = 0 if forget else max(0, before - 1)
        self.until = 0
        return before > 0
