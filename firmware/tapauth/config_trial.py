"""A new configuration is on trial for one start: confirmed, it stays; else the old one returns.

The steps are renames, so a power cut at any moment leaves a configuration that was good:

    config.json      in force
    config.new       being written
    config.prev      the one before, until the next start
    config.try       the one before, while the new one is on trial
"""

from tapauth import small_file
from tapauth.compat import const, forget, sleep_ms
from tapauth.small_file import Flash, drop, is_there, move, write

# This module is used and forgotten, and takes with it what it needs.
forget(small_file)

_TRIAL_MS = const(300_000)  # after the start, for a yes
_LOOK_MS = const(1000)


class ConfigTrial:
    """The configuration file `path` of the board, which ends in ".json"; `fs` is the port to
    flash.
    """

    def __init__(self, path: str = "/config.json", fs=Flash):
        self.path = path
        self._fs = fs
        stem = path[: -len("json")]
        self._new, self._prev, self._try = stem + "new", stem + "prev", stem + "try"

    def begin(self) -> str:
        """To be called at the start, before the configuration is read. Raises OSError.

        Returns "trial" when a new configuration is on trial now, "restored" when the one before
        was restored, "" for an ordinary start.
        """
        restored = self.on
        if restored:
            # The board started with the new one before, and nobody confirmed it.
            move(self._fs, self._try, self.path)
        if not self.pending:
            return "restored" if restored else ""
        if not is_there(self._fs, self.path):
            # Cut between the two renames of apply().
            move(self._fs, self._prev, self.path)
            return "restored"
        move(self._fs, self._prev, self._try)
        return "trial"

    @property
    def on(self) -> bool:
        """Whether the configuration in force is on trial."""
        return is_there(self._fs, self._try)

    @property
    def pending(self) -> bool:
        """Whether a new configuration waits for the next start."""
        return is_there(self._fs, self._prev)

    def read(self) -> str:
        """The text of the configuration file. Raises OSError."""
        with self._fs.open(self.path, "r") as file:
            return file.read()

    def apply(self, text: str) -> None:
        """Put a checked configuration in place, for the next start. Not while one is on trial.

        Raises OSError.
        """
        write(self._fs, self._new, (text.encode(),))
        # Where one waits that was not started yet, the one before it stays the one to return to.
        if not self.pending:
            move(self._fs, self.path, self._prev)
        move(self._fs, self._new, self.path)

    def confirm(self) -> bool:
        """Keep the configuration that is on trial. False: none is. Raises OSError."""
        if not self.on:
            return False
        drop(self._fs, self._try)
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
