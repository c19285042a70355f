"""Run by test_rpc_board.py under MicroPython: the power goes at every write to flash, in turn.

The tables of the service are on real littlefs, on a block device that stops working in the middle
of its n-th program or erase. After each cut the flash is mounted again and must hold everything
that was acknowledged, and of what was not, all or nothing. Prints a summary.
"""

import gc

import vfs

from tapauth.rpc.records import GOOD, LOST, RecordFile, Table
from tapauth.small_file import Flash

BLOCK = 4096
BLOCKS = 24


class CutFlash:
    """Flash that loses its power at the `cut`-th program or erase, 0: never."""

    def __init__(self, data, cut=0):
        self.data = data
        self.cut = cut
        self.used = 0

    def _write(self, at, size, piece) -> int:
        """Take `size` bytes from `piece(size)`, or half of them. Returns 0, or minus EIO."""
        # No exceptions: MicroPython closes a forgotten file while it can allocate nothing.
        if self.cut and self.used >= self.cut:
            return -5
        self.used += 1
        whole = self.used != self.cut
        size = size if whole else size // 2
        self.data[at : at + size] = piece(size)
        return 0 if whole else -5

    def readblocks(self, block, buffer, offset=0):
        if self.cut and self.used >= self.cut:
            return -5
        at = block * BLOCK + offset
        buffer[:] = self.data[at : at + len(buffer)]
        return 0

    def writeblocks(self, block, buffer, offset=0):
        return self._write(block * BLOCK + offset, len(buffer), lambda size: buffer[:size])

    def ioctl(self, op, argument):
        if op == 4:
            return BLOCKS
        if op == 5:
            return BLOCK
        if op == 6:
            return self._write(argument * BLOCK, BLOCK, lambda size: b"\xff" * size)
        return 0


def open_table():
    return Table(RecordFile(Flash, "/cut/rpc_tokens"), 8, 64)


def steps():
    """What is done to the table, one after another: (key, value), the value None to remove."""
    for number in range(12):
        yield b"owner\0app%d" % number, b"%08d" % number
    yield b"owner\0app3", None
    yield b"owner\0app5", b"changed!"
    yield b"owner\0app5", None
    yield b"other\0app5", b"again..."


def run(device):
    """Do all the steps. Returns (acknowledged dict, what was under way or None)."""
    done = {}
    vfs.mount(vfs.VfsLfs2(device, progsize=256), "/cut")
    try:
        table = open_table()
        for key, value in steps():
            under_way = dict(done)
            if value is None:
                under_way.pop(key)
            else:
                under_way[key] = value
            try:
                if value is None:
                    table.remove(key)
                else:
                    assert table.put(key, value)
            except OSError:
                return done, under_way
            done = under_way
    finally:
        vfs.umount("/cut")
    return done, None


def found(device):
    vfs.mount(vfs.VfsLfs2(device, progsize=256), "/cut")
    table = open_table()
    rows = {key: table.get(key) for key in table.keys(b"")}
    # It goes on working.
    assert table.put(b"after\0the cut", b"12345678")
    state = table.state
    again = open_table()
    assert again.get(b"after\0the cut") == b"12345678" and again.state == GOOD
    vfs.umount("/cut")
    return rows, state


empty = bytearray(b"\xff" * (BLOCK * BLOCKS))
vfs.VfsLfs2.mkfs(CutFlash(empty), progsize=256)
data = bytearray(empty)
whole = CutFlash(data)
final, nothing = run(whole)
assert nothing is None and len(final) == 11, final
old = new = 0
for cut in range(1, whole.used + 1):
    data[:] = empty
    acknowledged, under_way = run(CutFlash(data, cut))
    if under_way is None:
        under_way = acknowledged  # cut while the copy of the last change was made
    vfs.mount(vfs.VfsLfs2(CutFlash(data), progsize=256), "/cut")
    state = open_table().state
    assert state != LOST, cut
    vfs.umount("/cut")
    rows, _ = found(CutFlash(data))
    assert rows in (acknowledged, under_way), (cut, rows, acknowledged, under_way)
    if rows == acknowledged:
        old += 1
    else:
        new += 1
    gc.collect()
print("cuts", whole.used, "old", old, "new", new)
