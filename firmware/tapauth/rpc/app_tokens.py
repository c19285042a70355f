"""Tokens given out to apps: derived, so that flash holds nothing that opens anything.

A token is base64url(HMAC-SHA256(key, "tok1" 0 owner 0 host 0 serial)). On flash are owner, host
and the 8 random bytes of the serial; revoking drops the row, a new one has a new serial.
"""

from binascii import b2a_base64

from tapauth.compat import const
from tapauth.crypto.hmac import Hmac, equal

SERIAL = const(8)
"""Bytes of a serial: the value size of the table."""
CAPACITY = const(64)
PER_OWNER = const(16)
_TOKEN = const(43)  # characters of 32 bytes in base64 without its padding


class Tokens:
    """`table` is a records.Table of SERIAL bytes; `random(count)` gives random bytes."""

    def __init__(self, table, mac: Hmac, random):
        self.table = table
        self._mac = mac
        self.random = random

    def _token(self, key: bytes, serial: bytes) -> str:
        digest = self._mac(b"tok1\0", key, b"\0", serial)
        return b2a_base64(digest)[:_TOKEN].decode().replace("+", "-").replace("/", "_")

    def get(self, owner: str, host: str) -> str | None:
        """The token that was generated for this app, or None."""
        key = (owner + "\0" + host).encode()
        serial = self.table.get(key)
        return None if serial is None else self._token(key, serial)

    def generate(self, owner: str, host: str) -> str | None:
        """The token of this app, a new one if there is none; None: no room. Raises OSError."""
        key = (owner + "\0" + host).encode()
        serial = self.table.get(key)
        if serial is None:
            serial = self.random(SERIAL)
            if len(self.hosts(owner)) >= PER_OWNER or not self.table.put(key, serial):
                return None
        return self._token(key, serial)

    def revoke(self, owner: str, host: str) -> None:
        """From now on the app has no token. Raises OSError."""
        self.table.remove((owner + "\0" + host).encode())

    def forget(self, owner: str) -> None:
        """From now on no app has a token of this owner. Raises OSError."""
        prefix = (owner + "\0").encode()
        self.table.drop(lambda key: key.startswith(prefix))

    def keep(self, known) -> None:
        """Forget the tokens of each owner for whom `known(owner)` is None. Raises OSError."""
        self.table.drop(lambda key: known(key.split(b"\0")[0].decode()) is None)

    def hosts(self, owner: str) -> list:
        """The apps that have a token of this owner."""
        return [key.decode() for key in self.table.keys((owner + "\0").encode())]

    def owns(self, owner: str, token: str) -> bool:
        """Whether `token` is one of this owner's."""
        # Through all of them: the time does not tell which it was.
        found = False
        for host in self.hosts(owner):
            found = equal((self.get(owner, host) or "").encode(), token.encode()) or found
        return found
