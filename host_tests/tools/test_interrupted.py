"""What Ctrl-C does: to the firmware on MicroPython, and to a command of this machine."""

import os
import subprocess
import sys

from deploy_rig import KEY, OWN, deploy, flash_image, image, own_files_are_untouched
from pty_board import PtyBoard
from technician import Technician

from tools.paths import FIRMWARE, LIBS, micropython

INTERRUPTED = """
import sys
sys.modules["board"] = type("Board", (), {})()
from tapauth import app, config, start
class App:
    closed = 0
    def close(self):
        App.closed += 1
        if App.closed < 3:
            raise KeyboardInterrupt
def interrupted(app):
    raise KeyboardInterrupt
start.add_tasks = interrupted
config.load = lambda: config.parse('{"board_id": "b", "mqtt": {"host": "h"}}')
start.make = lambda *_: App()
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
        env={**os.environ, "MICROPYPATH": f".frozen:{FIRMWARE}:{FIRMWARE}/boot:{LIBS}"},
    )
    assert done.stdout.endswith("closed 3\n"), done.stdout + done.stderr


def test_it_does_not_leave_a_charger_with_its_firmware_stopped(tmp_path):
    (tmp_path / "site.key").write_bytes(KEY)
    flash = flash_image(tmp_path / "flash.img", OWN)
    with PtyBoard(flash) as board:
        deploy(board, image("good"))
        board.output = b""
        command = [sys.executable, "-m", "tools.deploy", "--now", "desktop", board.port]
        technician = Technician(*command, environment={"SITE": str(tmp_path)})
        technician.answer("  2/", "\x03")  # mpremote gets it too
        assert technician.finish() == 130, technician.screen
        board.wait_for("app good")
        assert b"boot: slot a, confirmed" in board.output
    assert "FAILED: stopped; the same command again" in technician.screen
    assert "Traceback" not in technician.screen
    own_files_are_untouched(flash)
