"""Simulated EVSEs: what an EVSE reports, and how it reacts to the board's commands."""

import json


class SimulatedEvses:
    """EVSEs on MQTT. `publish(topic, text)` sends; `base` is the board's base topic.

    Like a real EVSE they end a transaction when told to stop it, and report an authorization
    that was taken away. They start a transaction only when asked: a person decides that here.
    """

    def __init__(self, base: str, publish):
        self._start = base + "/evse/"
        self._publish = publish
        self._in_transaction: set[int] = set()

    @property
    def commands(self) -> str:
        """The topic filter of the commands that the board gives."""
        return self._start + "+/command"

    def _report(self, evse_id: int, event: str, **members) -> None:
        message = {"event": event, "connector_id": 1, **members}
        self._publish(f"{self._start}{evse_id}/session_event", json.dumps(message))

    def plug(self, evse_id: int) -> None:
        """A car is plugged in."""
        self._report(evse_id, "SessionStarted", session_started={"reason": "EVConnected"})

    def start(self, evse_id: int) -> None:
        """Charging begins."""
        self._in_transaction.add(evse_id)
        self._report(evse_id, "TransactionStarted")

    def stop(self, evse_id: int) -> None:
        """Charging ends."""
        self._in_transaction.discard(evse_id)
        self._report(evse_id, "TransactionFinished")

    def unplug(self, evse_id: int) -> None:
        """The car is unplugged; a running transaction ends first."""
        if evse_id in self._in_transaction:
            self.stop(evse_id)
        self._report(evse_id, "SessionFinished")

    def take(self, topic: str, payload: bytes) -> None:
        """React to a command of the board; other topics are ignored."""
        if not (topic.startswith(self._start) and topic.endswith("/command")):
            return
        evse_id = int(topic[len(self._start) : -len("/command")])
        command = json.loads(payload)["command"]
        if command == "stop_transaction" and evse_id in self._in_transaction:
            self.stop(evse_id)
        elif command == "withdraw_authorization" and evse_id not in self._in_transaction:
            # An authorization that a transaction has used is no concern of this command.
            self._report(evse_id, "Deauthorized")
