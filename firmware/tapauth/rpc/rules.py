"""The rules of AuthorizeCommand: the first that matches decides, no match denies.

A rule is bytes (rule_file.py makes them): 1 or 0 for allow, and three globs with NEXT between. An
alternative of a glob is the length of its literal start, that start, and the rest with opcodes;
OR is between alternatives. Opcodes and separators are bytes that UTF-8 has no use for.
"""

from tapauth.compat import const, forget
from tapauth.rpc.records import FRESH, LOST

MAX_STEPS = const(10_000)
"""Most steps of matching for one decision."""

ANY = const(0xFF)
"""Opcode: any run of characters."""
RUN = const(0xFE)
"""Opcode: a run of characters but `/`."""
ONE = const(0xFD)
"""Opcode: one character but `/`."""
OR = b"\xfc"
NEXT = b"\xfb"
_SLASH = const(0x2F)


class RuleError(Exception):
    """The rules are refused, or cannot decide; the text names the rule and what is wrong."""


class Matcher:
    """Matches with a limit on the steps of all its calls together."""

    def __init__(self, steps: int = MAX_STEPS):
        self.steps = steps

    def glob(self, program: bytes, at: int, end: int, subject: bytes) -> bool:
        """Whether `program[at:end]` matches all of `subject`. Raises RuleError at the limit."""
        while True:
            stop = program.find(OR, at, end)
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
                if code == ANY:
                    at += 1
                    if at == end:
                        return True
                    deep, deep_place, run = at, place, -1
                    continue
                if code == RUN:
                    at += 1
                    run, run_place = at, place
                    continue
                if place < size:
                    byte = subject[place]
                    if code == byte or code == ONE and byte != _SLASH:
                        at += 1
                        place += 1
                        if code == ONE:
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
        end = rule.find(NEXT, at)
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
    """The rules in force, and on flash (`file`, a records.RecordFile) the last good ones.

    `problem` says that the rule file is lost, and what to do; else it is "".
    """

    def __init__(self, file):
        self._file = file
        self._rules: list | None = file.load()
        self.problem = ""
        if file.state in (FRESH, LOST):
            self._rules = None

    def load(self, text) -> None:
        """Put a rule file in force, or none of it. Raises RuleError, and OSError of the flash."""
        # Needed once, and large.
        from tapauth.rpc import rule_file

        try:
            compiled = rule_file.compile_rules(text)
        finally:
            forget(rule_file)
        if compiled != self._rules:
            self._rules = compiled
            self._file.save(compiled)

    def clear(self) -> None:
        """There is no rule file: everything is denied. Raises OSError."""
        self.load("[]")

    def missing(self) -> bool:
        """There is no rule file. True: there were rules, so it is lost and nothing is decided."""
        lost = bool(self._rules) or self._file.state == LOST
        if lost:
            self._rules = None
            self.problem = "rules.json is lost: put it back, or one with [] for no rules"
        else:
            self.load("[]")
        return lost

    def allows(self, src: str, dst: str, cmd: str) -> bool:
        """Whether `src` may send `cmd` to `dst`. Raises RuleError when there are no rules."""
        if self._rules is None:
            raise RuleError(self.problem or "no usable rules")
        return decide(self._rules, src, dst, cmd)[0]
