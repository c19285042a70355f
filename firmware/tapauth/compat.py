"""The differences between MicroPython and CPython, all in this one place.

Only what the firmware uses is here. Times are integers: milliseconds unless a name says
otherwise.
"""

import gc
import sys
import time

MICROPYTHON = sys.implementation.name == "micropython"

if MICROPYTHON:
    from json import loads as read_json
    from time import ticks_diff, ticks_ms, ticks_us

    from micropython import const

    mem_free = gc.mem_free
    mem_alloc = gc.mem_alloc
    collect_after = gc.threshold

    def trace_lines(error: BaseException) -> list:
        """Where `error` was raised, a line a call, without the error's own text."""
        import io

        text = io.StringIO()
        sys.print_exception(error, text)
        return [line.strip() for line in text.getvalue().split("\n") if line.startswith("  File")]
else:
    import json
    import traceback

    def read_json(text: str):
        """The value of a JSON text; json_in.load() is what checks it. Raises ValueError."""
        return json.loads(text, strict=False)

    def const(value):
        """MicroPython's compile-time constant; on CPython the value itself."""
        return value

    def ticks_ms() -> int:
        """Milliseconds of a monotonic counter with no defined start."""
        return time.monotonic_ns() // 1_000_000

    def ticks_us() -> int:
        """Microseconds of a monotonic counter with no defined start."""
        return time.monotonic_ns() // 1_000

    def ticks_diff(end: int, start: int) -> int:
        """`end` - `start` of two readings of the same counter."""
        return end - start

    def mem_free() -> int:
        """Free heap in bytes; CPython has no such figure, so 0."""
        return 0

    def mem_alloc() -> int:
        """Used heap in bytes; CPython has no such figure, so 0."""
        return 0

    def collect_after(size: int) -> None:
        """Collect the heap when `size` bytes were given out, -1: only when none is left. Not on
        CPython, which counts otherwise.
        """

    def trace_lines(error: BaseException) -> list:
        """Where `error` was raised, a line a call, without the error's own text."""
        calls = traceback.extract_tb(error.__traceback__)
        return [f'File "{call.filename}", line {call.lineno}, in {call.name}' for call in calls]


TYPE_CHECKING = const(0)
"""For `if TYPE_CHECKING:`, below which stand imports that only annotations need. mypy takes the
name for true; the build puts 0 in its place, and the compiler leaves out what stands below.
"""


MAPS_FLASH = sys.platform == "rp2"
"""Whether this chip's whole flash can be read like memory."""


def implementation() -> str:
    """The platform: the board's name and its MicroPython, or CPython's version."""
    version = ".".join([str(part) for part in sys.implementation.version[:3]])
    if MICROPYTHON and sys.implementation.version[3:4] > ("",):
        version += "-" + str(sys.implementation.version[3])
    name = getattr(sys.implementation, "_machine", "")
    return f"{name}, MicroPython {version}" if name else "CPython " + version


SYSTEM_ERRORS = (OSError, MemoryError)
"""Raised when the system has not what is asked of it. Made once, as is any such tuple with
MemoryError: an `except` clause that makes its own fails when no memory is left for it.
"""

_WORD = 8 if sys.maxsize >> 32 else 4
_RESERVE = const(2048)  # words of heap that the firmware keeps to go on working


def is_scarce(words: int = 0) -> bool:
    """Whether the heap has no room for so many machine words and what the firmware needs beside
    them to go on working. Never on CPython.
    """
    words += _RESERVE
    if not MICROPYTHON or mem_free() >= words * _WORD:
        return False
    gc.collect()
    return mem_free() < words * _WORD


def largest_block(size: int) -> int:
    """A heap block of at least this many bytes can be had, `size` at most, to within an eighth;
    0 on CPython. Is right after a collection, and leaves the block that it found as garbage.

    Free heap in small pieces is of little use, so this says more than mem_free().
    """
    if not MICROPYTHON:
        return 0
    gc.disable()  # a collection for each size that cannot be had would take 20 ms
    try:
        while size > 256:
            try:
                bytearray(size)
            except MemoryError:
                size = size * 7 // 8
            else:
                break
    finally:
        gc.enable()
    return size


# ESP32's MicroPython counts time.time() from 2000-01-01, the other ports from 1970-01-01.
_EPOCH = 0 if time.gmtime(0)[0] == 1970 else 946_684_800


def unix_time() -> int:
    """Seconds since 1970-01-01 UTC by the system's clock, whether or not it was ever set."""
    return int(time.time()) + _EPOCH


def sleep_ms(ms: int):
    """Awaitable: let other tasks run for `ms` milliseconds."""
    # Imported late: the core uses this module and must not bring asyncio along.
    import asyncio

    return asyncio.sleep_ms(ms) if MICROPYTHON else asyncio.sleep(ms / 1000)


def _call(function, *arguments):
    return function(*arguments)


def loader(pins, counts=None):
    """load(function, *arguments): calls a function, and pins what that imports where `pins`, a
    pinning.pins.Pins or None, can. Keep it for as long as there is more to load, and no longer.
    """
    pinner = pins.pinner(counts) if pins else None
    return pinner.load if pinner else _call


class LateImports:
    """The context of an import that comes late, when a small heap may have no room for it:

        with late("rewrite"):
            from tapauth.cards import rewrite
        forget(rewrite)

    A MemoryError goes on to whoever wanted the module, and the heap is as it was: MicroPython
    takes a half-loaded module out of `sys.modules` itself, but not those which that one had
    brought along. `failures` counts, `missing` is the module of the last one: both are told by
    the health report and the log when there is memory for that. Nothing waits inside: the
    context is one for all. What `stays` for a while is used from flash where `pins`, a
    pinning.pins.Pins, can do that; for what goes at once that is not worth its time.
    """

    def __init__(self):
        self.failures = 0
        self.missing = ""
        self.pins = None
        self._pinner = None
        self._name = ""
        self._known: list | tuple = ()

    def __call__(self, name: str, stays: bool = False):
        """Begin the import of the module whose last name this is."""
        # First, as the pinner comes late itself.
        self._pinner = self.pins.pinner() if stays and self.pins else None
        self._name = name
        return self

    def __enter__(self) -> None:
        try:
            self._known = list(sys.modules)
        except MemoryError:
            self._pinner = None
            self._failed()
            raise
        if self._pinner:
            self._pinner.begin()

    def __exit__(self, kind, error, trace) -> None:
        if self._pinner:
            self._pinner.end()
            self._pinner = None
        known, self._known = self._known, ()
        if isinstance(error, MemoryError):
            self._failed()
            forget_all_but(known)

    def room(self, parts):
        """Steps: the modules that the steps `parts` load, which stay as long as somebody is in
        the room that they make; one pinner serves them all.
        """
        load = loader(self.pins)
        while True:
            module = load(next, parts, None)
            if not module:
                return
            yield module

    def _failed(self) -> None:
        self.failures += 1
        self.missing = self._name


late = LateImports()


def forget(module) -> None:
    """Let a module go that has done its work, so that its memory can be used again.

    The one way to use code and forget it (docs/memory.md): import it where it is used, forget it
    at once, use it. Code under way keeps what it needs for as long as it runs; the next import
    of the module makes a new one.
    """
    name = module.__name__
    if sys.modules.get(name) is module:
        del sys.modules[name]
        parent, _, child = name.rpartition(".")
        if parent in sys.modules:
            delattr(sys.modules[parent], child)


def forget_all_but(known) -> None:
    """Forget the modules of the firmware, and of its server's library, that are not `known` by
    name. One that there is no memory to forget stays.
    """
    try:
        for name in [name for name in sys.modules if name not in known]:
            if name.startswith(("tapauth.", "microdot")):
                forget(sys.modules[name])
    except MemoryError:
        pass  # the next import that finds one of these takes it, and forgets it


async def secured(context, reader, writer) -> tuple:
    """The streams of an accepted connection under TLS. Closing them may leave `writer` open."""
    if MICROPYTHON:
        import asyncio

        wrapped = context.wrap_socket(writer.s, server_side=True, do_handshake_on_connect=False)
        stream = asyncio.StreamReader(wrapped)
        return stream, stream
    await writer.start_tls(context)
    return reader, writer


async def read_into(reader, buffer) -> int:
    """Read what a stream has, at least a byte, into `buffer`. Returns the count, 0 at its end."""
    if MICROPYTHON:
        count = None
        while count is None:  # None: only TLS's own bytes came, and 0 is the end
            count = await reader.readinto(buffer)
        return count
    data = await reader.read(len(buffer))
    buffer[: len(data)] = data
    return len(data)


def resolve(host: str) -> str:
    """An IPv4 address of `host`, by the platform's look-up, which blocks. Raises OSError."""
    import socket

    found = socket.getaddrinfo(host, 0, socket.AF_INET, socket.SOCK_STREAM)[0][-1]
    if isinstance(found, tuple):
        return str(found[0])
    # MicroPython's Unix port packs it.
    return socket.inet_ntop(socket.AF_INET, socket.sockaddr(found)[1])


async def hang_up(writer) -> None:
    """Close a stream now, with whatever was not sent."""
    if MICROPYTHON:
        # Here this is what closes the socket; close() does nothing.
        await writer.wait_closed()
    else:
        writer.transport.abort()


class Clock:
    """Milliseconds since this object was made: monotonic, and never wrapping.

    MicroPython's ticks wrap after 2**30 ms (12.4 days) and their difference is only valid over
    half of that, so `now()` must be called at least every few days; the supervisor does.
    """

    def __init__(self):
        self._last = ticks_ms()
        self._now = 0

    def now(self) -> int:
        """The time in milliseconds since the start."""
        ticks = ticks_ms()
        self._now += ticks_diff(ticks, self._last)
        self._last = ticks
        return self._now
