"""Scenarios for power_cuts.py: an update, and the starts after it.

On a littlefs that is mounted at /, with the boot part and the code that a deployment runs on a
board. After each cut the board must choose a slot that is whole, old or new, and the board's own
files must be as they were.
"""

import os

import boot_rig  # noqa: F401  (a chip's modules, which a boot part that is tried wants)
from power_cuts import Scenario
from update_rig import (
    KEY,
    NEW,
    OLD_FLAT,
    OWN,
    as_on_a_board,
    confirmed,
    copy,
    deploy,
    firmware,
    on_board,
    start,
    tapauth_slot,
    write,
)

from tapauth.crypto import sitekey


def on_trial():
    confirmed()
    deploy("new")


def flat():
    write(OWN)
    write(OLD_FLAT)
    write({"/main.py": b"# old"})


def starts_and_confirms():
    assert start() == "new"
    assert start() == "new"
    assert tapauth_slot.confirm()
    assert start() == "new"


def starts_and_falls_back():
    for expected in ("new", "new", "new", "old", "old"):
        assert start() == expected


def again_while_on_trial():
    assert start() == "new"
    deploy("newest")
    assert start() == "newest"


def back():
    assert on_board.rollback() == ("a", "")
    assert start() == "older"


def damaged():
    """A bit of the running slot has flipped, which nobody has read since the start."""
    confirmed()
    files, _ = firmware("old")
    copy("/b/tapauth", b"x" + files["tapauth"][1:])


def repair():
    deploy("new")
    assert start() == "new"


def first_update():
    deploy("new")
    assert start() == "new"


def after_the_first():
    flat()
    deploy("new")
    start()
    tapauth_slot.confirm()


def both_keys():
    """As tools/provision.py does it, and then as the firmware and deployments mend a copy."""
    for path, data in sitekey.key_copies(KEY):
        copy(path + ".new", data)
        on_board.put_in_place([path[1:]])
    for path, _ in sitekey.key_copies(KEY):
        os.remove(path)
        if path == sitekey.KEY:
            # The one that is left is enough.
            assert start() == "old"
        sitekey.mend_key(sitekey.site_key())
    assert start() == "old"


def clean_up():
    on_board.remove_flat()
    assert start() == "new"


class Update(Scenario):
    """`before()` makes what the flash holds, `cut()` is what is cut; `builds` may start meanwhile,
    and `last` is what starts when all of it was done.
    """

    blocks = 96
    root = "/"
    steady = False  # starts of a firmware on trial are counted
    slow = True

    def __init__(self, before, cut, builds, last, both=False, always=False, keys=False):
        self.before = before
        self.act = cut
        self.builds = builds
        self.last = last
        self.both = both  # some cuts must leave the old one, others the new one
        self.always = always  # a deployment is tried after every cut, not after some of them
        self.keys = keys  # the site's key is what is changed

    def prepare(self, board):
        as_on_a_board()
        self.before()

    def changes(self, board):
        yield self.builds
        self.act()
        yield (self.last,)

    def fits(self, found, expected, again):
        return found in expected

    def label(self, found, before):
        return found

    def state(self, board):
        """What must hold whenever the power comes back. Returns the build that was started."""
        for path, data in OWN.items():
            if path == sitekey.KEY and self.keys:
                assert sitekey.site_key() == KEY
                continue
            with open(path, "rb") as file:
                assert file.read() == data, path
        for path, new in NEW.items():
            if on_board.exists(path):
                with open(path, "rb") as file:
                    text = file.read()
                assert text in (b"# old", new), text
        # A new main.py needs the rest of the boot part.
        if on_board.has_boot_part():
            for path in NEW:
                assert on_board.exists(path), path
        return start()

    def go_on(self, board, found, point):
        """A deployment works afterwards, whichever step was cut."""
        if self.always or point % 8 == 0:
            deploy("repair")
            assert on_board.has_boot_part() and start() == "repair"

    def check_all(self, found):
        if self.both:
            assert len(found) == 2, "a cut before the last step must leave the old one"


SCENARIOS = {
    "update": Update(confirmed, lambda: deploy("new"), ("old", "new"), "new", both=True),
    "confirm": Update(on_trial, starts_and_confirms, ("old", "new"), "new"),
    "fall_back": Update(on_trial, starts_and_falls_back, ("old", "new"), "old"),
    "again": Update(on_trial, again_while_on_trial, ("old", "new", "newest"), "newest"),
    "rollback": Update(confirmed, back, ("old", "older"), "older"),
    "damaged": Update(damaged, repair, ("older", "new"), "new"),
    "first": Update(flat, first_update, ("flat", "new"), "new", both=True, always=True),
    "keys": Update(confirmed, both_keys, ("old",), "old", keys=True),
    "clean_up": Update(after_the_first, clean_up, ("new",), "new"),
}
