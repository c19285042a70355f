"""An emulated Pico W whose flash has this firmware already, and what a test wants around it."""

import contextlib
import io
import json
import time
from pathlib import Path

from brokers import BROKERS, Listener
from certificates import Authority, server_side

from tools.board.first_pin import state_with
from tools.cardlist.card_image import Builder
from tools.emulator.board import BOARD, GUEST_BROKER, EmulatedPico, wiring
from tools.emulator.charger import config_for
from tools.emulator.install import image as micropython_image
from tools.emulator.ready_flash import make_flash
from tools.firmware import build
from tools.provision import checked
from tools.rigs.hostile_proxy import HostileProxy
from tools.size import CEILINGS

CARD, STRANGER = "04a1b2c3d4e5f6", "04deadbeef0102"
REFUSED = ["Processing", "Rejected"]
STARTS, STOPS = ["Processing", "Accepted", "UsedToStart"], ["Processing", "UsedToStop"]
START_S = 900
TAP_S = 300
KEEPALIVE_S = 3600
"""The broker's seconds pass much faster than the board's."""
SITE_KEY = bytes(range(32))
BASE = f"tapauth/{BOARD}"
HTTP_PORT = 80
ADMIN_PIN = "K7MQ2X"
REMOVED_S = 3.5
"""After this the next tap is a new one: past reader.removal_ms and auth.restart_guard_ms."""


def held(case: str, used: int) -> None:
    """Hold the heap that is used against the ceiling that tools/ceilings.json has for it."""
    ceiling = json.loads(CEILINGS.read_text())["emulated_heap_used"][case]
    assert used <= ceiling, f"{case}: {used} bytes of heap are used, the ceiling is {ceiling}"


def a_list(count: int, version: int) -> bytes:
    """A list file with CARD and `count` - 1 others."""
    builder = Builder(SITE_KEY)
    for value in [CARD, *(f"05{number:012x}" for number in range(count - 1))]:
        token = {"value": value, "type": "ISO14443"}
        builder.add(token, {"authorization_status": "Accepted"})
    file = io.BytesIO()
    builder.write(file, version, 99)
    return file.getvalue()


class Printing:
    """What a board prints, in `lines`."""

    lines: list[str]

    def printed(self, text: str, seconds: float, other: str = "", since: int = 0) -> str:
        """Wait until the board has printed this, or the other, from line number `since` on.
        Returns which.
        """
        deadline = time.monotonic() + seconds
        while True:
            for line in self.lines[since:]:
                if text in line or other and other in line:
                    return text if text in line else other
            assert time.monotonic() < deadline, "\n".join(self.lines[-30:])
            time.sleep(0.1)


class ReadyPico(Printing):
    """The board, its broker, EVSEs without a fault, and an MQTT client that is apart from them.

    A context; the board has begun to start then. `sections` go over its configuration, `cards` is
    a list file under SITE_KEY, `tls` a folder for the certificates of a broker with TLS. `tell`
    gets what the board prints, a line at a time. The local interface is reached at 127.0.0.1,
    `http_port`; ADMIN_PIN opens it.
    """

    def __init__(self, folder: Path, sections: dict, cards: bytes, tls: Path | None = None):
        self.lines: list[str] = []
        self.line_s: list[float] = []
        """The board's time at each line, in seconds."""
        self.switched: list[tuple[int, int]] = []
        self.switched_s: list[float] = []
        self._event_s = 0.0
        self._folder = folder
        self._cards = cards
        self._tls = tls
        self.config = {**config_for("i2c"), "health_interval_s": 1, **sections}
        self.config["mqtt"]["keepalive_s"] = KEEPALIVE_S
        self.removed_s = REMOVED_S
        self._files = {"/conn": state_with(ADMIN_PIN)}

    def __enter__(self) -> "ReadyPico":
        with contextlib.ExitStack() as undo:
            broker = BROKERS["mosquitto" if "mosquitto" in BROKERS else "embedded"]()
            broker.start()
            undo.callback(broker.stop)
            if self._tls:
                self._secure(undo, broker.port)
            self.listener = undo.enter_context(Listener(broker.port))
            self._files["/config.json"] = checked(self.config).encode()
            flash = self._folder / "flash"
            self.image = build(BOARD)
            make_flash(flash, self.image, self._files, site_key=SITE_KEY, cards=self._cards)
            self.board = EmulatedPico(
                micropython_image(),
                flash,
                self._folder / "tty",
                broker_port=broker.port,
                ways_in={HTTP_PORT: 0},
                watch=tuple(lines[1] for lines in wiring()["evses"]),
                on_line=self._line,
                on_event=self._event,
            )
            undo.enter_context(self.board)
            self.http_port = self.board.ways_in[HTTP_PORT]
            for _, _, fault in wiring()["evses"]:
                self.board.drive(fault, 0)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._undo.close()

    def _secure(self, undo: contextlib.ExitStack, broker_port: int) -> None:
        assert self._tls
        ours = Authority(self._tls, "ours")
        host = GUEST_BROKER[0]
        context = server_side(ours.issue("server", host, kind="pem"))
        proxy = undo.enter_context(HostileProxy(broker_port, tls=context))
        self.proxy = proxy
        proxy.handshake_s = START_S
        self._files["/ca.der"] = Path(ours.der).read_bytes()
        tls = {"enabled": True, "ca_file": "/ca.der"}
        self.config["mqtt"] |= {"port": proxy.port, "timeout_ms": 30000, "tls": tls}
        self.config["clock"] = {"source": "ntp", "ntp_host": host}

    def _event(self, event: dict) -> None:
        self._event_s = event["seconds"]
        if event["event"] == "pin":
            self.switched.append((event["pin"], event["level"]))
            self.switched_s.append(self._event_s)

    def _line(self, text: str) -> None:
        self.lines.append(text)
        self.line_s.append(self._event_s)
        print("  |", text[:150], flush=True)

    def seconds(self) -> float:
        """The board's own time since its start."""
        return self.board.state()["seconds"]

    def wait(self, seconds: float) -> None:
        """Let so much of the board's time pass."""
        end = self.seconds() + seconds
        while self.seconds() < end:
            time.sleep(0.2)

    def reports(self) -> list[dict]:
        """All health reports of the board."""
        return self.listener.payloads(BASE + "/health")

    def settled(self, seconds: int = 2) -> dict:
        """The health report after so many more seconds of the board, some collections later."""
        start = len(self.reports())

        def has_settled(_) -> bool:
            seen = self.reports()[start:]
            return bool(seen) and seen[-1]["uptime_s"] >= seen[0]["uptime_s"] + seconds

        self.listener.wait_for(has_settled, START_S)
        return self.reports()[-1]

    def tap(self, card: str, *statuses: str) -> float:
        """Hold a card to the reader until it has these statuses and no others. Returns the board's
        seconds that this took.
        """
        start = len(self.listener.messages)
        wanted = [(card, status) for status in statuses]
        began = self.seconds()
        self.board.place(card)
        self.listener.wait_for(lambda it: it.statuses(start) == wanted, TAP_S)
        took = self.seconds() - began
        self.board.lift()
        self.wait(self.removed_s)
        assert self.listener.statuses(start) == wanted
        return took

    def plug(self, evse_id: int) -> None:
        """A car is plugged in."""
        self._drive_car(evse_id, 0, "SessionStarted")

    def unplug(self, evse_id: int) -> None:
        """The car is unplugged."""
        self._drive_car(evse_id, None, "SessionFinished")

    def _drive_car(self, evse_id: int, level: int | None, news: str) -> None:
        since = len(self.lines)
        self.board.drive(wiring()["evses"][evse_id - 1][0], level)
        self.printed(f"EVSE {evse_id}: {news}", TAP_S, since=since)
