"""A person at a terminal."""

import fcntl
import os
import pty
import subprocess
import termios

from tools.paths import ROOT


class Technician:
    """Types at the prompts of a command with a terminal; `screen` is what is to be seen."""

    def __init__(self, *command: str, environment: dict):
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, **environment},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.screen = ""
        self._seen = 0

    def answer(self, prompt: str, text: str) -> None:
        while prompt not in self.screen[self._seen :]:
            assert self._read(), self.screen
        self._seen = len(self.screen)
        os.write(self._master, text.encode() + b"\n")

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 1000)
        except OSError:
            return False  # it has ended
        self.screen += data.decode()
        return True

    def finish(self) -> int:
        while self._read():
            pass
        os.close(self._master)
        return self._process.wait(60)
