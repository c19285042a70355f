"""Each fault on each bus, and a random storm of them for a day, on a clock that is moved."""

import gc
import os
import random
import sys

import pytest
from reader_storm import Storm

from tapauth.core.taps import TOKEN
from tapauth.reader.scanner import BACK, LOST
from tools.pn532.faults import FAULTS
from tools.rigs.reader_rig import Rig

A, B = "04a1b2c3d4e5f6", "deadbeef"
BUSES = ["i2c", "spi", "uart"]
HEAL_MS = 10_000
LASTING_MS = 15_000
HOURS = float(os.environ.get("TAPAUTH_STORM_HOURS", "24"))
"""Simulated hours of the storm, all buses together."""

every_bus = pytest.mark.parametrize("bus", BUSES)
every_fault = pytest.mark.parametrize("fault", sorted(FAULTS))


def kinds(events):
    return [event for event, _ in events]


class Short(list):
    """A list that finds no memory for the first thing that comes into it."""

    short = True

    def append(self, one):
        if self.short:
            self.short = False
            raise MemoryError
        super().append(one)


def assert_sound(rig: Rig) -> None:
    """It reads a new card at once, as one token."""
    rig.chip.lift()
    rig.run(2500)
    rig.chip.place(B)
    assert rig.run(2000) == [(TOKEN, B)]


@every_bus
@every_fault
@pytest.mark.parametrize("lines", [{"reset": True}, {"reset": True, "irq": True}, {}], ids=str)
def test_a_fault_that_lasts_is_told_once_and_its_end_too(bus, fault, lines):
    rig = Rig(bus, **lines)
    rig.run(1000)
    rig.chip.place(A)
    assert rig.run(1000) == [(TOKEN, A)]
    rig.chip.fail(fault, LASTING_MS)
    begun = rig.clock.now()
    during = rig.run(LASTING_MS)
    if bus == "uart" and fault == "garbage":
        assert during == [], "what comes before a frame is skipped"
        assert rig.scanner.noise > 50
    else:
        assert during[0][0] == LOST
        assert rig.events[1][0] - begun <= HEAL_MS
        assert rig.scanner.bus_errors >= 3
    after = rig.run(HEAL_MS)
    if during:
        assert kinds(during + after) == [LOST, BACK], "the resting card is no new tap"
        assert (rig.scanner.outages, rig.scanner.is_lost) == (1, False)
    assert_sound(rig)


@every_bus
@every_fault
@pytest.mark.parametrize("resting", [False, True], ids=["empty field", "a card rests"])
def test_a_fault_that_strikes_once_is_counted_and_healed(bus, fault, resting):
    rig = Rig(bus, reset=True)
    rig.run(1000)
    if resting:
        rig.chip.place(A)
        assert rig.run(1000) == [(TOKEN, A)]
    rig.chip.fail(fault, 3000 if fault in ("silence", "power") else 0)
    told = kinds(rig.run(HEAL_MS))
    assert told in ([], [LOST, BACK])
    if fault not in ("silence", "power", "stuck"):
        assert told == [], "one failure is not worth a word"
    assert rig.scanner.bus_errors or rig.scanner.noise
    if fault != "power" and rig.scanner.bus_errors:
        assert rig.chip.aborts > 1, "the command under way is ended"
    assert_sound(rig)


@every_bus
@every_fault
def test_a_card_that_comes_during_a_fault_is_read_after_it_once(bus, fault):
    rig = Rig(bus, reset=True)
    rig.run(1000)
    rig.chip.fail(fault, 3000)
    rig.run(1000)
    rig.chip.place(A)
    assert kinds(rig.run(HEAL_MS + 2000)).count(TOKEN) == 1


@every_bus
@pytest.mark.parametrize("lines", [{}, {"reset": True}, {"irq": True, "reset": True}], ids=str)
def test_a_reader_plugged_in_after_the_boot_is_found(bus, lines):
    rig = Rig(bus, powered=False, **lines)
    assert kinds(rig.run(30_000)) == [LOST]
    rig.chip.power(True)
    assert rig.run(2500) == [(BACK, None)]
    rig.chip.place(A)
    assert rig.run(200) == [(TOKEN, A)]


def test_an_event_that_there_is_no_memory_to_make_is_made_later():
    rig = Rig("spi", reset=True)
    rig.run(1000)
    rig.chip.power(False)
    for told in (LOST, BACK):
        rig.scanner._events = Short()
        with pytest.raises(MemoryError):
            rig.run(HEAL_MS)
        assert kinds(rig.run(HEAL_MS)) == [told]
        rig.chip.power(True)
    assert rig.scanner.outages == 1
    assert_sound(rig)


@every_bus
def test_a_chip_that_forgot_its_set_up_is_set_up_again(bus):
    rig = Rig(bus)
    rig.run(1000)
    rig.chip.fail("reset")
    assert rig.chip.retries == 0xFF
    assert rig.run(3000) == [], "not worth a word: one failure, healed"
    assert rig.chip.retries == 0x28
    assert rig.scanner.bus_errors == 1


def test_an_i2c_that_is_held_is_freed_without_a_reset_line():
    rig = Rig("i2c")
    rig.run(1000)
    rig.chip.fail("stuck")
    assert kinds(rig.run(HEAL_MS)) == [LOST, BACK]
    assert rig.scanner.resets == 1


@pytest.mark.parametrize("bus", ["spi", "uart"])
def test_a_line_held_by_the_chip_is_freed_by_the_reset_line_only(bus):
    for lines, told in (({"reset": True}, [LOST, BACK]), ({}, [LOST])):
        rig = Rig(bus, **lines)
        rig.run(1000)
        rig.chip.fail("stuck")
        assert kinds(rig.run(HEAL_MS)) == told
        assert (rig.chip.resets > 1) == bool(lines)


@pytest.mark.parametrize(
    ("bus", "lines", "share"),
    [
        ("i2c", {}, 0.2),
        ("i2c", {"reset": True, "irq": True}, 0.25),
        ("spi", {"reset": True}, 0.15),
        ("spi", {"reset": True, "irq": True}, 0.15),
        ("uart", {"reset": True}, 0.25),
    ],
    ids=str,
)
def test_a_storm_of_faults(bus, lines, share):
    """No tap is lost in the calm, none doubled, and nothing hangs or grows."""
    rig = Rig(bus, **lines)
    storm = Storm(rig.chip, random.Random("storm " + bus))
    end = HOURS * share * 3_600_000
    blocks = 0
    for pause in storm.play():
        for event, value in rig.run(pause):
            if event == TOKEN:
                storm.tokens[value] += 1
            else:
                assert event == (BACK if storm.lost else LOST), "told once, and cleared once"
                storm.lost = event == LOST
        rig.events.clear()
        if not blocks and rig.clock.now() > end / 10:
            gc.collect()
            blocks = sys.getallocatedblocks()
        if rig.clock.now() > end:
            break
    gc.collect()
    grown = sys.getallocatedblocks() - blocks
    hours = rig.clock.now() / 3_600_000
    scanner = rig.scanner
    print(
        f"{bus}: {hours:.1f} h, {rig.chip.failures / hours:.0f} faults/h, "
        f"{storm.must} taps in the calm, {scanner.bus_errors} errors, {scanner.outages} outages, "
        f"{scanner.resets} resets, {scanner.noise} bytes of noise, {grown} blocks grown"
    )
    assert rig.chip.failures / hours >= 1000
    assert storm.must > 100 * hours
    assert grown < 200
