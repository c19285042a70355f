"""Cuts the power at every program and erase of an update and of the starts after it.

    micropython host_tests/on_micropython/update_cuts.py esp32 update

A scenario runs once on a littlefs that is mounted at / and records what is programmed and erased.
Then, for every prefix of that record, clean and with the next operation torn, the board starts on
what the flash holds: it must choose a slot that is whole, old or new, and the board's own files
must be as they were. Runs on MicroPython, with the boot part and the code that a deployment runs
on a board.
"""

import os
import sys

import boot_rig
import vfs
from flash_sim import SETTINGS, Cut, Flash
from update_rig import (
    KEY,
    NEW,
    OLD_FLAT,
    OWN,
    confirmed,
    copy,
    deploy,
    firmware,
    mounted,
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


# name: (what the flash holds before, what is cut, the builds that may start after a cut)
SCENARIOS = {
    "update": (confirmed, lambda: deploy("new"), ("old", "new")),
    "confirm": (on_trial, starts_and_confirms, ("old", "new")),
    "fall_back": (on_trial, starts_and_falls_back, ("old", "new")),
    "again": (on_trial, again_while_on_trial, ("old", "new", "newest")),
    "rollback": (confirmed, back, ("old", "older")),
    "damaged": (damaged, repair, ("older", "new")),
    "first": (flat, first_update, ("flat", "new")),
    "keys": (confirmed, both_keys, ("old",)),
    "clean_up": (after_the_first, clean_up, ("new",)),
}


def check(builds):
    """What must hold whenever the power comes back."""
    for path, data in OWN.items():
        if path == sitekey.KEY and sys.argv[2] == "keys":
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
    first = start()
    assert first in builds, f"started {first!r}"
    return first


def repaired():
    """Deploy once more."""
    deploy("repair")
    assert on_board.has_boot_part() and start() == "repair"


def main():
    settings = SETTINGS[sys.argv[1]]
    name = sys.argv[2]
    if name in boot_rig.SCENARIOS:
        before, cut, look, again = boot_rig.SCENARIOS[name]
    else:
        before, cut, builds = SCENARIOS[name]
        look, again = lambda: check(builds), repaired
    flash = mounted(settings)
    before()
    vfs.umount("/")
    base = Flash(96)
    base.data[:] = flash.data
    flash.log = []
    vfs.mount(vfs.VfsLfs2(flash, **settings), "/")
    cut()
    vfs.umount("/")
    started = {}
    points = 0
    log = flash.log
    for i in range(len(log) + 1):
        for torn in (None, log[i]) if i < len(log) else (None,):
            vfs.mount(vfs.VfsLfs2(Cut(base, torn), **settings), "/")
            try:
                build = look()
                # Whatever was cut, a deployment works afterwards.
                if points % 16 == 0 or name in ("first", "boot_first"):
                    again()
            except Exception:
                print(f"cut {i} of {len(log)}, torn: {torn is not None}")
                raise
            vfs.umount("/")
            started[build] = started.get(build, 0) + 1
            points += 1
        if i < len(log):
            base.apply(log[i])
    vfs.mount(vfs.VfsPosix(), "/")
    print(f"{points} cut points, started: {started}")
    if name in ("update", "first", "boot_first", "boot_deploy"):
        assert len(started) == 2, "a cut before the last step must leave the old one"


main()
