"""Uses code and constants where they lie in flash, so that their copies in RAM can go. RP2 only.

Theory of operation. The whole flash of an RP2 can be read as memory, and the files of a slot are
in it. An import copies a module's bytecode and its constants' text into the heap. After it, each
function of that module has a pointer to its bytecode, and each constant one to its text. Where
the same bytes lie in the slot's pack, the pointer is turned to them, and the collector takes the
copies. MicroPython itself is not changed, and does not know.

    begin.py    once, at the start: whether this start may pin anything, and which block of the
                flash has which part of each pack. Forgotten then
    pins.py     this file stays, and says what is pinned. It gives out pinners
    pinner.py   a pinner hooks on `import`: it reads a module's file in flash, finds its functions
                and constants in memory, compares, and changes the pointers. Its code is in memory
                as long as somebody has one

The hook is in place while something is loaded by a pinner, and at no other time: the firmware's
start (compat.loader), the rooms whose code stays as long as somebody is there, and single modules
that stay for a while (compat.late). A module that is used and forgotten at once is not worth the
pinner's own memory.

What makes it safe:

* A pointer is changed only after the bytes at both ends were compared and found equal. So a
  MicroPython with other structures has nothing pinned, and is not broken. begin.py tries every
  structure on the pinner's own functions before, and only on versions on which all was tested.
* Only a module that its own import has just made is looked at, before its importer goes on. A
  function that runs, or a generator that waits, has pointers into its bytecode that nobody could
  turn: so no module makes a generator, a task or a coroutine while it is imported, nor gives one
  of its functions to a timer or an interrupt (host_tests/tools/test_architecture.py).
* The file system says which block a pack's bytes lie in. Equal bytes elsewhere, as of an equal
  pack in the other slot, or of a file that was removed, would be erased one day.
* The running slot is never written while it runs (docs/updates.md).
* Whatever goes wrong in the pinner leaves the import as it is, and is counted.

In a conflict, a start that works wins over a start that is pinned: see begin.py.
"""

from machine import mem32

from tapauth.compat import forget, late

FAILED = "/pinning.off"
"""A file that says on which build and MicroPython no start is pinned any more."""


class Counts:
    """What was pinned: how many `functions` use their bytecode in flash, how many `constants`
    their text, and the `bytes` of the copies in RAM that went.
    """

    def __init__(self):
        self.functions = self.constants = self.bytes = 0


class Pins:
    """`why_not` is "" where this start pins, and otherwise says why it does not; `has_failed`
    when that is because a pinned start failed. `blocks` has the numbers of a pack's blocks, an
    array, by the pack's name; `base` is the address of block 0, `mark` that of the register which
    says that a pinned start is not yet well.
    """

    def __init__(
        self,
        why_not: str = "",
        *,
        has_failed: bool = False,
        blocks: dict | None = None,
        base: int = 0,
        mark: int = 0,
    ):
        self.why_not = why_not
        self.has_failed = has_failed
        self.blocks = blocks
        self.base = base
        self.counts = Counts()
        """Of the start. A room that is forgotten takes its functions along, and is not counted."""
        self.failures = 0
        """How often a module could not be pinned, for want of memory above all."""
        self.is_hooked = False
        """A Pinner pins already what is imported now."""
        self._mark = mark

    def well(self) -> None:
        """This start has not failed: the next one may pin too."""
        if self._mark:
            mem32[self._mark] = 0
            self._mark = 0

    def pinner(self, counts: Counts | None = None):
        """A new pinner.Pinner, which adds to `counts`; None where nothing is pinned now, or there
        is no memory for it. Keep it for as long as there is more to load, and no longer.
        """
        if self.why_not or self.is_hooked:
            return None
        try:
            with late("pinner"):
                from tapauth.pinning import pinner

            forget(pinner)
            return pinner.Pinner(self, counts or Counts())
        except MemoryError:
            self.failures += 1
            return None
