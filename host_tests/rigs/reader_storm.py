"""A day in a bad life of a card reader: storms of faults with calm in between, from a seed.

In a storm faults of all kinds fall, one upon the other, and cards come and go. After it the
reader has ten seconds to heal; then cards are tapped, and each tap must be one token, and at no
time may a card make a token twice.
"""

from collections import Counter

from tools.pn532.faults import FAULTS, FaultyChip

STORM_MS = 40_000
HEAL_MS = 10_000
LONGEST_MS = {"silence": 5000, "power": 5000, "reset": 400, "stuck": 4000}


class Storm:
    """`play()` acts on the chip and yields the milliseconds until it acts again; whoever runs it
    puts every token's UID into `tokens`, and sets `lost` as the reader tells it.
    """

    def __init__(self, chip: FaultyChip, rng):
        self.chip, self.rng = chip, rng
        self.tokens: Counter[str] = Counter()
        self.lost = False
        self.must = 0
        """Taps that had to be read, and were."""
        self.cycles = 0
        self._serial = 0
        self._here = ""

    def play(self):
        """For ever. Raises AssertionError when a token is missing or doubled."""
        while True:
            yield from self._blow()
            self.chip.mend()
            yield HEAL_MS
            where = f"after storm {self.cycles}"
            assert not self.lost, f"{where}: not healed"
            if self._here:
                # It rested through the end of the storm, so it was to be read by now.
                assert self.tokens[self._here] == 1, f"{where}: {self.tokens[self._here]} tokens"
                self.must += 1
            self._lift(1)
            yield 2700
            for _ in range(3):
                yield from self._tap(where)
            self.tokens.clear()
            self.cycles += 1

    def _blow(self):
        rng, passed = self.rng, 0.0
        while passed < STORM_MS:
            pause = rng.expovariate(1 / 1200)
            passed += pause
            yield pause
            if rng.random() < 0.3:
                if self._here:
                    self._lift(1)
                else:
                    self._place(rng.choice((0, 0, 0, 20, 90, 300)))
            kind = rng.choice(sorted(FAULTS))
            longest = LONGEST_MS.get(kind, 3000)
            lasts = kind in ("silence", "power") or rng.random() < 0.4
            self.chip.fail(kind, rng.uniform(1, longest) if lasts else 0)

    def _tap(self, where: str):
        """One card, tapped once or twice with a proper absence in between."""
        uid = self._place(0)
        times = self.rng.choice((1, 2))
        for count in range(1, times + 1):
            yield self.rng.uniform(150, 900)
            assert self.tokens[uid] == count, (
                f"{where}: {self.tokens[uid]} tokens for {count} taps"
            )
            self._lift(count)
            yield self.rng.uniform(2450, 3000) if count < times else self.rng.uniform(50, 900)
            if count < times:
                self.chip.place(uid)
                self._here = uid
        self.must += times

    def _place(self, flicker_ms: float) -> str:
        self._serial += 1
        self._here = "04" + self._serial.to_bytes(6, "big").hex()
        self.chip.place(self._here, flicker_ms=flicker_ms)
        return self._here

    def _lift(self, most: int) -> None:
        assert self.tokens[self._here] <= most, f"{self._here}: {self.tokens[self._here]} tokens"
        self.chip.lift()
        self._here = ""
