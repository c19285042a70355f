"""Secrets: PBKDF2-HMAC-SHA256 in small steps, so that taps are served while one is checked.

A secret is kept as `pbkdf2-sha256$iterations$salt$key`, salt and key in hex. A PIN's letters count
without case. Everything here that takes long is a generator: a step is a few milliseconds on a
board.
"""

import binascii

from tapauth.compat import const, ticks_diff, ticks_us
from tapauth.crypto.hmac import Hmac, equal
from tapauth.local.login.kept import PIN, Account

LEAST = const(1000)
"""Iterations for a random PIN, and the least for a password."""
MOST = const(20_000)
_PIN_LENGTH = const(6)
_STEP = const(25)
_TARGET_US = const(500_000)
# 32 symbols, none of which is taken for another: a byte's low bits choose one without bias.
_SYMBOLS = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def derive(secret: bytes, salt: bytes, count: int):
    """Steps: one block of PBKDF2 (RFC 8018) with `count` iterations. Returns 32 bytes."""
    mac = Hmac(secret)
    block = mac(salt, b"\x00\x00\x00\x01")
    total = int.from_bytes(block, "big")
    for done in range(1, count):
        block = mac(block)
        total ^= int.from_bytes(block, "big")
        if done % _STEP == 0:
            yield
    return total.to_bytes(32, "big")


def calibrate(time_us=ticks_us):
    """Steps: measure this board. Returns the iterations that take half a second, LEAST to MOST.

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


def new_pin(random) -> str:
    """A random PIN, of 30 bits."""
    return bytes([_SYMBOLS[byte & 31] for byte in random(_PIN_LENGTH)]).decode()


def _bytes(kind: int, secret: str) -> bytes:
    return (secret.upper() if kind == PIN else secret).encode()


def protect(kind: int, secret: str, random, count: int = LEAST):
    """Steps: derive from a PIN or password with `count` iterations. Returns its Account.

    `random(n)` gives n random bytes.
    """
    salt = random(16)
    key = yield from derive(_bytes(kind, secret), salt, count)
    texts = [binascii.hexlify(part).decode() for part in (salt, key)]
    record = f"pbkdf2-sha256${count}${texts[0]}${texts[1]}"
    return Account(kind, record, secret if kind == PIN else "")


def matches(account: Account, secret: str):
    """Steps: derive again. Returns whether `secret` is the account's PIN or password."""
    _, count, salt, key = account.record.split("$")
    found = yield from derive(_bytes(account.kind, secret), binascii.unhexlify(salt), int(count))
    return equal(found, binascii.unhexlify(key))


def best_iterations(auth):
    """Steps: measure, once for a ConnectionAuth. Returns the iterations that suit the board."""
    if not auth.iterations:
        auth.iterations = yield from (auth.measure or calibrate)()
    return auth.iterations
