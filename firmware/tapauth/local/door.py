"""The door of the local interface: listens on the network, and to who types on the console.

Everything behind it is in memory only while somebody is there, and some seconds longer. Between,
there is what connection auth must remember, in plain values.
"""

import asyncio
import sys

from tapauth.compat import SYSTEM_ERRORS, const, forget, is_scarce, sleep_ms

_TICK_MS = const(100)
_LINGER_MS = const(3000)  # who reloads a page, or guesses, shall not make it load each time
_CONNECTION = const(640)  # words of heap that one holds
BUSY = b"HTTP/1.0 503 busy\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
_MOST_PARTS = const(12)


class Door:
    """`settings` is the checked "server" object of the configuration. `parts()` is a generator
    that loads the modules behind the door and yields each, `make(kept, counts)` one of the
    server.Server; `kept` is what accounts.freeze() put by, None at the start.
    """

    def __init__(self, settings: dict, parts, make, clock, log):
        self.server = None
        """The server.Server while it is loaded."""
        self.counts = {"server_refused": 0, "server_dropped": 0, "server_events_dropped": 0}
        self._settings = settings
        self._parts = parts
        self._make = make
        self._clock = clock
        self._log = log
        self._kept = None
        # The modules to forget. Their places are made beforehand: one for which there was no
        # memory would stay for ever.
        self._loaded = [None] * _MOST_PARTS
        self._loading = False
        self._inside = 0
        self._empty_since = 0

    async def run(self, beat) -> None:
        """Serve for ever. Raises OSError when the port cannot be had, MemoryError."""
        address, port = self._settings["address"], self._settings["port"]
        listener = await asyncio.start_server(self._accept, address, port)
        scheme = "https" if self._settings["tls_cert"] else "http"
        self._log.info("server", "{} on port {}", scheme, port)
        try:
            while True:
                beat()
                try:
                    self._look_after()
                except MemoryError as error:  # there will be some in the next turn
                    self._log.warning("server", "later: {}", error)
                await sleep_ms(_TICK_MS)
        finally:
            listener.close()
            if self.server:
                self.server.close()

    # What is behind it.

    async def open(self) -> None:
        """Load the server, unless it is there. Raises MemoryError, OSError."""
        while self._loading:
            await sleep_ms(_TICK_MS)
        if is_scarce(_CONNECTION):
            raise MemoryError
        if self.server:
            return
        self._loading = True
        try:
            known = list(sys.modules.values())
            at = 0
            # A step at a time, so that the loop goes on between them.
            for module in self._parts():
                if module not in known:
                    self._loaded[at] = module
                    at += 1
                    await sleep_ms(0)
                    if is_scarce():
                        raise MemoryError
            self._empty_since = self._clock.now()
            self.server = await finish(self._make(self._kept, self.counts))
            self._kept = None
        finally:
            self._loading = False
            if not self.server:
                self._forget()

    def _look_after(self) -> None:
        server, now = self.server, self._clock.now()
        if not server:
            return
        server.look_after(now)
        if self._inside:
            self._empty_since = now
        elif now - self._empty_since >= _LINGER_MS and not server.commands.restart_at:
            from tapauth.local.login import accounts

            forget(accounts)
            self._kept = accounts.freeze(server.auth)
            server.close()
            self.server = None
            self._forget()

    def _forget(self) -> None:
        for at in range(_MOST_PARTS):
            module, self._loaded[at] = self._loaded[at], None
            if module:
                forget(module)

    # Who comes.

    async def _accept(self, reader, writer) -> None:
        self._inside += 1
        try:
            if not self.server and self._inside > self._settings["max_connections"]:
                raise OSError
            await self.open()
            await self.server.accept(reader, writer)  # type: ignore
        except SYSTEM_ERRORS as error:
            self._log.warning("server", "a connection was turned away: {}", error)
            self.counts["server_refused"] += 1
            await turn_away(writer)
        finally:
            self._inside -= 1

    async def obey(self, line: str) -> None:
        """Carry out a line of the serial console. Raises whatever keeps it from that."""
        self._inside += 1
        try:
            await self.open()
            from tapauth.local import serial_console

            forget(serial_console)
            await finish(serial_console.obey(self.server.auth, line))  # type: ignore
        finally:
            self._inside -= 1


async def finish(steps):
    """Run a generator to its end; its steps say how many milliseconds they can wait."""
    try:
        while True:
            await sleep_ms(next(steps) or 0)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


async def turn_away(writer) -> None:
    """There is no room for a connection."""
    try:
        try:
            writer.write(BUSY)
            await writer.drain()
        except MemoryError:
            pass  # a socket that stays open would take more of it
        writer.close()
        await writer.wait_closed()
    except OSError:
        pass  # gone already
