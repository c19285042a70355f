"""How often a wrong PIN or password may be given in a row: then all must wait, longer each time.

One count for the whole board: a count for each address is as easy to dodge as an address is to
change. Times are seconds of a monotonic clock.
"""

from tapauth.compat import const

FREE = const(5)
"""Failures in a row before the first wait; from here on the count outlives a reboot."""
_FIRST_S = const(30)
_LAST_S = const(900)
_CEILING = const(100)

FOREVER = const(-1)


class Lockout:
    """`failures` in a row; a board that starts with FREE or more starts locked, `until` a time."""

    def __init__(self, failures: int, now: int):
        self.failures = failures
        self.until = 0
        self._lock(now)

    def _lock(self, now: int) -> None:
        over = self.failures - FREE
        if over >= 0:
            self.until = now + min(_FIRST_S << min(over, 5), _LAST_S)

    def wait(self, now: int) -> int:
        """Seconds until the next try: 0 for none, FOREVER until someone acts at the board."""
        if self.failures >= _CEILING:
            return FOREVER
        return max(0, self.until - now)

    def failed(self, now: int) -> bool:
        """A wrong PIN or password. Returns whether the count must be kept."""
        self.failures += 1
        self._lock(now)
        return self.failures >= FREE

    def passed(self) -> bool:
        """A right one, or an act at the board itself. Returns whether that must be kept."""
        was_kept = self.failures >= FREE
        self.failures = self.until = 0
        return was_kept
