"""Addresses of the frames: `//host/path[.component]`, where `//host/path` is an ID.

The ID is what authenticates, the component only routes. IDs are compared in one form: host in
lower case, path percent-decoded.

Text from outside is looked at as bytes: MicroPython keeps every character that an index or a loop
takes out of a string, for ever.
"""

from tapauth.compat import const

_MAX_ADDRESS = const(256)
MAX_ID = const(128)
"""Most bytes of an ID."""

_BACKEND_PATH = "/cloud"


def _in(byte: int, others: bytes) -> bool:
    """Whether a byte is a lower-case letter, a digit or one of `others`."""
    return 97 <= byte <= 122 or 48 <= byte <= 57 or byte in others


def escaped(digits: str) -> int:
    """The byte that two hex digits stand for. Raises ValueError."""
    data = digits.lower().encode()
    # int() alone would take a sign or a blank too.
    if len(data) != 2 or not all(48 <= byte <= 57 or 97 <= byte <= 102 for byte in data):
        raise ValueError("bad percent escape")
    return int(digits, 16)


def unquote(text: str) -> str:
    """Percent-decode. Raises ValueError for a bad escape, a control character or a blank."""
    if "%" in text:
        parts = text.split("%")
        data = parts[0].encode()
        for part in parts[1:]:
            data += bytes((escaped(part[:2]),)) + part[2:].encode()
        text = data.decode()
    before = 0
    for byte in text.encode():
        # C2 80..9F are control characters, ED A0.. halves of a surrogate pair.
        odd = before == 0xC2 and byte < 0xA0 or before == 0xED and byte >= 0xA0
        if byte <= 32 or byte == 127 or odd:
            raise ValueError("character not allowed")
        before = byte
    return text


def quote(text: str) -> str:
    """Percent-encode all but letters, digits and - . _ ~, so that it fits one topic segment."""
    out = bytearray()
    for byte in text.encode():
        lower = byte | 32 if 65 <= byte <= 90 else byte
        if _in(lower, b"-._~"):
            out.append(byte)
        else:
            out.extend(f"%{byte:02X}".encode())
    return out.decode()


def parse(address) -> tuple:
    """(ID, component) of an address; the component is "" when it has none.

    An address without a path names the backend of its host. Raises ValueError.
    """
    if type(address) is not str or not address.startswith("//") or len(address) > _MAX_ADDRESS:
        raise ValueError("not an address")
    slash = address.find("/", 2)
    host = (address[2:] if slash < 0 else address[2:slash]).lower()
    if not host:
        raise ValueError("address without host")
    if not all(_in(byte, b"-.:") for byte in host.encode()):
        raise ValueError("bad host in address")
    if slash < 0:
        return "//" + host + _BACKEND_PATH, ""
    path = address[slash:]
    # A decoded slash would make one ID out of two different addresses.
    if "?" in path or "#" in path or "%2f" in path.lower():
        raise ValueError("bad path in address")
    last = path.rfind("/") + 1
    name = path[last:].split(".")
    if len(name) > 2 or "" in name:
        raise ValueError("bad last segment in address")
    result = "//" + host + unquote(path[:last] + name[0])
    if len(result.encode()) > MAX_ID:
        raise ValueError("address too long")
    return result, unquote(name[1]) if len(name) > 1 else ""


def parse_host(host: str) -> str:
    """The one form of an app's hostname: lower case, no trailing dot, `:port` allowed.

    Raises ValueError.
    """
    name, colon, port = host.lower().partition(":")
    if name.endswith("."):
        name = name[:-1]
    if not 1 <= len(name) <= 253:
        raise ValueError("bad host")
    if not all(_in(byte, b"-.") for byte in name.encode()):
        raise ValueError("bad host")
    for label in name.split("."):
        if not 1 <= len(label) <= 63 or label.startswith("-") or label.endswith("-"):
            raise ValueError("bad host")
    if not colon:
        return name
    if not all(48 <= byte <= 57 for byte in port.encode()):
        raise ValueError("bad port")
    if not 1 <= len(port) <= 5 or not 1 <= int(port) <= 65535:
        raise ValueError("bad port")
    return f"{name}:{int(port)}"
