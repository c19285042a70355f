"""What someone who stands at the board can type on its serial console.

pin SECRET      opens the role admin with this PIN until the restart, and ends a lockout
newpin          gives admin a new PIN, and ends a lockout; `newpin user` the same for user
"""

import select
import sys

from tapauth.compat import const, sleep_ms
from tapauth.conn.auth import ROLES

_MAX_LINE = const(140)
_LOOK_MS = const(200)


class SerialConsole:
    """Obeys for a Server. `write` answers; it must reach nothing but the console."""

    def __init__(self, server, write=print):
        self._server = server
        self._write = write
        self._line = ""

    async def run(self, beat) -> None:
        """Read the console for ever."""
        poll = select.poll()
        poll.register(sys.stdin, select.POLLIN)
        listening = True
        while True:
            beat()
            # What was typed while the PINs are still being made waits.
            while listening and self._server.auth and poll.poll(0):
                character = sys.stdin.read(1)
                if not character:
                    # Nothing is connected, and nothing ever will be.
                    listening = False
                elif character not in "\r\n":
                    self._line = (self._line + character)[-_MAX_LINE:]
                elif self._line:
                    line, self._line = self._line, ""
                    await self.obey(line)
            await sleep_ms(_LOOK_MS)

    async def obey(self, line: str) -> None:
        """Carry out a line."""
        auth = self._server.auth
        verb, _, rest = line.strip().partition(" ")
        if auth and verb == "pin":
            done = auth.set_boot_pin(rest)
            self._write("until the restart" if done else "6 to 128 characters, please")
        elif auth and verb == "newpin" and (rest or "admin") in ROLES:
            await self._server.steps(auth.renew_pin(ROLES[rest or "admin"]))
        else:
            self._write("pin SECRET, newpin, newpin user")
