"""EVerest's auth_token_validator API: others may validate tokens for the board."""

import binascii
import json
import os

from tapauth.compat import const
from tapauth.core.evse import key_of
from tapauth.core.shapes import check_validation_result
from tapauth.everest.module import ApiModule, BadMessage, load

KIND = "auth_token_validator"
_REPLY = "reply/"
_MOST = const(32)
_LOOKUPS = const(4)  # of the store in one go
# The fields of a request that is open.
_TOKEN = const(2)
_SIZE = const(3)
ACCEPTED = {"authorization_status": "Accepted", "tariff_messages": []}


class AuthTokenValidator(ApiModule):
    """A validator at the other end of the link.

    `settings` is the "everest" object of the configuration. A reply is waited for up to
    `remote_timeout_ms`; after it, and at once when the link is down, the offline rule decides:
    nobody vouches for the token, unless `accept_unknown_offline` says that an unknown driver must
    not stand there because the network is gone. A driver is unknown who never had any answer but
    Accepted without conditions, be it of the store or here since the start.
    `station.answer(request_id, result)` takes results to the core, `station.update(update)` a
    ValidationResultUpdate; `vault.learn(token, result)` remembers what was answered, and
    `vault.is_unknown(id_token)` says whether it certainly holds nothing.
    """

    def __init__(self, module_id, settings, clock, link, errors, log, station, vault):
        super().__init__(
            kind=KIND,
            module_id=module_id,
            settings=settings,
            clock=clock,
            link=link,
            errors=errors,
            log=log,
        )
        self._timeout_ms = settings["remote_timeout_ms"]
        self._accept_unknown = settings["accept_unknown_offline"]
        self._station = station
        self._vault = vault
        self.pending: dict[str, list] = {}
        """Request by name: its id, deadline, token, and its bytes, 0 when it is sent."""
        # Drivers who are not unknown, though the store may not have learned of them.
        self._doubtful: list[str] = []
        self._doubts_all = False  # there was no room for another
        self.operations["validate_result_update"] = self._update

    def parameters(self) -> dict:
        parameters = super().parameters()
        monitoring = parameters["communication_monitoring"]
        # Whole seconds in EVerest's type: never less than what is waited for.
        monitoring["request_reply_timeout_s"] = (self._timeout_ms + 999) // 1000
        return parameters

    def validate(self, request_id: int, token: dict) -> None:
        """Ask for a token; `answer` is called now or later."""
        if not self._link.connected:
            self._decide_offline(request_id, token)
            return
        name = binascii.hexlify(os.urandom(16)).decode()
        deadline = self._clock.now() + self._timeout_ms
        self.pending[name] = [request_id, deadline, token, 1]
        self._ask(name)

    def _ask(self, name: str) -> None:
        """Send an open request, or leave it for later when the link has no room just now.

        Waiting is no harm: that the link is busy must not decide about a driver.
        """
        entry = self.pending[name]
        if not self._link.make_room(entry[_SIZE]):
            return
        topic = self.topic("validate_token")
        reply_to = self.topic(_REPLY + name, "m2e")
        try:
            request = json.dumps(
                {"headers": {"replyTo": reply_to}, "payload": entry[_TOKEN]}
            ).encode()
            entry[_SIZE] = len(topic) + len(request)
            if self._link.make_room(entry[_SIZE]) and self._link.publish(topic, request):
                entry[_SIZE] = 0
        except MemoryError:  # a long certificate; there may be room for it soon
            return

    def other(self, name: str, payload: bytes) -> None:
        if not name.startswith(_REPLY):
            raise BadMessage("no such operation")
        name = name[len(_REPLY) :]
        if name not in self.pending:
            raise BadMessage("no such request is open")
        request_id, _, token, _ = self.pending[name]
        key = ""
        try:
            key = key_of(token["id_token"])
            self._doubt(key)  # also if it cannot be used: it may be a refusal
        except MemoryError:
            self._doubts_all = True
            self._log.warning(KIND, "no memory for a doubt: nobody is accepted without an answer")
        result = load(payload)
        error = check_validation_result(result)
        if error:
            # As in EVerest the request stays open for a valid reply.
            raise BadMessage(error)
        self._station.answer(request_id, result)
        del self.pending[name]
        try:
            unconditional = not set(result).difference(ACCEPTED)
            if unconditional and result["authorization_status"] == "Accepted":
                self._doubtful = [one for one in self._doubtful if one != key]
            self._vault.learn(token, result)
        except MemoryError:
            pass  # it is asked for again at the next tap

    def _update(self, payload: bytes) -> None:
        refusal = self._station.update(load(payload))
        if refusal:
            raise BadMessage(refusal)

    def _doubt(self, key: str) -> None:
        doubtful = self._doubtful
        if key in doubtful or not self._accept_unknown:
            return
        for _ in range(_LOOKUPS):
            if len(doubtful) < _MOST:
                break
            kind, _, value = doubtful[0].partition(":")
            known = doubtful.pop(0)
            if self._vault.is_unknown({"type": kind, "value": value}):
                doubtful.append(known)  # else the store has learned it meanwhile
        if len(doubtful) < _MOST:
            doubtful.append(key)
        elif not self._doubts_all:
            self._doubts_all = True
            self._log.warning(KIND, "too many were refused: nobody is accepted without an answer")

    def _is_unknown(self, id_token: dict) -> bool:
        return not (
            self._doubts_all
            or key_of(id_token) in self._doubtful
            or not self._vault.is_unknown(id_token)
        )

    def _decide_offline(self, request_id: int, token: dict) -> None:
        try:
            accepts = self._accept_unknown and self._is_unknown(token["id_token"])
        except MemoryError:
            accepts = False
        self._station.answer(request_id, ACCEPTED if accepts else None)

    def _expire(self, name: str) -> None:
        request_id, _, token, _ = self.pending[name]
        self._decide_offline(request_id, token)
        del self.pending[name]  # last: without memory for the answer it is given at the next tick

    def tick(self, now: int) -> None:
        super().tick(now)
        for name in list(self.pending):
            _, deadline, _, size = self.pending[name]
            if now >= deadline or (size and not self._link.connected):
                self._expire(name)
            elif size:
                self._ask(name)
