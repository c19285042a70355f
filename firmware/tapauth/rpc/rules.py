"""The rules of AuthorizeCommand: the first that matches decides, no match denies.

Compiled by rule_file.py, which is needed only while a rule file is taken; here they are matched.
A rule is bytes: 1 or 0 for allow, and three globs with NEXT between, for source, destination and
command. A glob is alternatives with OR between. An alternative is the length of its literal start,
that start, and the rest, with opcodes for what is not literal. Opcodes and separators are bytes
that UTF-8 has no use for, so a byte means the same wherever it stands; only the length could be
taken for one, so rule_file.py keeps it below them.

The matcher goes through the subject once and holds two places to return to: behind the last `*`
and behind the last `**`. On a mismatch the nearer one takes one more character: a `*` as long as
that is no slash, then the `**`, which a slash does not stop, and which makes the `*` behind it
begin anew. Earlier ones are never tried again: they have taken the least that they could, which
leaves the most to what is behind them, so no longer run of theirs could match where this did not.
That is what keeps a glob with ten stars from taking exponential time. It may still take the
product of both lengths, so that a decision has a limit of steps over all rules and globs.

The rules in force:

    the file was taken         its rules; they are on flash too, as the last good ones
    the file is bad            the last good ones
    there is no file, and
      there never were rules   none: everything is denied
      there were rules         nothing is decided: the file is lost, and a deny rule with it
    the last good ones are damaged, and there is no good file: nothing is decided

Where nothing is decided, or the limit is reached, allows() raises RuleError: whoever asked must
not take that for a no that somebody wrote down.
"""

from tapauth.compat import const
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
"""Stands between the alternatives of a glob."""
NEXT = b"\xfb"
"""Stands between the globs of a rule."""
_SLASH = const(0x2F)
_ALLOW = const(0)  # where a rule says whether it allows
_GLOBS = const(1)  # where its globs begin


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
        # The literal start costs no steps: it decides most rules.
        place = program[at]
        at += 1
        if not subject.startswith(program[at : at + place]):
            return False
        at += place
        # Where the last `*` and `**` are in the program, and how far they have got in the subject.
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
                        return True  # the rest is its
                    # The `*` before it has had its say.
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
                            # One character, not one byte of UTF-8.
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
    at = _GLOBS
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
    matcher = Matcher()  # one for all: the limit is that of the decision
    subjects = (src.encode(), dst.encode(), cmd.encode())
    for index, rule in enumerate(rules):
        if matches(rule, subjects, matcher):
            return rule[_ALLOW] == 1, index
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

    def put(self, compiled: list) -> None:
        """Put in force what rule_file.compile_rules() made. Raises OSError of the flash."""
        if compiled != self._rules:
            self._rules = compiled
            self._file.save(compiled)

    def need_a_file(self) -> bool:
        """Whether there must be a rule file: there were rules, or nobody can tell."""
        return bool(self._rules) or self._file.state == LOST

    def lose(self) -> None:
        """The rule file is lost: nothing is decided until there is one again."""
        self._rules = None
        self.problem = "rules.json is lost: put it back, or one with [] for no rules"

    def allows(self, src: str, dst: str, cmd: str) -> bool:
        """Whether `src` may send `cmd` to `dst`. Raises RuleError when there are no rules."""
        if self._rules is None:
            raise RuleError(self.problem or "no usable rules")
        return decide(self._rules, src, dst, cmd)[0]
