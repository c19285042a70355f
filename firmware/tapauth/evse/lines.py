"""EVSEs that are reached over the board's own lines: plugged and fault in, enable out.

Theory of operation. A LineEvse is a machine without I/O, with the session events and commands
that an EVSE has over MQTT. A line EVSE has one connector and no meter: it charges while its enable
line is on. Its states, by `_session`, `_authorized` and `enable`:

    idle         no session, line off
    plugged      a session began with a plug, and waits for an authorization
    authorized   a session that waits for whatever is missing: a car, or inputs that are known
    charging     authorized, plugged in, no fault: the line is on, a transaction runs

A plug or an authorization begins a session, an unplug ends it, and so does the loss of an
authorization without a car. A transaction ends with a stop, a withdrawal, a fault or an unplug; it
takes the authorization along, so that only a new one switches on again. How long an authorization
may wait for a car is for the core to say, which withdraws it.

Inputs are debounced, and unknown until they were quiet for that long: after a start, and after any
time in which nobody looked. In a conflict off wins:

* `enable` becomes true only where both inputs are known: plugged, and no fault. A fault that is
  not known yet counts as one.
* A fault is looked at before the plug, so a car and a fault at once do not charge. An
  authorization during a fault is given back at once.
* A command that switches off drives the line at once. One that switches on does so too, after a
  look at the inputs as a poll takes it; while nothing polls, it waits for that.
* Driving the line off needs no memory; reporting may. A report that there is no memory for is told
  again at the next poll, one that is refused or fails is not.
* When run() ends, for whatever reason, every line is off; five polls in a row without memory end
  it. When it starts again nothing is authorized.
"""

from tapauth.compat import const, sleep_ms

_POLL_MS = const(10)
_MOST_MISSED = const(5)  # polls in a row for which there is no memory
_PLUGGED_IN = "EVConnected"
_AUTHORIZED = "Authorized"


def session_event(name: str) -> dict:
    """The SessionEvent, a dict as over MQTT, that LineEvse.events has by this name."""
    if name in (_PLUGGED_IN, _AUTHORIZED):
        return {
            "event": "SessionStarted",
            "connector_id": 1,
            "session_started": {"reason": name},
        }
    return {"event": name, "connector_id": 1}


class Debounced:
    """An input that counts once it was the same for `settle_ms` milliseconds; `level` is None
    until then.
    """

    def __init__(self, settle_ms: int):
        self.level: bool | None = None
        self._settle_ms = settle_ms
        self._seen: bool | None = None
        self._since = 0

    def forget(self) -> None:
        """Forget the level: the input was not sampled for a while."""
        self.level = self._seen = None

    def feed(self, level: bool, now: int) -> bool:
        """Take a sample. True when `level` changed by it; `now` in milliseconds."""
        # Any bounce begins the time anew: a contact that chatters counts as it was.
        if level != self._seen:
            self._seen = level
            self._since = now
        if level == self.level or now - self._since < self._settle_ms:
            return False
        self.level = level
        return True


class LineEvse:
    """The state machine of one EVSE. `enable` is what its enable line must be now.

    Reports collect in `events`, by name, for the owner to tell and then take off: a command may
    come from within the report of another event. They are names, as an event that is a dict would
    need memory when it happens, and without that be lost.
    """

    def __init__(self, settle_ms: int):
        self.enable = False
        self.events: list[str] = []
        """Names of SessionEvents; a SessionStarted has its reason here: see session_event()."""
        self._plugged = Debounced(settle_ms)
        self._fault = Debounced(settle_ms)
        # Beside the debounced level, which unwatched() forgets: a fault that was told, and no
        # other, is told to be over.
        self._was_faulty: bool | None = False
        self._authorized = False
        self._session = False

    def unwatched(self) -> None:
        """End what was authorized: nobody has looked at the inputs for a while, so their levels
        are not known.
        """
        self._plugged.forget()
        self._fault.forget()
        self._end_transaction()
        if self._authorized:
            self._deauthorize()

    def sense(self, plugged: bool, fault: bool, now: int) -> None:
        """Take a sample of both inputs; `now` in milliseconds."""
        # Before the plug: a car that comes with a fault must not start anything.
        if self._fault.feed(fault, now):
            self._fault_changed()
        if self._plugged.feed(plugged, now):
            if plugged:
                self._begin_session(_PLUGGED_IN)
            else:
                self._end_transaction()
                self._authorized = False
                self._end_session()
        self._try_to_start()

    def command(self, command: dict) -> None:
        """Take a command object, a dict as over MQTT."""
        name = command["command"]
        if name == "authorize_response":
            if command["result"]["authorization_status"] == "Accepted":
                self._authorized = True
                self._begin_session(_AUTHORIZED)
                # Given back with an event, so that the core does not wait for a car.
                if self._fault.level:
                    self._deauthorize()
                self._try_to_start()
        elif name == "withdraw_authorization":
            self._end_transaction()
            self._deauthorize()
        elif name == "stop_transaction":
            self._end_transaction()

    def _fault_changed(self) -> None:
        if self._fault.level:
            self._end_transaction()
            self.events.append("PermanentFault")
            if self._authorized:
                self._deauthorize()
        elif self._was_faulty:
            self.events.append("PermanentFaultCleared")
        self._was_faulty = self._fault.level

    def _begin_session(self, reason: str) -> None:
        if not self._session:
            self._session = True
            self.events.append(reason)

    def _end_session(self) -> None:
        if self._session:
            self._session = False
            self.events.append("SessionFinished")

    def _deauthorize(self) -> None:
        self._authorized = False
        self.events.append("Deauthorized")
        # With a car there the session goes on, for another card.
        if not self._plugged.level:
            self._end_session()

    def _try_to_start(self) -> None:
        # Not `not fault`: before the inputs are known nothing starts.
        if (
            self._authorized
            and self._plugged.level
            and self._fault.level is False
            and not self.enable
        ):
            self.enable = True
            self.events.append("TransactionStarted")

    def _end_transaction(self) -> None:
        if self.enable:
            # First the line, which needs no memory; a report that fails must not keep it on.
            self.enable = False
            self._authorized = False
            self.events.append("TransactionFinished")


class LineEvses:
    """All line EVSEs of a board. `lines` holds (plugged, enable, fault) for each EVSE, pins that
    are called with a level (0 or 1) or for one; `config` is the checked section "lines".

    `on_event(evse_id, event)` gets the reports of the EVSEs, numbered from 1, and returns why one
    is refused, or None. `refused` counts refused events.
    """

    subscriptions = ()
    """These EVSEs need no MQTT topic."""

    def __init__(self, lines: list, config: dict, clock, log, on_event):
        self.refused = 0
        self._lines = lines
        self._plugged_low = config["plugged_low"]
        self._enable_low = config["enable_low"]
        self._fault_low = config["fault_low"]
        self._clock = clock
        self._log = log
        self._on_event = on_event
        self._evses = [LineEvse(config["debounce_ms"]) for _ in lines]
        self._polled = False  # whether run() polls, so that a line that is on is looked after
        # Before anything else can fail: a pin may come up on.
        self.off()

    def link_up(self) -> None:
        """Say nothing: these EVSEs are not told of the link."""

    def tick(self, now: int) -> None:
        """Do nothing: run() does what is due, more often."""

    def message(self, topic: str, payload: bytes) -> bool:
        """Take no MQTT message: none is for these EVSEs."""
        return False

    def command(self, evse_id: int, command: dict) -> None:
        """Carry out a command object at once. The next poll reports what came of it."""
        if evse_id <= len(self._evses):
            i = evse_id - 1
            evse = self._evses[i]
            evse.command(command)
            if evse.enable and self._polled:
                try:
                    self._sense(i, self._clock.now())
                except MemoryError:
                    return  # the next poll looks again
            if self._polled or not evse.enable:
                self._drive(i)

    def off(self) -> None:
        """Switch every enable line off, whatever was authorized."""
        for _, enable, _ in self._lines:
            enable(1 if self._enable_low else 0)

    def _sense(self, i: int, now: int) -> None:
        plugged, _, fault = self._lines[i]
        self._evses[i].sense(plugged() != self._plugged_low, fault() != self._fault_low, now)

    def _drive(self, i: int) -> None:
        self._lines[i][1](1 if self._evses[i].enable != self._enable_low else 0)

    def poll(self, now: int) -> None:
        """Sample the inputs, drive the outputs, report; `now` in milliseconds. Switching off
        needs no memory. Raises MemoryError, and whatever on_event() raises.
        """
        for i in range(len(self._evses)):
            self._sense(i, now)
            self._drive(i)  # before the reports, which may raise
            events = self._evses[i].events
            while events and self._tell(i + 1, events):
                pass

    def _tell(self, evse_id: int, events: list) -> bool:
        """Report the first event, which is off the list then. False: there was no memory for the
        event, which is to be told again.
        """
        try:
            refusal = self._on_event(evse_id, session_event(events[0]))
        except MemoryError:
            return False
        except Exception:
            events.pop(0)  # a fault elsewhere must not be met for ever
            raise
        name = events.pop(0)
        if refusal:
            self.refused += 1
            self._log.warning("evse", "{} refused: {}", name, refusal)
        return True

    async def run(self, beat) -> None:
        """Poll for ever; however that ends, the enable lines are off. Raises MemoryError, and
        whatever on_event() raises.
        """
        # The supervisor starts this task again after a failure: nothing was sampled meanwhile.
        for evse in self._evses:
            evse.unwatched()
        missed = 0
        self._polled = True
        try:
            while True:
                try:
                    self.poll(self._clock.now())
                    missed = 0
                except MemoryError:
                    # A poll without memory may not have looked at all EVSEs: not for long.
                    missed += 1
                    if missed == _MOST_MISSED:
                        raise
                beat()
                await sleep_ms(_POLL_MS)
        finally:
            self._polled = False
            self.off()
