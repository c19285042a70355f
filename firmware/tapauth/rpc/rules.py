"""The rules of AuthorizeCommand: the first that matches decides, no match denies.

A rule file is a JSON array of {"src": glob, "dst": glob, "cmd": glob, "allow": bool}; a glob left
out matches anything. In a glob `?` is one character but `/`, `*` a run without `/`, `**` any run;
`|` and `,` separate alternatives, `$` may end one, `%2A` is a literal `*`. Case counts.

A rule is compiled to bytes: 1 or 0 for allow, and three globs between separators. An alternative
of a glob is the length of its literal start, that start, and the rest with opcodes. The opcodes
are bytes that UTF-8 has no use for.
"""

import json

from tapauth.compat import const
from tapauth.rpc.addresses import escaped
from tapauth.rpc.records import FRESH, LOST

MAX_RULES = const(64)
MAX_PATTERN = const(96)
"""Most characters of a glob."""
MAX_FILE = const(8192)
"""Most bytes of a rule file."""
MAX_STEPS = const(10_000)
"""Most steps of matching for one decision."""

_ANY = const(0xFF)
_RUN = const(0xFE)
_ONE = const(0xFD)
_OR = b"\xfc"
_NEXT = b"\xfb"
_LAST_UTF8 = const(0xF4)
_SLASH = const(0x2F)
_EVERYTHING = b"\x00\xff"

_NAMES = ("src", "dst", "cmd")


class RuleError(Exception):
    """The rules are refused, or cannot decide; the text names the rule and what is wrong."""


def _alternative(text: str) -> bytes:
    if text.endswith("$"):
        text = text[:-1]
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
            code = _RUN
            while text[at : at + 1] == "*":
                at += 1
                code = _ANY
        elif char == "?":
            code = _ONE
        elif char == "$":
            raise ValueError("$ is allowed at the end only")
        elif char <= " ":
            raise ValueError("blank or control character")
        elif char == "%":
            byte = escaped(text[at : at + 2])
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
    return bytes((len(out) if literal < 0 else literal,)) + bytes(out)


def _check_id(text: str) -> None:
    """Refuse a glob for IDs that could never match: a deny rule would be silently void."""
    if text.startswith("//"):
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
    return _OR.join(parts)


def compile_rules(text) -> list:
    """The rules of a file (text or bytes), compiled. Raises RuleError for the first bad one."""
    if len(text) > MAX_FILE:
        raise RuleError("longer than 8192 bytes")
    rules = None
    try:
        rules = json.loads(text)
    except (ValueError, RuntimeError, MemoryError):
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
            globs.append(compile_glob(rule[name], is_id) if name in rule else _EVERYTHING)
        except ValueError as error:
            return f"{name}: {error}"
    compiled.append(bytes((rule["allow"],)) + _NEXT.join(globs))
    return None


class Matcher:
    """Matches with a limit on the steps of all its calls together."""

    def __init__(self, steps: int = MAX_STEPS):
        self.steps = steps

    def glob(self, program: bytes, at: int, end: int, subject: bytes) -> bool:
        """Whether `program[at:end]` matches all of `subject`. Raises RuleError at the limit."""
        while True:
            stop = program.find(_OR, at, end)
            if self._alternative(program, at, end if stop < 0 else stop, subject):
                return True
            if stop < 0:
                return False
            at = stop + 1

    def _alternative(self, program: bytes, at: int, end: int, subject: bytes) -> bool:
        place = program[at]
        at += 1
        if not subject.startswith(program[at : at + place]):
            return False
        at += place
        # After a mismatch the last `*` takes one more, and when it can not, the last `**` does.
        # Earlier ones need no second try: what they took was the least they could take, which
        # leaves the most to those behind them.
        run = run_place = deep = deep_place = -1
        size = len(subject)
        while True:
            self.steps -= 1
            if self.steps < 0:
                raise RuleError("the rules take too many steps")
            if at < end:
                code = program[at]
                if code == _ANY:
                    at += 1
                    if at == end:
                        return True
                    deep, deep_place, run = at, place, -1
                    continue
                if code == _RUN:
                    at += 1
                    run, run_place = at, place
                    continue
                if place < size:
                    byte = subject[place]
                    if code == byte or code == _ONE and byte != _SLASH:
                        at += 1
                        place += 1
                        if code == _ONE:
                            while place < size and subject[place] & 0xC0 == 0x80:
                                place += 1
                        continue
            elif place == size:
                return True
            if run >= 0 and run_place < size and subject[run_place] != _SLASH:
                run_place += 1
                at, place = run, run_place
            elif deep >= 0 and deep_place < size:
                deep_place += 1
                at, place, run = deep, deep_place, -1
            else:
                return False


def matches(rule: bytes, subjects: tuple, matcher: Matcher) -> bool:
    """Whether a compiled rule matches (src, dst, cmd), as bytes. Raises RuleError at the limit."""
    at = 1
    for subject in subjects:
        end = rule.find(_NEXT, at)
        if end < 0:
            end = len(rule)
        if not matcher.glob(rule, at, end, subject):
            return False
        at = end + 1
    return True


def decide(rules: list, src: str, dst: str, cmd: str) -> tuple:
    """(allowed, index of the rule that decided or -1). Raises RuleError at the limit of steps."""
    matcher = Matcher()
    subjects = (src.encode(), dst.encode(), cmd.encode())
    for index, rule in enumerate(rules):
        if matches(rule, subjects, matcher):
            return rule[0] == 1, index
    return False, -1


class Rules:
    """The rules in force, and on flash (`file`, a records.RecordFile) the last good ones."""

    def __init__(self, file):
        self._file = file
        self._rules: list | None = file.load()
        if file.state in (FRESH, LOST):
            self._rules = None

    def load(self, text) -> None:
        """Put a rule file in force, or none of it. Raises RuleError, and OSError of the flash."""
        compiled = compile_rules(text)
        if compiled != self._rules:
            self._rules = compiled
            self._file.save(compiled)

    def clear(self) -> None:
        """There is no rule file: everything is denied. Raises OSError."""
        self.load("[]")

    def allows(self, src: str, dst: str, cmd: str) -> bool:
        """Whether `src` may send `cmd` to `dst`. Raises RuleError when there are no rules."""
        if self._rules is None:
            raise RuleError("no usable rules")
        return decide(self._rules, src, dst, cmd)[0]
