"""How the firmware ends when a technician interrupts it, on MicroPython."""

import os
import subprocess

from tools.paths import FIRMWARE, LIBS, micropython

INTERRUPTED = """
import sys
sys.modules["board"] = type("Board", (), {})()
from tapauth import app, config
class App:
    closed = 0
    def start(self):
        raise KeyboardInterrupt
    def close(self):
        App.closed += 1
        if App.closed < 3:
            raise KeyboardInterrupt
config.load = lambda: config.parse('{"board_id": "b", "mqtt": {"host": "h"}}')
app.make = lambda *_: App()
try:
    app.main()
except KeyboardInterrupt:
    print("closed", App.closed)
"""


def test_a_second_ctrl_c_does_not_leave_an_evse_on():
    """Tools send several, microseconds apart: one may hit what switches the EVSEs off."""
    done = subprocess.run(
        [micropython(), "-X", "heapsize=2M", "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        env={**os.environ, "MICROPYPATH": f".frozen:{FIRMWARE}:{LIBS}"},
    )
    assert done.stdout.endswith("closed 3\n"), done.stdout + done.stderr
