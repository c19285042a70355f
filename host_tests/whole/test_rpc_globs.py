"""The glob matcher against regular expressions, on patterns and texts made to be nasty."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from tapauth.rpc import rule_file, rules

PIECES = st.sampled_from(["a", "b", "/", "?", "*", "**", "a*", "**/", "é"])
PATTERNS = st.lists(PIECES, min_size=1, max_size=12).map("".join)
TEXTS = st.text(alphabet="ab/é", max_size=24)


def as_regex(pattern: str) -> str:
    out = ""
    for piece in re.findall(r"\*+|.", pattern):
        if piece.startswith("*"):
            out += "[^/]*" if piece == "*" else ".*"
        else:
            out += "[^/]" if piece == "?" else re.escape(piece)
    return out


@settings(max_examples=3000, deadline=None)
@given(st.lists(PATTERNS, min_size=1, max_size=3), TEXTS)
def test_matches_what_the_regular_expression_matches(alternatives, text):
    program = rule_file.compile_glob("|".join(alternatives)) if alternatives else b""
    expected = any(re.fullmatch(as_regex(one), text, re.S) for one in alternatives)
    assert rules.Matcher().glob(program, 0, len(program), text.encode()) == expected


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab*?/", min_size=1, max_size=96), st.text(alphabet="ab/", max_size=200))
def test_the_longest_patterns_stay_within_the_bound(pattern, text):
    program = rule_file.compile_glob(pattern)
    matcher = rules.Matcher()
    try:
        matcher.glob(program, 0, len(program), text.encode())
    except rules.RuleError:
        assert matcher.steps < 0
    else:
        assert 0 <= matcher.steps <= rules.MAX_STEPS
