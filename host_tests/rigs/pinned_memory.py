"""Looks at a dump of an emulated Pico W's memory for what its firmware has pinned, on its own:
which block of the flash has which part of a slot, littlefs here says; which bytes are a function,
the packs that were built.
"""

import struct
from dataclasses import dataclass, field

from littlefs.context import UserContext

from tools.compile.mpy import bytecode
from tools.desk.flash_image import BLOCK, LfsFiles
from tools.emulator.board import Memory

SRAM, FLASH = 0x20000000, 0x10000000
FILES_AT = 0x12C000
"""Where the file system of a Pico W begins in its flash (MicroPython's own image)."""
FILES_END = 0x200000
FUNCTION, GENERATOR, INSTANCE = "function", "generator", "generator instance"
TYPES = {FUNCTION: 0x1007FF84, GENERATOR: 0x100800AC, INSTANCE: 0x1008001C}
"""Where MicroPython's own image has its types; test_emulated_pinning.py asks the board."""


class _Watched(UserContext):
    """A flash that notes which of its blocks littlefs reads."""

    read_blocks: list[int]

    def read(self, cfg, block, off, size):
        self.read_blocks.append(block)
        return super().read(cfg, block, off, size)


def blocks_of(memory: Memory, slot: str) -> dict[int, tuple[str, int]]:
    """Block of the file system to the pack of a slot and the position in it that begins there.
    The first bytes of a block may be littlefs's own pointers.
    """
    flash = _Watched(buffer=bytearray(memory.flash[FILES_AT:FILES_END]))
    flash.read_blocks = []
    lfs = LfsFiles(flash)
    lfs.mount()
    found: dict[int, tuple[str, int]] = {}
    for name in lfs.lfs.listdir("/" + slot):
        with lfs.open(f"/{slot}/{name}", "rb") as file:
            data = file.read()
        position = index = 0
        while len(data) > 1024 and position < len(data):
            with lfs.open(f"/{slot}/{name}", "rb") as file:
                file.seek(position)
                flash.read_blocks.clear()
                file.read(1)
            found[flash.read_blocks[-1]] = (name, position)
            # Of block n, n being divisible by 2 to the power of k, k + 1 pointers are littlefs's.
            pointers = (index & -index).bit_length()
            position += BLOCK - 4 * pointers
            index += 1
    return found


def functions_of(pack: bytes) -> dict[int, int]:
    """Position in a pack to the length of each bytecode in it."""
    head, _, _ = pack.partition(b"\n\n")
    found: dict[int, int] = {}
    for line in head.decode().splitlines():
        offset, size, name = line.split(" ")
        if name.endswith(".mpy"):
            start = int(offset)
            code = pack[start : start + int(size)]
            found.update((start + at, length) for at, length in bytecode(code))
    return found


@dataclass
class Pinned:
    """What was found: `functions` addresses of function objects that use flash, `wrong` what must
    not be, a sentence each.
    """

    functions: list[int] = field(default_factory=list)
    generators: int = 0
    """Generators that wait, of pinned functions."""
    wrong: list[str] = field(default_factory=list)


def pinned(memory: Memory, slot: str, packs: dict[str, bytes]) -> Pinned:
    """Every function in a board's memory that uses its bytecode in flash. Of those which are not
    in use any more, some are still found. `packs` are the running slot's as they were built.
    """
    words = struct.unpack(f"<{len(memory.sram) // 4}I", memory.sram)
    blocks = blocks_of(memory, slot)
    parts = {name: functions_of(data) for name, data in packs.items() if b"\n\n" in data[:4096]}
    result = Pinned()

    def word(address: int) -> int:
        return words[(address - SRAM) >> 2]

    def in_ram(address: int) -> bool:
        return address & 3 == 0 and SRAM <= address < SRAM + len(memory.sram) - 16

    def length_of(code: int) -> int:
        """Of pinned bytecode; 0 and a sentence when it is none of the running slot."""
        block, offset = divmod(code - FLASH - FILES_AT, BLOCK)
        name, start = blocks.get(block, ("", 0))
        if not name:
            result.wrong.append(f"{code:#x} is in block {block}, which is not of slot {slot}")
            return 0
        index = [at for at, (pack, _) in blocks.items() if pack == name]
        number = sorted(index, key=lambda at: blocks[at][1]).index(block)
        position = start + offset - 4 * (number & -number).bit_length()
        size = parts[name].get(position, 0)
        if not size:
            result.wrong.append(f"{code:#x}: no function of {name} begins at {position}")
        elif memory.flash[code - FLASH :][:size] != packs[name][position:][:size]:
            result.wrong.append(f"{code:#x}: {name} has other bytes at {position}")
        return size

    for at in range(SRAM, SRAM + len(memory.sram) - 16, 16):
        if word(at) in (TYPES[FUNCTION], TYPES[GENERATOR]) and in_ram(word(at + 4)):
            code = word(at + 12)
            if code >> 28 == 1 and code >= FLASH + FILES_AT:
                result.functions.append(at)
                length_of(code)
        elif word(at) == TYPES[INSTANCE] and in_ram(word(at + 8)):
            function, place = word(at + 8), word(at + 12)
            if word(function) != TYPES[GENERATOR] or not place:
                continue  # freed, or at its end
            code = word(function + 12)
            if code >> 28 == 1 and code >= FLASH + FILES_AT:
                result.generators += 1
                if not code <= place < code + length_of(code):
                    result.wrong.append(f"a generator at {place:#x}, not in its {code:#x}")
    return result
