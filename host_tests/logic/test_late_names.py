"""The names of code that comes late are met at the start, one module a step."""

import builtins
import sys

from tapauth.compat import forget
from tapauth.local import names

HEAVY = "tapauth.local.upload"
BEHIND = "tapauth.config_edit"
ANOTHER = "tapauth.ntp"


def unload(*modules):
    """Whichever test has loaded them: off their package too, which else gives them out again."""
    for name in modules:
        if name in sys.modules:
            forget(sys.modules[name])


def test_only_what_is_met_is_forgotten():
    unload(ANOTHER, BEHIND)
    steps = names.meet()
    next(steps)
    # Another task loads a module of its own between two steps.
    from tapauth import ntp

    for _ in steps:
        pass
    assert sys.modules.get(ANOTHER) is ntp
    assert BEHIND not in sys.modules


def test_a_module_that_does_not_fit_keeps_no_other_from_being_met():
    unload(HEAVY, BEHIND)
    asked = []
    ordinary = builtins.__import__

    def scarce(name, *arguments):
        asked.append(name)
        if name == HEAVY:
            raise MemoryError
        return ordinary(name, *arguments)

    builtins.__import__ = scarce
    try:
        for _ in names.meet():
            pass
    finally:
        builtins.__import__ = ordinary
    assert HEAVY in asked and BEHIND in asked
    assert "tapauth.config" in asked
    assert HEAVY not in sys.modules and BEHIND not in sys.modules
