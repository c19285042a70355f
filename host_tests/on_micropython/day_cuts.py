"""Run by test_day_cuts.py under MicroPython: the power goes at every write while a day is kept.

After each cut littlefs must hold the day before or the day that was to be kept. Prints a summary.
"""

import sys

import vfs
from flash_sim import SETTINGS, Cut, formatted

from tapauth.wallclock import load_day, save_day

DAYS = 60
settings = SETTINGS[sys.argv[1]]
flash = formatted(16, settings)
vfs.mount(vfs.VfsLfs2(flash, **settings), "/flash")
cuts = 0
most = 0
for day in range(20_000, 20_000 + DAYS):
    replayed = formatted(16, settings)
    replayed.data[:] = flash.data
    flash.log = []
    save_day(day, "/flash/day")
    log, flash.log = flash.log, None
    most = max(most, len([entry for entry in log if entry[2] is None]))
    for entry in log:
        for torn in (None, entry):
            vfs.mount(vfs.VfsLfs2(Cut(replayed, torn), **settings), "/cut")
            found = load_day("/cut/day")
            vfs.umount("/cut")
            assert found in (day - 1, day) or (day == 20_000 and not found), (day, found)
            cuts += 1
        replayed.apply(entry)
    assert load_day("/flash/day") == day
print(f"{cuts} cut points, at most {most} blocks erased for a day")
