"""How a role is protected: its PIN or password, as what is kept of it.

Kept is `pbkdf2-sha256$iterations$salt$key` in hex. A PIN's letters count without case.
"""

import binascii

from tapauth.compat import const
from tapauth.conn.kdf import LEAST, derive
from tapauth.mac import equal

UNSECURED = const(0)
PIN = const(1)
PASSWORD = const(2)
KINDS = ("unsecured", "pin", "password")

PIN_LENGTH = const(6)
MAX_SECRET = const(128)
"""Most bytes of a PIN, password or token: the work for a longer one would not be bounded."""
# 32 symbols, none of which is taken for another: a byte's low bits choose one without bias.
_SYMBOLS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def new_pin(random) -> str:
    """A random PIN, of 30 bits."""
    return "".join([_SYMBOLS[byte & 31] for byte in random(PIN_LENGTH)])


class Account:
    """The protection of one role. `pin` is its PIN in clear as long as that is known, or ""."""

    def __init__(self, kind: int = UNSECURED, record: str = "", pin: str = ""):
        self.kind = kind
        self.record = record
        self.pin = pin

    def protect(self, kind: int, secret: str, random, count: int = LEAST):
        """Take a new secret. A generator: `count` iterations of the derivation."""
        salt = random(16)
        key = yield from derive(self._bytes(kind, secret), salt, count)
        texts = [binascii.hexlify(part).decode() for part in (salt, key)]
        self.record = f"pbkdf2-sha256${count}${texts[0]}${texts[1]}"
        self.kind = kind
        self.pin = secret if kind == PIN else ""

    @staticmethod
    def _bytes(kind: int, secret: str) -> bytes:
        return (secret.upper() if kind == PIN else secret).encode()

    def iterations(self) -> int:
        """Iterations that its secret was derived with."""
        return int(self.record.split("$")[1])

    def matches(self, secret: str):
        """Whether `secret` is the PIN or password. A generator."""
        _, count, salt, key = self.record.split("$")
        found = yield from derive(
            self._bytes(self.kind, secret), binascii.unhexlify(salt), int(count)
        )
        return equal(found, binascii.unhexlify(key))


def fits(secret: str) -> bool:
    """Whether a secret is text of at most MAX_SECRET bytes."""
    if len(secret) > MAX_SECRET:
        return False
    try:
        return len(secret.encode()) <= MAX_SECRET
    except ValueError:  # halves of characters
        return False
