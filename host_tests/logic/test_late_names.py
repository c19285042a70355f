"""The names of code that comes late are met at the start, one module a step."""

import sys

from scarcity import without_memory_for

from tapauth.compat import forget, late
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
    unload(BEHIND)
    failures = late.failures
    with without_memory_for(HEAVY, "tapauth.config") as scarce:
        for _ in names.meet():
            pass
    assert scarce.asked == [HEAVY, "tapauth.config"]
    assert late.failures == failures + 2 and late.missing == "tapauth.config"
    assert HEAVY not in sys.modules and BEHIND not in sys.modules


def test_an_import_that_fails_leaves_nothing_that_it_brought_along():
    unload(HEAVY, BEHIND)
    known = list(sys.modules)
    failures = late.failures
    try:
        with late("config_edit"):
            from tapauth import config_edit

            assert config_edit.__name__ in sys.modules
            raise MemoryError
    except MemoryError:
        pass
    assert (late.failures, late.missing) == (failures + 1, "config_edit")
    assert [name for name in sys.modules if name.startswith("tapauth") and name not in known] == []
    # Another error is no want of memory; and a module that was there stays.
    from tapauth import config_edit

    try:
        with late("config_edit"):
            raise ValueError
    except ValueError:
        pass
    assert late.failures == failures + 1 and sys.modules[BEHIND] is config_edit
    forget(config_edit)
