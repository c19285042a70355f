"""How a role is protected, as what is kept of it: see kdf.py for the rest."""

from tapauth.compat import const

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
