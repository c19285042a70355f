"""Transport and scanner against the simulated chip, with a clock that the test moves."""

import random

import pytest

from tapauth.core.taps import REFUSED, TOKEN, TWO_CARDS
from tapauth.reader.scanner import BACK, LOST
from tapauth.reader.service import open_reader
from tools.pn532_sim import Chip, Clock, I2CPort

A, B = "04a1b2c3d4e5f6", "deadbeef"
CONFIG = {
    "bus": "i2c",
    "address": 36,
    "poll_ms": 50,
    "removal_ms": 2000,
    "restart_guard_ms": 3000,
    "uppercase": False,
    "heartbeat_ms": 2000,
}


class SlowBus:
    """An I2C of 100 kHz: each byte moves the clock; a transfer counts what it carried."""

    def __init__(self, port: I2CPort, clock: Clock):
        self.port, self.clock = port, clock
        self.transfers: list[int] = []

    def _spend(self, count: int) -> None:
        self.transfers.append(count)
        self.clock.move((count + 1) * 0.09)

    def writeto(self, address, data):
        self._spend(len(data))
        return self.port.writeto(address, data)

    def readfrom_into(self, address, buffer):
        self._spend(len(buffer))
        self.port.readfrom_into(address, buffer)


class Pin:
    def __init__(self, drive=None, sense=None):
        self.drive, self.sense = drive, sense

    def __call__(self, level=None):
        return self.sense() if level is None else self.drive(level)


class Bench:
    """A board with a simulated reader, run step by step."""

    def __init__(self, reset=False, irq=False, powered=True, **config):
        self.clock = Clock()
        self.chip = Chip(self.clock.now)
        self.chip.power(powered)
        self.bus = SlowBus(I2CPort(self.chip), self.clock)
        self.reset = Pin(drive=self.chip.reset_line) if reset else None
        self.irq = Pin(sense=self.chip.irq_line) if irq else None
        self.events: list[tuple[float, str, object]] = []
        self.scanner, self.taps = open_reader(self, {**CONFIG, **config}, self.note)
        self.most_transfers = 0
        self.due = 0.0

    def reader_bus(self, _config):
        return self.bus

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
        before, end = len(self.events), self.clock.now() + milliseconds
        while self.due <= end:
            self.clock.move(max(0, self.due - self.clock.now()))
            transfers = len(self.bus.transfers)
            delay = self.scanner.step(int(self.clock.now()))
            assert delay >= 0
            self.most_transfers = max(self.most_transfers, len(self.bus.transfers) - transfers)
            self.due = self.clock.now() + delay + 0.05
        self.clock.move(max(0, end - self.clock.now()))
        return [event[1:] for event in self.events[before:]]


@pytest.mark.parametrize("lines", [{}, {"irq": True}, {"reset": True}])
@pytest.mark.parametrize("uid", ["deadbeef", "04a1b2c3d4e5f6", "0102030405060708090a"])
def test_each_tap_is_one_token(uid, lines):
    bench = Bench(**lines)
    assert bench.run(1000) == []
    assert bench.scanner.firmware == bytes((0x32, 1, 6, 7))
    for _ in range(3):
        bench.chip.place(uid)
        assert bench.run(400) == [(TOKEN, uid)]
        bench.chip.lift()
        assert bench.run(2600) == []


def test_a_resting_card_is_one_token_and_a_removed_one_is_new_after_removal_ms():
    bench = Bench()
    bench.run(500)
    bench.chip.place(A)
    assert bench.run(60_000) == [(TOKEN, A)]
    bench.chip.lift()
    bench.run(1700)
    bench.chip.place(A)
    assert bench.run(5000) == [], "absent for less than removal_ms"
    bench.chip.lift()
    bench.run(2400)
    bench.chip.place(A)
    assert bench.run(1000) == [(TOKEN, A)]
    assert bench.scanner.bus_errors == 0


def test_two_cards_then_one_then_the_other():
    bench = Bench()
    bench.run(500)
    bench.chip.place(A)
    bench.chip.place(B)
    assert bench.run(3000) == [(TWO_CARDS, None)]
    bench.chip.lift(A)
    assert bench.run(3000) == []
    bench.chip.lift()
    bench.run(2500)
    bench.chip.place(B)
    assert bench.run(1000) == [(TOKEN, B)]


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ({"uid": "08010203"}, "random UID"),
        ({"uid": "00000000"}, "UID all 00"),
        ({"uid": "ffffffffffffff"}, "UID all FF"),
        ({"uid": "010203"}, "UID of 3 bytes"),
        ({"uid": "0102030405060708090a0b"}, "UID of 11 bytes"),
        ({"uid": B, "length": 7}, "wrong length byte"),
        ({"uid": A, "length": 4}, "wrong length byte"),
    ],
)
def test_refused_cards(card, reason):
    bench = Bench()
    bench.run(500)
    bench.chip.place(**card)
    assert bench.run(3000) == [(REFUSED, reason)]
    assert bench.scanner.bus_errors == 0


@pytest.mark.parametrize("lines", [{}, {"reset": True}, {"irq": True, "reset": True}])
def test_a_reader_plugged_in_after_the_boot_is_found(lines):
    bench = Bench(powered=False, **lines)
    events = bench.run(30_000)
    assert [event for event, _ in events] == [LOST]
    bench.chip.power(True)
    assert bench.run(2500) == [(BACK, None)]
    bench.chip.place(A)
    assert bench.run(200) == [(TOKEN, A)]


@pytest.mark.parametrize("lines", [{}, {"reset": True}])
def test_a_power_cut_is_told_once_and_healed_and_a_resting_card_stays_one_tap(lines):
    bench = Bench(**lines)
    bench.run(500)
    bench.chip.place(A)
    assert bench.run(1000) == [(TOKEN, A)]
    bench.chip.power(False)
    assert [event for event, _ in bench.run(20_000)] == [LOST]
    bench.chip.power(True)
    assert bench.run(5000) == [(BACK, None)]


def test_a_chip_that_forgot_its_set_up_is_set_up_again():
    bench = Bench()
    bench.run(1000)
    bench.chip.power(False)
    bench.chip.power(True)
    assert bench.chip.retries == 0xFF
    assert bench.run(3000) == [], "not worth a word: one failure, healed"
    assert bench.chip.retries == 0x28
    assert bench.scanner.bus_errors == 1
    bench.chip.place(A)
    assert bench.run(200) == [(TOKEN, A)]


def test_an_error_of_the_receiver_is_not_taken_for_one_of_the_reader():
    bench = Bench()
    bench.run(500)

    def fail(event, value, now):
        raise OSError("not the reader's")

    bench.scanner._on_event = fail
    bench.chip.place(A)
    with pytest.raises(OSError, match="not the reader's"):
        bench.run(200)
    assert bench.scanner.bus_errors == 0


@pytest.mark.parametrize("irq", [False, True])
def test_tap_to_token_takes_100_ms_at_most(irq):
    """The bus's own time included. A card comes at any time of the cycle, 500 times."""
    bench = Bench(irq=irq)
    rng = random.Random(1)
    bench.run(1000)
    took = []
    for i in range(500):
        bench.run(rng.uniform(0, 400))
        uid = "04" + i.to_bytes(6, "big").hex()
        bench.chip.place(uid)
        placed = bench.clock.now()
        bench.run(250)
        when, event, value = bench.events[-1]
        assert (event, value) == (TOKEN, uid)
        took.append(when - placed)
        bench.chip.lift()
    took.sort()
    print(f"tap to token, irq={irq}: median {took[250]:.0f} ms, longest {took[-1]:.0f} ms")
    assert took[-1] <= 100


def test_a_step_does_at_most_two_transfers_of_bounded_size():
    bench = Bench()
    bench.run(500)
    bench.chip.place(A)
    bench.chip.place(B)
    bench.run(5000)
    assert bench.most_transfers <= 2
    assert max(bench.bus.transfers) <= 41


def test_an_idle_reader_leaves_the_bus_alone_most_of_the_time():
    bench = Bench()
    bench.run(1000)
    bench.bus.transfers.clear()
    bench.run(10_000)
    busy = sum((count + 1) * 0.09 for count in bench.bus.transfers)
    print(f"bus busy {busy / 100:.1f} % of the time at 100 kHz, nobody there")
    assert busy < 500
