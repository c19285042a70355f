"""Messages that must reach the broker: kept in order until it acknowledges them (QoS 1).

This is a queue of which only the first message is ever under way. A message that is sent again
then stands beside its first copy and never behind a later one, so that every listener sees an
order that was real. The price is one round trip a message. No I/O here: link/mqtt.py asks due(),
writes, and tells sent() or not_sent(), acknowledged() and session_ended().

The first message waits; is under way after sent(); is late when its acknowledgement takes longer
than `timeout_ms`, and due again, once in a session, under the same packet id. After that it is
stuck: the link gives up the session. It leaves when the broker acknowledges it, when it has ended
(`until`), when room is wanted for what matters more, or after ten tries without an answer.

An authorization is good for a while only: it waits with an end, and from then on a withdrawal
(`instead`) goes in its place. In a conflict:

* A message that matters more (tapauth.core.effects) displaces one that matters less, and of
  equals the newer one displaces the oldest. The message under way stays, as the broker may have
  it already.
* Nothing displaces a withdrawal or a stop, which go beyond the bounds if they must. They make void
  what they overtake on their topic: authorizations, and older messages of their own kind. So one
  withdrawal and one stop wait for each topic, at most, beside what is under way. An authorization
  that was made void under way is not sent again.
* A refusal, a withdrawal or a stop is not given up. After ten tries it goes behind the messages
  of other topics, and those of its own topic go along in order: a broker that hangs up on one
  topic must not block all others.

So whatever the broker does, an EVSE gets no authorization that the board has taken back, except
one that was on its way. Want of memory changes none of this: a message that must not be lost is
changed in place, or the caller is told that it was not taken.
"""

from tapauth.compat import const
from tapauth.core.effects import REFUSAL, WITHDRAWAL

_TRIES_IN_SESSION = const(2)
_TRIES = const(10)  # in all sessions together, so five of them at least
_LAST_ID = const(0xFFFF)

# The fields of an entry, a list: another message can take its place without memory.
TOPIC = const(0)
PAYLOAD = const(1)
_KEEP = const(2)
_UNTIL = const(3)  # ms, or None: it is good for ever
_INSTEAD = const(4)  # the payload that goes after that, or b"": none


class Outbox:
    """At most `max_messages` messages with `max_bytes` of topics and payloads together; beyond
    that, a withdrawal and a stop for each topic.

    `timeout_ms` is how long an acknowledgement may take before the message is sent again.
    `dropped` counts messages that went for want of room, `dropped_kept` those of them that
    mattered (LASTING and more), `unacknowledged` those that no session could get acknowledged,
    and `expired` those that waited too long.
    """

    def __init__(self, max_messages: int, max_bytes: int, timeout_ms: int):
        self.dropped = 0
        self.dropped_kept = 0
        self.unacknowledged = 0
        self.expired = 0
        self.bytes = 0
        self.packet_id = 0
        self.tries = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._timeout_ms = timeout_ms
        self._entries: list[list] = []
        self._last_id = 0
        self._session_tries = 0  # 0: nothing is under way in this session
        self._sent_at = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self,
        topic: bytes,
        payload: bytes,
        keep: int,
        until: int | None = None,
        instead: bytes = b"",
    ) -> bool:
        """Append a message. False when there was no room for it.

        `keep` says how much it matters (tapauth.core.effects). From `until` on, milliseconds, it
        is not sent any more, and `instead`, if there is one, goes in its place. May raise
        MemoryError, and is then as before but for what it dropped.
        """
        if keep >= WITHDRAWAL:
            self._supersede(topic, keep)
        size = len(topic) + len(payload)
        while len(self._entries) >= self._max_messages or self.bytes + size > self._max_bytes:
            if not self.shed(keep):
                if keep >= WITHDRAWAL:
                    break
                self.dropped += 1
                self.dropped_kept += keep > 0
                return False
        self._entries.append([topic, payload, keep, until, instead])
        self.bytes += size
        return True

    def _supersede(self, topic: bytes, keep: int) -> None:
        """Drop what a stop or a withdrawal makes void: authorizations, and older ones of it."""
        index = 0
        while index < len(self._entries):
            entry = self._entries[index]
            # Only an authorization has an end.
            is_void = entry[_UNTIL] is not None or entry[_KEEP] == keep
            if entry[TOPIC] != topic or not is_void:
                index += 1
            elif index or not self._session_tries:
                self._remove(index)
            else:
                # Under way, so it may arrive; but it is not sent once more.
                if entry[_UNTIL] is not None:
                    entry[_UNTIL] = 0
                    entry[_INSTEAD] = b""
                index += 1

    def shed(self, keep: int) -> bool:
        """Make room: drop the oldest of what matters least, and no more than `keep`.

        False when there is nothing to drop. The one under way, withdrawals and stops stay.
        """
        found = -1
        for index in range(1 if self._session_tries else 0, len(self._entries)):
            matters = self._entries[index][_KEEP]
            # Below, not at: of equals the oldest stays found.
            lower = found < 0 or matters < self._entries[found][_KEEP]
            if lower and matters <= keep and matters < WITHDRAWAL:
                found = index
        if found < 0:
            return False
        self.dropped += 1
        self.dropped_kept += self._entries[found][_KEEP] > 0
        self._remove(found)
        return True

    def _remove(self, index: int) -> list:
        entry = self._entries.pop(index)
        self.bytes -= len(entry[TOPIC]) + len(entry[PAYLOAD])
        if index == 0:
            # All three are the first message's. The next one needs an id of its own, or a late
            # acknowledgement of this one would be taken for the next one's.
            self.packet_id = self.tries = self._session_tries = 0
        return entry

    def next_id(self) -> int:
        """A packet id that nothing under way has: 1 to 65535, in turn."""
        while True:
            self._last_id = self._last_id % _LAST_ID + 1
            if self._last_id != self.packet_id:
                return self._last_id

    def due(self, now: int):
        """The entry to send now, at `now` in milliseconds, by TOPIC and PAYLOAD; None for none."""
        while self._entries and not (self._session_tries and not self._late(now)):
            entry = self._entries[0]
            if entry[_UNTIL] is None or now < entry[_UNTIL]:
                return entry
            self.expired += 1
            instead = entry[_INSTEAD]
            if not instead:
                self._remove(0)
                continue
            # In place: without memory for another entry the withdrawal must not be lost.
            self.bytes += len(instead) - len(entry[PAYLOAD])
            entry[PAYLOAD] = instead
            entry[_KEEP] = WITHDRAWAL
            entry[_UNTIL] = None
            entry[_INSTEAD] = b""
            self.packet_id = self.tries = self._session_tries = 0
        return None

    def _late(self, now: int) -> bool:
        return now - self._sent_at >= self._timeout_ms

    def stuck(self, now: int) -> bool:
        """The session has had its tries and no acknowledgement: only another session may help."""
        return self._session_tries >= _TRIES_IN_SESSION and self._late(now)

    def sent(self, now: int) -> int:
        """The message that was due goes out now. Returns its packet id, the same each time."""
        if not self.packet_id:
            self.packet_id = self.next_id()
        # Counted before it is written: written and not counted, it would go a second time
        # without the mark of a duplicate.
        self.tries += 1
        self._session_tries += 1
        self._sent_at = now
        return self.packet_id

    def not_sent(self) -> None:
        """There was no memory for what sent() told: it is due as before."""
        self.tries -= 1
        self._session_tries -= 1

    def acknowledged(self, packet_id: int) -> bool:
        """The broker has the message with that id. False when none is under way with it."""
        # Sessions are clean: an acknowledgement of what an earlier one sent is nobody's.
        if not self._session_tries or packet_id != self.packet_id:
            return False
        self._remove(0)
        return True

    def session_ended(self) -> None:
        """The message under way goes out again in the next session; or, after many tries, not at
        all, or after those of other topics if it must not be lost.
        """
        self._session_tries = 0
        if self.tries < _TRIES:
            return
        self.unacknowledged += 1
        entries = self._entries
        topic = entries[0][TOPIC]
        if entries[0][_KEEP] < REFUSAL:
            self._remove(0)
            return
        self.packet_id = self.tries = 0
        # In order for each topic: the messages that wait for this one go along. In place: without
        # memory for another list nothing must be lost.
        at = 0
        for _ in range(len(entries)):
            if entries[at][TOPIC] == topic:
                entries.append(entries.pop(at))
            else:
                at += 1
