"""The serial console of a running board: it obeys typed lines, and nothing is stopped.

pinning on      lets the next start use code from flash again, after one that failed
status          tells, as one line of JSON, what runs and which EVSEs charge
pin, newpin     open the local interface, where it is configured (local/serial_console.py)

The desk's tools ask `status` before they stop a firmware, so it is here on every board.
"""

import asyncio
import json
import select
import sys

from tapauth.compat import const, sleep_ms

_TICK_MS = const(100)
_MAX_LINE = const(140)
ANSWER = "status "
"""The beginning of the line that answers `status`."""


class Console:
    """`status()` gives what `status` tells, a dict for JSON; `allow_pinning()` obeys
    `pinning on`, and gives what to tell. `obey`, if it is set, is a coroutine
    function of every other line.
    """

    def __init__(self, status, allow_pinning, log):
        self.obey = None
        self._status = status
        self._allow_pinning = allow_pinning
        self._log = log
        self._line = ""
        self._obeying = False
        self._deaf = False
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)

    async def run(self, beat) -> None:
        """Listen for ever."""
        while True:
            beat()
            self._listen()
            await sleep_ms(_TICK_MS)

    def _listen(self) -> None:
        """Read what was typed, up to the end of a line."""
        # As many characters as a line has, so that a flood of them holds up nothing else.
        for _ in range(_MAX_LINE):
            if self._obeying or self._deaf or not self._poll.poll(0):
                return
            character = sys.stdin.read(1)
            if not character:
                # Nothing is connected, and nothing ever will be.
                self._deaf = True
            elif character >= " ":
                self._line = (self._line + character)[-_MAX_LINE:]
            elif character not in "\r\n":
                self._line = ""  # tools for boards send others first
            elif self._line:
                line, self._line = self._line.strip(), ""
                asyncio.create_task(self._carry_out(line))
                self._obeying = True  # last: without memory for the task nothing would end it

    async def _carry_out(self, line: str) -> None:
        try:
            if line == "status":
                print(ANSWER + json.dumps(self._status()))
            elif line == "pinning on":
                print(self._allow_pinning())
            elif self.obey:
                await self.obey(line)
            else:
                print("status, pinning on")
        except Exception as error:  # a line that fails is no reason to hear no other
            self._log.error("console", "not done: {}", error)
        finally:
            self._obeying = False
