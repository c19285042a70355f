"""Cuts the power at every program and every erase of whatever the firmware keeps on flash.

    micropython host_tests/on_micropython/power_cuts.py esp32 store_cuts merge

runs the scenario `merge` of the module store_cuts with the flash of an ESP32. Runs on MicroPython.

A scenario says what the flash holds before, does its changes, and tells after each what a start
must find from then on. The changes run once, and the flash records each program and erase. Then,
for every prefix of that record and each of flash_sim.MODES of the operation that comes next, a
board starts on what the flash holds. It must find what held before or after the change that was
under way, and every change that was acknowledged. The writes by which a start mends are cut as
well, at every program and erase of them; the start after that must find one of the same two.

Of a scenario whose starts take long every operation is cut, but not each in every way: DEEP tells.
"""

import os
import random
import sys

import vfs
from flash_sim import BLOCK, MODES, SETTINGS, Cut, Flash, formatted

DEEP = int(os.getenv("TAPAUTH_CUTS", "32"))
"""One in so many operations is cut deep, when starts take long: in all ways, and what the start
mends after a PLAIN cut is cut too; after any cut, when all operations are cut deep. The last
operation of each change is cut in all ways, the others in PLAIN ones.
"""
LEAST_DEEP = 2
"""So many operations of a record are cut deep at least."""
PLAIN = ("clean", "torn")
MENDING_MODES = ("clean", "torn")
"""What is left of an operation of a start that is cut."""


class Scenario:
    """What is done to flash and must survive; each kind of file has children of its own.

    `blocks` is the size of the flash; `root` is where its file system is mounted while a method
    runs, None for a scenario that mounts it by itself. `steady`: a start that follows a start
    finds the same, because starts are not counted. `slow`: starts take long. Everything below
    gets the Board.
    """

    blocks = 24
    root = "/cut"
    steady = True
    slow = False

    def prepare(self, board):
        """Make what the flash holds before."""

    def changes(self, board):
        """Steps: what a start must find before any change, then after each that was made."""
        raise NotImplementedError

    def state(self, board):
        """A start: what it finds. Asserts what else must hold."""
        raise NotImplementedError

    def fits(self, found, expected, again):
        """Whether a start found what is expected; `again`: a start before it was cut."""
        return found == expected

    def label(self, found, before):
        """In which row of the summary a start is counted."""
        return "old" if self.fits(found, before, False) else "new"

    def go_on(self, board, found, point):
        """After a start: what works must work. `point` numbers the cut operations."""

    def check_all(self, found):
        """`found` counts the starts by label. Asserts what must have come out of all cuts."""


class Board:
    """A device with a file system, in a `with` statement mounted where the scenario wants it."""

    def __init__(self, device, settings, root):
        self.device = device
        self.settings = settings
        self._root = root

    def __enter__(self):
        if self._root == "/":
            vfs.umount("/")
        if self._root:
            vfs.mount(vfs.VfsLfs2(self.device, **self.settings), self._root)
        return self

    def __exit__(self, *error):
        if self._root:
            vfs.umount(self._root)
        if self._root == "/":
            vfs.mount(vfs.VfsPosix(), "/")


class Cutter:
    """One scenario on one chip's flash; `run()` cuts it everywhere."""

    def __init__(self, chip, scenario):
        self.settings = SETTINGS[chip]
        self.scenario = scenario
        self.noise = bytearray(BLOCK)
        random.seed(1)
        for i in range(BLOCK):
            self.noise[i] = random.getrandbits(8)
        self.points = self.mending = 0
        self.found = {}

    def board(self, device):
        return Board(device, self.settings, self.scenario.root)

    def record(self):
        """Do it all once. Returns (flash before it, log, [(end in the log, expected)])."""
        scenario = self.scenario
        flash = formatted(scenario.blocks, self.settings)
        with self.board(flash) as board:
            scenario.prepare(board)
        base = Flash(scenario.blocks)
        base.data[:] = flash.data
        flash.log = log = []
        stages = []
        with self.board(flash) as board:
            for expected in scenario.changes(board):
                stages.append((len(log) if stages else 0, expected))
        return base, log, stages

    def run(self):
        base, log, stages = self.record()
        every = self.every(log)
        ends = [end for end, _ in stages]
        done = 0
        for point in range(len(log) + 1):
            while done + 1 < len(stages) and stages[done + 1][0] <= point:
                done += 1
            allowed = [expected for _, expected in stages[done : done + 2]]
            deep = point % every == 0
            modes = MODES if deep or point + 1 in ends else PLAIN
            for mode in modes if point < len(log) else MODES[:1]:
                torn = log[point] if mode != "clean" else None
                where = f"cut {point} of {len(log)}, {mode}, change {done}"
                twice = deep and (every == 1 or mode in PLAIN)
                self.cut(Cut(base, torn, mode, self.noise), allowed, point, where, twice)
            if point < len(log):
                base.apply(log[point])
        self.scenario.check_all(self.found)
        return self.summary(log, stages)

    def every(self, log):
        """One in so many operations is cut deep: a power of two, as go_on() acts on such too."""
        every = 1
        while self.scenario.slow and every < DEEP and len(log) >= 2 * every * LEAST_DEEP:
            every *= 2
        return every

    def cut(self, left, allowed, point, where, twice):
        """The board starts on what a cut left; `twice`: and again, also when that start is cut."""
        scenario = self.scenario
        mended: list = []
        device = left
        if twice:
            device = Cut(left)  # `left` stays as it is, for the cuts of this start
            device.log = mended
        found = self.start(device, allowed, where)
        device.log = None
        label = scenario.label(found, allowed[0])
        self.found[label] = self.found.get(label, 0) + 1
        self.points += 1
        if twice:
            self.cut_again(left, mended, allowed, where)
            if scenario.steady:
                self.start(device, [found], where + ", second start")
        with self.board(device) as board:
            try:
                scenario.go_on(board, found, point)
            except Exception:
                print(where + ": it does not go on")
                raise

    def cut_again(self, left, mended, allowed, where):
        """The power goes again, while the start after the first cut writes `mended`."""
        for i, entry in enumerate(mended):
            for mode in MENDING_MODES:
                if i or mode != "clean":
                    torn = entry if mode != "clean" else None
                    again = f"{where}, again at {i}, {mode}"
                    self.start(Cut(left, torn, mode, self.noise), allowed, again, True)
                    self.mending += 1
            left.apply(entry)

    def start(self, device, allowed, where, again=False):
        """What a start on `device` finds: one of `allowed`."""
        with self.board(device) as board:
            try:
                found = self.scenario.state(board)
                fits = [self.scenario.fits(found, expected, again) for expected in allowed]
                assert any(fits), (found, allowed)
            except Exception:
                print(where)
                raise
        return found

    def summary(self, log, stages):
        erases, most = 0, 0
        ends = [end for end, _ in stages[1:]]
        start = 0
        for end in ends:
            count = len([entry for entry in log[start:end] if entry[2] is None])
            most, start = max(most, count), end
        erases = len([entry for entry in log if entry[2] is None])
        found = ", ".join(f"{self.found[label]} {label}" for label in sorted(self.found))
        return (
            f"{self.points} cut points in {len(log) - erases} programs and {erases} erases, "
            f"{self.mending} cuts of what mends; found: {found}; "
            f"at most {most} blocks erased for a change"
        )


def main(chip, module, name):
    print(Cutter(chip, __import__(module).SCENARIOS[name]).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
