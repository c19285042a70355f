"""The shell around the authorization core: carries its effects to the edges, and wakes it.

Every input to the core goes through here, because every input may have effects, and effects are
carried out at once, in their order.
"""

from tapauth.compat import sleep_ms
from tapauth.core import effects

_LONGEST_SLEEP_MS = 1000


class Station:
    """`core` is an Authorizer; `validators` answer `validate(token) -> (result, settled)`.

    The edges come with connect(): `on_status(token, status, messages)` publishes,
    `on_command(evse_id, command)` reaches an EVSE.
    """

    def __init__(self, core, clock, log, validators: list):
        self._core = core
        self._clock = clock
        self._log = log
        self._validators = validators

    def connect(self, on_status, on_command) -> None:
        """Join the edges, before the first input."""
        self._on_status = on_status
        self._on_command = on_command

    # Inputs. They return why the core refuses what it got, text for the log, or None.

    def provide_token(self, token: dict) -> str | None:
        """A token provider (the reader) has a ProvidedIdToken."""
        refusal = self._core.provide_token(token, self._clock.now())
        self._carry_out()
        return refusal

    def session_event(self, evse_id: int, event: dict) -> str | None:
        """An EVSE reports a SessionEvent."""
        refusal = self._core.session_event(evse_id, event, self._clock.now())
        if not refusal:
            self._log.info("auth", "EVSE {}: {}", evse_id, event["event"])
        self._carry_out()
        return refusal

    def _carry_out(self) -> None:
        while True:
            taken = self._core.take_effects()
            if not taken:
                return
            for effect in taken:
                self._carry(effect[0], effect)

    def _carry(self, kind: str, effect: tuple) -> None:
        if kind == effects.STATUS:
            _, token, status, messages = effect
            self._log.info("auth", "{}: {}", token, status)
            self._on_status(token, status, messages)
        elif kind == effects.VALIDATE:
            _, request_id, validator, token = effect
            result, settled = self._validators[validator].validate(token)
            self._core.validation_result(request_id, result, self._clock.now(), settled)
        else:
            self._command(kind, effect)

    def _command(self, kind: str, effect: tuple) -> None:
        command = {"command": kind}
        if kind == effects.AUTHORIZE_RESPONSE:
            command["token"] = effect[2]
            command["result"] = effect[3]
        elif kind == effects.STOP_TRANSACTION:
            command["reason"] = effect[2]
            if effect[3] is not None:
                command["id_tag"] = effect[3]
        self._on_command(effect[1], command)

    async def timers(self, beat) -> None:
        """Wake the core when one of its deadlines is due, for ever."""
        while True:
            beat()
            now = self._clock.now()
            due = self._core.next_deadline()
            if due is not None and due <= now:
                self._core.poll(now)
                self._carry_out()
                await sleep_ms(0)
                continue
            wait = _LONGEST_SLEEP_MS if due is None else min(due - now, _LONGEST_SLEEP_MS)
            # An input may set an earlier deadline meanwhile; deadlines are in whole seconds, so
            # being late by a fifth of one is not noticed.
            await sleep_ms(min(wait, 200))
