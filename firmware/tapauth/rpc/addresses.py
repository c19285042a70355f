"""Addresses of the frames: `//host/path[.component]`, where `//host/path` is an ID.

The ID is what authenticates, the component only routes. IDs are compared in one form: host in
lower case, path percent-decoded.
"""

from tapauth.compat import const

_MAX_ADDRESS = const(256)
MAX_ID = const(128)
"""Most bytes of an ID."""

_UNRESERVED = "-._~"
_BACKEND_PATH = "/cloud"


def _lower_alnum(char: str) -> bool:
    return "a" <= char <= "z" or "0" <= char <= "9"


def escaped(digits: str) -> int:
    """The byte that two hex digits stand for. Raises ValueError."""
    # int() alone would take a sign or a blank too.
    if len(digits) != 2 or not all(char in "0123456789abcdef" for char in digits.lower()):
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
    for char in text:
        if char <= " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff":
            raise ValueError("character not allowed")
    return text


def quote(text: str) -> str:
    """Percent-encode all but letters, digits and - . _ ~, so that it fits one topic segment."""
    out = ""
    for byte in text.encode():
        char = chr(byte)
        out += char if _lower_alnum(char.lower()) or char in _UNRESERVED else f"%{byte:02X}"
    return out


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
    for char in host:
        if not (_lower_alnum(char) or char in "-.:"):
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
    for label in name.split("."):
        if not 1 <= len(label) <= 63 or label[0] == "-" or label[-1] == "-":
            raise ValueError("bad host")
        for char in label:
            if not (_lower_alnum(char) or char == "-"):
                raise ValueError("bad host")
    if not colon:
        return name
    for char in port:
        if not "0" <= char <= "9":
            raise ValueError("bad port")
    if not 1 <= len(port) <= 5 or not 1 <= int(port) <= 65535:
        raise ValueError("bad port")
    return f"{name}:{int(port)}"
