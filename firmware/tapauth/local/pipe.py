"""One TCP connection with bounds: what the server reads from and writes to.

A peer cannot make a line, or a request's head, longer than this side has memory for; and what two
tasks write does not mix.
"""

import asyncio

from tapauth.compat import const, secured

_MAX_HEAD = const(2048)  # most bytes of a request line and headers together
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
        """Whether something was written: then nothing else may be put in its place."""
        self.address = str(writer.get_extra_info("peername")[0])
        self._reader = reader
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
        """Wait for the first byte. False: there is none."""
        if not self._buffer:
            await self._fill(_PIECE)
        return not self._ended

    async def readline(self) -> bytes:
        """A line of the head. Raises ValueError when the head is too long."""
        while True:
            at = self._buffer.find(b"\n")
            if at >= 0 or self._ended:
                break
            if len(self._buffer) > self._head:
                raise ValueError("the head is too long")
            await self._fill(_PIECE)
        at = at + 1 if at >= 0 else len(self._buffer)
        line = self._buffer[:at]
        self._buffer = self._buffer[at:]
        self._head -= at
        if self._head < 0:
            raise ValueError("the head is too long")
        return line

    async def read(self, count: int) -> bytes:
        """`count` bytes; fewer only at the end."""
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
        """Read what nobody wants, to the end: left unread, it would take what was sent with it."""
        self._buffer = b""
        while not self._ended:
            await self._fill(_PIECE)
            self._buffer = b""

    async def awrite(self, data) -> None:
        """Write all of `data`."""
        async with self._writing:
            self.answering = True
            self._writer.write(data)
            await self._writer.drain()

    async def aclose(self) -> None:
        """Close the connection; what fails at it does not matter any more."""
        # A failed handshake leaves MicroPython's TLS socket with nothing to close.
        for one in (self._writer, self._raw):
            try:
                one.close()
                await one.wait_closed()
            except OSError:
                pass
