"""Meets at the start the names that visits bring.

MicroPython keeps every name of loaded code for ever, in a table. A full table is doubled, with a
block of 7 to 16 KB in one piece. In a heap that visits have broken up there may be no such piece:
all code that brings a new name would fail from then on.
"""

import sys

from tapauth.compat import forget


def _late():
    """Steps: each loads one module that is loaded late, and the modules that one needs."""
    import tapauth.local.http

    yield
    import tapauth.local.upload

    yield
    import tapauth.local.commands_admin

    yield
    import tapauth.config_edit

    yield
    import tapauth.local.serial_console

    yield
    import tapauth.local.rpc_socket

    yield
    import tapauth.local.login.login

    yield
    import tapauth.local.login.params

    yield
    import tapauth.local.login.accounts

    yield
    import tapauth.cards.changes_in

    yield
    import tapauth.cards.list_out

    yield
    import tapauth.cards.list_in

    yield
    import tapauth.config_trial

    yield
    import tapauth.config  # noqa: F401

    yield


def meet():
    """Steps: load and forget the modules that are loaded late, one module a step.

    Where a module does not fit the rest is left out: a visitor who asks for one later is told.
    """
    known = list(sys.modules)
    late = _late()
    try:
        while True:
            next(late)
            _forget_all_but(known)
            yield
    except StopIteration:
        pass
    except MemoryError:
        _forget_all_but(known)


def _forget_all_but(known: list) -> None:
    new = [name for name in sys.modules if name not in known]
    for name in sorted(new, reverse=True):  # parts before their package
        if name.startswith(("tapauth.", "microdot")):
            forget(sys.modules[name])
