"""The desktop charger: broker, flash, card reader and EVSEs around the firmware itself.

    python -m tools.charger [--demo] [--no-server] [--broker HOST:PORT] [--flash FILE]

The firmware runs in real MicroPython with a board-sized heap; everything around it is simulated
here. With a terminal it takes commands (type `help`); without one, or with --demo, it plays a
bundled scenario and checks what comes over MQTT.
"""

import argparse
import contextlib
import io
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from functools import cache
from pathlib import Path

import paho.mqtt.client as paho

from tools.build import AS_SOURCE, sources
from tools.cardlist.card_image import Builder
from tools.cardlist.card_rows import card, read_rows
from tools.cardlist.store_target import ImageTarget
from tools.desk import console
from tools.desk.bench_link import BenchServer
from tools.desk.broker import EmbeddedBroker, free_port
from tools.desk.evse_sim import SimulatedEvses
from tools.desk.flash_image import lock_image
from tools.firmware import compile_modules
from tools.paths import BOARDS, BUILD, micropython
from tools.pn532.chip import Chip

HEAP = "320k"
"""Heap of the 64-bit Unix port. A firmware that took 219 KB of it took 152 KB of a Pico W's
205 KB: 320 KB here are like 220 KB on a board."""
HEAP_WITH_SERVER = "384k"
"""With the local interface, like 265 KB on a board, so that there is room for two visitors and an
upload at any time. It holds 30 KB more, 14 of them for the table of names, which it makes double.
"""
HEAP_OF_BOTH = "416k"
"""With the auth service beside it, like 290 KB on a board: the service holds 41 KB."""
CAPACITY = 10_000
"""Cards that the store of a new flash may hold; the configuration's default."""

DESKTOP = BOARDS / "desktop"
START = DESKTOP / "start.py"
FLASH = BUILD / "desktop" / "flash.img"
RESET_EXIT = 3
"""The firmware's process ends with this when it resets the board (boards/desktop/board.py)."""


@cache
def _modules() -> dict[str, bytes]:
    """The firmware as a board has it, by path."""
    with tempfile.TemporaryDirectory() as scratch:
        return compile_modules(DESKTOP.name, Path(scratch))


def stage(folder: Path, config: dict) -> None:
    """Lay out what is put on the flash: the compiled firmware, the boot part, `config`."""
    shutil.rmtree(folder, ignore_errors=True)
    boot = {name: sources()[name].read_bytes() for name in AS_SOURCE}
    for name, data in {**boot, **_modules()}.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (folder / "config.json").write_text(json.dumps(config))


def first_list(cards: Path, key: bytes) -> bytes:
    """The list file that a new board gets of a table of cards. Raises SystemExit without one."""
    builder = Builder(key)
    rows = list(read_rows(cards))
    if not rows:
        raise SystemExit(f"{cards}: there is no card in it")
    for _, fields in rows:
        assert isinstance(fields, dict)
        builder.add(*card(fields))
    data = io.BytesIO()
    builder.write(data, 1, int.from_bytes(os.urandom(4), "little") or 1)
    return data.getvalue()


def provision(flash: Path, cards: Path) -> bool:
    """Give a new flash what a technician gives a new board: a site key and a list of cards.

    Returns whether it had none before.
    """
    target = ImageTarget(flash, CAPACITY)
    if not target.is_new():
        target.key()  # says so when it is damaged; a new one would end the cards
        return False
    key = os.urandom(32)
    data = first_list(cards, key)  # a bad table leaves a new flash new
    target.set_key(key)
    target.install(data)
    return True


class Observer:
    """An MQTT client apart from the firmware, which sees every message.

    `on_message(topic, payload)` is called for each, in the client's thread.
    Raises SystemExit when the broker cannot be reached.
    """

    def __init__(self, host: str, port: int, on_message):
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id="desk-" + uuid.uuid4().hex[:12]
        )
        self._subscribed = threading.Event()
        self._client.on_connect = lambda client, *_: client.subscribe("#")
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: on_message(
            message.topic, message.payload
        )
        self._client.reconnect_delay_set(1, 2)
        try:
            self._client.connect(host, port, keepalive=30)
        except OSError as error:
            raise SystemExit(f"no MQTT broker at {host}:{port} ({error})") from error
        self._client.loop_start()
        if not self._subscribed.wait(10):
            raise SystemExit(f"the broker at {host}:{port} does not answer")

    def publish(self, topic: str, text: str) -> None:
        """Publish with QoS 1: the broker has it, or paho tries again."""
        self._client.publish(topic, text, qos=1)

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()


class Watchdog:
    """The board's watchdog: calls `starved()` when it is armed and not fed in time."""

    def __init__(self, starved):
        self._starved = starved
        self._timeout = 0.0
        self._deadline = math.inf
        threading.Thread(target=self._watch, daemon=True).start()

    def arm(self, milliseconds: int) -> None:
        """Watch from now on."""
        self._timeout = milliseconds / 1000
        self.feed()

    def feed(self) -> None:
        """The firmware lives."""
        self._deadline = time.monotonic() + self._timeout

    def disarm(self) -> None:
        """The board has no power, or is being reset."""
        self._deadline = math.inf

    def _watch(self) -> None:
        while True:
            time.sleep(0.05)
            if time.monotonic() > self._deadline:
                self.disarm()
                self._starved()


class DesktopCharger:
    """The firmware and all that is around it. A context manager.

    `broker` is "host:port", or None for an embedded one. `on_message(topic, payload)` and
    `on_board_line(line)` get what comes over MQTT and what the board prints; `overrides` is
    merged into boards/desktop/config.json, one level deep; `cards` is the table of a new flash.
    `server` starts the local interface on a free port, with a PIN of this run, `pin`.
    """

    def __init__(
        self,
        broker: str | None = None,
        flash: Path = FLASH,
        overrides: dict | None = None,
        on_message=None,
        on_board_line=None,
        cards: Path = DESKTOP / "cards.csv",
        server: bool = False,
    ):
        self._embedded: EmbeddedBroker | None = None
        self.flash = flash
        self.cards = cards
        self.on_message = on_message or (lambda topic, payload: None)
        self.on_board_line = on_board_line or (lambda line: None)
        try:
            self.config = json.loads((DESKTOP / "config.json").read_text())
        except ValueError as error:
            raise SystemExit(f"boards/desktop/config.json is not JSON: {error}") from error
        for key, value in (overrides or {}).items():
            if isinstance(value, dict):
                self.config.setdefault(key, {}).update(value)
            else:
                self.config[key] = value
        self.base = "tapauth/" + self.config["board_id"]
        if broker:
            host, _, port = broker.rpartition(":")
            if not host or not port.isdigit():
                raise SystemExit(f"BROKER must be host:port, not {broker!r}")
            self.host, self.port = host, int(port)
        else:
            self._embedded = EmbeddedBroker()
            self.host, self.port = "127.0.0.1", self._embedded.port
        self.server = server
        self.pin = f"{secrets.randbelow(10**6):06}"
        if server:
            local = {"enabled": True, "address": "127.0.0.1", "port": free_port()}
            self.config["server"] = {**local, **self.config.get("server", {})}
        self.heap = HEAP
        if self.config.get("server", {}).get("enabled"):
            rpc = self.config.get("rpc", {}).get("address")
            self.heap = HEAP_OF_BOTH if rpc else HEAP_WITH_SERVER
        self.chip = Chip()
        self._watchdog = Watchdog(self.kill_firmware)
        self.exit_code: int | None = None
        self._process: subprocess.Popen | None = None
        self._stopping = False
        self._up = threading.Event()
        self._watch: threading.Thread | None = None

    def __enter__(self) -> "DesktopCharger":
        with contextlib.ExitStack() as undo:
            undo.enter_context(lock_image(self.flash))
            if self._embedded:
                undo.enter_context(self._embedded)
            self.observer = Observer(self.host, self.port, self._message)
            undo.callback(self.observer.close)
            self.evses = SimulatedEvses(self.base, self.observer.publish)
            undo.callback(self._watchdog.disarm)
            self.bench = undo.enter_context(
                BenchServer(
                    self.chip,
                    on_arm=self._watchdog.arm,
                    on_feed=self._watchdog.feed,
                    on_lamp=lambda pattern: self.on_board_line(f"(lamp: {pattern})"),
                    on_disconnect=self._watchdog.disarm,
                )
            )
            self.bench.handlers[ord("K")] = self._bench_line
            self._start_firmware()
            undo.callback(self._stop_firmware)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._undo.close()

    def _message(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/e2m/heartbeat"):
            self._up.set()
        self.on_message(topic, payload)
        self.evses.take(topic, payload)

    def _bench_line(self, _address: int, data: bytes) -> None:
        """The console page's bench: what a person at the terminal could type."""
        try:
            console.obey(self, data.decode(errors="replace"))
        except ValueError as error:
            raise OSError(22, str(error)) from error

    def _start_firmware(self) -> None:
        files = self.flash.parent / (self.flash.stem + "-files")
        self.config["mqtt"] = {**self.config.get("mqtt", {}), "host": self.host, "port": self.port}
        stage(files, self.config)
        done = subprocess.run(
            [micropython(), str(DESKTOP / "install.py"), str(self.flash), str(files)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit((done.stdout + done.stderr).strip())
        provision(self.flash, self.cards)
        self._watch = threading.Thread(target=self._keep_running, daemon=True)
        self._watch.start()

    def _keep_running(self) -> None:
        """Run the firmware; start it again after a reset, as the chip would."""
        while not self._stopping:
            self._process = subprocess.Popen(
                [micropython(), "-X", "heapsize=" + self.heap, str(START), str(self.flash)],
                env={**os.environ, "TAPAUTH_BENCH": self.bench.address},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            assert self._process.stdout is not None and self._process.stdin is not None
            if self.server:
                # As a technician would type it on the serial console.
                with contextlib.suppress(OSError):
                    self._process.stdin.write(f"pin {self.pin}\n")
                    self._process.stdin.flush()
            for line in self._process.stdout:
                self.on_board_line(line.rstrip())
            code = self._process.wait()
            if code not in (RESET_EXIT, -signal.SIGKILL):
                self.exit_code = code
                self._up.set()
                return
            if not self._stopping:
                self.on_board_line("(reset)")

    def kill_firmware(self) -> None:
        """Reset the board the hard way, as its watchdog does, or a power cut."""
        if self._process:
            self._process.kill()

    seconds = staticmethod(time.monotonic)
    """The board's time."""

    def wait_until_up(self, seconds: float = 20) -> None:
        """Wait for the firmware's heartbeat. Raises RuntimeError when none comes in time."""
        if not self._up.wait(seconds):
            raise RuntimeError(f"no heartbeat of the firmware within {seconds:.0f} s")
        if self.exit_code is not None:
            raise RuntimeError("the firmware ended; its last lines say why")

    def wait_for(self, condition, seconds: float) -> None:
        """Wait until `condition()` holds. Raises RuntimeError when it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"what was waited for did not happen within {seconds:.0f} s")
            time.sleep(0.02)

    def _stop_firmware(self) -> None:
        self._stopping = True
        self.kill_firmware()
        if self._watch:
            self._watch.join(5)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--demo", action="store_true", help="play the bundled scenario and check")
    parser.add_argument("--broker", metavar="HOST:PORT", help="default: an embedded broker")
    parser.add_argument(
        "--no-server", dest="server", action="store_false", help="leave out the local interface"
    )
    parser.add_argument("--flash", type=Path, default=FLASH, help="the flash's image file")
    arguments = parser.parse_args()

    from tools.desk import scenario

    demo = arguments.demo or not sys.stdin.isatty()
    screen = console.Screen()
    charger = DesktopCharger(
        arguments.broker,
        arguments.flash,
        on_message=screen.message,
        on_board_line=screen.board,
        server=arguments.server,
    )
    broker = "embedded" if arguments.broker is None else "yours"
    screen.say(f"MQTT broker {charger.host}:{charger.port} ({broker})")
    screen.say(f"flash {os.path.relpath(arguments.flash)}, heap {charger.heap}")
    started = time.monotonic()
    with charger:
        try:
            charger.wait_until_up()
        except RuntimeError as error:
            screen.say(str(error))
            return 1
        screen.say(f"the board is up after {time.monotonic() - started:.1f} s")
        if charger.server:
            port = charger.config["server"]["port"]
            screen.say(f"console page http://127.0.0.1:{port}/  PIN {charger.pin}")
        if demo:
            return scenario.play(charger, screen)
        return console.converse(charger, screen)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
