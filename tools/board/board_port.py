"""A board at a serial port, by the real mpremote. Errors say what to do next."""

# Theory of operation. A visit interrupts the firmware and gives mpremote commands, one process
# each, to the prompt that is there then; its end is a reset.
#
# - The knock is the first command: it interrupts, keeps the watchdog from ending the visit, and
#   asks for MicroPython's version and whether a firmware has run.
# - A firmware that was interrupted is not gone: timers, interrupts and open connections call its
#   code, which may lie in the flash and not in memory (docs/updates.md). Writing a slot under it
#   would change that code. So a soft reset follows then: MicroPython forgets everything. At the
#   raw prompt it runs boot.py, which keeps the watchdog fed, but not main.py, which starts a
#   firmware.
# - The door: each later command begins by looking whether a firmware has run. The board may have
#   restarted in between (a power cut, the end of its 15 minutes), and the command would interrupt
#   the firmware and write beside it. Then the command is not carried out, the visit ends, and the
#   same deployment goes on from there.
# - Only the reset at the end needs no door.

import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import serial
import serial.tools.list_ports

from tapauth.console import ANSWER
from tapauth.crypto import sitekey
from tools.board import on_board

# The board's own firmware may be older, or not there, so the module comes along.
SOURCE = Path(sitekey.__file__).read_text() + re.sub(
    "^from tapauth.crypto.sitekey import .*\n", "", Path(on_board.__file__).read_text(), flags=re.M
)


class BoardError(Exception):
    """The way to the board, or the board, said no; the text says what to do next."""


class SilentError(BoardError):
    """The board does not answer."""


stop = threading.Event()
"""A technician wants to end: no new command begins, but what restarts a board."""

STOP_S = 0.5
"""So long after mpremote's end it may take until a technician's Ctrl-C is known here."""
OLDEST = (1, 24)
"""The oldest MicroPython that the firmware runs on."""
HAS_RUN = "import sys\n" + inspect.getsource(on_board.has_run)
# On any MicroPython there ever was: tools/board/on_board.py wants a newer one.
KNOCK = (
    "try:\n import boot_hal\n boot_hal.keep_alive()\nexcept Exception:\n pass\n"
    + HAS_RUN
    + "print('\\nVERSION', sys.implementation[1][0], sys.implementation[1][1], has_run())"
)
CLOSED = "a firmware has run here"
DOOR = HAS_RUN + f"if has_run():\n raise OSError({CLOSED!r})"
SILENT = (
    "the board does not answer on its console: start it in safe mode (its safe-mode pin low while "
    "it starts, see its README) and try again; if that does not help, flash MicroPython anew "
    "(make flash)"
)


def _ports() -> str:
    names = [port.device for port in serial.tools.list_ports.comports()]
    return ", ".join(names) or "none"


def explain(port: str, text: str) -> str:
    """What mpremote said, in words that help."""
    busy = ("in use", "exclusively lock", "Device or resource busy", "Permission denied")
    if any(words in text for words in busy):
        # Elsewhere a port is no file; nor is id:SERIAL or socket://...
        if os.name == "posix" and ":" not in port and not Path(port).exists():
            return f"there is no {port}: plug the board in. Serial ports here: {_ports()}"
        if port.startswith("/") and not os.access(port, os.R_OK | os.W_OK):
            group = Path(port).group()
            return (
                f"you may not use {port}: sudo usermod -aG {group} $USER, then log out and in "
                "again"
            )
        return f"{port} is in use: close the other program (mpremote, make logs, an IDE)"
    if "no device found" in text or "could not open port" in text:
        return f"there is no {port}: plug the board in. Serial ports here: {_ports()}"
    if "No space left" in text or "ENOSPC" in text or "OSError: 28" in text:
        return "the board's flash is full: remove what is not needed from it, and try again"
    if CLOSED in text:
        return (
            "the board started its firmware in the middle of this: the same command again goes on "
            "from there"
        )
    if "MemoryError" in text:
        return "the board has too little memory left: unplug it, plug it in, and try again"
    lines = text.strip().splitlines() or ["failed without a word"]
    return f"the board or the way to it failed ({lines[-1]}): unplug it, plug it in, and try again"


class BoardPort:
    """`port` as mpremote's connect takes it. The firmware is interrupted by the first call."""

    patience_s = 120.0
    """A command that takes longer has met a board that does not answer any more."""
    knock_s = 30.0
    """The same for the first word. mpremote itself waits 10 s, but not at a pseudo-terminal."""

    def __init__(self, port: str):
        self.port = port
        self._answers = False
        self._leaving = False
        self._version = OLDEST

    def run(self, *commands: str, seconds: float | None = None) -> str:
        """Run mpremote commands where no firmware has run; returns what they print.

        Raises BoardError, also when the board has restarted since the last command.
        """
        if not self._answers and self._knock():
            self._run("exec", KNOCK, seconds=self.patience_s, soft_reset=True)
        return self._run("exec", DOOR, *commands, seconds=seconds or self.patience_s)

    def _knock(self) -> bool:
        """Interrupt the firmware. Returns whether there was one."""
        # A board that is starting does not hear mpremote's Ctrl-C, and runs on. Only here can
        # it be told a second time: of a command nobody knows how far it came.
        for left in (2, 1, 0):
            try:
                said = self._run("exec", KNOCK, seconds=min(self.knock_s, self.patience_s))
                break
            except SilentError:
                if not left:
                    raise
        found = re.search(r"^VERSION (\d+) (\d+) ?(\w*)", said, re.M)
        self._version = (int(found[1]), int(found[2])) if found else OLDEST
        self._answers = True
        return bool(found and found[3])

    def _end_if_stopped(self) -> None:
        if stop.is_set() and not self._leaving:
            raise BoardError("stopped; the same command again goes on from there")

    def _run(self, *commands: str, seconds: float, soft_reset: bool = False) -> str:
        self._end_if_stopped()
        # Without `resume` mpremote makes a soft reset first, which the watchdog outlives.
        begin = [] if soft_reset else ["resume"]
        call = [sys.executable, "-m", "mpremote", "connect", self.port, *begin, *commands]
        try:
            # Beside text there may be noise, such as a TLS connection's last words.
            done = subprocess.run(
                call, capture_output=True, text=True, errors="replace", timeout=seconds
            )
        except subprocess.TimeoutExpired:
            raise SilentError(SILENT) from None
        if done.returncode:
            stop.wait(STOP_S)  # Ctrl-C reaches mpremote too, and often first
            self._end_if_stopped()
            # What the board raised comes out as its output.
            text = done.stdout + "\n" + done.stderr
            # Its last line: a traceback of mpremote shows lines of code, with `timeout` in them.
            last = (text.strip().splitlines() or [""])[-1]
            if "could not enter raw repl" in last or "timeout" in last.lower():
                raise SilentError(SILENT)
            raise BoardError(explain(self.port, text))
        return done.stdout

    def call(self, expression: str):
        """The value of an expression over tools/board/on_board.py, run on the board."""
        code = f"{SOURCE}\nkeep_alive()\nprint('\\nANSWER', json.dumps({expression}))"
        try:
            output = self.run("exec", code)
        except BoardError:
            if self._version >= OLDEST:
                raise
            old, oldest = (".".join(map(str, version)) for version in (self._version, OLDEST))
            raise BoardError(
                f"the board has MicroPython {old}, and {oldest} or later is wanted: make flash"
            ) from None
        found = re.search(r"^ANSWER (.*)$", output, re.M)
        try:
            return json.loads(found[1]) if found else json.loads("")
        except ValueError:
            raise BoardError(
                f"the board gave no answer but {output!r}: unplug it, plug it in, and try again"
            ) from None

    def copy(self, source: Path, target: str) -> None:
        """Copy a file to the board."""
        self.run("fs", "cp", str(source), ":" + target)

    @contextlib.contextmanager
    def visit(self):
        """An error in here does not leave a charger with its firmware stopped."""
        try:
            yield
        except BoardError:
            with contextlib.suppress(BoardError):
                if self._answers or stop.is_set():  # or stopped before it could answer
                    self.restart()
            raise

    def restart(self) -> None:
        """Restart the board, so that the firmware runs again."""
        code = (
            "try:\n import boot_hal as machine\nexcept Exception:\n import machine\n"
            "machine.reset()"
        )
        self._leaving = True
        if not self._answers:
            self._knock()
        self._run("exec", "--no-follow", code, seconds=min(10.0, self.patience_s))
        self._answers = self._leaving = False


def _device(port: str) -> str:
    """What a port is to pyserial, which does not know mpremote's `id:` and `port:`."""
    kind, _, name = port.partition(":")
    if kind == "port":
        return name
    if kind == "id":
        for found in serial.tools.list_ports.comports():
            if found.serial_number == name:
                return found.device
    return port


class Console:
    """What a board prints, line by line, without disturbing it. A context."""

    def __init__(self, port: str):
        self._port = port
        self._serial: serial.Serial | None = None
        self._text = b""

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_) -> None:
        self._close()

    def _close(self) -> None:
        if self._serial:
            self._serial.close()
            self._serial = None

    def open(self) -> None:
        """Open the port now. Raises BoardError; lines() by itself waits for the port to come."""
        try:
            self._serial = serial.serial_for_url(
                _device(self._port), 115200, timeout=0.2, exclusive=True
            )
        except (OSError, serial.SerialException) as error:
            raise BoardError(explain(self._port, str(error))) from error

    def type(self, text: bytes) -> None:
        """Type on the console, which must be open. Raises BoardError."""
        assert self._serial
        try:
            self._serial.write(text)
        except (OSError, serial.SerialException) as error:
            raise BoardError(explain(self._port, str(error))) from error

    def lines(self, seconds: float | None = None):
        """Yield lines for so long (None: for ever); "" now and then when none comes.

        The port may go and come back, as that of a board with its own USB does at a restart.
        """
        deadline = time.monotonic() + seconds if seconds is not None else None
        while not stop.is_set() and (deadline is None or time.monotonic() < deadline):
            try:
                if self._serial is None:
                    self.open()
                assert self._serial
                self._text += self._serial.read(self._serial.in_waiting or 1)
            except (OSError, serial.SerialException, BoardError):
                self._close()
                time.sleep(0.2)
            *whole, self._text = self._text.split(b"\n")
            for line in whole:
                yield line.decode(errors="replace").rstrip("\r")
            if not whole:
                yield ""


_ASKS_S = (2.0, 5.0, 10.0)
"""How long to wait for an answer, time after time: a board that is starting reads nothing."""
_AGAIN_S = 5.0
_STOPPED = "stopped; nothing was changed"
# Ctrl-B first: out of the raw prompt that a tool may have left behind. A firmware takes no notice.
_ASK = b"\x02\r\nstatus\r\n"


def ask_status(port: str, patience: tuple = _ASKS_S) -> dict | None:
    """What the firmware that runs at `port` tells of itself (firmware/tapauth/board_status.py).

    None: MicroPython's prompt answers, so no firmware runs. Nothing is stopped for it. It is asked
    once for each of the seconds in `patience`. Raises BoardError when the port cannot be had,
    SilentError when nothing answers.
    """
    with Console(port) as console:
        console.open()
        for seconds in patience:
            console.type(_ASK)
            for line in console.lines(seconds):
                if line.startswith(">>> "):
                    return None
                if line.startswith(ANSWER + "{"):
                    try:
                        return json.loads(line[len(ANSWER) :])
                    except ValueError:
                        break  # the line was disturbed
            if stop.is_set():
                raise BoardError(_STOPPED)
    raise SilentError(
        "the firmware does not say what it does: it is still starting, hangs, or is too old to "
        "be asked. Try again in a minute; NOW=1 (--now) goes ahead, and ends what charges there"
    )


def wait_for_no_transaction(port: str, say, now: bool, patience: tuple = _ASKS_S) -> None:
    """Wait until nothing charges at a board that is about to be stopped; not when `now`.

    `say(text)` tells what is waited for. Raises BoardError, SilentError, as ask_status() does.
    """
    said = None
    while not now:
        status = ask_status(port, patience)
        charging = status["charging"] if status else []
        if not charging:
            return
        if charging != said:
            said = charging
            evses = ", ".join(str(number) for number in charging)
            say(
                f"EVSE {evses} charges: waiting for the end of it. Ctrl-C ends the waiting; "
                "NOW=1 (--now) goes ahead, and ends the charging"
            )
        if stop.wait(_AGAIN_S):
            raise BoardError(_STOPPED)
