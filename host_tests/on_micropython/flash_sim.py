"""Simulated flash for MicroPython's VfsLfs2, with the settings of the two chips.

`Flash` records what is programmed and erased. `Cut` is what the flash holds when the power goes
in the middle of that: it never changes what lies under it, so each cut point costs little.
"""

import vfs

BLOCK = 4096
# As the ports mount their flash: ESP32 reads and programs 32 bytes (so caches 128), RP2 programs
# 256 (so caches 1024).
SETTINGS = {"esp32": {}, "rp2": {"progsize": 256}}


class Flash:
    def __init__(self, blocks: int):
        self.data = bytearray(b"\xff" * (blocks * BLOCK))
        self.blocks = blocks
        self.log = None  # of (block, offset, bytes), or (block, 0, None) for an erase
        self.reads = self.read_bytes = self.erases = self.programs = 0

    def readblocks(self, block, buf, offset=0):
        at = block * BLOCK + offset
        self.reads += 1
        self.read_bytes += len(buf)
        buf[:] = memoryview(self.data)[at : at + len(buf)]

    def writeblocks(self, block, buf, offset=0):
        at = block * BLOCK + offset
        self.programs += 1
        if self.log is not None:
            self.log.append((block, offset, bytes(buf)))
        self.data[at : at + len(buf)] = buf

    def ioctl(self, op, arg):
        if op == 4:
            return self.blocks
        if op == 5:
            return BLOCK
        if op == 6:
            self.erases += 1
            if self.log is not None:
                self.log.append((arg, 0, None))
            self.data[arg * BLOCK : (arg + 1) * BLOCK] = ERASED
        return 0

    def cut(self, entry, mode, noise):
        """Do of a log entry what one of MODES leaves; `noise` is a block of random bytes."""
        block, offset, data = entry
        at = block * BLOCK + offset
        size = BLOCK if data is None else len(data)
        half_done(memoryview(self.data)[at : at + size], data, mode, noise)

    def apply(self, entry):
        """Do what a log entry says."""
        block, offset, data = entry
        at = block * BLOCK + offset
        if data is None:
            self.data[at : at + BLOCK] = ERASED
        else:
            self.data[at : at + len(data)] = data


ERASED = b"\xff" * BLOCK
MODES = ("clean", "torn", "garbage", "half_erased")
"""What a power cut leaves of a program or an erase that is under way: nothing of it, its first
half and some bits of the next byte, anything, or some of its bits all over.
"""


def half_done(mine, data, mode, noise):
    """Do to the bytes `mine` what a cut leaves of programming `data`, or of an erase (None)."""
    size = len(mine)
    half = size // 2
    if mode == "torn":
        mine[:half] = (ERASED if data is None else data)[:half]
        mine[half] = mine[half] ^ 0x55 if data is None else mine[half] & (data[half] | 0xA5)
    elif mode == "garbage":
        mine[:] = noise[:size]
    elif mode == "half_erased":
        for i in range(size):
            mine[i] = (mine[i] if data is None else data[i]) | noise[i]


class Cut:
    """What is left of `flash` after a cut, `torn` being the log entry that was under way.

    `flash` may be a Cut itself. `log` is as that of Flash.
    """

    def __init__(self, flash, torn=None, mode="torn", noise=ERASED):
        self._flash = flash
        self._own = {}
        self.blocks = flash.blocks
        self.log = None
        if torn is not None:
            block, offset, data = torn
            end = BLOCK if data is None else offset + len(data)
            half_done(memoryview(self._block(block))[offset:end], data, mode, noise)

    def _block(self, block):
        if block not in self._own:
            own = bytearray(BLOCK)
            self._flash.readblocks(block, own)
            self._own[block] = own
        return self._own[block]

    def readblocks(self, block, buf, offset=0):
        if block in self._own:
            buf[:] = memoryview(self._own[block])[offset : offset + len(buf)]
        else:
            self._flash.readblocks(block, buf, offset)

    def writeblocks(self, block, buf, offset=0):
        if self.log is not None:
            self.log.append((block, offset, bytes(buf)))
        self._block(block)[offset : offset + len(buf)] = buf

    def ioctl(self, op, arg):
        if op == 4:
            return self.blocks
        if op == 5:
            return BLOCK
        if op == 6:
            if self.log is not None:
                self.log.append((arg, 0, None))
            self._block(arg)[:] = ERASED
        return 0

    def apply(self, entry):
        """Do what a log entry says."""
        block, offset, data = entry
        if data is None:
            self._block(block)[:] = ERASED
        else:
            self._block(block)[offset : offset + len(data)] = data


class Failing(Cut):
    """Flash that breaks: program, erase or read number `at` from now on fails, done or not."""

    def __init__(self, flash):
        super().__init__(flash)
        self.count = 0
        self.at = None
        self.reads = False  # whether reads count, instead of programs and erases
        self.done = False  # whether it fails after it was done
        self.once = True

    def _fails(self):
        self.count += 1
        return self.at is not None and (
            self.count == self.at or self.count > self.at and not self.once
        )

    def readblocks(self, block, buf, offset=0):
        super().readblocks(block, buf, offset)
        return -5 if self.reads and self._fails() else 0

    def writeblocks(self, block, buf, offset=0):
        fails = not self.reads and self._fails()
        if self.done or not fails:
            super().writeblocks(block, buf, offset)
        return -5 if fails else 0

    def ioctl(self, op, arg):
        fails = op == 6 and not self.reads and self._fails()
        if op != 6 or self.done or not fails:
            result = super().ioctl(op, arg)
        return -5 if fails else result


class Files:
    """The store's port onto a littlefs of its own (tapauth.cards.files has the same names)."""

    def __init__(self, device, settings):
        lfs = vfs.VfsLfs2(device, **settings)
        self.lfs = lfs
        self.open, self.remove = lfs.open, lfs.remove
        self.rename, self.mkdir = lfs.rename, lfs.mkdir
        self._seed = 7

    def urandom(self, count):
        self._seed = self._seed * 1103515245 + 12345 & 0x7FFFFFFF
        return self._seed.to_bytes(4, "little")[:count]


def formatted(blocks, settings):
    """A Flash with an empty file system."""
    flash = Flash(blocks)
    vfs.VfsLfs2.mkfs(flash, **settings)
    return flash
