"""Checks the arguments of a command; what is checked comes from definitions.checks()."""

from tapauth.compat import const

ANYONE = const(0)
"""Who may use a command: any authenticated caller."""
OWNER = const(1)
"""Any authenticated caller, for what is its own; or the backend only, as configured."""
BACKEND = const(2)
"""The backend only."""


def check(command: tuple, args) -> str | None:
    """Why `args` do not fit, or None. Unknown arguments are ignored.

    `command` is (who, names of the required ones, ((name, JSON type, members), ...)), where a
    member is the name of a text in an object.
    """
    if type(args) is not dict:
        return "args must be an object"
    _, required, known = command
    for name in required:
        # An empty text counts as missing.
        if args.get(name) in (None, ""):
            return name + " is missing"
    for name, kind, members in known:
        if name not in args:
            continue
        value = args[name]
        if type(value) is not (dict if kind == "object" else str):
            return f"{name} must be of type {kind}"
        for member in members:
            if member in value and type(value[member]) is not str:
                return f"{member} must be of type string"
    return None
