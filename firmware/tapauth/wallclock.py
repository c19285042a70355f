"""The time of day, which may be unknown: a board without a battery wakes up not knowing it.

The time comes from outside, over MQTT without a signature, or by NTP. A clock that is set back
makes expired cards good again; one that is set ahead for ever makes all cards expire. So:

* It is never before what the board has seen: the day of the firmware's build, the day it has kept
  on its flash, and since the start as much later as the board has run.
* A time that a broker has kept may be old: it moves the clock only forward, and is no more than a
  lower bound until somebody says the time now.
* A clock that nothing contradicted for an hour since then is held. From then on a setting may
  correct it by five minutes and what a quartz can be wrong since, whatever the source says.
* Only a held clock's day is kept, and only a month further than the board has seen and run. So a
  wrong time ends with the next start, and refuses the right one for a month at most.
"""

from tapauth import BUILT
from tapauth.compat import const, forget, late
from tapauth.core.timestamps import DAY, format_rfc3339, parse_rfc3339

EARLIEST = parse_rfc3339(BUILT) or 0
"""Unix seconds of the firmware's build, before which no board ran it. A clock that says an earlier
time was never set: boards start in 1970, 2000 or 2021.
"""
_LATEST = const(4_102_444_800)  # 2100-01-01
_HELD_MS = const(3_600_000)
_SLACK = const(300)
_DRIFT = const(10_000_000)  # a second in so many ms: 100 ppm, what quartzes are wrong at most
_MONTH = const(31)
FILE = "/day"


def load_day(path: str = FILE) -> int:
    """The day that was kept, in days since 1970; 0 when there is none."""
    try:
        with open(path) as file:
            return int(file.read(8))
    except (OSError, ValueError):
        return 0


def save_day(day: int, path: str = FILE) -> None:
    """Keep a day over a restart. Raises OSError, MemoryError: the one before is kept."""
    # Needed once a day.
    with late("small_file"):
        from tapauth import small_file

    forget(small_file)
    small_file.replace(small_file.Flash, path, (str(day).encode(),))


class WallClock:
    """`clock.now()` gives milliseconds since the start; `on_set(unix_seconds, now)` is told of
    each setting, `on_refused()` of each that cannot be right, which `refused` counts.
    `kept_day` is the day that load_day() gave.
    """

    def __init__(self, clock, on_set, on_refused=None, kept_day: int = 0):
        self.refused = 0
        self._clock = clock
        self._on_set = on_set
        self._on_refused = on_refused
        self._kept_day = kept_day
        # Offsets are Unix seconds minus the clock's, so they stand still while time passes.
        self._floor = EARLIEST
        if self._floor < kept_day * DAY < _LATEST:
            self._floor = kept_day * DAY
        self._offset: int | None = None
        self._reference = 0  # what _offset was when it last jumped
        # When that was, ms; None while there is no time, or only one that may be old.
        self._jumped: int | None = None

    def unix(self) -> int | None:
        """Seconds since 1970-01-01 UTC; None while the time is not known."""
        if self._offset is None:
            return None
        return self._clock.now() // 1000 + self._offset

    def text(self) -> str:
        """The time as RFC 3339, or "clock not set"."""
        now = self.unix()
        return "clock not set" if now is None else format_rfc3339(now)

    def floor(self) -> str:
        """The time that it is at least, as RFC 3339."""
        return format_rfc3339(self._floor + self._clock.now() // 1000)

    def is_held(self) -> bool:
        """Whether nothing has contradicted the clock for an hour."""
        return self._jumped is not None and self._clock.now() - self._jumped >= _HELD_MS

    def set(self, unix_seconds: int, may_be_old: bool = False) -> bool:
        """Set the time. False when it cannot be right."""
        now = self._clock.now()
        offset = unix_seconds - now // 1000
        jump = abs(offset - self._reference)
        held = self.is_held()
        wrong = held and jump > _SLACK + (now - self._jumped) // _DRIFT  # type: ignore
        if wrong or offset < self._floor or unix_seconds >= _LATEST:
            self.refused += 1
            if self._on_refused:
                self._on_refused()
            return False
        if not held and (jump > _SLACK or self._jumped is None):
            self._reference = offset
            self._jumped = None if may_be_old else now
        self._offset = offset
        self._on_set(unix_seconds, now)
        return True

    def set_from(self, value, may_be_old: bool = False) -> bool:
        """Set from a JSON value: Unix seconds, or RFC 3339 text. False when it is neither.

        One that `may_be_old` leaves the clock as it is when it is known and not behind.
        """
        if isinstance(value, str):
            value = parse_rfc3339(value)
        if type(value) is not int:
            return False
        now = self.unix()
        if may_be_old and now is not None and EARLIEST <= value <= now:
            return True
        return self.set(value, may_be_old)

    def day_to_keep(self) -> int:
        """A day to keep in place of the one that is kept, or 0; note_kept() tells that it is."""
        now = self._clock.now()
        if self._offset is None or not self.is_held():
            return 0
        ran = now // 1000
        day = min((ran + self._offset) // DAY, (ran + self._floor) // DAY + _MONTH)
        return day if day > self._kept_day else 0

    def note_kept(self, day: int) -> None:
        """This day is on flash."""
        self._kept_day = day
