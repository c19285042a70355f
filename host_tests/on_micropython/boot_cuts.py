"""Scenarios for power_cuts.py: the boot part is replaced, by itself or in a deployment.

On a littlefs that is mounted at /, from which the boot part is really started. After each cut
every file of the boot part must be of one of the versions, and the slot that the record says must
start; so must the other, when the record says that one.
"""

import boot_rig
from boot_rig import (
    CONFIRMED,
    VERSIONS,
    activate,
    boot,
    copy,
    fill,
    flat,
    on_board,
    own_files,
    power_on,
    replace,
    starts_either_slot,
    version_of,
)
from power_cuts import Scenario
from update_rig import as_on_a_board


class BootCuts(Scenario):
    """The parts of all: `before()` makes what the flash holds, `act()` is what is cut. A start
    finds one of `meanwhile`, or `last` when all was done. `again()` repeats it all after a cut.
    """

    blocks = 96
    root = "/"
    steady = False  # starts of a firmware on trial are counted
    slow = True
    always = False  # it is repeated after every cut, not after some of them
    meanwhile: tuple = ()
    last = ""

    def prepare(self, board):
        as_on_a_board()
        self.before()

    def changes(self, board):
        yield self.meanwhile
        self.act()
        yield (self.last,)

    def fits(self, found, expected, again):
        return found in expected

    def label(self, found, before):
        return found

    def go_on(self, board, found, point):
        """The replacement can be repeated, whichever step was cut."""
        if self.always or point % 16 == 0:
            self.again()

    def check_all(self, found):
        assert self.last in found and len(found) > 1, "some cuts leave the old one, others the new"


class Replacement(BootCuts):
    """A boot part is replaced by another version; `slots` are whole, the record says `slot` and
    `left`. `half` is a version of which every other file is in place.
    """

    def __init__(self, old, new, slot, left, slots="ab", half=None):
        self.old = old
        self.slot = slot
        self.left = left
        self.slots = slots
        self.half = half
        self.last = new
        self.versions = [one for one in (old, half, new) if one]
        self.meanwhile = tuple(self.versions + ["mixed"])
        self.steady = left == CONFIRMED
        self.seen: list = []

    def before(self):
        boot_rig.board(self.old, self.slot, self.left, self.slots)
        if self.half:
            for name in ("boot_hal.py", "tapauth_boot.py", "main.py"):
                copy("/" + name, VERSIONS[self.half][name])

    def act(self):
        assert replace(self.last) == ""
        assert boot.read_record() == (self.slot, self.left)

    def state(self, board):
        own_files()
        version = version_of(self.versions)
        record = boot.read_record()
        build, running, trial, after = power_on()
        assert (build, running) == ("in " + self.slot, self.slot)
        assert trial == (self.left != CONFIRMED)
        return version, record, after

    def fits(self, found, expected, again):
        # `expected` begins with a version also when it is what the start before this one found.
        version, record, after = found
        slot, left = record
        # A start on trial that was cut may have been paid.
        paid = again and self.left != CONFIRMED and left == self.left - 1
        rest = left if left == CONFIRMED else left - 1
        return (
            version in expected
            and slot == self.slot
            and (left == self.left or paid)
            and after == (slot, rest)
        )

    def label(self, found, before):
        return found[0]

    def go_on(self, board, found, point):
        # All that may start takes longer, so not at each of the cuts that leave the same files.
        seen = self.seen
        seen.append(on_board.boot_files())
        if self.slots == "ab" and (seen.count(seen[-1]) < 4 or len(seen) % 16 == 0):
            starts_either_slot()
        boot.write_record(self.slot, self.left)
        super().go_on(board, found, point)

    def again(self):
        on_board.clear_staged()
        assert replace(self.last) == ""
        assert version_of([self.last]) == self.last
        assert not on_board.exists(on_board.STAGED)
        assert power_on()[0] == "in " + self.slot


class First(BootCuts):
    """The first deployment onto the layout before slots, from a filled slot on."""

    always = True
    meanwhile = ("flat", "in a")
    last = "in a"

    def before(self):
        flat()
        fill("a", "in a")
        assert not on_board.has_boot_part()

    def act(self):
        assert replace("now") == ""
        assert activate("a") == ""
        assert power_on()[0] == "in a"

    def state(self, board):
        own_files()
        build, *_ = power_on()
        if on_board.has_boot_part():
            assert version_of(["now"]) == "now"
        else:
            assert build == "flat", build
        return build

    def again(self):
        on_board.clear_staged()
        self.act()
        assert not on_board.exists(on_board.STAGED)

    def check_all(self, found):
        assert len(found) == 2, "a cut before the last step must leave the old one"


class WholeDeployment(BootCuts):
    """A slot is filled, the boot part replaced, the slot switched."""

    meanwhile = ("in a", "in b")
    last = "in b"

    def before(self):
        boot_rig.board("before", "a", CONFIRMED, "a")

    def act(self):
        fill("b", "in b")
        assert replace("now") == ""
        assert activate("b") == ""

    def state(self, board):
        own_files()
        build, *_ = power_on()
        if build == "in b":
            assert version_of(["now"]) == "now", "switched before it was replaced"
        else:
            version_of(["before", "now"])
        return build

    def again(self):
        on_board.clear_staged()
        on_board.clear("b", {})
        self.act()
        assert power_on()[0] == "in b"

    def check_all(self, found):
        assert len(found) == 2, "a cut before the last step must leave the old one"


SCENARIOS = {
    "boot_a": Replacement("before", "now", "a", CONFIRMED),
    "boot_b": Replacement("before", "now", "b", CONFIRMED),
    "boot_only": Replacement("before", "now", "b", 2, "b"),
    "boot_newer": Replacement("now", "newer", "a", CONFIRMED),
    "boot_back": Replacement("newer", "before", "b", CONFIRMED),
    "boot_half": Replacement("before", "now", "a", CONFIRMED, half="newer"),
    "boot_first": First(),
    "boot_deploy": WholeDeployment(),
}
