"""Small files that are replaced as a whole: a power cut leaves the old content or the new one.

The new content is written beside the file, closed, and renamed over the old. littlefs has on flash
what was closed or renamed when the call returns, and a rename is one commit of it; so there is
no moment at which the file is missing or half written. A cut may leave the file beside, which
nobody reads: the next replacement writes over it.

A step that tells an error may be done all the same: littlefs can program the new name and then
fail at what it tidies up behind it. A caller that took the error for "nothing changed" would be
proven wrong by the next start. So where a step tells an error, the flash is asked: the step counts
as done when the old name is gone, and raises the error when the name is there or cannot be read.

Damage is another matter, and each file has its own rule:

    file          seen by                    where it is damaged
    /rpc_*        CRC-32, and two copies     the other copy serves; both: lost (rpc/records.py)
    /conn         CRC-32                     b"": new PINs, to be read at the board (local/login)
    /config.json  must be a configuration    nothing is started; on trial, the one before returns
    /day          must be a number           no day is kept (wallclock.py)

Files with rules of their own do not come here: the boot part's record never needs this package;
the site's key is mended by code that tools send to boards of any age (crypto/sitekey.py); the card
store writes in place, and has a checksum and a second place for each file (cards/journal.py).
"""

import os
from binascii import crc32

from tapauth.compat import SYSTEM_ERRORS, const

NEW = ".new"
"""Behind the name of a file that is being written."""
CRC = const(4)
"""Bytes that sealed() puts behind a content."""
ENOENT = const(2)
"""The number of the OSError for a file that is not there."""


class Flash:
    """The board's file system, as the functions below use one: a port, of which the class itself
    serves. Its methods raise OSError.
    """

    open = staticmethod(open)
    rename = staticmethod(os.rename)
    remove = staticmethod(os.remove)


def sealed(pieces):
    """Steps: the pieces of a content, and behind them their CRC-32, four bytes, little-endian."""
    crc = 0
    for piece in pieces:
        crc = crc32(piece, crc)
        yield piece
    yield crc.to_bytes(CRC, "little")


def read(fs, path: str, parse, damaged):
    """What `parse(file)` makes of a file: `damaged` when it cannot be read, None without one."""
    try:
        with fs.open(path, "rb") as file:
            return parse(file)
    except OSError as error:
        return None if error.args[0] == ENOENT else damaged


def is_there(fs, path: str) -> bool:
    """Whether there is a file, or something that cannot be told from one."""
    return read(fs, path, lambda file: True, True) is not None


def write(fs, path: str, pieces) -> None:
    """Write a file that nobody reads yet. Raises OSError, MemoryError."""
    with fs.open(path, "wb") as file:
        # Not joined first: a table is larger than a free block of the heap may be.
        for piece in pieces:
            file.write(piece)


def move(fs, old: str, new: str) -> None:
    """Give the file `old`, which is there, the name `new`. Raises OSError, MemoryError."""
    try:
        fs.rename(old, new)
    except SYSTEM_ERRORS:
        # It was there, and is gone: so it has the new name.
        if is_there(fs, old):
            raise


def drop(fs, path: str) -> None:
    """Remove a file if it is there. Raises OSError, MemoryError."""
    try:
        fs.remove(path)
    except SYSTEM_ERRORS:
        if is_there(fs, path):
            raise


def replace(fs, path: str, pieces) -> None:
    """Replace a file, on flash when this returns. Raises OSError, MemoryError: nothing changed."""
    write(fs, path + NEW, pieces)
    move(fs, path + NEW, path)
