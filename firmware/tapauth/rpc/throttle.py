"""How often an ID may fail to authenticate: then it waits, longer each time."""

from tapauth.compat import const

_FREE = const(5)
_FIRST_MS = const(30_000)
_LAST_MS = const(900_000)
_STRANGERS = const(16)


class Throttle:
    """Failures by ID. Times are milliseconds of a monotonic clock.

    Each known ID has a row of its own once it fails: there are no more than devices. Strangers
    share a few rows: what they try can never be right, so one that is forgotten gains nothing, and
    all the names that somebody may make up keep nobody out.
    """

    def __init__(self):
        # [ID, failures, waiting until, whether known]; without a wait: when it failed.
        self.rows: list[list] = []

    def _row(self, name: str):
        for row in self.rows:
            if row[0] == name:
                return row
        return None

    def blocked(self, name: str, now: int) -> bool:
        """Whether `name` must wait."""
        row = self._row(name)
        return row is not None and now < row[2]

    def failed(self, name: str, now: int, known: bool) -> None:
        """`name` presented wrong credentials. Only for one that is not blocked."""
        row = self._row(name)
        if not row:
            others = [row for row in self.rows if not row[3]]
            if len(others) >= _STRANGERS:
                self.rows.remove(min(others, key=lambda row: (now - row[2] < _LAST_MS, row[1])))
            row = [name, 0, 0, known]
            self.rows.append(row)
        row[1] += 1
        row[3] = known
        over = row[1] - _FREE
        row[2] = now + (min(_FIRST_MS << min(over, 5), _LAST_MS) if over >= 0 else 0)

    def passed(self, name: str) -> None:
        """`name` presented the right credentials, or is known no more: forget its failures."""
        row = self._row(name)
        if row:
            self.rows.remove(row)
