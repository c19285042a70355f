"""A new configuration is on trial for one start: confirmed, it stays; else the old one returns.

The steps are renames, so a power cut at any moment leaves a configuration that was good:

    config.json      in force
    config.new       being written
    config.prev      the one before, until the next start
    config.try       the one before, while the new one is on trial
"""

import os

from tapauth.compat import const, sleep_ms

_TRIAL_MS = const(300_000)  # after the start, for a yes
_LOOK_MS = const(1000)


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True


class ConfigTrial:
    """The configuration file `path` of the board, which ends in ".json"."""

    def __init__(self, path: str = "/config.json"):
        self.path = path
        self.fs = os
        stem = path[: -len("json")]
        self._new, self._prev, self._try = stem + "new", stem + "prev", stem + "try"

    def begin(self) -> str:
        """To be called at the start, before the configuration is read. Raises OSError.

        Returns "trial" when a new configuration is on trial now, "restored" when the one before
        was restored, "" for an ordinary start.
        """
        restored = _exists(self._try)
        if restored:
            # The board started with the new one before, and nobody confirmed it.
            self.fs.rename(self._try, self.path)
        if not _exists(self._prev):
            return "restored" if restored else ""
        if not _exists(self.path):
            # Cut between the two renames of apply().
            self.fs.rename(self._prev, self.path)
            return "restored"
        self.fs.rename(self._prev, self._try)
        return "trial"

    @property
    def on(self) -> bool:
        """Whether the configuration in force is on trial."""
        return _exists(self._try)

    @property
    def pending(self) -> bool:
        """Whether a new configuration waits for the next start."""
        return _exists(self._prev)

    def read(self) -> str:
        """The text of the configuration file. Raises OSError."""
        with open(self.path) as file:
            return file.read()

    def apply(self, text: str) -> None:
        """Put a checked configuration in place, for the next start. Not while one is on trial.

        Raises OSError.
        """
        with open(self._new, "w") as file:
            file.write(text)
        if self.pending:
            # Not started yet: the one before stays the one to return to.
            self.fs.rename(self._new, self.path)
            return
        self.fs.rename(self.path, self._prev)
        self.fs.rename(self._new, self.path)

    def confirm(self) -> bool:
        """Keep the configuration that is on trial. False: none is. Raises OSError."""
        if not self.on:
            return False
        self.fs.remove(self._try)
        return True

    async def watch(self, reset, busy, beat) -> None:
        """Call `reset()` when nobody has confirmed in time, and nothing charges (`busy()`).

        A task, for ever, from begin() on.
        """
        left = _TRIAL_MS
        while True:
            beat()
            await sleep_ms(_LOOK_MS)
            if left > 0:
                left -= _LOOK_MS
            if left == 0 and self.on and not busy():
                left = -1  # once
                reset()
