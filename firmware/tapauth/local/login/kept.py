"""What the board keeps about who may use its local interface: both accounts, the failures in a
row, and a seed for the next start's random numbers. opening.py makes a Keeper at the start.
"""

import binascii
import json
import os
import struct

from tapauth.compat import const
from tapauth.crypto.hmac import Hmac
from tapauth.local.login.sessions import ADMIN, USER

UNSECURED = const(0)
PIN = const(1)
PASSWORD = const(2)
KINDS = ("unsecured", "pin", "password")


class Account:
    """The protection of one role. `record` is what kdf.protect() made of its secret, `pin` its
    PIN in clear as long as that is known, or "".
    """

    def __init__(self, kind: int = UNSECURED, record: str = "", pin: str = ""):
        self.kind = kind
        self.record = record
        self.pin = pin

    def iterations(self) -> int:
        """Iterations that its secret was derived with."""
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
        """Tell who is at the board the PIN of a role."""
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
    """What outlives a reboot: JSON with a checksum behind it, in the file `path`, replaced
    whole by a new one: a power cut leaves the old or the new."""

    def __init__(self, path: str):
        self._path = path

    def load(self) -> bytes | None:
        """What was saved last; None for nothing yet, b"" when it is damaged."""
        try:
            with open(self._path, "rb") as file:
                data = file.read(2048)
        except OSError as error:
            return None if error.args[0] == 2 else b""  # ENOENT
        body = data[:-4]
        if len(data) > 4 and struct.unpack("<I", data[-4:])[0] == binascii.crc32(body):
            return body
        return b""

    def save(self, data: bytes) -> None:
        """Keep `data`, at most 2000 bytes. Raises OSError."""
        new = self._path + ".new"
        with open(new, "wb") as file:
            file.write(data + struct.pack("<I", binascii.crc32(data)))
        try:
            os.rename(new, self._path)
        except OSError:
            # What says that it failed may have done it, and would come true at the next start.
            if self._is_there(new):
                raise

    @staticmethod
    def _is_there(path: str) -> bool:
        try:
            open(path, "rb").close()
        except OSError as error:
            return error.args[0] != 2  # ENOENT
        return True
