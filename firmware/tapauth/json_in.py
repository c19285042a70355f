"""JSON that comes in: the one way from somebody else's bytes to a value.

MicroPython's json alone will not do. It takes commas and colons for blanks, either bracket for
the other, and drops a name without a value: {"payload":{"evse_id":}} came out as {"payload":{}}.
It stops at a NUL, makes two characters that are no characters of one that is escaped as a pair,
and lets bytes pass that are not UTF-8. Each of them ends here as a ValueError, on CPython too.

So bytes go through these checks, and only then to the platform's json:

1. no NUL anywhere;
2. escapes, where there are any: each is one of JSON's, and a pair of surrogates is whole. The pair
   is then written out as the character that it stands for;
3. the structure, by _is_value(): a machine that goes over everything but the insides of strings.
   What it wants next is a value, the name of a member, a colon, or an end (a comma or what closes
   the innermost bracket); the brackets that are open are a stack of what closes them;
4. the bytes are UTF-8.

_is_value() looks for the next quotation mark to jump over a string, so it looks at few of a
message's bytes, and copies none. For that it gets the text with a blank in place of whatever
follows a backslash: every quotation mark that is left begins or ends a string.

The limits are there for the board's sake: depth for the platform's recursion, values for its heap,
digits for its time. Strings count for nothing but their bytes, which the link bounds already.
Where RFC 8259 and practice differ, this is lenient in two things: control characters in strings
are taken, and of two members with one name the last counts.
"""

import binascii

from tapauth.compat import const, read_json

MAX_DEPTH = const(256)
"""Most levels of arrays and objects in each other."""
_MAX_VALUES = const(1024)  # but for texts
_MAX_NUMBER = const(40)  # characters: reading a number takes the square of them
# The next thing wanted. A text turns _VALUE into _END, and _MEMBER into _COLON.
_VALUE = const(0)
_MEMBER = const(1)
_END = const(2)  # of what is open, or a comma
_COLON = const(3)
_TEXT = const(2)  # the difference
# Characters.
_TAB = const(0x09)
_LINE_FEED = const(0x0A)
_RETURN = const(0x0D)
_BLANK = const(0x20)
_QUOTE = const(0x22)
_PLUS = const(0x2B)  # the first one that a number, true, false or null can have
_COMMA = const(0x2C)
_COLON_MARK = const(0x3A)
_OPEN_LIST = const(0x5B)
_LETTER_U = const(0x75)
_OPEN_OBJECT = const(0x7B)
_CLOSE_OBJECT = const(0x7D)
_OBJECT = const(0x20)  # the bit that makes an object's bracket of a list's
_TO_CLOSE = const(2)  # so far behind a bracket is what closes it
# Surrogates: D800 to DBFF begin a pair, DC00 to DFFF end it; so the top bits of the first byte.
_SURROGATE = const(0x1B)  # its top five
_LAST_HIGH = const(0xDB)
_LOW = const(0x37)  # its top six
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
        if kind == _LETTER_U:
            high = binascii.unhexlify(data[at + 2 : at + 6])
            at += 4
            if high[0] >> 3 == _SURROGATE:
                low = binascii.unhexlify(data[at + 4 : at + 8])
                is_pair = high[0] <= _LAST_HIGH and low[0] >> 2 == _LOW
                if data[at + 2 : at + 4] != b"\\u" or not is_pair:
                    raise ValueError("half a surrogate pair")
                at += 6
                # Ten bits of each.
                code = (high[0] & 3) << 18 | high[1] << 10 | (low[0] & 3) << 8 | low[1]
                parts.append(data[done:start])
                parts.append(chr(0x10000 + code).encode())
                done = at + 2
        elif kind not in b'"\\/bfnrt':
            raise ValueError("a bad escape")
        # Also of a pair, whose digits are harmless: only a quotation mark would mislead.
        plain[start + 1] = _BLANK
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
        if mark <= _BLANK and mark in (_BLANK, _LINE_FEED, _RETURN, _TAB):
            continue
        if mark == _QUOTE:
            at = data.find(b'"', at) + 1
            if not at or wanted > _MEMBER:
                return False
            wanted += _TEXT
        elif mark == _COLON_MARK:
            if wanted != _COLON:
                return False
            wanted = _VALUE
        elif mark == _COMMA:
            if wanted != _END or not ends:
                return False
            wanted = _MEMBER if ends[-1] == _CLOSE_OBJECT else _VALUE
        elif mark | _OBJECT == _CLOSE_OBJECT:
            # `empty` allows [] and {}. It ends with a comma too: [1,] wants a value.
            if not (empty or wanted == _END) or not ends or ends.pop() != mark:
                return False
            wanted = _END
        elif wanted != _VALUE or values == _MAX_VALUES:
            return False
        elif mark | _OBJECT == _OPEN_OBJECT:
            if len(ends) == MAX_DEPTH:
                return False
            ends.append(mark + _TO_CLOSE)
            wanted = _VALUE if mark == _OPEN_LIST else _MEMBER
            values += 1
            empty = True
            continue
        else:
            start = at - 1
            while at < size:
                mark = data[at]
                if mark < _PLUS or mark == _COMMA or mark | _OBJECT == _CLOSE_OBJECT:
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
