"""What is in a .mpy file: https://docs.micropython.org/en/latest/reference/mpyfiles.html"""

from collections.abc import Iterator

_TUPLE = 10
_FIRST_WITH_TEXT = 5
_FIRST_WITHOUT_NUL = 7


def number(data: bytes, at: int) -> tuple[int, int]:
    """A number of MicroPython's variable length, the highest bits first, and where it ends."""
    value = 0
    while True:
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            return value, at


def _constant_end(mpy: bytes, at: int) -> int:
    kind = mpy[at]
    at += 1
    if kind < _FIRST_WITH_TEXT:
        return at
    size, at = number(mpy, at)
    if kind != _TUPLE:
        return at + size + (kind < _FIRST_WITHOUT_NUL)
    for _ in range(size):
        at = _constant_end(mpy, at)
    return at


def bytecode(mpy: bytes) -> Iterator[tuple[int, int]]:
    """(position, length) of each bytecode of a file, the module's own first, and each before
    those of the functions in it.
    """
    assert mpy[:3] == b"M\x06\x00", "bytecode of version 6, and no native code"
    names, at = number(mpy, 4)
    constants, at = number(mpy, at)
    for _ in range(names):
        size, at = number(mpy, at)
        at += 0 if size & 1 else (size >> 1) + 1
    for _ in range(constants):
        at = _constant_end(mpy, at)
    to_come = 1
    while to_come:
        kind, at = number(mpy, at)
        assert kind & 3 == 0, "bytecode"
        yield at, kind >> 3
        at += kind >> 3
        nested = 0
        if kind & 4:
            nested, at = number(mpy, at)
        to_come += nested - 1
    assert at == len(mpy)
