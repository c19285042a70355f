"""How often an ID may fail to authenticate: then it waits, longer each time."""

from tapauth.compat import const

_FREE = const(5)
_FIRST_MS = const(30_000)
_LAST_MS = const(900_000)
_STRANGERS = const(16)

# The fields of a row.
_ID = const(0)
_FAILURES = const(1)
_UNTIL = const(2)  # the end of its wait; without a wait, when it failed
_KNOWN = const(3)


class Throttle:
    """Failures by ID. Times are milliseconds of a monotonic clock.

    Each known ID has a row of its own once it fails: there are no more than devices. Strangers
    share a few rows: what they try can never be right, so one that is forgotten gains nothing, and
    all the names that somebody may make up keep nobody out.
    """

    def __init__(self):
        self.rows: list[list] = []

    def _row(self, name: str):
        for row in self.rows:
            if row[_ID] == name:
                return row
        return None

    def blocked(self, name: str, now: int) -> bool:
        """Whether `name` must wait."""
        row = self._row(name)
        return row is not None and now < row[_UNTIL]

    def failed(self, name: str, now: int, known: bool) -> None:
        """`name` presented wrong credentials. Only for one that is not blocked."""
        row = self._row(name)
        if not row:
            others = [row for row in self.rows if not row[_KNOWN]]
            if len(others) >= _STRANGERS:
                # One that failed long ago, or else the one that has failed least.
                self.rows.remove(
                    min(others, key=lambda row: (now - row[_UNTIL] < _LAST_MS, row[_FAILURES]))
                )
            row = [name, 0, 0, known]
            self.rows.append(row)
        row[_FAILURES] += 1
        row[_KNOWN] = known
        over = row[_FAILURES] - _FREE
        row[_UNTIL] = now + (min(_FIRST_MS << min(over, 5), _LAST_MS) if over >= 0 else 0)

    def passed(self, name: str) -> None:
        """`name` presented the right credentials, or is known no more: forget its failures."""
        row = self._row(name)
        if row:
            self.rows.remove(row)
