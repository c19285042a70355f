"""Decides whether this start may pin, and finds the running slot in flash. Loaded once, forgotten.

Theory of operation. Pinning must never keep a board from working, so a start is pinned only when

* the chip's MicroPython is one of TESTED, and what pinner.py takes for granted of its structures
  is found on functions made for that (probe.py);
* the configuration does not forbid it: "pinning": false;
* no pinned start of this build has failed on this MicroPython. A pinned start leaves a mark in a
  register of the watchdog, which a reset by the watchdog or by machine.reset() keeps and a loss of
  power clears, so it costs no flash. The mark goes when the firmware is well, is stopped by a
  technician, or restarts because somebody wants it. A start that finds the mark follows a pinned
  one that failed: it pins nothing, and writes FAILED so that none does until the firmware or
  MicroPython is another, or `pinning on` is typed at the console;
* it is not the last one that a firmware on trial has. One that was lost to pinning is given back.

Where the blocks of a file lie, the file system is asked: a second one is mounted over a flash that
can only be read and that notes which block is read. Its files' blocks do not move while nobody
writes them (littlefs, DESIGN.md: data blocks are moved only when they are written). A small file
may lie inside its directory, which does move: so files that could, are left out.
"""

import json
import os
from array import array
from binascii import crc32

import tapauth_slot
from machine import mem32
from rp2 import Flash
from uctypes import addressof, bytearray_at
from vfs import VfsLfs2

from tapauth.compat import const, forget, implementation, late
from tapauth.pinning.pins import FAILED, Pins

TESTED = ("Raspberry Pi Pico W with RP2040, MicroPython 1.27.0",)
"""Images of MicroPython on which the whole of this was tested (docs/memory.md)."""
HAS_FAILED = "a pinned start failed"
_MARK_RP2040 = const(0x4005_800C)  # the watchdog's SCRATCH0
_MARK_RP2350 = const(0x400D_800C)
_MARK_BITS = const(0x3FFF_FFFF)  # a number of more would need memory
_BLOCK = const(4096)
_INLINE = const(1024)  # no file of more bytes lies inside its directory
_SAMPLE = const(16)


class _ReadOnly:
    """The flash as a block device that notes which block was read last, and refuses writes."""

    def __init__(self, flash):
        self._flash = flash
        self.block = 0

    def readblocks(self, block, buffer, offset=0):
        self.block = block
        self._flash.readblocks(block, buffer, offset)

    def writeblocks(self, _block, _buffer, _offset=0):
        raise OSError(30)  # EROFS

    def ioctl(self, operation, argument):
        if operation in (4, 5):  # the count of blocks, and their size
            return self._flash.ioctl(operation, argument)
        return 30 if operation == 6 else 0  # to erase


def _blocks(flash, base: int, slot: str) -> dict:
    """The blocks of the packs of a slot, an array for each; of those that littlefs keeps in blocks
    of their own.
    """
    with late("pinner"):
        from tapauth.pinning import pinner

    forget(pinner)
    device = _ReadOnly(flash)
    files = VfsLfs2(device)
    found = {}
    for entry in os.ilistdir("/" + slot):  # type: ignore[attr-defined]
        name = entry[0]
        path = "/" + slot + "/" + name
        size = os.stat(path)[6]
        if size <= _INLINE or name == "manifest":
            continue
        blocks = array("H")
        position = 0
        with files.open(path, "rb") as file:
            while position < size:
                file.seek(position)
                sample = file.read(_SAMPLE)
                head = pinner.head_of(len(blocks))
                at = base + device.block * _BLOCK
                # The first of a block's pointers is the block before it.
                if (
                    head
                    and mem32[at] != blocks[-1]
                    or sample != bytearray_at(at + head, len(sample))
                ):
                    raise ValueError
                blocks.append(device.block)
                position += _BLOCK - head
        found[name] = blocks
    return found


def _wanted() -> bool:
    """Whether the configuration lets this start pin. config.py checks it, but later."""
    try:
        with open("/config.json") as file:
            return json.load(file).get("pinning", True) is True
    except (OSError, ValueError, AttributeError):
        return False


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline(200).strip()
    except (OSError, ValueError):
        return ""


def _note_failure(identity: str) -> None:
    """Pin no more, and give the start back to a firmware on trial, as it did not fail."""
    with open(FAILED, "w") as file:
        file.write(identity)
    record = tapauth_slot.read_record()
    if record and record[0] == tapauth_slot.running and record[1] >= 0:
        tapauth_slot.write_record(record[0], min(record[1] + 1, tapauth_slot.TRIALS))


def _objection(identity: str, mark: int, found: int) -> str:
    """Why this start must not pin, "" when it may."""
    if not _wanted():
        return "configured off"
    if implementation() not in TESTED:
        return "untried MicroPython"
    if found == mark:
        _note_failure(identity)
    if _first_line(FAILED) == identity:
        return HAS_FAILED
    record = tapauth_slot.read_record()
    if record and record[0] == tapauth_slot.running and record[1] == 0:
        return "last trial start"
    return ""


def begin() -> Pins:
    """The Pins of this start. Changes nothing but the mark, and FAILED after a pinned start that
    failed.
    """
    slot = tapauth_slot.running
    if not slot:
        return Pins("no slot")
    register = _MARK_RP2040 if "RP2040" in implementation() else _MARK_RP2350
    found = mem32[register] & _MARK_BITS
    mem32[register] = 0
    try:
        # This firmware on this MicroPython.
        identity = _first_line("/" + slot + "/manifest") + " " + implementation()
        mark = crc32(identity.encode()) & _MARK_BITS | 1
        why_not = _objection(identity, mark, found)
        if why_not:
            return Pins(why_not, has_failed=why_not == HAS_FAILED)
        mem32[register] = mark  # from here on, whatever goes wrong
        flash = Flash()
        base = addressof(flash)
        blocks = _blocks(flash, base, slot)
        with late("probe"):
            from tapauth.pinning import probe

        forget(probe)
        if not probe.fits(Pins(blocks=blocks, base=base)):
            raise ValueError("other structures")
    except Exception as error:  # whatever it is, the start goes on without
        mem32[register] = 0
        return Pins("error: " + repr(error), has_failed=True)
    return Pins(blocks=blocks, base=base, mark=register)


def allow() -> str:
    """Let the next start pin again. Returns what to tell a technician."""
    try:
        os.remove(FAILED)
    except OSError:
        return "none has failed"
    return "at the next start"
