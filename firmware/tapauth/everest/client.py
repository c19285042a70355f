"""The board as a client of a real EVerest: its reader provides tokens, its store validates them.

EVerest decides; the board shows the fate of a tap. A tap goes its way over three of EVerest's API
modules, and the board keeps nothing of it in between:

    board    -> auth_token_provider   m2e/provided_token            the tap
    EVerest  -> auth_token_validator  e2m/validate_token            do you know this card?
    board    -> auth_token_validator  m2e/reply/...                 what the store says
    EVerest  -> auth_consumer         e2m/token_validation_status   what became of it

The directions are EVerest's: m2e is towards EVerest. EVerest asks the board about tokens of
others too, and tells what became of those; the lamps show all of it, as there is one charger.

Without a link a tap comes to nothing, as another driver may stand there when it is back. Each
side watches the other: the board sends a communication_check to each module every 2 s, EVerest a
heartbeat each second; ten seconds without one are a fault on the board's list until the next.

Messages are checked as the core checks them (core/shapes.py), since the store and the lamps rely
on that; a wrong one is counted and logged, and EVerest gets no answer.
"""

import json

from tapauth.compat import const
from tapauth.core.shapes import check_provided_token
from tapauth.errors import COMMUNICATION_FAULT
from tapauth.everest.module import BadMessage, load, reply_topic

_CHECK_MS = const(2000)
"""Between signs of life to EVerest, whose checks wait 5 s by default."""
_SILENCE_MS = const(10_000)
"""EVerest sends a heartbeat each second by default; after so long a silence it is gone."""
_STATUSES = (
    "Processing",
    "Accepted",
    "Rejected",
    "TimedOut",
    "UsedToReauthorize",
    "UsedToStart",
    "UsedToStop",
    "Withdrawn",
)


class EverestClient:
    """`settings` is the "everest" object of the configuration; `validate(token)` answers from
    the store with (ValidationResult, settled); `on_status(token, status, messages)` shows.
    """

    def __init__(self, settings: dict, clock, link, errors, log, validate, on_status):
        self.refused = 0
        self._clock = clock
        self._link = link
        self._errors = errors
        self._log = log
        self._validate = validate
        self._on_status = on_status
        start = "{}everest_api/{}/".format(settings["topic_prefix"], settings["topic_version"])
        self._provider = start + "auth_token_provider/" + settings["auth_token_provider_id"] + "/"
        self._validator = (
            start + "auth_token_validator/" + settings["auth_token_validator_id"] + "/"
        )
        self._consumer = start + "auth_consumer/" + settings["auth_consumer_id"] + "/"
        self._operations = {
            self._validator + "e2m/validate_token": self._validate_token,
            self._consumer + "e2m/token_validation_status": self._status,
            self._provider + "e2m/heartbeat": self._heartbeat,
        }
        # As if EVerest had just been heard: a start is no silence yet.
        self._heard = clock.now()
        self._next_check = 0

    @property
    def subscriptions(self) -> tuple:
        """The topic filters to subscribe."""
        return tuple(self._operations)

    def provide_token(self, token: dict) -> bool:
        """Hand a token to EVerest. False when the link is down: then nothing comes of the tap."""
        # Not by the outbox, which would keep the tap for later.
        return self._link.publish(self._provider + "m2e/provided_token", json.dumps(token))

    def message(self, topic: str, payload: bytes) -> bool:
        """Take a message. False when it is not for the client."""
        operation = self._operations.get(topic)
        if not operation:
            return False
        try:
            operation(load(payload))
        except BadMessage as error:
            self.refused += 1
            self._log.warning("attached", "message refused: {}", str(error))
        return True

    def _validate_token(self, request) -> None:
        reply_to = reply_topic(request, self._link, self._validator + "m2e/reply/")
        token = request.get("payload")
        error = check_provided_token(token)
        if error:
            raise BadMessage(error)
        if not reply_to:
            raise BadMessage("no replyTo to answer to")
        # Whether the store is sure matters to the board's own core only.
        result, _ = self._validate(token)
        self._link.publish(reply_to, json.dumps(result))

    def _status(self, message) -> None:
        if not isinstance(message, dict):
            raise BadMessage("status is not an object")
        error = check_provided_token(message.get("token"))
        if error:
            raise BadMessage(error)
        status = message.get("status")
        # A status that the board does not know would leave the lamp at whatever it shows.
        if type(status) is not str or status not in _STATUSES:
            raise BadMessage("status is none of its enum")
        self._on_status(message["token"], status, message.get("messages") or [])

    def _heartbeat(self, value) -> None:
        # Its value does not matter: the count starts anew with EVerest, and wraps.
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadMessage("heartbeat is not a number")
        self._heard = self._clock.now()
        self._fault(False)

    def link_up(self) -> None:
        """A connection begins with a sign of life."""
        self._next_check = 0

    def tick(self, now: int) -> None:
        """What is due: the sign of life to EVerest, and the look for EVerest's."""
        if self._link.connected and now >= self._next_check:
            self._next_check = now + _CHECK_MS
            for start in (self._provider, self._validator, self._consumer):
                self._link.publish(start + "m2e/communication_check", "true")
        # Also without a link: that taps have no effect is what a technician must know.
        if now - self._heard > _SILENCE_MS:
            self._fault(True)

    def _fault(self, active: bool) -> None:
        self._errors.set(
            active=active,
            kind=COMMUNICATION_FAULT,
            sub_type="EVerest's heartbeat lost",
            origin="everest",
            message="EVerest's auth_token_provider API is silent: taps have no effect",
        )
