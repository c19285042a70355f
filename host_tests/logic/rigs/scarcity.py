"""A heap that has no room for modules that come late."""

import builtins
import sys

from tapauth.compat import forget


class without_memory_for:
    """A context in which none of the modules can be loaded; "" stands for all of the firmware's.

    `asked` holds the names of those that were wanted.
    """

    def __init__(self, *names):
        self._names = names
        self.asked: list = []

    def __enter__(self):
        for name in self._names:
            if name in sys.modules:
                forget(sys.modules[name])  # another test may have left it there
        self._import = builtins.__import__
        builtins.__import__ = self._scarce
        return self

    def __exit__(self, *error):
        builtins.__import__ = self._import

    def _scarce(self, name, *arguments):
        # `from package import module` asks for the package, and names the module beside it; but
        # MicroPython asks for the module itself then.
        wanted = [name]
        if len(arguments) > 2 and isinstance(arguments[2], (tuple, list)):
            wanted += [name + "." + one for one in arguments[2]]
        for one in wanted:
            refused = one in self._names or "" in self._names and one.startswith("tapauth.")
            if refused and one not in sys.modules:
                self.asked.append(one)
                raise MemoryError
        return self._import(name, *arguments)
