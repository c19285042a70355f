"""The bundled scenario: what a charger's day is made of, and exactly what must come over MQTT."""

import json
import queue
import time

from tools.desk import console

FLEET_CARD = "04a1b2c3d4e5f6"
OTHER_CARD = "9c3a5501"
UNKNOWN_CARD = "04deadbeef0102"
MASTER_CARD = "04c0ffee12abcd"

# What happens, what a person would type for it, and the statuses that it must bring.
STEPS = (
    ("a car is plugged in at EVSE 1", ("plug 1",), ()),
    (
        "a known card starts",
        (f"tap {FLEET_CARD}",),
        ((FLEET_CARD, "Processing"), (FLEET_CARD, "Accepted"), (FLEET_CARD, "UsedToStart")),
    ),
    ("the transaction begins", ("lift", "start 1"), ()),
    (
        "the same card stops",
        (f"tap {FLEET_CARD}",),
        ((FLEET_CARD, "Processing"), (FLEET_CARD, "UsedToStop")),
    ),
    ("the car leaves", ("lift", "unplug 1"), ()),
    (
        "an unknown card is refused",
        (f"tap {UNKNOWN_CARD}",),
        ((UNKNOWN_CARD, "Processing"), (UNKNOWN_CARD, "Rejected")),
    ),
    (
        "another known card starts at EVSE 2",
        ("lift", "plug 2", f"tap {OTHER_CARD}"),
        ((OTHER_CARD, "Processing"), (OTHER_CARD, "Accepted"), (OTHER_CARD, "UsedToStart")),
    ),
    ("its transaction begins", ("lift", "start 2"), ()),
    (
        "the master-pass card stops it",
        (f"tap {MASTER_CARD}",),
        ((MASTER_CARD, "Processing"), (MASTER_CARD, "UsedToStop")),
    ),
    ("the car leaves", ("lift", "unplug 2"), ()),
)

# What the board commands: EVSE, command, and the member that tells most about it, if any. After
# a charge an EVSE loses what a repeated message may have brought it.
COMMANDS = (
    (1, "authorize_response", "Accepted"),
    (1, "stop_transaction", "Local"),
    (1, "withdraw_authorization", None),
    (2, "authorize_response", "Accepted"),
    (2, "stop_transaction", "MasterPass"),
    (2, "withdraw_authorization", None),
)

# What a board that drives its EVSEs itself does with their enable lines instead. Such an EVSE
# needs nobody who starts it.
SWITCHED = ((1, "on"), (1, "off"), (2, "on"), (2, "off"))

_STEP_TIMEOUT = 10.0
# Past the firmware's removal_ms and restart_guard_ms: a card held again sooner is no new tap.
_PAUSE = 3.5
_SETTLE = 1.0


class Watch:
    """Collects the statuses and the EVSE commands that come over MQTT."""

    def __init__(self, base: str):
        self.statuses: list[tuple[str, str]] = []
        self.commands: list[tuple[int, str, str | None]] = []
        self._base = base + "/evse/"
        self._news: queue.Queue = queue.Queue()

    def take(self, topic: str, payload: bytes) -> None:
        """Look at a message."""
        if topic.endswith("/e2m/token_validation_status"):
            message = json.loads(payload)
            self.statuses.append((message["token"]["id_token"]["value"], message["status"]))
            self._news.put(None)
        elif topic.startswith(self._base) and topic.endswith("/command"):
            message = json.loads(payload)
            if message["command"] == "withdraw_authorization" and not self.statuses:
                return  # the board's start: what EVSEs were authorized for before it ends
            detail = message.get("reason") or message.get("result", {}).get("authorization_status")
            evse_id = int(topic[len(self._base) :].partition("/")[0])
            self.commands.append((evse_id, message["command"], detail))

    def wait_for(self, count: int, seconds: float) -> bool:
        """Wait until `count` statuses have come."""
        deadline = time.monotonic() + seconds
        while len(self.statuses) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            try:
                self._news.get(timeout=left)
            except queue.Empty:
                return False
        return True


def _pass(charger, since: float, seconds: float) -> None:
    """Wait until so many seconds of the board have passed."""
    while charger.seconds() < since + seconds:
        time.sleep(0.05)


def play(charger, screen, patience: float = 1.0) -> int:
    """Play the scenario. Returns 0 when exactly the expected messages came, else 1.

    `patience`: how many times slower than a board what is played with may be.
    """
    watch = Watch(charger.base)
    show = charger.on_message
    by_lines = charger.config.get("evse_io") == "lines"

    def look(topic: str, payload: bytes) -> None:
        show(topic, payload)
        watch.take(topic, payload)

    charger.on_message = look
    expected: list[tuple[str, str]] = []
    lifted: dict[str, float] = {}
    for what, lines, statuses in STEPS:
        screen.say(what)
        for line in lines:
            if by_lines and line.startswith("start"):
                continue
            if line in lifted:
                _pass(charger, lifted[line], _PAUSE)
            console.obey(charger, line)
            if line == "lift":
                lifted = {tap: lifted[tap] or charger.seconds() for tap in lifted}
            elif line.startswith("tap"):
                lifted[line] = 0.0
            # As a person would: one thing after the other.
            _pass(charger, charger.seconds(), 0.2)
        expected += statuses
        if not watch.wait_for(len(expected), _STEP_TIMEOUT * patience):
            break
    _pass(charger, charger.seconds(), _SETTLE)
    second = (
        ("enable lines", list(SWITCHED), charger.switched)
        if by_lines
        else ("EVSE commands", list(COMMANDS), watch.commands)
    )
    return report(screen, (("token statuses", expected, watch.statuses), second))


def report(screen, findings) -> int:
    """Say what came and what did not: `findings` holds (what, wanted, came). Returns the exit
    code.
    """
    screen.say("summary")
    right = True
    for title, wanted, came in findings:
        missing = [item for item in wanted if item not in came]
        extra = [item for item in came if item not in wanted]
        if came == wanted:
            screen.say(f"  {title}: {len(came)} of {len(wanted)}, exactly as expected")
            continue
        right = False
        screen.say(f"  {title}: {len(came)} came, {len(wanted)} expected")
        for item in missing:
            screen.say("    missing: " + " ".join(str(part) for part in item))
        for item in extra:
            screen.say("    not expected: " + " ".join(str(part) for part in item))
        if not missing and not extra:
            screen.say("    in another order or number: " + repr(came))
    screen.say("the scenario passed" if right else "the scenario FAILED")
    return 0 if right else 1
