"""A board for mpremote, made of MicroPython's Unix port: the desktop's firmware on a littlefs
image, its console behind a pty, restarted as a chip is when it resets or its watchdog starves.

Ctrl-D at a prompt ends the Unix port. Here that is a chip's soft reset: a new process says "soft
reboot", runs boot.py, and main.py unless the prompt was the raw one, which it then shows again.
"""

import os
import pty
import select
import socket
import subprocess
import termios
import threading
import time
import tty
from pathlib import Path

from tools.charger import HEAP
from tools.paths import BOARDS, ROOT, micropython

SOFT_RESET_EXIT = 0
CTRL_A, CTRL_B, CTRL_C = b"\x01", b"\x02", b"\x03"
BUSY_S = 2.0  # a board that computes for so long gets its Ctrl-C where it stands


class Watchdog:
    """The other end of boards/desktop/boot_hal.py's watchdog: calls `starved()`.

    Its seconds are 0.3 of the board's.
    """

    def __init__(self, starved):
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.starved_count = 0
        self._starved = starved
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                first = lines.readline()
                timeout = int(first or 0) * 0.0003
                while first:
                    if not select.select([connection], [], [], timeout)[0]:
                        self.starved_count += 1
                        self._starved()
                        break
                    if not connection.recv(100):
                        break

    def close(self) -> None:
        """Serve no more."""
        self._server.close()


class PtyBoard:
    """A running board; `port` is the device to connect to, `output` what it printed. A context.

    `environment` adds to what boards/desktop/board.py reads; `received` counts the bytes that
    came over the line, and after `power_cut_after` more the power goes for a moment, once; after
    `cable_pulled_after` more nothing comes or goes any more, until that is None again. A
    restart takes `off_s`. `starts` counts those that run main.py, `soft_resets` the others.
    """

    def __init__(self, image: Path, environment: dict | None = None, heap: str = HEAP):
        self._heap = heap
        self._image = image
        self._environment = environment or {}
        self._ends = [*pty.openpty(), *pty.openpty()]
        self._master, self._slave, self._other_master, other_slave = self._ends
        tty.setraw(other_slave)
        # Ctrl-C is a signal for the running firmware, as on a board; nothing else is special.
        tty.setraw(self._slave)
        mode = termios.tcgetattr(self._slave)
        mode[3] |= termios.ISIG
        mode[6][termios.VINTR] = b"\x03"
        for name in (termios.VQUIT, termios.VSUSP):
            mode[6][name] = b"\x00"
        termios.tcsetattr(self._slave, termios.TCSANOW, mode)
        self._mode = mode
        self.port = os.ttyname(other_slave)
        self.starts = 0
        self.soft_resets = 0
        self._is_raw = False
        self.received = 0
        self.power_cut_after: int | None = None
        self.cable_pulled_after: int | None = None
        self.off_s = 0.05
        self._closing = False
        self._process: subprocess.Popen | None = None
        self.output = b""
        self.watchdog = Watchdog(self.kill)
        for source, target in (
            (self._master, self._other_master),
            (self._other_master, self._master),
        ):
            threading.Thread(target=self._pump, args=(source, target), daemon=True).start()
        self._runner = threading.Thread(target=self._keep_running, daemon=True)
        self._runner.start()

    def _pump(self, source: int, target: int) -> None:
        try:
            while data := os.read(source, 1000):
                if source == self._master:
                    self.output += data
                else:
                    self._count(len(data))
                    self._watch_prompt(data)
                if self.cable_pulled_after is None or self.cable_pulled_after >= 0:
                    if target == self._master and CTRL_C in data:
                        self._interrupt(data)
                    else:
                        os.write(target, data)
        except OSError:
            pass  # the line was closed

    def _watch_prompt(self, data: bytes) -> None:
        raw, friendly = data.rfind(CTRL_A), data.rfind(CTRL_B)
        if raw != friendly:
            self._is_raw = raw > friendly

    def _interrupt(self, data: bytes) -> None:
        """Pass on data with Ctrl-C, each when the board waits for something.

        A chip raises KeyboardInterrupt between two bytecodes. The Unix port jumps out of its
        signal handler from wherever it stands: out of an allocation, whose lock stays taken for
        ever, or out of a littlefs that is half way through a write.
        """
        first, *others = data.split(CTRL_C)
        os.write(self._master, first)
        for text in others:
            deadline = time.monotonic() + BUSY_S
            while self._is_computing() and time.monotonic() < deadline:
                time.sleep(0.001)
            os.write(self._master, CTRL_C + text)

    def _is_computing(self) -> bool:
        if not termios.tcgetattr(self._slave)[3] & termios.ISIG:
            return False  # at its prompt, where Ctrl-C is a byte as others
        if self._process is None:
            return True
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return True  # it ended, and the next one starts soon
        return stat.rpartition(") ")[2][0] != "S"

    def _count(self, sent: int) -> None:
        self.received += sent
        if self.cable_pulled_after is not None:
            self.cable_pulled_after -= sent
        if self.power_cut_after is not None:
            self.power_cut_after -= sent
            if self.power_cut_after < 0:
                self.power_cut_after = None
                self.kill()

    def _keep_running(self) -> None:
        to_raw = False
        while not self._closing:
            if to_raw:
                self.soft_resets += 1
            else:
                self.starts += 1
            self._is_raw = to_raw
            termios.tcsetattr(self._slave, termios.TCSANOW, self._mode)
            self._process = subprocess.Popen(
                [
                    micropython(),
                    "-X",
                    "heapsize=" + self._heap,
                    "-i",
                    BOARDS / "desktop" / "start.py",
                    str(self._image),
                ]
                + (["raw"] if to_raw else []),
                cwd=ROOT,
                stdin=self._slave,
                stdout=self._slave,
                stderr=self._slave,
                start_new_session=True,
                preexec_fn=self._take_terminal,
                env={
                    **os.environ,
                    "MICROPYPATH": f".frozen:{BOARDS / 'desktop'}",
                    "TAPAUTH_BOOT_WATCHDOG": self.watchdog.address,
                    **self._environment,
                },
            )
            if to_raw:
                os.write(self._master, CTRL_A)  # waits for the prompt
            is_soft = self._process.wait() == SOFT_RESET_EXIT
            to_raw = is_soft and self._is_raw
            if self._closing:
                return
            if is_soft:
                os.write(self._slave, b"MPY: soft reboot\r\n")
            else:
                time.sleep(self.off_s)

    def _take_terminal(self) -> None:
        import fcntl

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def kill(self) -> None:
        """Cut the power for a moment."""
        if self._process:
            self._process.kill()

    def type(self, text: str) -> None:
        """Type on the board's console."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str, seconds: float = 20) -> None:
        """Wait until the board has printed this. Raises AssertionError."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.output:
            assert time.monotonic() < deadline, self.output.decode(errors="replace")
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._closing = True
        self.kill()
        self._runner.join(5)
        self.watchdog.close()
        for end in self._ends:
            os.close(end)
