"""Strings that several modules have, made names, of which a board keeps one copy.

MicroPython keeps a string of up to 10 characters once, as a name; of a longer one every module has
a copy of its own, and so has every dict with it as a key. Unless it is a name already when a
module is loaded: then all share that.
"""

import ast
import keyword
from collections import Counter
from collections.abc import Iterable

INTERNED = 10
"""Up to so many characters, the compiler makes every string a name."""
USERS = 3
"""So many modules make it worth a name: the table of names doubles when it is full."""


def _strings(text: str) -> set[str]:
    return {
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def shared_strings(texts: Iterable[str]) -> list[str]:
    """What at least USERS of the modules hold, and what could be a name."""
    users = Counter(value for text in texts for value in _strings(text))
    return sorted(
        value
        for value, count in users.items()
        if count >= USERS
        and len(value) > INTERNED
        and value.isascii()
        and value.isidentifier()
        and not keyword.iskeyword(value)
    )


def naming(strings: list[str]) -> str:
    """Source that makes names of strings, and leaves nothing else behind."""
    return f"\n\ndef _names():\n    return ({', '.join(strings)},)\n\n\ndel _names\n"
