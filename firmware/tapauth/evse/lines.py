"""EVSEs that are reached over the board's own lines: plugged and fault in, enable out.

The same session events and commands as over MQTT. A line EVSE has one connector and knows no
meter: it charges while its enable line is on, and the line is on only from an authorization on,
with a car plugged in and no fault. A restart, a fault or an unplug ends the authorization.
"""

from tapauth.compat import const, sleep_ms

_POLL_MS = const(10)


class Debounced:
    """An input that counts once it was the same for `settle_ms`; `level` is None until then."""

    def __init__(self, settle_ms: int):
        self.level: bool | None = None
        self._settle_ms = settle_ms
        self._seen: bool | None = None
        self._since = 0

    def feed(self, level: bool, now: int) -> bool:
        """Take a sample. True when `level` changed by it; `now` in milliseconds."""
        if level != self._seen:
            self._seen = level
            self._since = now
        if level == self.level or now - self._since < self._settle_ms:
            return False
        self.level = level
        return True


class LineEvse:
    """The state machine of one EVSE. `enable` is what its enable line must be now.

    What it has to report collects in `events`, SessionEvents as dicts, for the owner to take:
    a command may come from within the report of another event.
    """

    def __init__(self, settle_ms: int):
        self.enable = False
        self.events: list[dict] = []
        self._plugged = Debounced(settle_ms)
        self._fault = Debounced(settle_ms)
        self._was_faulty: bool | None = False
        self._authorized = False
        self._session = False

    def sense(self, plugged: bool, fault: bool, now: int) -> None:
        """Take a sample of both inputs; `now` in milliseconds."""
        if self._fault.feed(fault, now):
            self._fault_changed()
        if self._plugged.feed(plugged, now):
            if plugged:
                self._begin_session("EVConnected")
            else:
                self._end_transaction()
                self._authorized = False
                self._end_session()
        self._try_to_start()

    def command(self, command: dict) -> None:
        """Take a command object."""
        name = command["command"]
        if name == "authorize_response":
            if command["result"]["authorization_status"] == "Accepted":
                self._authorized = True
                self._begin_session("Authorized")
                if self._fault.level:
                    self._deauthorize()
                self._try_to_start()
        elif name == "withdraw_authorization":
            self._end_transaction()
            self._deauthorize()
        elif name == "stop_transaction":
            self._end_transaction()

    def _report(self, event: str) -> None:
        self.events.append({"event": event, "connector_id": 1})

    def _fault_changed(self) -> None:
        if self._fault.level:
            self._end_transaction()
            self._report("PermanentFault")
            if self._authorized:
                self._deauthorize()
        elif self._was_faulty:
            self._report("PermanentFaultCleared")
        self._was_faulty = self._fault.level

    def _begin_session(self, reason: str) -> None:
        if not self._session:
            self._session = True
            self._report("SessionStarted")
            self.events[-1]["session_started"] = {"reason": reason}

    def _end_session(self) -> None:
        if self._session:
            self._session = False
            self._report("SessionFinished")

    def _deauthorize(self) -> None:
        self._authorized = False
        self._report("Deauthorized")
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
            self._report("TransactionStarted")

    def _end_transaction(self) -> None:
        if self.enable:
            self.enable = False
            self._authorized = False
            self._report("TransactionFinished")


class LineEvses:
    """All line EVSEs of a board. `lines` holds (plugged, enable, fault) for each EVSE, pins that
    are called with a level or for one; `config` is the checked section "lines".

    `on_event(evse_id, event)` gets what the EVSEs report and returns why it is refused, or None.
    `refused` counts refused events.
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
        self.off()

    def link_up(self) -> None:
        """Nothing to say."""

    def tick(self, now: int) -> None:
        """run() does what is due, more often."""

    def message(self, topic: str, payload: bytes) -> bool:
        """No MQTT message is for these EVSEs."""
        return False

    def command(self, evse_id: int, command: dict) -> None:
        """Carry out a command object at once; what it brings is reported at the next poll."""
        if evse_id <= len(self._evses):
            self._evses[evse_id - 1].command(command)
            self._drive(evse_id - 1)

    def off(self) -> None:
        """Switch every enable line off, whatever was authorized."""
        for _, enable, _ in self._lines:
            enable(1 if self._enable_low else 0)

    def _drive(self, i: int) -> None:
        self._lines[i][1](1 if self._evses[i].enable != self._enable_low else 0)

    def poll(self, now: int) -> None:
        """Sample the inputs, drive the outputs, report; `now` in milliseconds."""
        for i, evse in enumerate(self._evses):
            plugged, _, fault = self._lines[i]
            evse.sense(plugged() != self._plugged_low, fault() != self._fault_low, now)
            self._drive(i)
            while evse.events:
                event = evse.events.pop(0)
                refusal = self._on_event(i + 1, event)
                if refusal:
                    self.refused += 1
                    self._log.warning("evse", "{} refused: {}", event["event"], refusal)

    async def run(self, beat) -> None:
        """Poll for ever; however it ends, the enable lines are off."""
        try:
            while True:
                self.poll(self._clock.now())
                beat()
                await sleep_ms(_POLL_MS)
        finally:
            self.off()
