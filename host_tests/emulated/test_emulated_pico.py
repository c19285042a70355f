"""The whole firmware on an emulated Pico W: MicroPython's own image, deployed by the real
mpremote, on WiFi, with the simulated reader on the chip's pins and a broker on loopback.

The tests are one board's life and build on each other. They take the time of a slow board; what
they measure is its own, in bytes of its own heap.
"""

import time

import pytest
from brokers import BROKERS, Listener
from certificates import Authority, server_side
from ready_pico import CARD, STRANGER, Printing, held

from tools import cards
from tools.bench.rows import add_rows, row
from tools.board.board_port import BoardPort
from tools.deploy import Deployment, show_status
from tools.emulator.board import BOARD, GUEST_BROKER, SSID, EmulatedPico, wiring
from tools.emulator.charger import config_for
from tools.emulator.install import image as micropython_image
from tools.firmware import build, limits_of
from tools.paths import BUILD, FIRMWARE
from tools.provision import checked, install, make_key
from tools.rigs.hostile_proxy import HostileProxy

BASE = "tapauth/pico-w"
START_S = 900
TAP_S = 300
SETTLED_S = 4
HEAP = (
    "heap_free",
    "heap_used_after_gc",
    "heap_largest_block",
    "heap_min_free",
    "heap_min_largest_block",
)
# At the end of the board's boot.py: the firmware removes its modules when it is interrupted, so
# they are counted while it runs.
SAY_MODULES = """
from machine import Timer
import sys
say = Timer(-1)
say.init(mode=Timer.ONE_SHOT, period=9000, callback=lambda _: print("MODULES", *sys.modules))
"""
SOCKET = """
def outside(ssid):
    import network, socket, time
    # The visit began with a soft reset, which ended the firmware's network.
    wlan = network.WLAN(network.STA_IF)
    wlan.active(True)
    wlan.connect(ssid, "any will do")
    while not wlan.isconnected():
        time.sleep_ms(100)
    found = []
    for address in (("192.0.2.1", 80), ("1.1.1.1", 53)):
        sock = socket.socket()
        sock.settimeout(20)
        try:
            sock.connect(address)
            found.append("reached")
        except OSError as error:
            found.append(str(error))
        sock.close()
    return found
"""


class Bench(Printing):
    """The board, its broker, and an MQTT client that is apart from both."""

    def __init__(self, folder, tell_rows):
        self.folder = folder
        self.lines: list[str] = []
        self.switched: list[tuple[int, int]] = []
        self.rows = tell_rows
        name = "mosquitto" if "mosquitto" in BROKERS else "embedded"
        self.broker = BROKERS[name]()
        self.key = make_key(folder / "site")
        self.config = config_for("i2c")
        self.config["health_interval_s"] = 1

    def __enter__(self):
        self.broker.start()
        self.listener = Listener(self.broker.port)
        self.board = EmulatedPico(
            micropython_image(),
            self.folder / "flash",
            self.folder / "tty",
            broker_port=self.broker.port,
            watch=tuple(lines[1] for lines in wiring()["evses"]),
            on_line=self._line,
            on_pin=lambda pin, level: self.switched.append((pin, level)),
        )
        self.board.__enter__()
        for _, _, fault in wiring()["evses"]:
            self.board.drive(fault, 0)
        return self

    def __exit__(self, *_):
        self.board.__exit__()
        self.listener.__exit__()
        self.broker.stop()

    def _line(self, text: str) -> None:
        self.lines.append(text)
        if text.startswith(("[", "boot: ")):  # not what mpremote and the board say to each other
            print("  |", text[:150], flush=True)

    def configure(self, **sections) -> None:
        """Give the board another configuration, and restart it."""
        config = checked({**self.config, **sections})
        files = {"/site.key": self.key.read_bytes(), "/config.json": config.encode()}
        install(self.board.port, print, limits_of(BOARD), files, now=True)

    def health(self) -> dict:
        """A health report of the board as it is now, some collections of its heap after it has
        connected.
        """
        start = len(self.listener.payloads(BASE + "/health"))

        def has_settled(listener) -> bool:
            seen = listener.payloads(BASE + "/health")[start:]
            return bool(seen) and seen[-1]["uptime_s"] >= seen[0]["uptime_s"] + SETTLED_S

        self.listener.wait_for(has_settled, START_S)
        return self.listener.payloads(BASE + "/health")[-1]

    def measured(self, case: str, report: dict) -> None:
        """Keep the heap's figures of a report, and show them."""
        for name in HEAP:
            self.rows.append(row("emu", case, name, report[name], "bytes"))
        print(f"{case}: " + ", ".join(f"{name} {report[name]}" for name in HEAP))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    rows: list[dict] = []
    patience, BoardPort.patience_s = BoardPort.patience_s, 300.0
    try:
        with Bench(tmp_path_factory.mktemp("pico"), rows) as it:
            yield it
    finally:
        BoardPort.patience_s = patience
        add_rows(BUILD / "emu.json", rows)


def test_it_is_provisioned_and_deployed_and_finds_its_broker(bench):
    started = time.monotonic()
    bench.configure()
    image = build(BOARD)
    port = bench.board.port
    Deployment(image, port, print, bench.key.read_bytes(), 0).run()
    print(f"provisioned and deployed in {time.monotonic() - started:.0f} s")
    BoardPort(port).run("exec", f"open('/boot.py', 'a').write({SAY_MODULES!r})")
    cards.main(["add", CARD, "--parent-id", "FLEET-7", "--port", port])
    bench.listener.wait_for(lambda it: it.payloads("/e2m/heartbeat"), START_S)
    bench.printed("cards: 1 cards", 1)
    bench.rows.append(row("emu", "slot", "packs", sum(map(len, image.slot.values())), "bytes"))


def test_a_tap_starts_a_plugged_in_car_and_the_next_stops_it(bench):
    board, listener = bench.board, bench.listener
    plugged, enable, _ = wiring()["evses"][0]
    board.drive(plugged, 0)
    bench.printed("EVSE 1: SessionStarted", TAP_S)
    for statuses, level in ((["Accepted", "UsedToStart"], 1), (["UsedToStop"], 0)):
        start = len(listener.messages)
        tapped = board.state()["seconds"]
        board.place(CARD)
        wanted = [(CARD, status) for status in ["Processing", *statuses]]
        listener.wait_for(lambda it, n=start, w=wanted: it.statuses(n) == w, TAP_S)
        bench.rows.append(
            row("emu", "tap", "to_last_status", board.state()["seconds"] - tapped, "s, board's")
        )
        board.lift()
        # Past reader.removal_ms and restart_guard_ms.
        while board.state()["seconds"] < tapped + 3.5:
            time.sleep(0.2)
        assert bench.switched[-1] == (enable, level)
    board.drive(plugged, None)
    bench.printed("EVSE 1: SessionFinished", TAP_S)
    start = len(listener.messages)
    board.place(STRANGER)
    refused = [(STRANGER, "Processing"), (STRANGER, "Rejected")]
    listener.wait_for(lambda it: it.statuses(start) == refused, TAP_S)
    board.lift()


def test_its_firmware_is_confirmed_and_its_heap_is_known(bench):
    bench.printed("slot a confirmed", TAP_S)
    bench.measured("WiFi and MQTT up", bench.health())
    said: list[str] = []
    show_status(bench.board.port, said.append)
    assert any(line.startswith("code in flash: ") and "RAM saved" in line for line in said), said


def test_which_modules_are_loaded(bench):
    bench.printed("MODULES", TAP_S)
    loaded = next(line for line in bench.lines if line.startswith("MODULES")).split()[1:]
    folder = BUILD / "boards" / BOARD / "modules"
    sizes = {}
    for path in sorted(folder.rglob("*.mpy")):
        name = ".".join(path.relative_to(folder).with_suffix("").parts)
        name = name.removeprefix("lib.").removesuffix(".__init__")
        if name in loaded:
            sizes[name] = path.stat().st_size
    assert "tapauth.app" in sizes and "tapauth.config" not in sizes
    for name, size in [*sizes.items(), ("total", sum(sizes.values()))]:
        bench.rows.append(row("emu", name, "mpy_loaded", size, "bytes"))
        print(f"  {size:7} {name}")
    BoardPort(bench.board.port).run("fs", "cp", str(FIRMWARE / "boot" / "boot.py"), ":/boot.py")


def test_it_reaches_nothing_but_this_machine(bench):
    port = BoardPort(bench.board.port)
    answer = port.run("exec", SOCKET + f"print(outside({SSID!r}))")
    port.restart()  # with the network that this has begun
    assert "reached" not in answer and answer.count("Errno") == 2, answer
    refused = bench.board.state()["refused"]
    assert refused == [["192.0.2.1", 80], ["1.1.1.1", 53]]


def test_it_speaks_tls_to_the_broker(bench, tmp_path_factory):
    """With the time of day from NTP, without which no certificate can be checked."""
    ours = Authority(tmp_path_factory.mktemp("ours"), "ours")
    host = GUEST_BROKER[0]
    context = server_side(ours.issue("server", host, kind="pem"))
    BoardPort(bench.board.port).run("fs", "cp", ours.der, ":/ca.der")
    with HostileProxy(bench.broker.port, tls=context) as proxy:
        proxy.handshake_s = START_S
        since = len(bench.lines)
        tls = {"enabled": True, "ca_file": "/ca.der"}
        bench.configure(
            mqtt={"host": host, "port": proxy.port, "timeout_ms": 30000, "tls": tls},
            clock={"source": "ntp", "ntp_host": host},
        )
        bench.printed("mqtt: connected to", START_S, since=since)
        report = bench.health()
        bench.measured("TLS to the broker", report)
        held("idle, TLS to the broker", report["heap_used_after_gc"])
