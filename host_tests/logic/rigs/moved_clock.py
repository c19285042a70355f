"""A clock that the test moves."""


class MovedClock:
    """`now()` gives `ms`, which only `advance` changes."""

    def __init__(self, ms: int = 0):
        self.ms = ms

    def now(self) -> int:
        return self.ms

    def advance(self, ms: int) -> int:
        self.ms += ms
        return self.ms
