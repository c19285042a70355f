"""The credentials of each ID: keys as HMAC, certificates as SHA-256, nothing to read back."""

from binascii import a2b_base64
from hashlib import sha256

from tapauth.compat import const
from tapauth.crypto.hmac import Hmac, equal

DIGESTS = const(64)
"""Bytes of the two digests of a device: the value size of the table."""
CAPACITY = const(64)
MAX_PSK = const(128)

_DIGEST = const(32)  # bytes of a digest: first that of the key, then that of the certificate
_SEQUENCE = b"\x30"  # DER's first byte of a certificate

_NONE = bytes(_DIGEST)  # no such credential: nothing has this digest


def fingerprint(cert: str) -> bytes:
    """SHA-256 of a certificate (PEM, or its base64 alone). Raises ValueError."""
    lines = [line for line in cert.split("\n") if not line.startswith("-")]
    der = a2b_base64("".join(lines))
    if not der.startswith(_SEQUENCE):
        raise ValueError("bad certificate")
    return sha256(der).digest()


class Credentials:
    """The devices in `table` (a records.Table of DIGESTS bytes), and the backend beside it."""

    def __init__(self, table, mac: Hmac, backend: str, backend_key: str):
        self.table = table
        self._mac = mac
        self._backend = backend
        self._backend_value = (
            self._digest(backend, backend_key) + _NONE if backend_key else _NONE + _NONE
        )

    def _digest(self, name: str, psk: str) -> bytes:
        return self._mac(b"psk1\0", name.encode(), b"\0", psk.encode())

    def current(self, name: str) -> bytes | None:
        """What is known of an ID: its digests, or None. Another value: other credentials."""
        value = self.table.get(name.encode())
        return self._backend_value if name == self._backend else value

    def verify(self, name: str, psk: str | None, cert: str | None = None) -> bool:
        """Whether all that is given belongs to this ID; takes as long for an unknown one."""
        value = self.current(name)
        known = value is not None
        if value is None:
            # Anything of the same size will do, as long as it is compared.
            value = self._backend_value
        right = True
        if psk is not None:
            right = equal(self._digest(name, psk), value[:_DIGEST])
        if cert is not None:
            try:
                mark = fingerprint(cert)
            except ValueError:
                mark = b""
            right = equal(mark, value[_DIGEST:]) and right
        return known and right and (psk is not None or cert is not None)

    def digests(self, name: str, psk: str | None, cert: str | None) -> bytes:
        """What is kept of a device's credentials. Raises ValueError."""
        if psk and len(psk.encode()) > MAX_PSK:
            raise ValueError("psk too long")
        return (self._digest(name, psk) if psk else _NONE) + (fingerprint(cert) if cert else _NONE)

    def put(self, name: str, value: bytes) -> bool:
        """Set a device's digests(). False: no room. Raises OSError."""
        return self.table.put(name.encode(), value)

    def remove(self, name: str) -> None:
        """Forget a device. Raises OSError."""
        self.table.remove(name.encode())
