"""EVerest's auth_consumer API, as far as the board publishes it: token statuses and heartbeat.

Topics are `{prefix}everest_api/{version}/auth_consumer/{module id}/e2m/...`; payloads are
EVerest's own JSON objects. docs/mqtt.md shows them.
"""

import json

from tapauth.compat import const, sleep_ms

_STEP_MS = const(200)


class AuthConsumer:
    """`settings` is the "everest" object of the configuration, `link` the way to the broker."""

    def __init__(self, settings: dict, clock, link):
        self._link = link
        self._clock = clock
        self._interval_ms = settings["heartbeat_interval_ms"]
        self._base = "{}everest_api/{}/auth_consumer/{}/e2m/".format(
            settings["topic_prefix"], settings["topic_version"], settings["auth_consumer_id"]
        )
        self._beats = 0
        self._next_beat = 0

    def status(self, token: dict, status: str, messages: list) -> None:
        """Publish a TokenValidationStatusMessage."""
        message = {"token": token, "status": status, "messages": messages}
        self._link.publish(self._base + "token_validation_status", json.dumps(message))

    def link_up(self) -> None:
        """A connection begins with a heartbeat."""
        self._next_beat = 0

    async def heartbeats(self, beat) -> None:
        """Publish the heartbeat: 0, 1, 2 ... as an unsigned 64-bit number, for ever.

        An interval of 0 publishes none.
        """
        while True:
            beat()
            now = self._clock.now()
            if self._interval_ms and self._link.connected and now >= self._next_beat:
                self._link.publish(self._base + "heartbeat", str(self._beats))
                self._beats = (self._beats + 1) & 0xFFFF_FFFF_FFFF_FFFF
                # From the planned time, so that the period holds; after a gap, from now.
                self._next_beat = max(self._next_beat + self._interval_ms, now)
            await sleep_ms(min(max(self._next_beat - now, 10), _STEP_MS))
