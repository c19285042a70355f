"""Finds the functions and constants of a module in memory and in flash, and pins them.

Theory of operation: pins.py. The structures are those of MicroPython's 32-bit ports:

    function     type, module, table of nested code, bytecode            (py/objfun.h)
    nested code  head, bytecode, table of code nested in it              (py/emitglue.h)
    module       type, globals, table of names, table of constants       (py/bc.h, py/obj.h)
    string       type, hash, length, text                                (py/objstr.h)

each of four bytes. A .mpy file is "M", its version, its flags, and integers of seven bits a byte:
the counts of names and constants, these, and the bytecode of the module with that of its
functions nested in it (docs.micropython.org, "MicroPython .mpy files").

Pinned are the functions that can be reached from the module's own globals: those of it, of its
classes, in its tables. Any other stays in RAM, which costs memory and nothing else.
"""

import builtins
import gc
import sys

from machine import WDT, mem8, mem32
from uctypes import bytearray_at, bytes_at

from tapauth.compat import const

_BLOCK = const(4096)
_THRESHOLD = const(16_384)
_WATCHDOG_MS = const(8000)  # the boot part's
_MOUNT = const(5)  # len("/run/")
_FUNCTION_MODULE = const(4)
_FUNCTION_NESTED = const(8)
_FUNCTION_CODE = const(12)
_NESTED_CODE = const(4)
_NESTED_NESTED = const(8)
_MODULE_CONSTANTS = const(12)
_STRING_LENGTH = const(8)
_STRING_TEXT = const(12)
_CLOSURE_FUNCTION = const(4)
_METHOD_FUNCTION = const(4)  # of a static or class method
_PROPERTY_GET = const(4)
_TUPLE_ITEMS = const(8)
_NAMES_DEEP = const(2)  # classes and tables in the globals, and what is in these
_MOST_BYTES = const(5)  # of an integer in a .mpy file
_KEY = const(6)  # so many bytes tell most functions of a module from each other
# Kinds of constants in a .mpy file.
_WITHOUT_TEXT = const(5)
_STRING = const(5)
_BYTES = const(6)
_TUPLE = const(10)


def _function():
    return None


def _generator():
    yield


def _closure():
    kept = 1

    def inner():
        return kept

    return inner


_FUNCTION = type(_function)
_GENERATOR = type(_generator)
_CLOSURE = type(_closure())
_MODULE = type(sys)


def _is_in_ram(address: int) -> bool:
    return address & 3 == 0 and address >> 28 == 2


def head_of(index: int) -> int:
    """Bytes at the beginning of a file's block that are littlefs's own: pointers to blocks before
    it, one more for each time that `index` can be halved (littlefs, DESIGN.md, "CTZ skip-lists").
    """
    size = 0
    while index:
        size += 4
        if index & 1:
            break
        index >>= 1
    return size


class _InFlash:
    """Reads a pack where it lies, from `position` on; `left` bytes are left in this block."""

    def __init__(self, pins, pack: str, position: int):
        self._blocks = pins.blocks[pack]
        self._base = pins.base
        self._index = 0
        self.position = position
        while position >= _BLOCK - head_of(self._index):
            position -= _BLOCK - head_of(self._index)
            self._index += 1
        self._enter()
        self._at += position
        self.left -= position

    def _enter(self) -> None:
        head = head_of(self._index)
        self._at = self._base + self._blocks[self._index] * _BLOCK + head
        self.left = _BLOCK - head

    def skip(self, size: int) -> int:
        """Pass `size` bytes. Returns their address, 0 when they are not in one piece."""
        self.position += size
        at = self._at
        if size < self.left:
            self._at += size
            self.left -= size
            return at
        if size > self.left:
            at = 0
        while size >= self.left:
            size -= self.left
            self._index += 1
            if self._index == len(self._blocks):
                # The end of the last block, which a file may fill.
                self.left = 0
                if size:
                    raise ValueError
                return at
            self._enter()
        self._at += size
        self.left -= size
        return at

    def byte(self) -> int:
        return mem8[self.skip(1)]

    def integer(self) -> int:
        """An integer of seven bits a byte, the highest first."""
        value = 0
        if self.left > _MOST_BYTES:  # most are in one piece, and then there is a shorter way
            at = first = self._at
            while True:
                byte = mem8[at]
                at += 1
                value = value << 7 | byte & 127
                if byte < 128:
                    break
            self._at = at
            self.left -= at - first
            self.position += at - first
            return value
        while True:
            byte = self.byte()
            value = value << 7 | byte & 127
            if byte < 128:
                return value


class _Module:
    """A module's constants and functions as its file has them, found before anything is changed.

    Raises ValueError when the file is not what was expected.
    """

    def __init__(self, module, flash: _InFlash, end: int):
        self._flash = flash
        self.constants: list = []
        """Each one's address, that of its text in flash, and its length."""
        self.functions: dict = {}
        """By its first bytes, a list: address in flash, length, count of functions nested in it;
        of each function that begins so.
        """
        head = flash.skip(4)
        if not head or bytearray_at(head, 3) != b"M\x06\x00":
            raise ValueError
        names, constants = flash.integer(), flash.integer()
        for _ in range(names):
            size = flash.integer()
            if not size & 1:
                flash.skip((size >> 1) + 1)
        table = mem32[id(module) + _MODULE_CONSTANTS] if constants else 0
        for number in range(constants):
            self._constant(mem32[table + 4 * number])
        self._code()
        if flash.position != end:
            raise ValueError

    def _constant(self, at: int) -> None:
        kind = self._flash.byte()
        if kind < _WITHOUT_TEXT:
            return
        size = self._flash.integer()
        if kind == _TUPLE:
            for number in range(size):
                self._constant(mem32[at + _TUPLE_ITEMS + 4 * number])
            return
        if kind > _BYTES:  # a number, as text
            self._flash.skip(size)
            return
        # With the NUL behind it, which C wants.
        text = self._flash.skip(size + 1)
        # A text may be a name, which has no address; a name's is never changed.
        if text and _is_in_ram(at) and mem32[at + _STRING_LENGTH] == size:
            copy = mem32[at + _STRING_TEXT]
            if _is_in_ram(copy) and bytearray_at(copy, size + 1) == bytearray_at(text, size + 1):
                self.constants.append((at, text, size))

    def _code(self) -> None:
        """The module's own bytecode, and that of all its functions, each before those in it."""
        flash = self._flash
        to_come = 1
        own = True
        while to_come:
            to_come -= 1
            kind = flash.integer()
            size = kind >> 3
            code = flash.skip(size)
            nested = flash.integer() if kind & 4 else 0
            to_come += nested
            if own:
                own = False  # it has run, and is gone
            elif code and size >= _KEY:
                alike = self.functions.setdefault(bytes_at(code, _KEY), [])
                alike += (code, size, nested)


class Pinner:
    """Imports modules and pins them, for a Pins that counts."""

    def __init__(self, pins, counts):
        self._pins = pins
        self._counts = counts
        # The start has no other that feeds it, and takes longer than it waits. Later ones have.
        self._watchdog = WDT(timeout=_WATCHDOG_MS) if counts is pins.counts else None
        self._heads: dict = {}
        self._import = builtins.__import__
        self._hook = self._load
        self._collect_after = 0

    def load(self, function, *arguments):
        """Call a function, and pin what it imports. Returns and raises what the function does."""
        self.begin()
        try:
            return function(*arguments)
        finally:
            self.end()

    def begin(self) -> None:
        """From now on pin what is imported. Until end(), which must follow, nothing may wait."""
        self._collect_after = gc.threshold()  # type: ignore[attr-defined]
        # What is pinned becomes garbage at once. Looked for more often, a start takes longer; less
        # often, what stays lies further apart.
        gc.threshold(_THRESHOLD)  # type: ignore[attr-defined]
        builtins.__import__ = self._hook  # type: ignore[assignment]
        self._pins.is_hooked = True

    def end(self) -> None:
        """Pin no more."""
        self._pins.is_hooked = False
        builtins.__import__ = self._import
        del builtins.__import__  # on MicroPython that takes away what was put over its own
        gc.threshold(self._collect_after)  # type: ignore[attr-defined]

    def _load(self, name, names=None, local=None, wanted=None, level=0):
        """As __import__(), in whose place it is called."""
        new: list = []
        try:
            self._note_new(name, new)
        except MemoryError:
            self._pins.failures += 1
        module = self._import(name, names, local, wanted, level)
        for one in new:
            self._pin(one)
        return module

    def _note_new(self, name: str, new: list) -> None:
        """Add the names of the modules that this import has to make, packages first."""
        at = 0
        while at >= 0:
            at = name.find(".", at + 1)
            part = name if at < 0 else name[:at]
            if part not in sys.modules:
                new.append(part)

    def _pin(self, name: str) -> None:
        pins, counts = self._pins, self._counts
        if self._watchdog:
            self._watchdog.feed()
        try:
            module = sys.modules.get(name)
            if type(module) is not _MODULE or id(module) >> 28 != 2:
                return
            place = self._place(module)
            if not place:
                return
            pack, position, size = place
            found = _Module(module, _InFlash(pins, pack, position), position + size)
            for at, text, size in found.constants:
                mem32[at + _STRING_TEXT] = text
                counts.constants += 1
                counts.bytes += (size + 16) & ~15
            self._functions = found.functions
            self._module = id(module)
            for value in module.__dict__.values():
                self._visit(value, _NAMES_DEEP)
        except Exception:  # want of memory, above all: not pinned is well, too
            pins.failures += 1

    def _place(self, module):
        """(pack, position, size) of a module's file; None for one that lies elsewhere."""
        path = getattr(module, "__file__", "")
        if not path.startswith("/run/") or not path.endswith(".mpy"):
            return None
        folder, _, name = path[_MOUNT:].rpartition("/")
        pack = folder.replace("/", ".") or "-"
        if pack not in self._pins.blocks:
            return None
        if pack not in self._heads:
            flash = _InFlash(self._pins, pack, 0)
            at = flash.skip(0)
            end = bytes(bytearray_at(at, flash.left)).find(b"\n\n")
            self._heads[pack] = bytes(bytearray_at(at, end + 1)).decode() if end > 0 else ""
        # A line is "offset size name": tapauth_slot.py, Packs.
        for line in self._heads[pack].split("\n"):
            if line.endswith(" " + name):
                offset, size, _ = line.split(" ")
                return pack, int(offset), int(size)
        return None

    def _visit(self, value, depth: int) -> None:
        kind = type(value)
        if kind is _FUNCTION or kind is _GENERATOR:
            self._pin_function(id(value))
        elif kind is _CLOSURE:
            self._pin_at(mem32[id(value) + _CLOSURE_FUNCTION])
        elif kind is staticmethod or kind is classmethod:
            self._pin_at(mem32[id(value) + _METHOD_FUNCTION])
        elif kind is property:
            self._pin_at(mem32[id(value) + _PROPERTY_GET])
        elif depth:
            parts = value if kind is tuple or kind is list else ()
            if kind is dict:
                parts = value.values()
            elif kind is type and id(value) >> 28 == 2:
                parts = value.__dict__.values()
            for part in parts:
                self._visit(part, depth - 1)

    def _pin_at(self, at: int) -> None:
        if _is_in_ram(at) and mem32[at] in (id(_FUNCTION), id(_GENERATOR)):
            self._pin_function(at)

    def _pin_function(self, at: int) -> None:
        if mem32[at + _FUNCTION_MODULE] == self._module:
            self._pin_code(at + _FUNCTION_CODE, mem32[at + _FUNCTION_NESTED])

    def _pin_code(self, pointer: int, nested: int) -> None:
        """Turn the pointer at `pointer`, and those of the code nested in it."""
        code = mem32[pointer]
        if code >> 28 != 2:
            return
        alike = self._functions.get(bytes_at(code, _KEY), ())
        for number in range(0, len(alike), 3):
            flash, size, count = alike[number : number + 3]
            if bytearray_at(code, size) == bytearray_at(flash, size):
                mem32[pointer] = flash
                self._counts.functions += 1
                self._counts.bytes += (size + 15) & ~15
                for place in range(nested, nested + 4 * count, 4):
                    inner = mem32[place]
                    self._pin_code(inner + _NESTED_CODE, mem32[inner + _NESTED_NESTED])
                return
