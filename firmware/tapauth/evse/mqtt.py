"""EVSEs that are reached over MQTT.

In: `{base}/evse/{evse_id}/session_event`, EVerest's SessionEvent.
Out: `{base}/evse/{evse_id}/command`.
"""

import json


class MqttEvses:
    """`base` is the board's base topic, `link` the way to the broker, and
    `on_event(evse_id, event)` gets what the EVSEs report and returns why it is refused, or None.
    `refused` counts refused messages.
    """

    def __init__(self, base: str, log, link, on_event):
        self.refused = 0
        self._start = base + "/evse/"
        self._log = log
        self._link = link
        self._on_event = on_event

    @property
    def subscriptions(self) -> tuple:
        """The topic filter of the session events."""
        return (self._start + "+/session_event",)

    def link_up(self) -> None:
        """Nothing to say: the EVSEs report when something happens."""

    def tick(self, now: int) -> None:
        """Nothing is ever due."""

    def message(self, topic: str, payload: bytes) -> bool:
        """Take a message. False when the topic is not one of ours."""
        if not (topic.startswith(self._start) and topic.endswith("/session_event")):
            return False
        number = topic[len(self._start) : -len("/session_event")]
        if not number.isdigit() or len(number) > 3:
            refusal = "no EVSE number in the topic"
        else:
            try:
                event = json.loads(payload.decode())
            except ValueError:  # UnicodeError too
                refusal = "not JSON"
            else:
                refusal = self._on_event(int(number), event)
        if refusal:
            self.refused += 1
            self._log.warning("evse", "session event refused: {}", refusal)
        return True

    def command(self, evse_id: int, command: dict) -> None:
        """Send a command object to an EVSE."""
        # Kept while the link is down: an EVSE that misses a command goes its own way.
        self._link.enqueue(f"{self._start}{evse_id}/command", json.dumps(command), True)
