"""The first PIN or password of a board's local interface, as the firmware itself would keep it.

The board keeps a PBKDF2 record with a salt (local/login/kdf.py), never the secret.
"""

import json
import os
import tempfile
from pathlib import Path

from tapauth.local.login.auth import _MIN_BOOT_PIN as MIN_PIN
from tapauth.local.login.kdf import new_pin, protect
from tapauth.local.login.kept import PASSWORD, PIN, StateFile
from tapauth.local.login.params import _MIN_PASSWORD as MIN_PASSWORD
from tapauth.local.login.sessions import MAX_SECRET, fits, is_token_shaped

STATE = "conn"
"""Where the firmware keeps it, in the root of the board's flash (local/interface.py)."""


def kind_of(secret: str) -> int:
    """PIN or PASSWORD. Raises ValueError, in words, for what the firmware would not take."""
    if len(secret) < MIN_PIN:
        raise ValueError(f"a PIN has {MIN_PIN} characters or more")
    if not fits(secret) or is_token_shaped(secret):
        raise ValueError(f"it must have {MAX_SECRET} bytes at most, and not look like a token")
    if len(secret) >= MIN_PASSWORD:
        return PASSWORD
    if not secret.isascii() or not secret.isalnum():
        raise ValueError(
            f"a PIN is made of letters and digits; a password has {MIN_PASSWORD} characters"
        )
    return PIN


def _kept(kind: int, secret: str) -> list:
    """What the firmware's keeper writes for a role (firmware/tapauth/local/login/kept.py)."""
    steps = protect(kind, secret, os.urandom)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return [kind, end.value.record, ""]


def state_with(secret: str) -> bytes:
    """The state file of a board whose admin has this PIN or password.

    The role user gets a random PIN that nobody knows: it is closed until admin gives it another.
    The board derives a password anew at its first login, with as many iterations as it can bear.
    Raises ValueError.
    """
    kept: dict = {"seed": os.urandom(32).hex(), "failures": 0}
    kept["admin"] = _kept(kind_of(secret), secret)
    kept["user"] = _kept(PIN, new_pin(os.urandom))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / STATE
        StateFile(str(path)).save(json.dumps(kept).encode())
        return path.read_bytes()
