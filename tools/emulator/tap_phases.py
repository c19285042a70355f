"""Where a tap's time goes on the emulated Pico W: a table of its phases, by the board's own clock.

    python -m tools.emulator.tap_phases [--taps 10] [--cards 4] [--lines 30]

Makes a flash file with this checkout's firmware, boots it, plugs a car in at EVSE 1 and holds a
card to the reader again and again: a known card starts and stops the car in turn, a stranger is
refused. `--cards` is how many the store holds, `--lines` how many lines of the firmware are
listed, those that took most time first.

Moments come from outside: the card is placed, the reader's answer waits, the enable line changes,
a status leaves by the radio. Between them samples say which part of the firmware was at work
(tools/emulator/trace.py). Neither costs the board anything. The broker is on this machine, so an
acknowledgement is there almost at once; a real network adds its round trip for each status but the
last.
"""

import argparse
import ast
import contextlib
import io
import json
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from functools import cache
from pathlib import Path

from tools.bench.rows import row
from tools.build import AS_SOURCE, module_name, sources, text_for_board
from tools.cardlist.card_image import Builder
from tools.cardlist.card_rows import card, read_rows
from tools.charger import DESKTOP
from tools.compile.bundles import place
from tools.compile.mpy import number
from tools.compile.program import BUNDLES
from tools.desk.broker import EmbeddedBroker
from tools.emulator.board import BOARD, EmulatedPico, wiring
from tools.emulator.charger import config_for
from tools.emulator.install import image as micropython_image
from tools.emulator.ready_flash import make_flash
from tools.firmware import board_sources, build
from tools.paths import BUILD
from tools.provision import checked

CARD, STRANGER = "04a1b2c3d4e5f6", "04deadbeef0102"
KEY = bytes(range(32))
INTERVAL_US = 200
"""Between two samples."""
LENGTHS = (40, 28, 20)
"""Bytes that a function is known by: behind the end of a short one, RAM holds something else."""
KINDS = {
    "start": ["Processing", "Accepted", "UsedToStart"],
    "stop": ["Processing", "UsedToStop"],
    "stranger": ["Processing", "Rejected"],
}
"""The kinds of taps, and the statuses that each must bring."""
START_S = 900
TAP_S = 300
REMOVAL_MS = 200
APART_S = 0.5
"""Board's seconds from a tap to the next, past REMOVAL_MS."""

# The part of the firmware that a module is, by the start of its name: the first that fits.
PARTS = (
    ("reader and bus", ("tapauth.reader", "adafruit_pn532")),
    ("token", ("tapauth.core.taps",)),
    ("store look-up", ("tapauth.cards", "tapauth.crypto")),
    ("core", ("tapauth.core",)),
    ("EVSE lines", ("tapauth.evse",)),
    ("lamp", ("tapauth.feedback", "hal")),
    ("status text", ("tapauth.everest", "tapauth.fitting", "tapauth.wallclock")),
    ("log lines", ("tapauth.log",)),
    ("link", ("tapauth.link", "umqtt")),
    ("between the parts", ("tapauth.station", "tapauth.roles")),
    ("other tasks", ("tapauth",)),
)
LOOP = "event loop"
COLLECTION = "collection of the heap"
NETWORK = "network, interrupts"
ASLEEP = "asleep"
ALL_PARTS = (*[part for part, _ in PARTS], LOOP, COLLECTION, NETWORK, ASLEEP)
MOMENTS = (
    "answer waits",
    "answer is read",
    "enable line",
    "first status",
    "last status",
)
"""Since the card was placed: the chip has found the card; the board begins to read that; ..."""
WAITED = "acknowledgements"
"""How long statuses waited for the broker, all but the last."""
MARKING = range(0x1000_9100, 0x1000_9300)
SWEEPING = range(0x1000_9300, 0x1000_9500)
"""Where the collector is in the image that tools/emulator/install.py pins: the places that the
processor is at while the firmware calls gc.collect(). What gives memory out shares the second, so
that counts right behind the first only.
"""


# Which function a sample has met.


def line_of(code: bytes, offset: int) -> int:
    """The line of the source for a place in a function's bytecode: `code` begins with the
    function (MicroPython's py/bc.h: a prelude, names, a table of steps in bytes and in lines).
    """
    byte = code[0]
    at = 1
    names = 1 + (byte & 3)  # its own and those of its arguments
    keyword_only = shift = 0
    while byte & 0x80:
        byte = code[at]
        at += 1
        names += (byte & 4) << shift
        keyword_only += (byte & 8) >> 3 << shift
        shift += 1
    info = cells = shift = 0
    byte = 0x80
    while byte & 0x80:
        byte = code[at]
        at += 1
        info |= (byte & 0x7E) >> 1 << 6 * shift
        cells |= (byte & 1) << shift
        shift += 1
    end = at + info
    left = offset - end - cells
    for _ in range(names + keyword_only):
        _, at = number(code, at)
    line = 1
    while at < end:
        byte = code[at]
        if byte & 0x80:
            size, lines = byte & 0x0F, (byte & 0x70) << 4 | code[at + 1]
            at += 2
        else:
            size, lines = byte & 0x1F, byte >> 5
            at += 1
        if left < size:
            break
        left -= size
        line += lines
    return line


class Firmware:
    """What the board runs, to find a function by its first bytes."""

    def __init__(self):
        folder = BUILD / "boards" / BOARD / "modules"
        self._modules = {
            module_name(path.relative_to(folder).with_suffix(".py").as_posix()): path.read_bytes()
            for path in sorted(folder.rglob("*.mpy"))
        }
        paths = {name: path for name, path in sources().items() if name not in AS_SOURCE}
        self._texts = {
            module_name(name): text_for_board(name, path) for name, path in paths.items()
        }
        self._trees = {
            module_name(name): ast.parse(path.read_text())
            for name, path in {**paths, **board_sources(BOARD)}.items()
        }

    @cache  # noqa: B019 - there is one for a run
    def place(self, code: bytes, offset: int) -> tuple[str, int] | None:
        """(module, line) in the sources of a place in the function that begins so; None: it is
        not of ours.
        """
        for length in LENGTHS:
            begins = code[:length]
            found = [(name, data) for name, data in self._modules.items() if begins in data]
            if len(found) == 1 and found[0][1].count(begins) == 1:
                name, data = found[0]
                line = line_of(data[data.find(begins) :], offset)
                if name in BUNDLES:
                    return place(self._texts, BUNDLES[name], line)
                return name, line
        return None

    def function(self, module: str, line: int) -> str:
        """The name of the function that a line is in."""
        found = "-"
        for node in ast.walk(self._trees[module]):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if node.lineno <= line <= (node.end_lineno or 0):
                found = node.name
        return found


def part_of(places: list[tuple[str, int]]) -> str:
    """The part of the firmware at work, of the functions under way, the innermost first."""
    for module, _ in places:
        for part, starts in PARTS:
            if module.startswith(starts):
                return part
    return LOOP


class Stream:
    """What the board sends to its broker, put together from TCP segments."""

    def __init__(self):
        self._port = 0
        self._next = 0
        self._data = b""

    def statuses(self, port: int, seq: int, data: bytes) -> list[str]:
        """The token statuses whose last byte is in this segment."""
        if port != self._port:  # another connection
            self._port, self._next, self._data = port, seq, b""
        known = (self._next - seq) & 0xFFFF_FFFF  # of a segment that is sent again
        if known < len(data):
            self._data += data[known:]
            self._next = (seq + len(data)) & 0xFFFF_FFFF
        found = []
        while (body := self._packet()) is not None:
            if b"e2m/token_validation_status" in body:
                found.append(json.loads(body[body.index(b"{") :])["status"])
        return found

    def _packet(self) -> bytes | None:
        """Take the first MQTT packet, without its head; None: it is not whole."""
        data = self._data
        length = 0
        for at in range(1, min(5, len(data))):
            length |= (data[at] & 0x7F) << 7 * (at - 1)
            if not data[at] & 0x80:
                end = at + 1 + length
                if end > len(data):
                    return None
                self._data = data[end:]
                return data[at + 1 : end]
        return None


# Taps.


class Tap:
    """What happened since a card was placed, in milliseconds: `moments`, and from when the
    reader's answer waits until the last status leaves, the `parts` and `lines` of the firmware
    that were at work.
    """

    def __init__(self, events: list[dict], firmware: Firmware):
        self.statuses: list[str] = []
        self.moments: dict[str, float] = {}
        self.parts: dict[str, float] = dict.fromkeys(ALL_PARTS, 0.0)
        self.lines: dict[tuple, float] = {}
        self._heard = 0.0  # the last acknowledgement
        self._left = 0.0  # a status that is not acknowledged yet
        self._begun = next(event["seconds"] for event in events if event["event"] == "placed")
        for event in events:
            if event["seconds"] >= self._begun:
                self._take(event)
        self._sort_samples(events, firmware)

    def _since(self, seconds: float) -> float:
        return 1000 * (seconds - self._begun)

    def _take(self, event: dict) -> None:
        kind = event["event"]
        now = self._since(event["seconds"])
        moments = self.moments
        if kind == "reader":
            frame = bytes.fromhex(event["frame"])
            if frame[5:7] == b"\xd5\x4b" and frame[7:8] > b"\0":  # UM0701-02: targets found
                moments.setdefault("answer waits", now)
            elif "answer waits" in moments:
                moments.setdefault("answer is read", now)
        elif kind == "pin":
            moments.setdefault("enable line", now)
        elif kind == "left" and event["statuses"]:
            if self._left:
                moments[WAITED] = moments.get(WAITED, 0.0) + self._heard - self._left
            self._left = now
            self.statuses += event["statuses"]
            moments.setdefault("first status", now)
            moments["last status"] = now
        elif kind == "reached" and event["data"].startswith("4002"):  # a PUBACK
            self._heard = now

    def _sort_samples(self, events: list[dict], firmware: Firmware) -> None:
        told = next(event for event in events if event["event"] == "samples")
        codes = [bytes.fromhex(code) for code in told["codes"]]
        collecting = False
        for seconds, asleep, interrupt, counter, frames in told["samples"]:
            collecting = counter in MARKING or collecting and counter in SWEEPING
            now = self._since(seconds)
            if not self.moments["answer waits"] <= now <= self.moments["last status"]:
                continue
            found = [firmware.place(codes[number], offset) for number, offset in frames]
            places = [place for place in found if place]
            if asleep:
                part = ASLEEP
            elif interrupt:
                part = NETWORK
            elif collecting:
                part = COLLECTION
            else:
                part = part_of(places)
                if places:
                    self.lines[places[0]] = self.lines.get(places[0], 0.0) + INTERVAL_US / 1000
            self.parts[part] += INTERVAL_US / 1000


class TapMeter:
    """Taps cards at a board that was made with `trace` and `on_event=meter.event`, and whose
    configuration is config().
    """

    board: EmulatedPico

    def __init__(self):
        self.printed = ""
        self._events: list[dict] = []
        self._news = threading.Condition()
        self._firmware = Firmware()
        self._stream = Stream()

    @staticmethod
    def config() -> dict:
        """A board's configuration, checked, in which nothing takes the emulator's slowness for a
        failure, taps may follow soon, and a stranger is refused by the board itself.
        """
        config = config_for("i2c")
        config["mqtt"].update(keepalive_s=3600, timeout_ms=60_000)
        config["reader"].update(removal_ms=REMOVAL_MS, restart_guard_ms=0)
        config["everest"]["remote_validator"] = False
        return json.loads(checked(config))

    def event(self, event: dict) -> None:
        """The board has an event."""
        with self._news:
            if event["event"] == "printed":
                self.printed += event["text"]
            else:
                if event["event"] == "left":
                    data = bytes.fromhex(event["data"])
                    event["statuses"] = self._stream.statuses(event["port"], event["seq"], data)
                self._events.append(event)
            self._news.notify()

    def _wait_for(self, met, seconds: float) -> None:
        with self._news:
            if not self._news.wait_for(lambda: met(self._events), seconds):
                raise TimeoutError(self.printed[-2000:])

    def _pass(self, seconds: float) -> None:
        """Let some of the board's time pass."""
        until = self.board.state()["seconds"] + seconds
        while self.board.state()["seconds"] < until:
            time.sleep(0.1)

    def plug_in(self) -> None:
        """Wait until the board is at its broker, and plug a car in at EVSE 1."""
        for _, _, fault in wiring()["evses"]:
            self.board.drive(fault, 0)
        self._wait_for(lambda _: "mqtt: connected to" in self.printed, START_S)
        self._plug("SessionStarted", 0)
        self._pass(2)

    def _plug(self, event: str, level: int | None) -> None:
        """Plug the car in (0) or out (None), and wait until the board has the event."""
        already = self.printed.count("EVSE 1: " + event)
        self.board.drive(wiring()["evses"][0][0], level)
        self._wait_for(lambda _: self.printed.count("EVSE 1: " + event) > already, TAP_S)

    def tap(self, kind: str) -> Tap:
        """Hold a card to the reader until its last status has left, and take it away. Raises
        RuntimeError for other statuses than those of the kind.
        """
        statuses = KINDS[kind]
        switches = kind != "stranger"
        with self._news:
            self._events.clear()
        self.board.sample(INTERVAL_US)
        self.board.place(CARD if switches else STRANGER)

        def is_over(events: list[dict]) -> bool:
            told = [status for event in events for status in event.get("statuses", ())]
            switched = any(event["event"] == "pin" for event in events)
            return told[-1:] == statuses[-1:] and switched == switches

        try:
            self._wait_for(is_over, TAP_S)
        finally:
            self.board.sample(0)
        self._wait_for(lambda events: any(it["event"] == "samples" for it in events), TAP_S)
        with self._news:
            tap = Tap(self._events, self._firmware)
        if tap.statuses != statuses:
            raise RuntimeError(f"{kind}: {tap.statuses}")
        self.board.lift()
        if kind == "stop":  # and the next car
            self._plug("SessionFinished", None)
            self._plug("SessionStarted", 0)
        # Not always at the same place of the reader's search.
        self._pass(APART_S + random.random() / 4)
        return tap

    def run(self, taps: int, tell=print) -> dict[str, list[Tap]]:
        """So many taps of each kind. `tell(text)` hears of each."""
        found: dict[str, list[Tap]] = {kind: [] for kind in KINDS}
        for _ in range(taps):
            for kind in KINDS:
                tap = self.tap(kind)
                found[kind].append(tap)
                moments = ", ".join(f"{name} {ms:.0f}" for name, ms in tap.moments.items())
                tell(f"{kind}: {moments}; {COLLECTION} {tap.parts[COLLECTION]:.0f}")
        return found

    def most_lines(self, taps: list[Tap], count: int) -> list[str]:
        """The lines of the firmware that took most, in milliseconds a tap."""
        total: Counter = Counter()
        for tap in taps:
            total.update(tap.lines)  # type: ignore[arg-type]
        return [
            f"{ms / len(taps):7.2f} ms  {module}:{line} {self._firmware.function(module, line)}"
            for (module, line), ms in total.most_common(count)
        ]


def phases(taps: list[Tap]) -> dict[str, list[float]]:
    """The milliseconds of each phase of these taps: MOMENTS, WAITED, and ALL_PARTS."""
    found = {}
    for name in (*MOMENTS, WAITED):
        values = [tap.moments[name] for tap in taps if name in tap.moments]
        if values:
            found[name] = values
    for name in ALL_PARTS:
        values = [tap.parts[name] for tap in taps]
        if any(values):
            found["- " + name] = values
    return found


def table(found: dict[str, list[Tap]]) -> str:
    """Median and worst of each kind of tap, a line a phase."""
    columns = [phases(taps) for taps in found.values()]
    lines = [f"{'ms: median, worst':26}" + "".join(f"{kind:>18}" for kind in found)]
    for name in (*MOMENTS, WAITED, *["- " + part for part in ALL_PARTS]):
        cells = [
            f"{statistics.median(it[name]):10.1f}{max(it[name]):8.1f}" if name in it else 18 * " "
            for it in columns
        ]
        if "".join(cells).strip():
            lines.append(f"{name:26}" + "".join(cells))
    return "\n".join(lines)


def rows_of(found: dict[str, list[Tap]]) -> list[dict]:
    """Rows of each phase's median and worst, by kind of tap."""
    return [
        row("emu", "tap", f"{kind}: {name.removeprefix('- ')}, {what}", value, "ms, board's")
        for kind, taps in found.items()
        for name, values in phases(taps).items()
        for what, value in (("median", statistics.median(values)), ("worst", max(values)))
    ]


def cards_list(count: int) -> bytes:
    """A list file with the desktop charger's cards, and others up to `count`."""
    builder = Builder(KEY)
    fixed = [fields for _, fields in read_rows(DESKTOP / "cards.csv")]
    for fields in fixed:
        assert isinstance(fields, dict)
        builder.add(*card(fields))
    drawn = random.Random(1)
    for _ in range(count - len(fixed)):
        token = {"value": "04" + drawn.randbytes(6).hex(), "type": "ISO14443"}
        builder.add(token, {"authorization_status": "Accepted"})
    data = io.BytesIO()
    builder.write(data, 1, 1)
    return data.getvalue()


@contextlib.contextmanager
def tapped_board(folder: Path, cards: int, broker_port: int):
    """A TapMeter with its board, a car plugged in, and so many cards in the store."""
    image = build(BOARD)
    meter = TapMeter()
    files = {"/config.json": json.dumps(meter.config()).encode()}
    make_flash(folder / "flash", image, files, site_key=KEY, cards=cards_list(cards))
    with EmulatedPico(
        micropython_image(),
        folder / "flash",
        folder / "tty",
        broker_port=broker_port,
        watch=tuple(lines[1] for lines in wiring()["evses"]),
        on_event=meter.event,
        trace=True,
    ) as meter.board:
        meter.plug_in()
        yield meter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--taps", type=int, default=10, help="of each kind")
    parser.add_argument("--cards", type=int, default=4, help="in the store, 4 at least")
    parser.add_argument("--lines", type=int, default=0, help="of the firmware that are listed")
    parser.add_argument("--broker-port", type=int, help="a broker here; default: an embedded one")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as undo:
        port = arguments.broker_port or undo.enter_context(EmbeddedBroker()).port
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        meter = undo.enter_context(tapped_board(folder, arguments.cards, port))
        found = meter.run(arguments.taps)
        print(table(found))
        for kind, taps in found.items():
            if arguments.lines:
                print(f"{kind}: the lines of the firmware that took most")
                print("\n".join(meter.most_lines(taps, arguments.lines)))


if __name__ == "__main__":
    main()
