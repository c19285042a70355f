"""The reader's firmware on CPython against the simulated chip, on a clock that is moved.

rig = Rig("spi", irq=True)
rig.run(500)
rig.chip.place("04a1b2c3d4e5f6")
print(rig.run(200))                # [("token", "04a1b2c3d4e5f6")]
"""

from tapauth.core.taps import TOKEN
from tapauth.reader.task import open_reader
from tools.pn532.buses import I2CPort, Port, SPIPort, UARTPort
from tools.pn532.chip import Clock
from tools.pn532.faults import FaultyChip

CONFIG = {
    "address": 36,
    "poll_ms": 50,
    "removal_ms": 2000,
    "restart_guard_ms": 3000,
    "uppercase": False,
    "heartbeat_ms": 2000,
}
STEP_MS = 0.05
"""What a step itself takes, without its transfers."""


class Pin:
    """A line: an output calls `drive(level)`, an input asks `sense()`."""

    def __init__(self, drive=None, sense=None):
        self.drive, self.sense = drive, sense

    def __call__(self, level=None):
        return self.sense() if level is None else self.drive(level)


class Rig:
    """A board (boards/README.md) with a simulated reader, its scanner run step by step.

    `config` overrides single keys of the section "reader"; `lsb_first` is the SPI's ability.
    """

    def __init__(self, bus, reset=False, irq=False, powered=True, lsb_first=False, **config):
        self.clock = Clock()
        self.chip = FaultyChip(self.clock.now)
        self.chip.power(powered)
        move = self.clock.move
        self.port: Port
        if bus == "i2c":
            self.port = I2CPort(self.chip, wait=move)
        elif bus == "spi":
            self.port = SPIPort(self.chip, lsb_first, wait=move)
        else:
            self.port = UARTPort(self.chip)
        self.reset = Pin(drive=self.chip.reset_line) if reset else None
        self.irq = Pin(sense=self.chip.irq_line) if irq else None
        self.events: list[tuple[float, str, object]] = []
        self.scanner, self.taps = open_reader(self, {**CONFIG, "bus": bus, **config}, self.note)
        self.steps = 0
        self.most_transfers = 0
        """In one step."""
        self._due = 0.0

    def reader_bus(self, _config):
        self.port.renew()
        if isinstance(self.port, SPIPort):
            return self.port, self.port.cs, self.port.lsb_first
        return self.port

    def reset_pin(self, _config):
        return self.reset

    def irq_pin(self, _config):
        return self.irq

    def note(self, event, value, now):
        if event == TOKEN:
            value = value["id_token"]["value"]
        self.events.append((self.clock.now(), event, value))

    def run(self, milliseconds: float) -> list[tuple[str, object]]:
        """Let this time pass; returns the events that came in it."""
        clock, step, port = self.clock, self.scanner.step, self.port
        before, end = len(self.events), clock.now() + milliseconds
        while self._due <= end:
            clock.move(max(0.0, self._due - clock.now()))
            transfers = port.transfers
            delay = step(int(clock.now()))
            self.steps += 1
            self.most_transfers = max(self.most_transfers, port.transfers - transfers)
            self._due = clock.now() + delay + STEP_MS
        clock.move(max(0.0, end - clock.now()))
        return [event[1:] for event in self.events[before:]]


def tap_latencies(rig: Rig, rng, count: int) -> list[float]:
    """Milliseconds from a card in the field to its token, sorted; cards come at any moment.

    Raises AssertionError when one of them is not read within 250 ms.
    """
    took = []
    rig.run(1000)
    for i in range(count):
        rig.run(rng.uniform(0, 400))
        uid = "04" + i.to_bytes(6, "big").hex()
        rig.chip.place(uid)
        placed = rig.clock.now()
        rig.run(250)
        when, event, value = rig.events[-1]
        assert (event, value) == (TOKEN, uid)
        took.append(when - placed)
        rig.chip.lift()
    return sorted(took)
