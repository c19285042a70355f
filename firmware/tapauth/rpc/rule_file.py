"""Compiles a rule file for rules.py.

A rule file is a JSON array of {"src": glob, "dst": glob, "cmd": glob, "allow": bool}; a glob left
out matches anything. In a glob `?` is one character but `/`, `*` a run without `/`, `**` any run;
`|` and `,` separate alternatives, `$` may end one, `%2A` is a literal `*`. Case counts.
"""

from tapauth.compat import const
from tapauth.json_in import load
from tapauth.rpc.addresses import escaped
from tapauth.rpc.rules import ANY, NEXT, ONE, OR, RUN, RuleError

MAX_RULES = const(64)
MAX_PATTERN = const(96)
"""Most characters of a glob."""
MAX_FILE = const(8192)
"""Most bytes of a rule file."""

_LAST_UTF8 = const(0xF4)
# A greater length would be a separator; what is longer matches as well behind the literal start.
_MAX_START = const(250)
_EVERYTHING = b"\x00\xff"
_NAMES = ("src", "dst", "cmd")


def _alternative(text: str) -> bytes:
    if text.endswith("$"):
        text = text[:-1]  # a glob matches up to the end anyway
    if not text:
        raise ValueError("empty alternative")
    out = bytearray()
    literal = -1
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        code = 0
        if char == "*":
            code = RUN
            while text[at : at + 1] == "*":
                at += 1
                code = ANY
        elif char == "?":
            code = ONE
        elif char == "$":
            raise ValueError("$ is allowed at the end only")
        elif char <= " ":
            raise ValueError("blank or control character")
        elif char == "%":
            byte = escaped(text[at : at + 2])
            # Greater ones are opcodes, and in no text.
            if byte > _LAST_UTF8:
                raise ValueError("bad percent escape")
            out.append(byte)
            at += 2
        else:
            out.extend(char.encode())
        if code:
            if literal < 0:
                literal = len(out)
            out.append(code)
    start = min(len(out) if literal < 0 else literal, _MAX_START)
    return bytes((start,)) + bytes(out)


def _check_id(text: str) -> None:
    """Refuse a glob for IDs that could never match: a deny rule would be silently void."""
    if text.startswith("//"):
        # As far as it is literal.
        host = text[2:].split("/")[0].split("*")[0]
        if host != host.lower():
            raise ValueError("a host is in lower case")
        if host == text[2:]:
            raise ValueError("an ID has a path: //host/path")
    last = text.rfind("/")
    if last > 1 and "." in text[last:]:
        raise ValueError("an ID has no component; a literal dot is %2E")


def compile_glob(pattern, is_id: bool = False) -> bytes:
    """A glob as the matcher takes it. Raises ValueError."""
    if type(pattern) is not str or not 1 <= len(pattern) <= MAX_PATTERN:
        raise ValueError("must be text of 1 to 96 characters")
    parts = []
    for text in pattern.replace(",", "|").split("|"):
        if is_id:
            _check_id(text)
        parts.append(_alternative(text))
    return OR.join(parts)


def compile_rules(text) -> list:
    """The rules of a file (text or bytes), compiled. Raises RuleError for the first bad one."""
    if len(text) > MAX_FILE:
        raise RuleError("longer than 8192 bytes")
    # Not raised from inside an except: MicroPython prints a warning for each `from`.
    rules = None
    try:
        rules = load(text)
    except ValueError:
        pass
    if type(rules) is not list or len(rules) > MAX_RULES:
        raise RuleError("not a JSON array of at most 64 rules")
    compiled: list[bytes] = []
    for rule in rules:
        error = _compile_rule(rule, compiled)
        if error:
            raise RuleError(f"rule {len(compiled) + 1}: {error}")
    return compiled


def _compile_rule(rule, compiled: list) -> str | None:
    """Append one rule compiled. Returns what is wrong with it, or None."""
    if type(rule) is not dict:
        return "must be an object"
    for name in rule:
        if name not in _NAMES and name != "allow":
            return "has an unknown member"
    if type(rule.get("allow")) is not bool:
        return "allow must be true or false"
    globs = []
    for name in _NAMES:
        try:
            is_id = name != "cmd"
            # Commands are no IDs: theirs may have a dot.
            globs.append(compile_glob(rule[name], is_id) if name in rule else _EVERYTHING)
        except ValueError as error:
            return f"{name}: {error}"
    compiled.append(bytes((rule["allow"],)) + NEXT.join(globs))
    return None
