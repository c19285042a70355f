"""JSON that comes in: the one way from somebody else's bytes to a value.

MicroPython's json alone will not do. It takes commas and colons for blanks, either bracket for
the other, and drops a name without a value: {"payload":{"evse_id":}} came out as {"payload":{}}.
It stops at a NUL, makes two characters that are no characters of one that is escaped as a pair,
and lets bytes pass that are not UTF-8. Each of them ends here as a ValueError, on CPython too.

The check jumps over the strings, so it looks at few of a message's bytes, and copies none.
"""

import binascii

from tapauth.compat import const, read_json

MAX_DEPTH = const(256)
"""Most levels of arrays and objects in each other."""
_MAX_VALUES = const(1024)  # but for texts
_MAX_NUMBER = const(40)  # characters: reading a number takes the square of them
# What is wanted next; a text makes _END of _VALUE, and _COLON of _MEMBER.
_VALUE = const(0)
_MEMBER = const(1)
_END = const(2)  # of what is open, or a comma
_COLON = const(3)
_TEXT = const(2)
_REFUSED = (ValueError, IndexError, RuntimeError)  # the last: too deep


def decode(data: bytes) -> str:
    """The text of UTF-8 bytes. Raises ValueError."""
    text = data.decode()
    if len(text) != len(data):
        # MicroPython has seen to the number of bytes of each character, and to no more.
        for wrong in (b"\xc0", b"\xc1", b"\xf5", b"\xf6", b"\xf7"):
            if wrong in data:
                raise ValueError("not UTF-8")
        # Too long a form, half a surrogate pair, beyond U+10FFFF: the second byte tells.
        for first, low, high in (
            (b"\xe0", 0xA0, 0xBF),
            (b"\xed", 0x80, 0x9F),
            (b"\xf0", 0x90, 0xBF),
            (b"\xf4", 0x80, 0x8F),
        ):
            at = data.find(first)
            while at >= 0:
                if not low <= data[at + 1] <= high:
                    raise ValueError("not UTF-8")
                at = data.find(first, at + 2)
    return text


def _without_escapes(data: bytes) -> tuple:
    """(`data` without surrogate pairs, `data` with a blank for what follows each backslash).

    A character that is escaped as a pair is written out in the first. Raises ValueError, and
    IndexError for a text that ends in an escape.
    """
    parts = []
    plain = bytearray(data)
    done = 0
    at = data.find(b"\\")
    while at >= 0:
        start = at
        kind = data[at + 1]
        if kind == 0x75:  # u
            high = binascii.unhexlify(data[at + 2 : at + 6])
            at += 4
            if high[0] >> 3 == 0x1B:  # D800 to DFFF, of which the first 1024 begin a pair
                low = binascii.unhexlify(data[at + 4 : at + 8])
                if data[at + 2 : at + 4] != b"\\u" or high[0] > 0xDB or low[0] >> 2 != 0x37:
                    raise ValueError("half a surrogate pair")
                at += 6
                code = (high[0] & 3) << 18 | high[1] << 10 | (low[0] & 3) << 8 | low[1]
                parts.append(data[done:start])
                parts.append(chr(0x10000 + code).encode())
                done = at + 2
        elif kind not in b'"\\/bfnrt':
            raise ValueError("a bad escape")
        plain[start + 1] = 0x20
        at = data.find(b"\\", at + 2)
    parts.append(data[done:])
    return b"".join(parts), bytes(plain)


def _is_number(text: bytes) -> bool:
    text, mark, exponent = text.replace(b"E", b"e").partition(b"e")
    if mark and not exponent[exponent[:1] in (b"+", b"-") :].isdigit():
        return False
    whole, mark, fraction = text.partition(b".")
    if mark and not fraction.isdigit():
        return False
    if whole.startswith(b"-"):
        whole = whole[1:]
    return whole.isdigit() and (len(whole) == 1 or not whole.startswith(b"0"))


def _is_value(data: bytes) -> bool:
    """Whether text without escaped quotation marks is one JSON value."""
    ends: list[int] = []  # of what is open
    wanted = _VALUE
    empty = False  # nothing came since the last opening bracket
    values = 0
    at = 0
    size = len(data)
    while at < size:
        mark = data[at]
        at += 1
        if mark == 0x20 or mark == 0x0A or mark == 0x0D or mark == 0x09:
            continue
        if mark == 0x22:  # "
            at = data.find(b'"', at) + 1
            if not at or wanted > _MEMBER:
                return False
            wanted += _TEXT
        elif mark == 0x3A:  # :
            if wanted != _COLON:
                return False
            wanted = _VALUE
        elif mark == 0x2C:  # ,
            if wanted != _END or not ends:
                return False
            wanted = _MEMBER if ends[-1] == 0x7D else _VALUE
        elif mark == 0x5D or mark == 0x7D:  # ] }
            if not (empty or wanted == _END) or not ends or ends.pop() != mark:
                return False
            wanted = _END
        elif wanted != _VALUE or values == _MAX_VALUES:
            return False
        elif mark == 0x5B or mark == 0x7B:  # [ {
            if len(ends) == MAX_DEPTH:
                return False
            ends.append(mark + 2)  # so far behind is what closes it
            wanted = _VALUE if mark == 0x5B else _MEMBER
            values += 1
            empty = True
            continue
        else:
            start = at - 1
            while at < size:
                mark = data[at]
                if mark < 0x2B or mark == 0x2C or mark == 0x5D or mark == 0x7D:  # , ] }
                    break
                at += 1
            if at - start > _MAX_NUMBER:
                return False
            text = data[start:at]
            if text not in (b"true", b"false", b"null") and not _is_number(text):
                return False
            wanted = _END
            values += 1
        empty = False
    return wanted == _END and not ends


def _checked(data: bytes) -> str:
    if b"\0" in data:
        raise ValueError("a NUL")
    plain = data
    if b"\\" in data:
        data, plain = _without_escapes(data)
    if not _is_value(plain):
        raise ValueError("not JSON")
    return decode(data)


def load_or_fail(data):
    """The value of a JSON text in UTF-8, bytes or a string.

    Raises ValueError for what is no JSON or too much: MAX_DEPTH levels, 1024 values beside
    strings, and numbers of 40 characters are taken; MemoryError when there is no memory for it.
    Control characters in strings are taken as they are, but for NUL; of two members with one
    name the last counts.
    """
    try:
        return read_json(_checked(data.encode() if isinstance(data, str) else data))
    except _REFUSED:
        pass
    raise ValueError("not JSON")


def load(data):
    """The same, where it is one whether a text is no JSON or too large: raises ValueError only."""
    try:
        return load_or_fail(data)
    except MemoryError:
        pass
    raise ValueError("no memory")
