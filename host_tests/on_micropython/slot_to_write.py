"""Which slot may be written, in every state of the record. Runs on MicroPython.

While a firmware runs it is never its own, nor any unless the firmware is confirmed and whole.
After a soft reset, with which a deployment begins, it is one whose loss leaves a whole firmware.
"""

import os
import sys

from flash_sim import SETTINGS
from update_rig import (
    NEW,
    OWN,
    boot,
    copy,
    fill,
    mounted,
    on_board,
    read,
    soft_reset,
    start,
    tapauth_slot,
    write,
)

CONFIRMED, TRIALS = boot.CONFIRMED, boot.TRIALS


def given():
    """The slot that is given out, or the refusal. A refusal changes nothing."""
    before = record_text()
    try:
        slot = boot.prepare()
    except boot.Unsound as reason:
        assert record_text() == before
        return str(reason)
    if tapauth_slot.running:
        assert slot != tapauth_slot.running and record_text() == before
    return slot


def record_text():
    try:
        return read("/slot")
    except OSError:
        return None


def runs(slot, confirmed=True):
    """`slot` runs, and the other one is whole."""
    fill("a", "in a", 5)
    fill("b", "in b", 9)
    soft_reset()
    boot.activate(slot)
    assert start() == "in " + slot and tapauth_slot.on_trial()
    if confirmed:
        assert tapauth_slot.confirm()


def unconfirmed(slot):
    """Every way to run and not to be confirmed: (what it is, the answer after a soft reset)."""
    runs(slot, False)
    yield "on trial, the other whole", slot
    runs(slot, False)
    copy("/" + boot.other(slot) + "/manifest", b"damaged")
    yield "on trial, the other damaged", boot.other(slot)
    runs(slot)
    assert boot.rollback() == boot.other(slot)
    yield "rolled back, not restarted", slot
    runs(slot)
    boot.activate(boot.other(slot))
    yield "another one activated, not restarted", boot.other(slot)
    for damage in (None, b"", b"a -1 00000000\n", b"c -1 x\n"):
        runs(slot)
        if damage is None:
            os.remove("/slot")
        else:
            copy("/slot", damage)
        # The newer one, in b, would start on trial: so that one is given up for the other.
        yield f"the record lost: {damage}", "b"


def main():
    mounted(SETTINGS[sys.argv[1]], 256)
    write(OWN)
    write(NEW)
    count = 0
    for slot in "ab":
        other = boot.other(slot)
        for what, after in unconfirmed(slot):
            assert given() == f"slot {slot} runs and is not confirmed", what
            soft_reset()
            assert given() == after, what
            # What is kept starts, whole.
            assert boot.is_sound(boot.other(after)), what
            assert start() == "in " + boot.other(after), what
            count += 1

        runs(slot)
        assert given() == other
        copy("/" + other + "/manifest", b"half a deployment")
        assert given() == other
        # Nothing has to be written for it.
        os.mkdir("/slot.new")
        assert given() == other
        os.rmdir("/slot.new")
        # Damaged, it is not written while it runs, and the other one is all there is.
        runs(slot)
        copy("/" + slot + "/tapauth", b"damaged")
        assert given() == "tapauth is not what was signed"
        soft_reset()
        assert on_board.prepare() == slot
        assert boot.read_record() == (other, TRIALS) and start() == "in " + other
        count += 4
    print("states:", count)


main()
