"""An authorization core that notes which ways its tokens and EVSEs go.

Their states and inputs are named as in the tables at the head of core/authorizer.py and
core/evse.py.
"""

from auth_model import Model

from tapauth.core import authorizer
from tapauth.core.authorizer import Authorizer
from tapauth.core.effects import STATUS

_IN_PROCESS = {
    authorizer._NOTHING: "Deciding",  # seen only when memory runs out; in no table
    authorizer._VALIDATOR: "Validating",
    authorizer._PLUG_IN: "Waiting",
}
# Events that do more than give a plug-in to a token that waits.
_EVENTS = (
    "EVConnected",
    "TransactionStarted",
    "SessionResumed",
    "TransactionFinished",
    "SessionFinished",
    "Deauthorized",
)
_OWN_TIMEOUT = "a token's timeout"
# Inputs that decide about a token; to an EVSE they are one.
_OF_A_TOKEN = ("provide_token", "validation_result", _OWN_TIMEOUT)
_INPUTS = (
    "provide_token",
    "validation_result",
    "validation_result_update",
    "session_event",
    "withdraw",
    "set_connection_timeout",
    "set_master_pass_group_id",
    "evses_reached",
    "commands_wait",
    "commands_leave",
    "command_lost",
    "set_clock",
)


def evse_state(core: Authorizer, evse) -> str:
    """The state of an EVSE: what is most, when it is several."""
    if evse.stopping:
        return "Stopping"
    if evse.transaction_active:
        return "Charging" if evse.grant else "Unclaimed"
    if evse.grant:
        return "Withdrawing" if evse.grant.withdrawn else "Granted"
    if evse.plug_in_timeout:
        return "TooLate"
    return "PluggedIn" if evse in core._queue else "Idle"


def event_name(event: dict) -> str:
    """A session event, as the tables name it."""
    name = event["event"].rstrip(":")
    if name == "SessionStarted":
        name = event["session_started"]["reason"]
    return name if name in _EVENTS else "event"


def process_input(before: str, name: str) -> str:
    """An input, as a token in process sees it."""
    if name in ("validation_result", _OWN_TIMEOUT):
        return "validator" if before == "Validating" else "timeout"
    return "event" if name in _EVENTS else name


def grant_state(evse, grant) -> str:
    """The state of a token whose grant this was."""
    if evse.grant is not grant:
        return ""
    if evse.transaction_active:
        return "Charging"
    return "Withdrawn" if grant.withdrawn else "Granted"


class Watched(Authorizer):
    """`token_ways` and `evse_ways` are sets of (state, input, other state)."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.token_ways: set[tuple] = set()
        self.evse_ways: set[tuple] = set()
        self._finished: dict[int, str] = {}  # final status of a Process by its id

    def watch(self, name: str, call, *arguments):
        """Let `call` change the core, and note what it changed."""
        processes = {id(process): process for process in self._tokens}
        waited = {key: _IN_PROCESS[process.waits_for] for key, process in processes.items()}
        grants = [evse.grant for evse in self.evses]
        held = [evse.grant and grant_state(evse, evse.grant) for evse in self.evses]
        states = [evse_state(self, evse) for evse in self.evses]
        said = len(self.effects)
        self._finished = {}
        done = call(*arguments)
        if name == "session_event":
            name = "refused" if done else event_name(arguments[1])
        statuses = [effect[2] for effect in self.effects[said:] if effect[0] == STATUS]
        granted = {
            evse.grant.key: grant_state(evse, evse.grant)
            for evse, before in zip(self.evses, grants, strict=True)
            if evse.grant and evse.grant is not before
        }
        waits = {id(process): _IN_PROCESS[process.waits_for] for process in self._tokens}
        for key, process in processes.items():
            end = waits.get(key) or self._finished.get(key) or granted[process.key]
            before = waited[key]
            self._went(self.token_ways, before, process_input(before, name), end)
        if name == "provide_token" and statuses:
            ends = [waits[key] for key in waits if key not in waited] + list(granted.values())
            self._went(self.token_ways, "Provided", name, (ends + statuses[-1:])[0])
        for evse, grant, state in zip(self.evses, grants, held, strict=True):
            if grant and state != "Withdrawn":
                self._went(self.token_ways, state, name, self._end(evse, grant, state, statuses))
        if name in _OF_A_TOKEN:
            name = "token"
        for evse, before in zip(self.evses, states, strict=True):
            self._went(self.evse_ways, before, name, evse_state(self, evse))
        return done

    @staticmethod
    def _end(evse, grant, before: str, statuses: list) -> str:
        """Where a granted token came to."""
        end = grant_state(evse, grant)
        if end:
            return end
        if before == "Charging":
            return "Used"
        ends = [one for one in statuses if one in ("TimedOut", "Withdrawn")]
        return (ends + ["Unused"])[0]

    @staticmethod
    def _went(ways: set, before: str, name: str, after: str) -> None:
        if after != before:
            ways.add((before, name, after))

    def _finish(self, process, status, token=None):
        super()._finish(process, status, token)
        self._finished[id(process)] = status

    def _time_out(self, due, now):
        of_evse = any(evse.deadline == due for evse in self.evses)
        self.watch("timeout" if of_evse else _OWN_TIMEOUT, super()._time_out, due, now)


def _watched(name: str):
    def call(self, *arguments):
        # First all that is due, so that what the input changes is its own.
        self.poll(arguments[2] if name == "validation_result" else arguments[-1])
        return self.watch(name, getattr(super(Watched, self), name), *arguments)

    return call


class WatchedModel(Model):
    """A model that feeds such a core."""

    make = Watched


for _name in _INPUTS:
    setattr(Watched, _name, _watched(_name))
