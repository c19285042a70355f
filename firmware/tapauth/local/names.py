"""Meets at the start the names that visits bring.

MicroPython keeps every name of the code that it loads for ever, in a table that it doubles when it
is full, with a block of 7 to 16 KB in one piece. In a heap that visits have broken up there may be
no such piece: whatever brings the next name would fail from then on.
"""

import sys

from tapauth.compat import unload

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
    "tapauth.cards.list_out",
    "tapauth.cards.list_in",
    "tapauth.config_trial",
    "tapauth.config",
)


def meet():
    """Load and forget what is loaded late, one module a step. A generator.

    What does not fit is passed over: whoever asks for it later is told.
    """
    for name in _LATE:
        known = list(sys.modules)
        try:
            __import__(name)
        except MemoryError:
            pass
        for module in sorted(sys.modules, reverse=True):  # parts before their package
            if module.startswith(("tapauth.", "microdot")) and module not in known:
                unload(module)
        yield
