"""The door of the local interface: listens on the network, and to the serial console.

Theory of operation. The code behind the door takes more memory than a small board can spare for
good, so it is in memory only while somebody is there. The door is in one of these states:

    shut     `server` is None; `_kept` has what connection auth must remember, in plain values
             that keep no code alive. Before the first opening it is None
    opening  `_loading`: one task loads the modules, a step at a time; others wait for it
    open     `server` is there, and `_inside` counts the connections and console lines at work
    empty    `server` is there, `_inside` is 0 since `_empty_since`; 3 s later the door is shut

Shutting turns ConnectionAuth into `_kept` first, which is all of it that needs memory: when that
fails, the door stays open until the next tick. The rest is done without a break, so nobody
comes in between. Then every module that the opening has loaded is forgotten; a module that was
there before is another room's and stays. An opening that fails leaves the door shut and `_kept`
as it was. run() that fails leaves the door as it is: the supervisor starts it again soon, and
it goes on with the server that is there.

In a conflict:

* The charger wins over visitors. A visitor is let in only where the heap has room for one more
  and for all that taps need; to others the door says 503, counts them, and hangs up.
* Before there is a server to judge, no more than `max_connections` may wait for the opening; the
  server has its own rules for them (server.py).
* A restart that was asked for wins over shutting: the server has to carry it out.
* A line of the console needs memory like a visitor, but no place among the connections.
"""

import asyncio
import sys

from tapauth.compat import SYSTEM_ERRORS, const, forget, is_scarce, late, sleep_ms

_TICK_MS = const(100)
_LINGER_MS = const(3000)  # a page that is reloaded, or a guess, shall not load all each time
_CONNECTION = const(640)  # words of heap that a connection holds
BUSY = b"HTTP/1.0 503 busy\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
_MOST_PARTS = const(12)


class Door:
    """`settings` is the checked "server" object of the configuration. `parts()` is a generator
    that loads the modules behind the door and yields each, `make(kept, counts)` a generator that
    returns the server.Server; `kept` is what accounts.freeze() put by, None at the start.
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
                except MemoryError as error:  # there may be memory in the next turn
                    self._log.warning("server", "later: {}", error)
                await sleep_ms(_TICK_MS)
        finally:
            listener.close()
            if self.server:
                self.server.close()

    # Opening and shutting.

    async def open(self) -> None:
        """Load the server, unless it is there. Raises MemoryError, OSError."""
        while self._loading:
            await sleep_ms(_TICK_MS)
        # Also when the server is there already: one more connection may be one too many.
        if is_scarce(_CONNECTION):
            raise MemoryError
        if self.server:
            return
        self._loading = True
        try:
            # Modules that others loaded are not this door's to forget.
            known = list(sys.modules.values())
            at = 0
            # A step at a time, so that the loop goes on between them.
            for module in late.room(self._parts()):
                if module not in known:
                    self._loaded[at] = module
                    at += 1
                    await sleep_ms(0)
                    if is_scarce():
                        raise MemoryError
            self._empty_since = self._clock.now()
            self.server = await finish(self._make(self._kept, self.counts))
            # The server's auth is the truth from here on; a copy would give old tries back.
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
            with late("accounts"):
                from tapauth.local.login import accounts

            forget(accounts)
            # First what may fail. No await follows, so nobody enters a server that is closed.
            self._kept = accounts.freeze(server.auth)
            server.close()
            self.server = None
            self._forget()

    def _forget(self) -> None:
        for at in range(_MOST_PARTS):
            module, self._loaded[at] = self._loaded[at], None
            if module:
                forget(module)

    # Visitors.

    async def _accept(self, reader, writer) -> None:
        # Counted before anything is awaited: the door must not shut on a visitor in it.
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
        """Carry out a line of the serial console. Raises MemoryError, OSError."""
        self._inside += 1
        try:
            await self.open()
            with late("serial_console"):
                from tapauth.local import serial_console

            forget(serial_console)
            await finish(serial_console.obey(self.server.auth, line))  # type: ignore
        finally:
            self._inside -= 1


async def finish(steps):
    """Run a generator of steps to its end, with other tasks between them, and return its value.
    A step gives the milliseconds that it can wait, or None for 0.
    """
    try:
        while True:
            await sleep_ms(next(steps) or 0)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()  # a task that is cancelled in the middle leaves no turn taken


async def turn_away(writer) -> None:
    """Say 503 to a connection that there is no room for, and close it."""
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
