"""What all of EVerest's API modules have in common: topics, requests and replies, heartbeat, and
the communication check. And what is too small for a file of its own: the auth_token_provider API
and EVerest's discovery.
"""

import json

from tapauth import json_in
from tapauth.compat import const, is_scarce
from tapauth.errors import COMMUNICATION_FAULT

INITIAL = "Initial communication check"
LOST = "Bridge to implementation connection lost"
_LONG = const(1024)  # bytes of a token


class BadMessage(ValueError):
    """A message is refused; the text says why, without quoting it."""


def load(payload: bytes):
    """The JSON value of a payload. Raises BadMessage."""
    try:
        return json_in.load(payload)
    except ValueError:
        raise BadMessage("not JSON")


def reply_topic(request, link, replies: str = "") -> str | None:
    """Where the reply to a request envelope goes; None when nobody asked for one.

    Raises BadMessage when `replyTo` is no string. A topic that no reply may go to counts as none,
    and the link counts it: the request is carried out all the same. See Link.check_reply.
    """
    if not isinstance(request, dict):
        raise BadMessage("request is not an object")
    headers = request.get("headers")
    if not isinstance(headers, dict) or "replyTo" not in headers:
        return None
    topic = headers["replyTo"]
    if not isinstance(topic, str):
        raise BadMessage("replyTo is not a string")
    return topic if link.check_reply(topic, replies) else None


class CommunicationCheck:
    """Whether the client of a module shows signs of life.

    A state machine: `on_change(sub_type, active)` is told of faults raised and cleared. Until
    the first sign there is the fault INITIAL; `timeout_s` without a sign bring the fault LOST;
    `false` is a sign that no more will come and ends the check for good. A timeout below 1
    switches the check off.
    """

    def __init__(self, timeout_s: int, now: int, on_change):
        self._timeout_ms = timeout_s * 1000
        self._on_change = on_change
        self._deadline: int | None = None
        self._fault = ""
        if timeout_s >= 1:
            self._deadline = now + self._timeout_ms
            self._set(INITIAL)

    def _set(self, fault: str) -> None:
        if fault == self._fault:
            return
        # Known when it is told: without memory for that it is told at the next occasion.
        if self._fault:
            self._on_change(self._fault, False)
        self._fault = ""
        if fault:
            self._on_change(fault, True)
            self._fault = fault

    def heard(self, value: bool, now: int) -> None:
        """The client sent `value`."""
        if self._deadline is None:
            return
        self._set("")
        self._deadline = now + self._timeout_ms if value else None

    def poll(self, now: int) -> None:
        """Look at the time."""
        if self._deadline is not None and now >= self._deadline:
            self._deadline = now + self._timeout_ms
            if not self._fault:
                self._set(LOST)


class ApiModule:
    """One API module: `kind` is the API's type, `module_id` its name in EVerest's configuration.

    `settings` is the "everest" object of the configuration. Subclasses fill `operations`: the
    name behind `m2e/` to a function of the payload (bytes), which may raise BadMessage.
    """

    def __init__(self, kind: str, module_id: str, settings: dict, clock, link, errors, log):
        self.kind = kind
        self.module_id = module_id
        self.refused = 0
        self._clock = clock
        self._link = link
        self._errors = errors
        self._log = log
        self._start = "{}everest_api/{}/{}/{}/".format(
            settings["topic_prefix"], settings["topic_version"], kind, module_id
        )
        self.operations = {"communication_check": self._communication_check}
        self._heartbeat_ms = settings["heartbeat_interval_ms"]
        self.heartbeats = 0
        self._next_heartbeat = 0
        self._check_s = settings["communication_check_s"]
        self._check = CommunicationCheck(self._check_s, clock.now(), self._fault)

    @property
    def subscriptions(self) -> tuple:
        """The topic filter of all that a client may send."""
        return (self._start + "m2e/#",)

    def topic(self, name: str, direction: str = "e2m") -> str:
        """The topic of an operation of this module."""
        return self._start + direction + "/" + name

    def message(self, topic: str, payload: bytes) -> bool:
        """Take a message. False when it is not for this module."""
        start = self._start + "m2e/"
        if not topic.startswith(start):
            return False
        name = topic[len(start) :]
        try:
            operation = self.operations.get(name)
            if operation is None:
                self.other(name, payload)
            else:
                operation(payload)
        except BadMessage as error:
            self.refused += 1
            # A name that is none of ours is a stranger's word.
            known = name if name in self.operations else "message"
            self._log.warning(self.kind, "{} refused: {}", known, str(error))
        return True

    def other(self, name: str, payload: bytes) -> None:
        """A message for an operation that is not in the table. Raises BadMessage."""
        raise BadMessage("no such operation")

    def reply(self, topic: str | None, value) -> None:
        """Send the bare reply to a request, if one was asked for."""
        if topic:
            self._link.publish(topic, json.dumps(value))

    def parameters(self) -> dict:
        """What discovery tells about this module (EVerest's ApiParameter)."""
        return {
            "type": self.kind,
            "module_id": self.module_id,
            "version": 1,
            "communication_monitoring": {
                "heartbeat_period_ms": self._heartbeat_ms,
                "communication_check_period_s": self._check_s,
            },
        }

    def _communication_check(self, payload: bytes) -> None:
        value = load(payload)
        if not isinstance(value, bool):
            raise BadMessage("neither true nor false")
        self._check.heard(value, self._clock.now())

    def _fault(self, sub_type: str, active: bool) -> None:
        text = "no sign of life from the client: send true to m2e/communication_check"
        self._errors.set(
            active=active,
            kind=COMMUNICATION_FAULT,
            sub_type=sub_type,
            origin=self.module_id,
            message=text,
        )

    def link_up(self) -> None:
        """A connection begins with a heartbeat."""
        self._next_heartbeat = 0

    def tick(self, now: int) -> None:
        """What is due: heartbeat, check."""
        self._check.poll(now)
        if self._heartbeat_ms and self._link.connected and now >= self._next_heartbeat:
            # An unsigned 64-bit number that wraps.
            self._link.publish(self.topic("heartbeat"), str(self.heartbeats))
            self.heartbeats = (self.heartbeats + 1) & 0xFFFF_FFFF_FFFF_FFFF
            # From the planned time, so that the period holds; after a gap, from now.
            self._next_heartbeat += self._heartbeat_ms
            if self._next_heartbeat <= now:
                self._next_heartbeat = now + self._heartbeat_ms


class AuthTokenProvider(ApiModule):
    """The auth_token_provider API: others may hand the board tokens.

    `station.provide_token(token)` takes them, and says why it does not.
    """

    def __init__(self, module_id, settings, clock, link, errors, log, station):
        super().__init__(
            kind="auth_token_provider",
            module_id=module_id,
            settings=settings,
            clock=clock,
            link=link,
            errors=errors,
            log=log,
        )
        self._station = station
        self.operations["provided_token"] = self._provided_token

    def _provided_token(self, payload: bytes) -> None:
        # A token waits for its validators, and several may wait: a word for each byte is what one
        # with a certificate takes until then.
        if len(payload) > _LONG and is_scarce(len(payload)):
            raise BadMessage("no memory for so long a token just now")
        refusal = self._station.provide_token(load(payload))
        if refusal:
            raise BadMessage(refusal)


class Discovery:
    """EVerest's discovery: which API modules are here.

    Answers `everest_api/discover` and `everest_api/query-modules/{api type}` for `modules`.

    Each module answers on its own, as in EVerest, where each is a process.
    """

    def __init__(self, settings: dict, link, log, modules: list):
        self.refused = 0
        self._start = settings["topic_prefix"] + "everest_api/"
        self._link = link
        self._log = log
        self._modules = modules

    @property
    def subscriptions(self) -> tuple:
        """The topic filters of the requests."""
        return (self._start + "discover", self._start + "query-modules/+")

    def link_up(self) -> None:
        """Tell that the modules can be asked."""
        self._link.publish(self._start + "ready_beacon", "{}")

    def tick(self, now: int) -> None:
        """Nothing is ever due."""

    def message(self, topic: str, payload: bytes) -> bool:
        """Take a message. False when it is no request for discovery."""
        if not topic.startswith(self._start):
            return False
        name, _, kind = topic[len(self._start) :].partition("/")
        if not (name == "discover" and not kind) and name != "query-modules":
            return False
        try:
            reply_to = reply_topic(load(payload), self._link)
            if not reply_to:
                raise BadMessage("no replyTo to answer to")
        except BadMessage as error:
            self.refused += 1
            self._log.warning("discovery", "{} refused: {}", name, str(error))
            return True
        for module in self._modules:
            if name == "discover" or module.kind == kind:
                self._link.publish(reply_to, json.dumps({"apis": [module.parameters()]}))
        return True
