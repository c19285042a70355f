"""The file about the users of the local interface: both accounts, the failures in a row, and a
seed for the next start's random numbers. accounts.py makes a Keeper at the start.
"""

import binascii
import json

from tapauth.compat import const
from tapauth.crypto.hmac import Hmac
from tapauth.local.login.sessions import ADMIN, USER
from tapauth.small_file import CRC, Flash, read, replace, sealed

UNSECURED = const(0)
PIN = const(1)
PASSWORD = const(2)
_MOST = const(2048)  # bytes that are read of the file
KINDS = ("unsecured", "pin", "password")


class Account:
    """The protection of one role. `kind` is UNSECURED, PIN or PASSWORD, `record` what
    kdf.protect() made of the secret, `pin` the PIN in clear as long as that is known, or "".
    """

    def __init__(self, kind: int = UNSECURED, record: str = "", pin: str = ""):
        self.kind = kind
        self.record = record
        self.pin = pin

    def iterations(self) -> int:
        """Iterations that the secret was derived with. Raises ValueError, IndexError."""
        return int(self.record.split("$")[1])


class Random:
    """Random bytes, mixed from `source(n)` and a key, for boards whose source may be weak."""

    def __init__(self, key: bytes, source):
        self._mac = Hmac(key)
        self._source = source
        self._count = 0

    def __call__(self, count: int) -> bytes:
        """`count` random bytes."""
        data = b""
        while len(data) < count:
            self._count += 1
            data += self._mac(self._count.to_bytes(4, "big"), self._source(32))
        return data[:count]


class Keeper:
    """`file` is the port to flash (StateFile), `key` the secret of this start, `seed`
    what the next start's secrets are made of, `random(n)` gives random bytes, `accounts` has an
    Account for each role, `show(text)` writes to the serial console and nowhere else.
    """

    def __init__(self, file, key, seed, random, accounts, lockout, pin_recoverable: bool, show):
        self.key = key
        self.seed = seed
        self.random = random
        self.accounts = accounts
        self.lockout = lockout
        self._file = file
        self._pin_recoverable = pin_recoverable
        self._show = show

    def show_pin(self, role: int) -> None:
        """Show the PIN of a role to the person at the board."""
        self._show(f"{'admin' if role == ADMIN else 'user'} PIN: {self.accounts[role].pin}")

    def keep(self, accounts: dict) -> None:
        """Make `accounts` and the count of failures durable, then use them. Raises OSError."""
        kept: dict = {"seed": binascii.hexlify(self.seed).decode()}
        kept["failures"] = self.lockout.failures
        for role, name in ((ADMIN, "admin"), (USER, "user")):
            account = accounts[role]
            pin = account.pin if self._pin_recoverable else ""
            kept[name] = [account.kind, account.record, pin]
        self._file.save(json.dumps(kept).encode())
        self.accounts = accounts


class StateFile:
    """The bytes that outlive a reboot, with a checksum behind them, in the file `path`. `fs` is
    the port to flash.
    """

    def __init__(self, path: str, fs=Flash):
        self._path = path
        self._fs = fs

    def load(self) -> bytes | None:
        """The bytes that were saved last; None for nothing yet, b"" for a damaged file."""
        return read(self._fs, self._path, _unsealed, b"")

    def save(self, data: bytes) -> None:
        """Keep `data`, at most 2000 bytes. Raises OSError, MemoryError."""
        replace(self._fs, self._path, sealed((data,)))


def _unsealed(file) -> bytes:
    data = file.read(_MOST)
    body = data[:-CRC]
    whole = body and int.from_bytes(data[-CRC:], "little") == binascii.crc32(body)
    return body if whole else b""
