"""What the board keeps about who may use its local interface: both accounts, the failures in a
row, and a seed for the next start's random numbers.
"""

import binascii
import json

from tapauth.compat import unload
from tapauth.conn.account import PIN, Account
from tapauth.conn.lockout import FREE, Lockout
from tapauth.conn.sessions import ADMIN, USER
from tapauth.mac import Mac


class Random:
    """Random bytes, mixed from `source(n)` and a key, for boards whose source may be weak."""

    def __init__(self, key: bytes, source):
        self._mac = Mac(key)
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
    """`file` is the port to flash (state_file.StateFile), `source(n)` gives random bytes,
    `unique` is the board's own id, `show(text)` writes to the serial console and nowhere else.

    Read what was kept, then run open() to its end before anything else.
    """

    def __init__(self, file, source, unique: bytes, pin_recoverable: bool, show, log):
        self._file = file
        self._show = show
        self._log = log
        self._pin_recoverable = pin_recoverable
        self.accounts = {ADMIN: Account(), USER: Account()}
        self._failures = 0
        seed = b""
        self._fresh = True
        data = file.load()
        if data is not None:
            try:
                seed = self._read(json.loads(data.decode()))
                self._fresh = False
            except (ValueError, LookupError, TypeError, AttributeError):
                log.error("conn", "the kept PINs and passwords are damaged: there are new PINs")
                # Whoever can damage the file must not get more tries by it.
                self._failures = FREE
        mac = Mac(seed)
        fresh = source(32)
        self.key = mac(b"key", fresh, unique)
        """The secret of this start."""
        self._seed = mac(b"seed", fresh, unique)
        self.random = Random(mac(b"random", fresh, unique), source)
        self.lockout = Lockout(self._failures, 0)

    def _read(self, kept: dict) -> bytes:
        accounts = {}
        for role, name in ((ADMIN, "admin"), (USER, "user")):
            kind, record, pin = kept[name]
            account = accounts[role] = Account(kind, record, pin)
            if kind:
                account.iterations()
        failures = kept["failures"] + 0
        seed = binascii.unhexlify(kept["seed"])
        self.accounts, self._failures = accounts, failures
        return seed

    def open(self, now: int):
        """Make PINs for a board that has none yet, and show them. A generator.

        `now` in seconds; a board that was locked is locked anew from now. Raises OSError.
        """
        self.lockout = Lockout(self._failures, now)
        if self._fresh:
            from tapauth.conn import kdf

            unload("tapauth.conn.kdf")
            accounts = {}
            for role in (ADMIN, USER):
                pin = kdf.new_pin(self.random)
                accounts[role] = yield from kdf.protect(PIN, pin, self.random)
            self.keep(accounts)
            self._fresh = False
            for role in (ADMIN, USER):
                self.show_pin(role)
        else:
            self.keep(self.accounts)

    def show_pin(self, role: int) -> None:
        """Tell who is at the board the PIN of a role."""
        self._show(f"{'admin' if role == ADMIN else 'user'} PIN: {self.accounts[role].pin}")

    def keep(self, accounts: dict) -> None:
        """Make `accounts` and the count of failures durable, then use them. Raises OSError."""
        kept: dict = {"seed": binascii.hexlify(self._seed).decode()}
        kept["failures"] = self.lockout.failures if self.lockout.failures >= FREE else 0
        for role, name in ((ADMIN, "admin"), (USER, "user")):
            account = accounts[role]
            pin = account.pin if self._pin_recoverable else ""
            kept[name] = [account.kind, account.record, pin]
        self._file.save(json.dumps(kept).encode())
        self.accounts = accounts
