"""Tells the driver by lamp and buzzer what goes on: which outputs are on, and when they change.

A pattern is a row of steps. READING, ACCEPTED and REFUSED are shown from the moment they are
asked for, the newest instead of the one before; without one of them the gravest condition is
shown: FAULT, OFFLINE or, without either, READY.
"""

from tapauth.compat import const, sleep_ms

READY = "ready"
READING = "reading"
"""A card was read, the decision is under way."""
ACCEPTED = "accepted"
REFUSED = "refused"
OFFLINE = "offline"
"""Condition: nobody is connected who learns of taps."""
FAULT = "fault"
"""Condition: no card can be read."""

GREEN = const(1)
RED = const(2)
BUZZER = const(4)

_TENTH_MS = const(100)
_FOR_EVER = const(0)

# The letters of a pattern's steps: the place of each is the sum of its outputs. Capitals beep.
_OUTPUTS = " gry?GR"
# (name, times that it is shown, steps of a tenth of a second). The conditions come first, the
# gravest at the end.
_PATTERNS = (
    (READY, _FOR_EVER, "g" + 29 * " "),
    (OFFLINE, _FOR_EVER, "y" + 14 * " "),  # green and red
    (FAULT, _FOR_EVER, "rrrrr     "),
    (READING, 100, "g "),
    (ACCEPTED, 1, "GG" + 28 * "g"),
    (REFUSED, 1, "RrRrR" + 16 * "r"),
)
_CONDITIONS = const(3)  # of the patterns

_LOOK_MS = const(50)
"""The task looks this often, so a pattern that begins between two looks soon finds its pace."""


class Feedback:
    """`port(pattern, outputs)` drives the board: `outputs` are the sum of GREEN, RED and BUZZER
    that are on, `pattern` is the name for boards that show words. It must return at once; it is
    called only when one of the two changes. Times are in milliseconds.
    """

    def __init__(self, port):
        self._port = port
        self._conditions = 1  # READY is always met; a bit for each pattern up to FAULT
        self._pattern = 0
        self._began = 0
        self._shown = None

    def show(self, name: str, now: int) -> None:
        """Show READING, ACCEPTED or REFUSED from now on; the outputs change within this call."""
        self._begin(self._find(name), now)

    def condition(self, name: str, met: bool, now: int) -> None:
        """OFFLINE or FAULT begins or ends."""
        bit = 1 << self._find(name)
        self._conditions = self._conditions | bit if met else self._conditions & ~bit
        if self._pattern < _CONDITIONS:
            self._fall_back(now)

    def step(self, now: int) -> None:
        """Do what is due; to be called every 50 ms or so."""
        name, times, steps = _PATTERNS[self._pattern]
        passed = (now - self._began) // _TENTH_MS
        if times and passed >= times * len(steps):
            self._fall_back(now)
            return
        outputs = _OUTPUTS.find(steps[passed % len(steps)])
        if self._shown != (name, outputs):
            self._shown = (name, outputs)
            self._port(name, outputs)

    def _find(self, name: str) -> int:
        for number, pattern in enumerate(_PATTERNS):
            if pattern[0] == name:
                return number
        raise ValueError(name)

    def _fall_back(self, now: int) -> None:
        pattern = _CONDITIONS - 1
        while not self._conditions >> pattern & 1:
            pattern -= 1
        if pattern != self._pattern or self._shown is None:
            self._begin(pattern, now)

    def _begin(self, pattern: int, now: int) -> None:
        self._pattern = pattern
        self._began = now
        self.step(now)


async def run(feedback: Feedback, clock, beat) -> None:
    """Keep the patterns going for ever. `clock.now()` is the time in milliseconds."""
    while True:
        feedback.step(clock.now())
        beat()
        await sleep_ms(_LOOK_MS)
