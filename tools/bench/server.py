"""The local server in the whole desktop charger: its memory, and what taps wait for it.

    python -m tools.bench.server

The charger is that of `make run`, with its heap: MicroPython with broker, reader and EVSEs. Heap
is what is in use after a collection, the most that the health reports of each second saw. Taps are
times as in tools/bench/tap.py, with a card every half second.
"""

import csv
import json
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from tools import charger
from tools.bench import tap
from tools.bench.rows import row
from tools.cardlist.store_target import ImageTarget
from tools.paths import IMAGE, micropython
from tools.rigs.local_board import Client, list_file

IMPORTS = (
    ("what stays: door, tail", "tapauth.local.door,tapauth.local.tail"),
    ("connection auth", "tapauth.local.login.auth,tapauth.local.login.kept"),
    ("WebSocket", "tapauth.local.websocket"),
    ("server", "tapauth.local.server"),
    ("HTTP", "microdot.microdot,tapauth.local.http"),
)
CODE = """
import gc, sys, asyncio, json, os, re, time
from tapauth.log import Log
asyncio.Lock, asyncio.start_server
for names in sys.argv[1:]:
    gc.collect()
    before = gc.mem_alloc()
    for name in names.split(","):
        __import__(name)
    gc.collect()
    print(gc.mem_alloc() - before)
"""


def say(case: str, metric: str, value, unit: str) -> None:
    print(json.dumps(row("server", case, metric, value, unit)), flush=True)


def modules() -> None:
    """Heap of the code, room by room."""
    done = subprocess.run(
        [micropython(), "-X", "heapsize=400k", "-c", CODE, *[names for _, names in IMPORTS]],
        env={"MICROPYPATH": f"{IMAGE}:{IMAGE}/lib:.frozen"},
        capture_output=True,
        text=True,
        check=True,
    )
    for (case, _), line in zip(IMPORTS, done.stdout.split(), strict=True):
        say(case, "heap_of_code", int(line), "bytes")


class Charger:
    """A desktop charger that reports its health each second, and taps."""

    def __init__(self, folder: Path, server: bool):
        self.reports: list[dict] = []
        table = folder / "cards.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([["uid"], *[[uid] for uid in tap.CARDS]])
        flash = folder / f"flash{server}.img"
        settings = {**tap.SETTINGS, "health_interval_s": 1}
        self.it = charger.DesktopCharger(None, flash, settings, cards=table, server=server)
        self._cards = iter(tap.CARDS)
        self._taps: list[float] = []
        self._stop = threading.Event()

    def __enter__(self) -> "Charger":
        self.it.__enter__()
        self.watch = tap.Stopwatch(self.it)
        self.it.on_message, self.it.on_board_line = self._message, self._line
        self.it.wait_until_up()
        # Code that was loaded for the start is forgotten some seconds after it.
        time.sleep(6)
        return self

    def __exit__(self, *_) -> None:
        self.it.__exit__(*_)

    def _message(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/health"):
            self.reports.append(json.loads(payload))
        self.watch.message(topic, payload)

    def _line(self, line: str) -> None:
        self.watch.lamp(line)
        if not line.startswith("("):
            print(line)  # shown when something fails

    def heap(self, since: int | None = None) -> int:
        """Heap in use, after the next two reports; the most since report number `since`."""
        at = len(self.reports)
        self.it.wait_for(lambda: len(self.reports) >= at + 2, 10)
        reports = self.reports[since:] if since is not None else self.reports[-1:]
        return max(one["heap_used_after_gc"] for one in reports)

    def lag(self) -> int:
        """The longest delay of the loop so far, in milliseconds."""
        return self.reports[-1]["max_lag_ms"]

    def _tap(self) -> None:
        while not self._stop.is_set():
            read = tap.tap(self.it, self.watch, next(self._cards))
            self._taps.append(self.watch.decided - read)

    def tapping(self, case: str, work) -> float:
        """Do `work()` while cards are tapped; tells what they waited. Returns its seconds."""
        self._taps.clear()
        self._stop.clear()
        tapper = threading.Thread(target=self._tap)
        tapper.start()
        began = time.monotonic()
        try:
            work()
        finally:
            took = time.monotonic() - began
            self._stop.set()
            tapper.join()
        for one in tap.rows(case, "card_to_decision", self._taps):
            say(case, one["metric"], one["value"], one["unit"])
        return took


def upload(it: charger.DesktopCharger, token: str, data: bytes) -> None:
    address = f"http://127.0.0.1:{it.config['server']['port']}/cards?token={token}"
    request = urllib.request.Request(address, data, method="POST")
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert json.loads(reply.read())["version"] == 7


def main() -> None:
    modules()
    with tempfile.TemporaryDirectory() as folder:
        with Charger(Path(folder), False) as it:
            without = it.heap()
        say("no server", "heap_used", without, "bytes")
        with Charger(Path(folder), True) as it:
            key = ImageTarget(it.it.flash, charger.CAPACITY).key()
            say("nobody connected", "heap_used", it.heap(), "bytes")
            say("nobody connected", "heap_for_server", it.heap() - without, "bytes")
            it.tapping("nobody connected", lambda: time.sleep(5))
            measure(it, without, list_file(10_000, key=key))


def measure(it: Charger, without: int, data: bytes) -> None:
    """Somebody is connected, and does what takes the most."""
    say("nobody connected", "longest_lag", it.lag(), "ms")
    client = Client(it.it.config["server"]["port"])
    began = time.monotonic()
    assert client.login(it.it.pin)["result"]
    say("login with a PIN", "took", round(1000 * (time.monotonic() - began), 1), "ms")
    say("a console open", "heap_used", it.heap(), "bytes")
    say("a console open", "heap_for_server", it.heap() - without, "bytes")
    say("a console open", "longest_lag", it.lag(), "ms")
    assert client.ask("setAuthParams", userType="admin", authType="password", password="p" * 8)
    times = []

    def logins() -> None:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            began = time.monotonic()
            assert client.login("p" * 8)["result"]
            times.append(time.monotonic() - began)

    at = len(it.reports)
    it.tapping("logins with a password", logins)
    say("logins with a password", "took_each", round(1000 * statistics.median(times), 1), "ms")
    say("logins with a password", "heap_used", it.heap(at), "bytes")
    say("logins with a password", "longest_lag", it.lag(), "ms")
    token = client.ask("getTokenForHttpServer")["token"]
    at = len(it.reports)
    took = it.tapping("uploading 10,000 cards", lambda: upload(it.it, token, data))
    say("uploading 10,000 cards", "took", round(1000 * took), "ms")
    say("uploading 10,000 cards", "heap_used", it.heap(at), "bytes")
    say("uploading 10,000 cards", "longest_lag", it.lag(), "ms")
    client.close()
    time.sleep(5)
    say("nobody connected again", "heap_for_server", it.heap() - without, "bytes")


if __name__ == "__main__":
    main()
