"""Meets at the start the names that visits bring.

MicroPython keeps every name of loaded code for ever, in a table. A full table is doubled, with a
block of 7 to 16 KB in one piece. In a heap that visits have broken up there may be no such piece:
all code that brings a new name would fail from then on.
"""

import sys

from tapauth.compat import forget


class _PassedOver:
    """Lets a `with` end where there is no memory for what stands in it."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> bool:
        return kind is MemoryError


def _late():
    """Steps: each loads one module that is loaded late, and the modules that one needs. One that
    does not fit is passed over.
    """
    scarce = _PassedOver()
    with scarce:
        import tapauth.local.http
    yield
    with scarce:
        import tapauth.local.upload
    yield
    with scarce:
        import tapauth.local.commands_admin
    yield
    with scarce:
        import tapauth.config_edit
    yield
    with scarce:
        import tapauth.local.serial_console
    yield
    with scarce:
        import tapauth.local.rpc_socket
    yield
    with scarce:
        import tapauth.local.login.login
    yield
    with scarce:
        import tapauth.local.login.params
    yield
    with scarce:
        import tapauth.local.login.accounts
    yield
    with scarce:
        import tapauth.cards.changes_in
    yield
    with scarce:
        import tapauth.cards.list_out
    yield
    with scarce:
        import tapauth.cards.list_in
    yield
    with scarce:
        import tapauth.config_trial
    yield
    with scarce:
        import tapauth.config  # noqa: F401
    yield


def meet():
    """Steps: load and forget the modules that are loaded late, one module a step.

    A module that does not fit keeps none behind it from its turn: a smaller one may fit. A visitor
    who asks for it later is told.
    """
    late = _late()
    while True:
        # Anew for each step: what other tasks have loaded meanwhile is not for us to forget.
        known = list(sys.modules)
        try:
            next(late)
        except StopIteration:
            return
        _forget_all_but(known)
        yield


def _forget_all_but(known: list) -> None:
    new = [name for name in sys.modules if name not in known]
    for name in sorted(new, reverse=True):  # parts before their package
        if name.startswith(("tapauth.", "microdot")):
            forget(sys.modules[name])
