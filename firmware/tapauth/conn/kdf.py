"""PBKDF2-HMAC-SHA256 in small steps, so that taps are served while a password is checked.

Everything here that takes long is a generator: a step is a few milliseconds on a board.
"""

from tapauth.compat import const, ticks_diff, ticks_us
from tapauth.mac import Mac

LEAST = const(1000)
"""Iterations for a random PIN, and the least for a password."""
MOST = const(20_000)
_STEP = const(25)
_TARGET_US = const(500_000)


def derive(secret: bytes, salt: bytes, count: int):
    """One block of PBKDF2 (RFC 8018) with `count` iterations. Returns 32 bytes."""
    mac = Mac(secret)
    block = mac(salt, b"\x00\x00\x00\x01")
    total = int.from_bytes(block, "big")
    for done in range(1, count):
        block = mac(block)
        total ^= int.from_bytes(block, "big")
        if done % _STEP == 0:
            yield
    return total.to_bytes(32, "big")


def calibrate(time_us=ticks_us):
    """How many iterations take this board half a second, LEAST to MOST.

    `time_us` reads a counter of microseconds as compat.ticks_us does.
    """
    spent = 0
    for _ in range(4):
        started = time_us()
        for _ in derive(b"", b"", _STEP):
            pass
        spent += ticks_diff(time_us(), started)
        yield
    return max(LEAST, min(MOST, _TARGET_US * 4 * _STEP // max(spent, 1)))
