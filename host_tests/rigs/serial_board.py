"""A board for mpremote: MicroPython with the built firmware on its littlefs, behind a serial line.

Its console ends on a soft reset, so mpremote must be told to resume.
"""

import os
import pty
import subprocess
import threading
import tty
from pathlib import Path

from tools.desk.flash_image import write_image
from tools.paths import IMAGE, ROOT, micropython


def blank_image(path: Path, blocks: int = 512) -> None:
    """A flash image with an empty file system."""
    write_image(path, {}, blocks)


def firmware_image(path: Path) -> None:
    """A flash image with the built firmware on it."""
    modules = sorted((IMAGE / "tapauth").rglob("*.mpy"))
    files = {source.relative_to(IMAGE).as_posix(): source.read_bytes() for source in modules}
    write_image(path, files, blocks=512)


class SerialBoard:
    """A running board; `port` is the device to connect to. A context."""

    def __init__(self, image: Path):
        self._ends = [*pty.openpty(), *pty.openpty()]
        master, slave, other_master, other_slave = self._ends
        for end in (slave, other_slave):
            tty.setraw(end)
        self.port = os.ttyname(other_slave)
        self._process = subprocess.Popen(
            [
                micropython(),
                "-X",
                "heapsize=192k",
                "-i",
                "host_tests/on_micropython/serial_board_start.py",
                image,
            ],
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "MICROPYPATH": ".frozen:boards/desktop"},
        )
        for source, target in ((master, other_master), (other_master, master)):
            threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: int, target: int) -> None:
        try:
            while data := os.read(source, 1000):
                os.write(target, data)
        except OSError:
            pass  # the line was closed

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        for end in self._ends:
            os.close(end)
