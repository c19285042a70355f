"""Meets at the start the names that visits bring.

MicroPython keeps every name of loaded code for ever, in a table. A full table is doubled, with a
block of 7 to 16 KB in one piece. In a heap that visits have broken up there may be no such piece:
all code that brings a new name would fail from then on.
"""

import sys

from tapauth.compat import forget_all_but, late

_LATE = (
    "tapauth.local.http",
    "tapauth.local.upload",
    "tapauth.local.commands_admin",
    "tapauth.config_edit",
    "tapauth.local.serial_console",
    "tapauth.local.rpc_socket",
    "tapauth.local.login.login",
    "tapauth.local.login.params",
    "tapauth.local.login.accounts",
    "tapauth.cards.changes_in",
    "tapauth.cards.list_out",
    "tapauth.cards.list_in",
    "tapauth.config_trial",
    "tapauth.config",
)


def meet():
    """Steps: load and forget the modules that are loaded late, one module a step.

    A module that does not fit is passed over, as a smaller one behind it may fit. A visitor who
    asks for it later is told.
    """
    for name in _LATE:
        # Anew for each step: what other tasks have loaded meanwhile is not for us to forget.
        known = list(sys.modules)
        try:
            with late(name):
                __import__(name)
        except MemoryError:
            pass
        forget_all_but(known)
        yield
