"""Transports and scanner against the simulated chip, with a clock that the test moves."""

import random

import pytest

from tapauth.core.taps import REFUSED, TOKEN, TWO_CARDS
from tapauth.reader.scanner import BACK, LOST
from tapauth.reader.task import counters
from tools.pn532.buses import I2CPort
from tools.rigs.reader_rig import Rig, tap_latencies

A, B = "04a1b2c3d4e5f6", "deadbeef"
SETUPS = [
    {"bus": "i2c"},
    {"bus": "i2c", "irq": True},
    {"bus": "i2c", "reset": True},
    {"bus": "spi"},
    {"bus": "spi", "irq": True, "reset": True},
    {"bus": "spi", "lsb_first": True},
    {"bus": "uart"},
    {"bus": "uart", "reset": True},
]
BUSES = ["i2c", "spi", "uart"]


def name(setup):
    return " ".join([setup["bus"]] + [key for key in setup if key != "bus"])


@pytest.fixture(params=SETUPS, ids=name)
def rig(request):
    return Rig(**request.param)


@pytest.fixture(params=BUSES)
def plain(request):
    """A rig of each bus, no further lines."""
    return Rig(request.param)


@pytest.mark.parametrize("uid", ["deadbeef", "04a1b2c3d4e5f6", "0102030405060708090a"])
def test_each_tap_is_one_token(uid, rig):
    assert rig.run(1000) == []
    assert rig.chip.retries == 0x28, "it is set up to its last command"
    for _ in range(3):
        rig.chip.place(uid)
        assert rig.run(400) == [(TOKEN, uid)]
        rig.chip.lift()
        assert rig.run(2600) == []
    assert (rig.scanner.bus_errors, rig.scanner.noise) == (0, 0)


def test_a_resting_card_is_one_token_and_a_removed_one_is_new_after_removal_ms(plain):
    plain.run(500)
    plain.chip.place(A)
    assert plain.run(60_000) == [(TOKEN, A)]
    plain.chip.lift()
    plain.run(1700)
    plain.chip.place(A)
    assert plain.run(5000) == [], "absent for less than removal_ms"
    plain.chip.lift()
    plain.run(2400)
    plain.chip.place(A)
    assert plain.run(1000) == [(TOKEN, A)]
    assert plain.scanner.bus_errors == 0


@pytest.mark.parametrize("flicker_ms", [3, 17, 70, 400, 900])
def test_a_flickering_card_is_one_token(plain, flicker_ms):
    plain.run(500)
    plain.chip.place(A, flicker_ms=flicker_ms)
    assert plain.run(30_000) == [(TOKEN, A)]
    assert plain.scanner.bus_errors == 0


def test_two_cards_then_one_then_the_other(plain):
    plain.run(500)
    plain.chip.place(A)
    plain.chip.place(B)
    assert plain.run(3000) == [(TWO_CARDS, None)]
    plain.chip.lift(A)
    assert plain.run(3000) == []
    plain.chip.lift()
    plain.run(2500)
    plain.chip.place(B)
    assert plain.run(1000) == [(TOKEN, B)]


@pytest.mark.parametrize(
    ("card", "reason", "counted"),
    [
        ({"uid": "08010203"}, "random UID", None),
        ({"uid": "00000000"}, "UID all 00", None),
        ({"uid": "ffffffffffffff"}, "UID all FF", None),
        ({"uid": "010203"}, "UID of 3 bytes", "UID length"),
        ({"uid": "0102030405060708090a0b"}, "UID of 11 bytes", "UID length"),
        ({"uid": B, "length": 7}, "wrong length byte", None),
        ({"uid": A, "length": 4}, "wrong length byte", None),
    ],
)
def test_refused_cards(card, reason, counted, plain):
    plain.run(500)
    plain.chip.place(**card)
    assert plain.run(3000) == [(REFUSED, reason)]
    assert plain.scanner.bus_errors == 0
    assert counters(plain.scanner, plain.taps)["cards_refused"] == {counted or reason: 1}


def test_an_error_of_the_receiver_is_not_taken_for_one_of_the_reader(plain):
    plain.run(500)

    def fail(event, value, now):
        raise OSError("not the reader's")

    plain.scanner._on_event = fail
    plain.chip.place(A)
    with pytest.raises(OSError, match="not the reader's"):
        plain.run(200)
    assert plain.scanner.bus_errors == 0


def test_tap_to_token_takes_100_ms_at_most(rig):
    """The bus's own time included."""
    took = tap_latencies(rig, random.Random(1), 300)
    print(f"tap to token: median {took[150]:.0f} ms, longest {took[-1]:.0f} ms")
    assert took[-1] <= 100


def test_a_broken_irq_wire_makes_taps_slow_and_loses_none():
    rig = Rig("spi", irq=True)
    rig.irq.sense = lambda: 1
    rig.run(1000)
    for uid in (A, B, "cafe0001"):
        rig.chip.place(uid)
        assert rig.run(1000) == [(TOKEN, uid)]
        rig.chip.lift()
        rig.run(100)
    assert rig.scanner.bus_errors == 0


def test_a_step_does_at_most_two_transfers_of_bounded_size(rig):
    rig.run(500)
    rig.chip.place(A)
    rig.chip.place(B)
    rig.run(5000)
    # An SPI's opcode and data count as two here; a UART's reads are not transfers.
    assert rig.most_transfers <= (2 if isinstance(rig.port, I2CPort) else 4)
    assert rig.port.longest <= 42


@pytest.mark.parametrize("irq", [False, True])
@pytest.mark.parametrize("bus", ["i2c", "spi"])
def test_an_idle_reader_leaves_the_bus_alone_most_of_the_time(bus, irq):
    rig = Rig(bus, irq=irq)
    rig.run(1000)
    before = rig.port.spent_ms
    rig.run(10_000)
    busy = (rig.port.spent_ms - before) / 100
    print(f"bus busy {busy:.1f} % of the time, nobody there")
    assert busy < (5 if bus == "i2c" else 0.6)


def test_a_clock_stretched_for_milliseconds_and_a_busy_chip_that_does_not_acknowledge():
    rig = Rig("i2c")
    rig.port.stretch_ms = 1.0
    rig.port.nack_busy = True
    took = tap_latencies(rig, random.Random(2), 50)
    assert took[-1] <= 100
    assert rig.scanner.bus_errors == 0


def test_frames_in_fragments_on_the_uart():
    rig = Rig("uart")
    rig.port.gap_ms = 1.3
    took = tap_latencies(rig, random.Random(2), 50)
    assert took[-1] <= 150
    assert (rig.scanner.bus_errors, rig.scanner.noise) == (0, 0)


@pytest.mark.parametrize("bus", ["i2c", "spi", "uart"])
def test_a_bus_that_the_board_cannot_set_up_at_first(bus):
    class Late(Rig):
        failures = 12

        def reader_bus(self, config):
            if self.failures:
                self.failures -= 1
                raise OSError(5)
            return super().reader_bus(config)

    rig = Late(bus)
    rig.run(20_000)
    assert [event for _, event, _ in rig.events] == [LOST, BACK]
