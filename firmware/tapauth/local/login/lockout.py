"""How often a wrong PIN or password may be given in a row: then all must wait, longer each time.

One count for the whole board: a count for each address is as easy to dodge as an address is to
change. A try counts, and makes the others wait, before it is looked at: who cuts the power or goes
away meanwhile gains nothing. Times are seconds of a monotonic clock.
"""

from tapauth.compat import const

FREE = const(5)
"""Failures in a row before the first wait."""
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

    def begin(self, now: int) -> None:
        """A PIN or password is tried: wrong until it has turned out right. To be kept now."""
        self.failures += 1
        self._lock(now)

    def passed(self, forget: bool) -> bool:
        """It was right. Returns whether that must be kept.

        `forget` the failures before it: it was admin's, or someone acts at the board itself. With
        another role's secret one could guess at admin's for ever, a few times between two logins.
        """
        before = self.failures
        self.failures = 0 if forget else max(0, before - 1)
        self.until = 0
        return before > 0
