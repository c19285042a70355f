"""The emulated board with what a charger has around it: a broker, cards, cars that plug in.

Its flash keeps what is on it. A new one is provisioned and deployed as a real board's would be,
by the project's own tools and mpremote; so is one whose firmware is not this checkout's.
"""

import contextlib
import json
import os
import secrets
import shutil
import tempfile
import threading
import time
from pathlib import Path

from tools.cardlist.store_target import BoardTarget, ImageTarget
from tools.charger import DESKTOP, Observer, first_list
from tools.deploy import Deployment
from tools.desk.broker import EmbeddedBroker
from tools.desk.flash_image import LfsFiles, UserContext, lock_file
from tools.emulator.board import BOARD, GUEST_BROKER, SSID, EmulatedPico, wiring
from tools.firmware import Image, build, limits_of
from tools.paths import BOARDS, BUILD
from tools.provision import checked, install, make_key

FOLDER = BUILD / "emu"
CONFIRM_S = 10
DEPLOY_S = 300.0
"""The board's seconds are up to twelve of ours."""
GROUP = "MASTER-PASS"
HTTP_PORT = 80
PIN_TAKEN = "until the restart"
"""The end of the firmware's answer to `pin` (firmware/tapauth/local/serial_console.py)."""


def config_for(bus: str) -> dict:
    """The board's configuration: its own, with what this place has."""
    config = json.loads((BOARDS / BOARD / "config.json").read_text())
    host, port = GUEST_BROKER
    config["evses"] = [1] * len(wiring()["evses"])
    config["network"] = {"ssid": SSID, "password": "any will do"}
    config["mqtt"] = {"host": host, "port": port}
    config["reader"]["bus"] = bus
    config["everest"] = {"heartbeat_interval_ms": 5000}
    config["auth"] = {"master_pass_group_id": GROUP}
    config["update"] = {"confirm_s": CONFIRM_S}
    return config


def on_flash(flash: Path) -> tuple[str, str, bool]:
    """(configuration, confirmed build, whether there are cards) of a flash file; "" for what it
    does not hold.
    """
    if not flash.exists():
        return "", "", False
    files = LfsFiles(UserContext(buffer=bytearray(flash.read_bytes())))

    def read(name: str) -> str:
        try:
            with files.open(name, "rb") as file:
                return file.read().decode()
        except (OSError, ValueError):
            return ""

    try:
        files.mount()
    except OSError:
        return "", "", False
    slot, left, *_ = (read("/slot") + " - -").split(" ")
    first = read(f"/{slot}/manifest").partition("\n")[0] if left == "-1" else ""
    cards = False
    if first:
        # A copy: to open a store may mean to mend it.
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copy(flash, folder)
            status = ImageTarget(Path(copy), limits_of(BOARD)["cards"]).ask("store.status()")
            cards = status["version"] > 0
    return read("/config.json"), first.removeprefix("build "), cards


class PluggedCars:
    """Cars at EVSEs that the board knows by its own lines. Its board starts and stops them."""

    def __init__(self, board: EmulatedPico):
        self._board = board
        for _, _, fault in wiring()["evses"]:
            board.drive(fault, 0)  # the contact of a sound EVSE is closed

    def plug(self, evse_id: int) -> None:
        """A car is plugged in: the contact closes."""
        self._board.drive(wiring()["evses"][evse_id - 1][0], 0)

    def unplug(self, evse_id: int) -> None:
        """The car is unplugged."""
        self._board.drive(wiring()["evses"][evse_id - 1][0], None)

    def start(self, evse_id: int) -> None:
        """Raises ValueError: there is nobody else to start it."""
        raise ValueError("this board starts by itself: `plug`, then `tap` a card that may charge")

    def stop(self, evse_id: int) -> None:
        """Raises ValueError."""
        raise ValueError("this board stops by itself: `tap` the card again, or `unplug`")


class EmulatedCharger:
    """Everything together. A context.

    `broker_port` is that of a broker on this machine, None for an embedded one. `server` has the
    board start its local interface, which is reached by `server_port` here; give_pin() lets admin
    in. `say(text)` tells how it goes; `on_message(topic, payload)` and `on_board_line(line)` get
    what comes over MQTT and what the board prints.
    """

    exit_code = None
    """As of DesktopCharger: a board does not end."""

    def __init__(
        self,
        image: Path,
        bus: str,
        say,
        broker_port: int | None = None,
        folder: Path = FOLDER,
        on_message=None,
        on_board_line=None,
        server: bool = False,
    ):
        self._embedded = EmbeddedBroker() if broker_port is None else None
        self.broker_port = self._embedded.port if self._embedded else broker_port
        self._say = say
        self._folder = folder
        self.on_message = on_message or (lambda topic, payload: None)
        self.on_board_line = on_board_line or (lambda line: None)
        self.config = config_for(bus)
        self.server = server
        if server:
            self.config["server"] = {"enabled": True}
        self.base = "tapauth/" + self.config["board_id"]
        self.switched: list[tuple[int, str]] = []
        """What the board did with the enable lines: EVSE and "on" or "off"."""
        self._enable_pins = {lines[1]: i + 1 for i, lines in enumerate(wiring()["evses"])}
        folder.mkdir(parents=True, exist_ok=True)
        self.board = EmulatedPico(
            image,
            folder / "flash",
            folder / "tty",
            bus=bus,
            broker_port=self.broker_port or 0,
            ways_in={HTTP_PORT: 0} if server else None,
            watch=tuple(self._enable_pins),
            on_line=self._board_line,
            on_pin=self._pin,
        )
        self.chip = self.board
        """Takes cards, as the simulated chip does."""
        self.flash = folder / "flash"
        self.site = folder / "site"
        self._up = threading.Event()
        self._pin_taken = threading.Event()
        self._quiet = True

    def __enter__(self) -> "EmulatedCharger":
        with contextlib.ExitStack() as undo:
            refusal = f"another emulated board is using {self.flash}"
            undo.enter_context(lock_file(self._folder / "lock", refusal))
            kept = on_flash(self.flash)
            if self._embedded:
                undo.enter_context(self._embedded)
            assert self.broker_port
            self.observer = Observer("127.0.0.1", self.broker_port, self._message)
            undo.callback(self.observer.close)
            undo.enter_context(self.board)
            self.evses = PluggedCars(self.board)
            self._bring_up(*kept)
            self._quiet = False
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._undo.close()

    def _bring_up(self, config: str, running: str, has_cards: bool) -> None:
        """Give the board what it has not. Raises BoardError."""
        key = make_key(self.site)
        text = checked(self.config)
        if config != text:
            self._say(f"provisioning it (make provision BOARD={BOARD} PORT={self._tty()})")
            files = {"/site.key": key.read_bytes(), "/config.json": text.encode()}
            install(self.board.port, self._say, limits_of(BOARD), files)
        image = build(BOARD)
        if running != image.build:
            self._deploy(image, key.read_bytes())
        if not has_cards:
            self._say(f"putting the cards of {os.path.relpath(DESKTOP / 'cards.csv')} on it")
            target = BoardTarget(self.board.port, limits_of(BOARD)["cards"], False)
            target.install(first_list(DESKTOP / "cards.csv", key.read_bytes()))
        self.board.save()

    def _tty(self) -> str:
        return os.path.relpath(self.board.port)

    def _deploy(self, image: Image, key: bytes) -> None:
        where = f"BOARD={BOARD} PORT={self._tty()} SITE={os.path.relpath(self.site)}"
        self._say(f"deploying build {image.build}, some two minutes (make deploy {where})")
        Deployment(image, self.board.port, self._say, key, DEPLOY_S).run()

    def _message(self, topic: str, payload: bytes) -> None:
        if self._quiet:
            return
        if topic.endswith("/e2m/heartbeat"):
            self._up.set()
        self.on_message(topic, payload)

    def _board_line(self, line: str) -> None:
        # The talk of mpremote with the board is not for people.
        if not self._quiet:
            if line.endswith(PIN_TAKEN):
                self._pin_taken.set()
            self.on_board_line(line)

    def _pin(self, pin: int, level: int) -> None:
        self.switched.append((self._enable_pins[pin], "on" if level else "off"))
        self.on_board_line("(EVSE {}: enable {})".format(*self.switched[-1]))

    def seconds(self) -> float:
        """The board's time: it is slower than ours."""
        return self.board.state()["seconds"]

    def wait_until_up(self, seconds: float = 300) -> None:
        """Wait for the firmware's heartbeat. Raises RuntimeError when none comes in time."""
        if not self._up.wait(seconds):
            raise RuntimeError(f"no heartbeat of the firmware within {seconds:.0f} s")

    @property
    def server_port(self) -> int:
        """The port of this machine that leads to the local interface."""
        return self.board.ways_in[HTTP_PORT]

    def give_pin(self, seconds: float = 300) -> str:
        """Type a PIN for admin on the serial console, as a technician would. Returns it; it holds
        until the board's restart. Raises RuntimeError when the board does not take it.
        """
        pin = f"{secrets.randbelow(10**6):06}"
        self._pin_taken.clear()
        with open(self.board.port, "wb", buffering=0) as console:
            console.write(f"pin {pin}\r\n".encode())
        if not self._pin_taken.wait(seconds):
            raise RuntimeError("the board did not take a PIN: its local interface is not up")
        return pin

    def set_time(self) -> None:
        """Tell the board the time of day, as a site would."""
        self.observer.publish(self.base + "/time", str(int(time.time())))
