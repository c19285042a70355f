"""How often an ID may fail to authenticate: then it waits, longer each time."""

from tapauth.compat import const

_FREE = const(5)
_FIRST_MS = const(30_000)
_LAST_MS = const(900_000)
_ROWS = const(16)


class Throttle:
    """Failures by ID in a table of fixed size. Times are milliseconds of a monotonic clock."""

    def __init__(self):
        # [ID, failures, waiting until]; without a wait the last one is when it failed.
        self.rows: list[list] = []

    def _row(self, name: str):
        for row in self.rows:
            if row[0] == name:
                return row
        return None

    def blocked(self, name: str, now: int) -> bool:
        """Whether `name` must wait. With a full table of waiting IDs, every other one must."""
        row = self._row(name)
        if row:
            return now < row[2]
        return len(self.rows) >= _ROWS and all(now < row[2] for row in self.rows)

    def failed(self, name: str, now: int) -> None:
        """`name` presented wrong credentials. Only for one that is not blocked."""
        row = self._row(name)
        if not row:
            if len(self.rows) >= _ROWS:
                # Who fills the table with names does not free one that it was guessing at.
                free = [row for row in self.rows if now >= row[2]]
                self.rows.remove(min(free, key=lambda row: (now - row[2] < _LAST_MS, row[1])))
            row = [name, 0, 0]
            self.rows.append(row)
        row[1] += 1
        over = row[1] - _FREE
        row[2] = now + (min(_FIRST_MS << min(over, 5), _LAST_MS) if over >= 0 else 0)

    def passed(self, name: str) -> None:
        """`name` presented the right credentials: its failures are forgotten."""
        row = self._row(name)
        if row:
            self.rows.remove(row)
