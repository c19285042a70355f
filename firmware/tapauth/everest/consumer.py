"""EVerest's auth_consumer API: what becomes of tokens, and the commands of the auth interface."""

from tapauth.core.effects import LASTING, ORDINARY, PROGRESS
from tapauth.everest.module import ApiModule, BadMessage, load, reply_topic
from tapauth.fitting import fitting

KIND = "auth_consumer"
# How much a status matters; the others are lasting: what they tell of goes to an EVSE too.
_MATTERS = {"Processing": PROGRESS, "Accepted": PROGRESS, "Rejected": ORDINARY}


class AuthConsumer(ApiModule):
    """`station` carries out the commands; `wallclock.text()` stamps the statuses.

    A status message has two members more than EVerest's: `seq`, which counts the statuses since
    the start, and `time`; a client can tell by them what it missed, and what comes late.
    """

    def __init__(self, module_id, settings, clock, link, errors, log, station, wallclock):
        super().__init__(
            kind=KIND,
            module_id=module_id,
            settings=settings,
            clock=clock,
            link=link,
            errors=errors,
            log=log,
        )
        self._station = station
        self._wallclock = wallclock
        self._last = b"null"
        self._sequence = 0
        self.operations["withdraw_authorization"] = self._withdraw
        self.operations["set_connection_timeout"] = self._set_connection_timeout
        self.operations["set_master_pass_group_id"] = self._set_master_pass_group_id
        self.operations["token_validation_status/get"] = self._get_status

    def status(self, token: dict, status: str, messages: list) -> None:
        """Publish a TokenValidationStatusMessage; it waits for the link if that is down."""
        message = {
            "token": token,
            "status": status,
            "messages": messages,
            "seq": self._sequence,
            "time": self._wallclock.text(),
        }
        self._sequence += 1
        self._last = fitting(message, "token", self._link.fitting)
        matters = _MATTERS.get(status, LASTING)
        self._link.enqueue(self.topic("token_validation_status"), self._last, matters)

    def _withdraw(self, payload: bytes) -> None:
        request = load(payload)
        reply_to = reply_topic(request, self._link)
        try:
            # Without `payload` it is no request for anything, and not one for everything.
            result = self._station.withdraw(request.get("payload"))
        except MemoryError:  # whoever asks learns that he must ask again
            result = "Rejected"
        self.reply(reply_to, result)
        if result == "Rejected":
            raise BadMessage("not a WithdrawAuthorizationRequest, or no memory for it")

    def _set_connection_timeout(self, payload: bytes) -> None:
        if not self._station.set_connection_timeout(load(payload)):
            raise BadMessage("not an integer of 10 to 300")

    def _set_master_pass_group_id(self, payload: bytes) -> None:
        if not self._station.set_master_pass_group_id(load(payload)):
            raise BadMessage("not a string of at most 36 printable characters")

    def _get_status(self, payload: bytes) -> None:
        reply_to = reply_topic(load(payload), self._link)
        if not reply_to:
            raise BadMessage("no replyTo to answer to")
        self._link.publish(reply_to, self._last)
