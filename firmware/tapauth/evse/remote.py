"""EVSEs that are reached over MQTT.

In: `{base}/evse/{evse_id}/session_event`, EVerest's SessionEvent.
Out: `{base}/evse/{evse_id}/command`.

Such an EVSE is far away. It lives on while the board restarts, with whatever it was authorized
for; what is said to it may wait long in the outbox, and may arrive twice (QoS 1). An EVSE that
charges without the core's knowing, or a core that believes in a grant that never arrived, is what
all of this is about:

* At the first connection the core takes back what EVSEs may hold from before (evses_reached()).
  That is told at each tick of a connection, as there may not have been memory for it before.
* While commands wait, no answer to them can be late (commands_wait()); once there is a way to the
  EVSEs, what was granted may have left (commands_leave()).
* A grant waits in the outbox for as long as it is good, and then a withdrawal goes in its place.
* When an event has ended a grant, the EVSE is told to drop it once more, as a copy may reach it
  late. One withdrawal does: where the core has sent its own in the same event, for a grant that
  nothing has used, none is added (`_taken_back`). take_back() needs no memory, so it also stands
  in for a withdrawal of the core that found none.
* An event for which there is no memory ends the session with the broker, once a minute at most:
  the EVSE tells it again when the board is back.

The winners when the outbox is full: stops and withdrawals, which are never lost, then refusals,
then grants (core/effects.py).
"""

import json

from tapauth.compat import const
from tapauth.core.effects import (
    AUTHORIZE_RESPONSE,
    LASTING,
    REFUSAL,
    STOP,
    STOP_TRANSACTION,
    WITHDRAW_AUTHORIZATION,
    WITHDRAWAL,
)
from tapauth.fitting import fitting
from tapauth.json_in import load_or_fail

_LOSS_MS = const(60_000)  # between sessions that are ended for an event that was lost
_WITHDRAW = b'{"command": "withdraw_authorization"}'


class MqttEvses:
    """`base` is the board's base topic, `link` the way to the broker, and
    `on_event(evse_id, event)` gets what the EVSEs report and returns why it is refused, or None.
    `station.authorized(evse_id)` says what an EVSE may hold, and `station.grant_ms()` for how
    long; it has evses_reached(), commands_wait(), commands_leave() and take_back() too. `refused`
    counts refused messages.
    """

    def __init__(self, base: str, log, link, on_event, station):
        self.refused = 0
        self._start = base + "/evse/"
        self._log = log
        self._link = link
        self._on_event = on_event
        self._station = station
        self._event_lost = False
        self._next_loss = 0
        self._taken_back = 0  # the EVSE that was sent a withdrawal last, and no grant since

    @property
    def subscriptions(self) -> tuple:
        """The topic filter of the session events."""
        return (self._start + "+/session_event",)

    def link_up(self) -> None:
        """Until now nothing that was said to the EVSEs has reached them."""
        self._station.commands_leave()  # what waits goes out right behind this
        self._station.evses_reached()

    def tick(self, now: int) -> None:
        """Tell while the outbox is not empty, as a command may be in it."""
        if self._link.connected:
            self._station.evses_reached()  # again, if there was no memory for it in link_up()
        if len(self._link.outbox):
            self._station.commands_wait()
        if self._event_lost and now >= self._next_loss:
            # The EVSE tells it again when the board comes back; one that never finds memory must
            # not keep the board away from everybody.
            self._event_lost = False
            self._next_loss = now + _LOSS_MS
            self._link.message_lost()

    def message(self, topic: str, payload: bytes) -> bool:
        """Take a message. False when the topic is not one of ours."""
        if not (topic.startswith(self._start) and topic.endswith("/session_event")):
            return False
        number = topic[len(self._start) : -len("/session_event")]
        try:
            if number.encode().isdigit() and len(number) <= 3:
                refusal = self._heard(int(number), payload)
            else:
                refusal = "no EVSE number in the topic"
        except MemoryError:
            self._event_lost = True
            refusal = "no memory"
        if refusal:
            self.refused += 1
            self._log.warning("evse", "session event refused: {}", refusal)
        return True

    def _heard(self, evse_id: int, payload: bytes) -> str | None:
        try:
            event = load_or_fail(payload)
        except ValueError:
            return "not JSON"
        held = self._station.authorized(evse_id)
        self._taken_back = 0
        try:
            return self._on_event(evse_id, event)
        finally:
            # A grant must not open the next session: neither one that waits, nor a copy that
            # reached the EVSE when its transaction had begun, or had ended. The core takes back
            # what was not used, if there is memory for it; the rest is done here.
            if held and not self._station.authorized(evse_id) and self._taken_back != evse_id:
                self._station.take_back(evse_id)

    def _topic(self, evse_id: int) -> str:
        return f"{self._start}{evse_id}/command"

    def command(self, evse_id: int, command: dict) -> None:
        """Send a command object to an EVSE.

        It is kept while the link is down: an EVSE that misses a command goes its own way. But an
        authorization that the EVSE did not get in time is over, and it gets a withdrawal. Raises
        MemoryError when there is no room for what must not be lost unseen.
        """
        topic = self._topic(evse_id)
        kind = command["command"]
        added = True
        if kind == WITHDRAW_AUTHORIZATION:
            added = self._link.enqueue(topic, _WITHDRAW, WITHDRAWAL)
            if added:
                self._taken_back = evse_id
        elif kind == STOP_TRANSACTION:
            # Stops are kept without regard to room, so they are short.
            try:
                data = fitting(command, "id_tag", 512)
            except MemoryError:  # that it stops matters more than whose card stops it
                data = json.dumps({"command": kind, "reason": command["reason"]}).encode()
            added = self._link.enqueue(topic, data, STOP)
        elif kind == AUTHORIZE_RESPONSE:
            data = fitting(command, "token", self._link.fitting)
            if command["result"]["authorization_status"] == "Accepted":
                self._taken_back = 0
                grant_ms = self._station.grant_ms()
                added = self._link.enqueue(
                    topic, data, keep=LASTING, wait_ms=grant_ms, instead=_WITHDRAW
                )
                if added and self._link.connected:
                    self._station.commands_leave()
            else:
                self._link.enqueue(topic, data, REFUSAL)
        if not added:
            raise MemoryError("for a command")
