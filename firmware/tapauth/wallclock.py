"""The time of day, which may be unknown: a board without a battery wakes up not knowing it."""

from tapauth.compat import const
from tapauth.core.timestamps import format_rfc3339, parse_rfc3339

_EARLIEST = const(1_704_067_200)  # 2024-01-01: before that no clock of this firmware was right
_LATEST = const(4_102_444_800)  # 2100-01-01


class WallClock:
    """`clock.now()` gives monotonic milliseconds; `on_set(unix_seconds, now)` is told of each
    setting.
    """

    def __init__(self, clock, on_set):
        self._clock = clock
        self._on_set = on_set
        self._offset: int | None = None

    def unix(self) -> int | None:
        """Seconds since 1970-01-01 UTC; None while the time is not known."""
        if self._offset is None:
            return None
        return self._clock.now() // 1000 + self._offset

    def text(self) -> str:
        """The time as RFC 3339, or "clock not set"."""
        now = self.unix()
        return "clock not set" if now is None else format_rfc3339(now)

    def set(self, unix_seconds: int) -> bool:
        """Set the time. False when it cannot be right."""
        if not _EARLIEST <= unix_seconds < _LATEST:
            return False
        now = self._clock.now()
        self._offset = unix_seconds - now // 1000
        self._on_set(unix_seconds, now)
        return True

    def set_from(self, value) -> bool:
        """Set from a JSON value: Unix seconds, or RFC 3339 text. False when it is neither."""
        if isinstance(value, str):
            value = parse_rfc3339(value)
        return type(value) is int and self.set(value)
