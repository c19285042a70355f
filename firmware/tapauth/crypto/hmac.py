"""HMAC-SHA256, and the comparison of secrets in constant time."""

from hashlib import sha256

_INNER = int.from_bytes(b"\x36" * 64, "big")
_OUTER = int.from_bytes(b"\x5c" * 64, "big")


class Hmac:
    """HMAC-SHA256 (RFC 2104) with one key; a call gives the 32 bytes for some parts in a row."""

    def __init__(self, key: bytes):
        if len(key) > 64:
            key = sha256(key).digest()
        number = int.from_bytes(key + bytes(64 - len(key)), "big")
        # The pads are made once: they cost more than the hashing.
        self._inner = (number ^ _INNER).to_bytes(64, "big")
        self._outer = (number ^ _OUTER).to_bytes(64, "big")

    def __call__(self, *parts: bytes) -> bytes:
        inner = sha256(self._inner)
        for part in parts:
            inner.update(part)
        outer = sha256(self._outer)
        outer.update(inner.digest())
        return outer.digest()


def equal(one: bytes, other: bytes) -> bool:
    """Whether two byte strings are equal, in a time that depends on their length only."""
    if len(one) != len(other):
        return False
    difference = 0
    for at in range(len(one)):
        difference |= one[at] ^ other[at]
    return difference == 0
