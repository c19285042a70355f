"""Topic filters, and the requests that bring the broker up to date with them. No I/O here."""

from tapauth.compat import const
from tapauth.link.framing import SUBACK, SUBSCRIBE, UNSUBSCRIBE, ProtocolError, request

_REQUEST_BYTES = const(512)


class Subscriptions:
    """What the broker is asked to send: one request is under way at a time."""

    def __init__(self):
        self.names: list[str] = []
        self._changes: list[tuple[int, bytes]] = []
        self._packet_id = 0
        self._asked: list[bytes] = []
        self._asked_at = 0
        self._live = False

    def _change(self, kind: int, name: str) -> None:
        if self._live:
            self._changes.append((kind, name.encode()))

    def add(self, name: str) -> None:
        """Subscribe to a topic filter."""
        if name not in self.names:
            self.names.append(name)
            self._change(SUBSCRIBE, name)

    def remove(self, name: str) -> None:
        """Unsubscribe from a topic filter."""
        if name in self.names:
            self.names.remove(name)
            self._change(UNSUBSCRIBE, name)

    def renew(self) -> None:
        """A session begins: the broker knows nothing yet."""
        self._live = True
        self._changes = [(SUBSCRIBE, name.encode()) for name in self.names]
        self._asked = []

    def session_ended(self) -> None:
        """Nobody is there to be asked."""
        self._live = False
        self._changes = []
        self._asked = []

    @property
    def settled(self) -> bool:
        """The broker has confirmed everything."""
        return not self._asked and not self._changes

    def late(self, now: int, timeout_ms: int) -> bool:
        """The request under way was not answered in time."""
        return bool(self._asked) and now - self._asked_at > timeout_ms

    def due(self, next_id, now: int) -> bytes:
        """The packet to send now, under an id from `next_id()`, or b""."""
        if self._asked or not self._changes:
            return b""
        kind = self._changes[0][0]
        size = 0
        while self._changes and self._changes[0][0] == kind and size < _REQUEST_BYTES:
            self._asked.append(self._changes.pop(0)[1])
            size += len(self._asked[-1])
        self._asked_at = now
        self._packet_id = next_id()
        return request(kind, self._packet_id, self._asked)

    def answered(self, kind: int, body: bytes) -> list:
        """Take the body of a SUBACK or UNSUBACK. Returns the filters that were refused.

        Raises ProtocolError when it does not fit what was asked for.
        """
        if not self._asked or self._packet_id != body[0] << 8 | body[1]:
            return []  # late: what it answers is of no interest any more
        names, self._asked = self._asked, []
        if kind != SUBACK:
            return []
        if len(body) != 2 + len(names):
            raise ProtocolError("SUBACK for something else")
        return [name.decode() for at, name in enumerate(names) if body[2 + at] & 0x80]
