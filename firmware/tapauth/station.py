"""The shell around the authorization core: carries its effects to the edges, and wakes it.

Every input to the core goes through here, because every input may have effects, and effects are
carried out at once: commands to the EVSEs, requests to the validators, settings to the flash,
statuses to who publishes them. An effect may bring the next input before it is done, as a
validator that answers at once does. Such an input reaches the core at once too, but what it brings
is carried out behind what was there before (`_carrying`).

Effects of one kind keep their order. Of two kinds, what is to be done goes before what is to be
told: a status waits in `_untold` while there is anything else, also of an input that came on the
way. To write a status and its line of the log takes a board longer than to decide, and the driver
waits for the EVSE. So a card of the own list switches its EVSE before even its Processing is told.

An edge may fail, above all for want of memory. Then

* an effect does not keep those behind it from their turn: one of them may stop a charge;
* a status is lost, and the log says so;
* a grant whose command was lost times out now, and a request to a validator counts as failed, so
  that the driver hears of it and the EVSE holds nothing that the core believes it holds;
* a withdrawal, a stop or a setting is owed: noted in what was there from the start, one bit each,
  and paid at each wake() until it goes.

Debts to an EVSE come before whatever else is said to it, since a grant that follows must
not be taken back by a withdrawal from before it. A withdrawal and a stop are owed in that order;
a stop is only paid while the transaction runs, and without the card that stopped it.

Nothing here runs by itself but timers(), which wakes the core ten times a second and when
something is due.
"""

from tapauth.compat import const, sleep_ms
from tapauth.core import effects
from tapauth.core.evse import STATES

_LONGEST_SLEEP_MS = const(100)

# What an EVSE is owed.
_WITHDRAWAL = const(1)
_STOP = const(2)


class Station:
    """`core` is an Authorizer.

    The edges come with connect(): `on_status(token, status, messages)` publishes,
    `on_command(evse_id, command)` reaches an EVSE or raises MemoryError,
    `on_save(key, value)` keeps a setting, and `validators` are functions of (request_id, token)
    that lead to answer(), now or later.
    """

    def __init__(self, core, clock, log):
        self._core = core
        self._clock = clock
        self._log = log
        self._owed = bytearray(len(core.evses) + 1)  # by EVSE id
        self._carrying = False
        self._untold: list[tuple] = []  # statuses, in their order
        self._in_force = {
            "connection_timeout": core.settings.connection_timeout,
            "master_pass_group_id": core.settings.master_pass_group_id,
        }
        self._unsaved = {"connection_timeout": False, "master_pass_group_id": False}

    def in_force(self) -> dict:
        """The settings that commands change, by their names in the configuration, as they are."""
        return self._in_force

    def charging(self) -> list:
        """The ids of the EVSEs at which a transaction runs."""
        return [evse.id for evse in self._core.evses if evse.transaction_active]

    def authorized(self, evse_id: int) -> bool:
        """Whether there is an EVSE of that number, and it holds an authorization."""
        for evse in self._core.evses:
            if evse.id == evse_id:
                return evse.grant is not None
        return False

    def grant_ms(self) -> int:
        """How long an authorization is good for without a transaction, milliseconds."""
        return self._core.connection_timeout * 1000

    def connect(self, on_status, on_command, on_save, validators: list) -> None:
        """Join the edges, before the first input."""
        self._on_status = on_status
        self._on_command = on_command
        self._on_save = on_save
        self._validators = validators

    # Inputs. Those that may be refused return why, text for the log, or None.

    def provide_token(self, token) -> str | None:
        """A token provider (the reader) has a ProvidedIdToken."""
        refusal = self._core.provide_token(token, self._clock.now())
        self._carry_out()
        return refusal

    def answer(self, request_id: int, result: dict | None, settled: bool = False) -> str | None:
        """A validator has a ValidationResult, or None when it failed."""
        refusal = self._core.validation_result(request_id, result, self._clock.now(), settled)
        self._carry_out()
        return refusal

    def update(self, update) -> str | None:
        """A validator has a ValidationResultUpdate."""
        refusal = self._core.validation_result_update(update, self._clock.now())
        self._carry_out()
        return refusal

    def session_event(self, evse_id: int, event) -> str | None:
        """An EVSE reports a SessionEvent."""
        refusal = self._core.session_event(evse_id, event, self._clock.now())
        self._carry_out()
        if not refusal:
            try:
                self._log.info("auth", "EVSE {}: {}", evse_id, event["event"])
            except MemoryError:
                pass  # it is done all the same
        return refusal

    def evses_reached(self) -> None:
        """The EVSEs get what is said to them from now on, and what waited for them."""
        self._core.evses_reached(self._clock.now())
        self._carry_out()

    def take_back(self, evse_id: int) -> None:
        """An EVSE must not keep what it may have been authorized for."""
        self._owed[evse_id] |= _WITHDRAWAL
        self._pay()

    def commands_wait(self) -> None:
        """Commands may be on their way to the EVSEs still."""
        self._core.commands_wait(self._clock.now())

    def commands_leave(self) -> None:
        """There is a way to the EVSEs just now."""
        self._core.commands_leave(self._clock.now())

    def withdraw(self, request) -> str:
        """A WithdrawAuthorizationRequest; returns the WithdrawAuthorizationResult."""
        result = self._core.withdraw(request, self._clock.now())
        self._carry_out()
        try:
            self._log.info("auth", "withdraw authorization: {}", result)
        except MemoryError:
            pass  # it is done all the same
        return result

    def set_connection_timeout(self, seconds) -> bool:
        """Seconds, 10 to 300. False: refused."""
        done = self._core.set_connection_timeout(seconds, self._clock.now())
        self._carry_out()
        return done

    def set_master_pass_group_id(self, group_id) -> bool:
        """A string of at most 36 characters, empty for none. False: refused."""
        done = self._core.set_master_pass_group_id(group_id, self._clock.now())
        self._carry_out()
        return done

    def set_clock(self, unix_seconds: int | None, now: int) -> None:
        """The time of day became known."""
        self._core.set_clock(unix_seconds, now)
        self._carry_out()

    def evses(self) -> list:
        """The EVSEs as they are: number, states of the connectors, authorized, charging."""
        return [
            {
                "evseId": evse.id,
                "connectors": [STATES[state] for state in evse.connectors],
                "authorized": evse.grant is not None,
                "charging": evse.transaction_active,
            }
            for evse in self._core.evses
        ]

    def counters(self) -> dict:
        """What the core refused, by kind."""
        return self._core.counters

    # Effects.

    def _carry_out(self) -> None:
        if self._carrying:
            return  # an effect had another input: what that brings comes behind what was before
        self._carrying = True
        try:
            while self._carry_next():
                pass
        finally:
            self._carrying = False

    def _carry_next(self) -> bool:
        """Do all that is to be done now, or else tell one status. False: there is neither."""
        taken = self._core.take_effects()
        for effect in taken:
            try:
                if effect[0] == effects.STATUS:
                    self._untold.append(effect)  # a tap's three take no memory
                else:
                    self._carry(effect[0], effect)
            except Exception as error:
                # The effects behind it may stop somebody's charging: they come all the same.
                self._lost(effect, error)
        if not taken and self._untold:
            effect = self._untold.pop(0)
            try:
                _, token, status, messages = effect
                self._on_status(token, status, messages)
            except Exception as error:
                self._lost(effect, error)
            return True
        return bool(taken)

    def _lost(self, effect: tuple, error: Exception) -> None:
        kind = effect[0]
        # First what is owed, which takes no memory; the log may not find any.
        if kind == effects.WITHDRAW_AUTHORIZATION:
            self._owed[effect[1]] |= _WITHDRAWAL
        elif kind == effects.STOP_TRANSACTION:
            self._owed[effect[1]] |= _STOP
        elif kind == effects.AUTHORIZE_RESPONSE:
            _, evse_id, _, result = effect
            if result["authorization_status"] == "Accepted":
                self._core.command_lost(evse_id, self._clock.now())
        elif kind == effects.VALIDATE:
            self._core.validator_unreached(effect[1], self._clock.now())
        try:
            self._log.error("auth", "{}: an effect was lost, {}", kind, error)
            if not isinstance(error, MemoryError):
                self._log.trace(error)
        except MemoryError:
            pass

    def _carry(self, kind: str, effect: tuple) -> None:
        if kind == effects.VALIDATE:
            _, request_id, validator, token = effect
            self._validators[validator](request_id, token)
        elif kind == effects.SAVE:
            # In force though it may not be saved yet.
            _, key, value = effect
            self._in_force[key] = value
            self._unsaved[key] = True
            self._save(key)
        else:
            self._command(kind, effect)

    def _save(self, key: str) -> None:
        if self._unsaved[key]:
            self._on_save(key, self._in_force[key])
            self._unsaved[key] = False

    # Withdrawals and stops for which there was no memory are owed: they come before whatever else
    # is said to their EVSE, and are tried again until they go. So are settings to be saved.

    def _pay(self) -> None:
        for evse in self._core.evses:
            if self._owed[evse.id]:
                try:
                    self._pay_to(evse)
                except MemoryError:
                    pass  # next time
        try:
            for key in self._unsaved:
                self._save(key)
        except MemoryError:
            pass

    def _pay_to(self, evse) -> None:
        owed = self._owed[evse.id]
        # A debt is struck out when its command went, so that a MemoryError in between leaves it.
        if owed & _WITHDRAWAL:
            self._on_command(evse.id, {"command": effects.WITHDRAW_AUTHORIZATION})
            self._owed[evse.id] &= _STOP
        if owed & _STOP:
            if evse.transaction_active:  # else it has ended meanwhile
                command = {"command": effects.STOP_TRANSACTION, "reason": "DeAuthorized"}
                self._on_command(evse.id, command)
            self._owed[evse.id] = 0

    def _command(self, kind: str, effect: tuple) -> None:
        evse_id = effect[1]
        self._pay_to(self._core.evses[evse_id - 1])
        command = {"command": kind}
        if kind == effects.AUTHORIZE_RESPONSE:
            _, _, command["token"], command["result"] = effect
        elif kind == effects.STOP_TRANSACTION:
            _, _, command["reason"], token = effect
            if token is not None:
                command["id_tag"] = token
        self._on_command(evse_id, command)

    def wake(self) -> None:
        """Say what is owed and what an input left when it found no memory, and do what is due."""
        self._pay()
        self._core.poll(self._clock.now())
        self._carry_out()

    async def timers(self, beat) -> None:
        """Wake up when one of the core's deadlines is due, for ever."""
        while True:
            beat()
            self.wake()
            due = self._core.next_deadline()
            # An input may set an earlier deadline meanwhile; the shortest is 100 ms, and nobody
            # notices being late by as much.
            wait = _LONGEST_SLEEP_MS if due is None else due - self._clock.now()
            await sleep_ms(min(max(wait, 0), _LONGEST_SLEEP_MS))
