"""One TCP connection with bounds: the server reads from it and writes to it.

Theory of operation. A pipe is asyncio's two streams, or TLS over them after secure(), behind one
buffer. One task reads; any may write, one at a time, so messages never mix. The buffer holds
bytes that came and were not asked for yet: readline() fetches 256 at a time and leaves what is
behind the line, read() fetches no more than is missing.

A peer cannot make this side hold more than is meant: the lines of a head have 2048 bytes in all,
however they come, and whoever calls read() has checked the count. The end of the stream is no
error here: read() and readline() then return what there is, readexactly() raises OSError.

The pipe itself never gives up: it has no clock. The server (server.py) looks at `deadline` and
cancels `task`; `settled` and `began` say which connection makes room for another; `answering`
says that a part of an answer is out, after which only silence or the rest may follow.
"""

import asyncio

from tapauth.compat import const, secured

_MAX_HEAD = const(2048)  # most bytes of a request line and headers together
CHUNK = const(512)  # bytes of a long transfer that are held at once
CHUNK_MS = const(10_000)  # for the next of them
_PIECE = const(256)


class Pipe:
    """`reader` and `writer` are asyncio's streams. `deadline` is when the connection is given up,
    in milliseconds of the server's clock; `task` is the task that serves it.
    """

    def __init__(self, reader, writer, task, began: int, deadline: int):
        self.task = task
        self.began = began
        self.deadline = deadline
        self.settled = False
        """Whether it is authorized, and so not given up for another."""
        self.answering = False
        """Whether a part of an answer was written: no other answer may take its place then."""
        self.address = str(writer.get_extra_info("peername")[0])
        self._reader = reader
        # Both are closed at the end: TLS may leave the stream under it open.
        self._writer = self._raw = writer
        self._buffer = b""
        self._ended = False
        self._head = _MAX_HEAD
        self._writing = asyncio.Lock()

    async def secure(self, context) -> None:
        """Go on under TLS. Raises OSError, ValueError."""
        self._reader, self._writer = await secured(context, self._reader, self._writer)

    async def _fill(self, count: int) -> None:
        data = await self._reader.read(count)
        if not data:
            self._ended = True
        self._buffer += data

    async def begins(self) -> bool:
        """Wait for the first byte. False: the stream ended without one. Raises OSError."""
        if not self._buffer:
            await self._fill(_PIECE)
        return not self._ended

    async def readline(self) -> bytes:
        """A line of the head, with its line feed unless the stream ended in it. Raises ValueError
        when the head is too long, OSError.
        """
        while True:
            at = self._buffer.find(b"\n")
            if at >= 0 or self._ended:
                break
            # Before more is fetched: a line without an end must not fill the heap.
            if len(self._buffer) > self._head:
                raise ValueError("the head is too long")
            await self._fill(_PIECE)
        at = at + 1 if at >= 0 else len(self._buffer)
        line = self._buffer[:at]
        self._buffer = self._buffer[at:]
        # The budget is the head's, not the line's: many short lines are as bad as a long one.
        self._head -= at
        if self._head < 0:
            raise ValueError("the head is too long")
        return line

    async def read(self, count: int) -> bytes:
        """`count` bytes; fewer only at the end. Raises OSError."""
        while len(self._buffer) < count and not self._ended:
            await self._fill(count - len(self._buffer))
        data = self._buffer[:count]
        self._buffer = self._buffer[count:]
        return data

    async def readexactly(self, count: int) -> bytes:
        """`count` bytes. Raises OSError at the end."""
        data = await self.read(count)
        if len(data) < count:
            raise OSError(104)  # ECONNRESET
        return data

    async def exhaust(self) -> None:
        """Read to the end what nobody wants: bytes left unread at the close make a reset of it,
        which overtakes what was sent. The deadline bounds this. Raises OSError.
        """
        self._buffer = b""
        while not self._ended:
            await self._fill(_PIECE)
            self._buffer = b""

    async def awrite(self, data) -> None:
        """Write all of `data`, as fast as the peer takes it. Raises OSError, MemoryError."""
        async with self._writing:
            # Before the write: when that fails in the middle, a part may be out.
            self.answering = True
            self._writer.write(data)
            await self._writer.drain()

    async def aclose(self) -> None:
        """Close the connection; a failure to do so does not matter any more."""
        # A failed handshake leaves MicroPython's TLS socket with nothing to close.
        for one in (self._writer, self._raw):
            try:
                one.close()
                await one.wait_closed()
            except OSError:
                pass
