"""Topic filters, and the requests that bring the broker up to date with them. No I/O here."""

from tapauth.compat import const
from tapauth.link.framing import ProtocolError, request

_REQUEST_BYTES = const(512)  # of filters in a request, and one filter more at most
_REFUSED = const(0x80)


class Subscriptions:
    """The topic filters that the broker is asked for: one request is under way at a time."""

    def __init__(self):
        self.names: list[str] = []
        self._unasked: list[str] = []
        self._packet_id = 0
        self._asked: list[str] = []
        self._asked_at = 0
        self._live = False

    def add(self, name: str) -> None:
        """Subscribe to a topic filter."""
        if name not in self.names:
            self.names.append(name)
            if self._live:
                self._unasked.append(name)

    def renew(self) -> None:
        """A session begins: the broker knows nothing yet."""
        self._live = True
        self._unasked = list(self.names)
        self._asked = []

    def session_ended(self) -> None:
        """Nobody is there to be asked."""
        self._live = False
        self._unasked = []
        self._asked = []

    @property
    def settled(self) -> bool:
        """The broker has confirmed everything."""
        return not self._asked and not self._unasked

    def late(self, now: int, timeout_ms: int) -> bool:
        """The request under way was not answered in time."""
        return bool(self._asked) and now - self._asked_at > timeout_ms

    def due(self, next_id, now: int) -> bytes:
        """The packet to send now, under an id from `next_id()`, or b""."""
        if self._asked or not self._unasked:
            return b""
        filters: list[bytes] = []
        size = 0
        while self._unasked and size < _REQUEST_BYTES:
            self._asked.append(self._unasked.pop(0))
            filters.append(self._asked[-1].encode())
            size += len(filters[-1])
        self._asked_at = now
        self._packet_id = next_id()
        return request(self._packet_id, filters)

    def answered(self, body: bytes) -> list:
        """Take the body of a SUBACK. Returns the filters that were refused.

        Raises ProtocolError when it does not fit what was asked for.
        """
        if not self._asked or self._packet_id != body[0] << 8 | body[1]:
            return []  # late: nobody waits for this answer any more
        names, self._asked = self._asked, []
        if len(body) != 2 + len(names):
            raise ProtocolError("SUBACK for something else")
        return [name for at, name in enumerate(names) if body[2 + at] & _REFUSED]
