"""Learning a card: the next tap is caught instead of decided, shown, and waits for a yes."""

from tapauth.compat import const

_IDLE = const(0)
_WAITING = const(1)
_TAPPED = const(2)


class Learner:
    """`clock.now()` gives milliseconds; `tell(connection, event, members)` reaches one connection.

    One connection at a time may learn. The states: idle; waiting for a tap, from start() on;
    tapped, which waits for a yes. stop() and the end of the window lead back to idle.
    """

    def __init__(self, clock, tell):
        self._clock = clock
        self._tell = tell
        self._state = _IDLE
        self._until = 0
        self.connection = None
        self._id_token = None

    def start(self, connection, seconds: int) -> None:
        """Catch the next tap within `seconds`, which are also the time to confirm it then."""
        self._state = _WAITING
        self.connection = connection
        self._seconds = seconds
        self._until = self._clock.now() + seconds * 1000

    def tap(self, token: dict) -> bool:
        """Take a tap. True: the card is being learned, so the tap is not to be decided on. Raises
        MemoryError when the tap cannot be told; then the card is not learned either.
        """
        self.poll()
        if self._state != _WAITING:
            return False
        until = self._clock.now() + self._seconds * 1000
        # First the part that may fail: then the tap is decided on, and must not be confirmed too.
        self._tell(self.connection, "cardTapped", {"idToken": token["id_token"]})
        self._state = _TAPPED
        self._id_token = token["id_token"]
        self._until = until
        return True

    def owns(self, connection) -> bool:
        """Whether this connection learns."""
        return self._state != _IDLE and self.connection is connection

    def tapped(self, connection):
        """The id token to be confirmed, or None. Call stop() when that is done."""
        self.poll()
        return self._id_token if self._state == _TAPPED and self.owns(connection) else None

    def stop(self, connection) -> None:
        """End the learning of a connection that does not want to, or may not, go on."""
        if self.owns(connection):
            self._state = _IDLE
            self.connection = None

    def poll(self) -> None:
        """Give up learning that took too long. To be called now and then."""
        if self._state != _IDLE and self._clock.now() >= self._until:
            connection = self.connection
            self.stop(connection)
            self._tell(connection, "learningEnded", {"cause": "time"})
