"""Messages that must reach the broker: kept in order until it acknowledges them (QoS 1).

One message is under way at a time: what is sent again then stands beside its first copy and
never behind a later message, so that whoever listens sees an order that was real. No I/O here.
"""

from tapauth.compat import const

_TRIES_IN_SESSION = const(2)
_TRIES = const(10)
_LAST_ID = const(0xFFFF)


class Outbox:
    """At most `max_messages` messages with `max_bytes` of topics and payloads together.

    `timeout_ms` is how long an acknowledgement may take before the message is sent again.
    `dropped` counts messages that went for want of room, `dropped_kept` those of them that were
    marked to keep, and `unacknowledged` those that no session could get acknowledged.
    """

    def __init__(self, max_messages: int, max_bytes: int, timeout_ms: int):
        self.dropped = 0
        self.dropped_kept = 0
        self.unacknowledged = 0
        self.bytes = 0
        self.packet_id = 0
        self.tries = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._timeout_ms = timeout_ms
        self._entries: list[tuple[bytes, bytes, bool]] = []
        self._last_id = 0
        self._session_tries = 0  # 0: nothing is under way in this session
        self._sent_at = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, topic: bytes, payload: bytes, keep: bool) -> bool:
        """Append a message. False when there was no room for it.

        To make room the oldest message that is not marked to keep goes first, then, for a
        message that is marked itself, the oldest of all. The one under way is never dropped.
        May raise MemoryError, and is then as before but for what it dropped.
        """
        size = len(topic) + len(payload)
        while len(self._entries) >= self._max_messages or self.bytes + size > self._max_bytes:
            first = 1 if self._session_tries else 0
            index = first
            while index < len(self._entries) and self._entries[index][2]:
                index += 1
            if index == len(self._entries):
                index = first
                if not keep or index >= len(self._entries):
                    self.dropped += 1
                    self.dropped_kept += keep
                    return False
            self.dropped_kept += self._entries[index][2]
            self.dropped += 1
            self._remove(index)
        self._entries.append((topic, payload, keep))
        self.bytes += size
        return True

    def _remove(self, index: int) -> None:
        topic, payload, _ = self._entries.pop(index)
        self.bytes -= len(topic) + len(payload)
        if index == 0:
            self.packet_id = self.tries = self._session_tries = 0

    def next_id(self) -> int:
        """A packet id that nothing under way has: 1 to 65535, in turn."""
        while True:
            self._last_id = self._last_id % _LAST_ID + 1
            if self._last_id != self.packet_id:
                return self._last_id

    def due(self, now: int):
        """(topic, payload, keep) of the message to send now, in milliseconds, or None."""
        if not self._entries or (self._session_tries and not self._late(now)):
            return None
        return self._entries[0]

    def _late(self, now: int) -> bool:
        return now - self._sent_at >= self._timeout_ms

    def stuck(self, now: int) -> bool:
        """This session has had its tries and no acknowledgement: only another one may help."""
        return self._session_tries >= _TRIES_IN_SESSION and self._late(now)

    def sent(self, now: int) -> int:
        """The message that was due goes out now. Returns its packet id, the same each time."""
        if not self.packet_id:
            self.packet_id = self.next_id()
        self.tries += 1
        self._session_tries += 1
        self._sent_at = now
        return self.packet_id

    def acknowledged(self, packet_id: int) -> bool:
        """The broker has the message with that id. False when none is under way with it."""
        if not self._session_tries or packet_id != self.packet_id:
            return False
        self._remove(0)
        return True

    def session_ended(self) -> None:
        """What was under way goes out again in the next session, or not at all after many."""
        self._session_tries = 0
        if self.tries >= _TRIES:
            self.unacknowledged += 1
            self._remove(0)
