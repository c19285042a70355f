"""The local server on MicroPython with 320 KB of 64-bit heap: its memory, and the loop's pace.

    python -m tools.bench.server

The board is that of tools/server_board.py: authorization core, card store and server, without
MQTT and reader. What the server itself takes is the difference to the same board without it. Heap
is what is in use after a collection.
"""

import json
import subprocess
import time

from tools.local_board import LocalBoard, list_file
from tools.paths import IMAGE, micropython
from tools.rows import row

IMPORTS = (
    ("connection auth", "tapauth.conn.auth,tapauth.conn.keeper,tapauth.conn.state_file"),
    ("microdot", "microdot,microdot.microdot,microdot.websocket"),
    ("server", "tapauth.server.service,tapauth.server.tail,tapauth.server.serial_console"),
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


def main() -> None:
    modules()
    with LocalBoard() as board:
        idle = board.next_measurement()["heap"]
        say("nobody connected", "heap_used", idle, "bytes")
        began = time.monotonic()
        client = board.admin()
        say("login with a PIN", "took", round(1000 * (time.monotonic() - began), 1), "ms")
        one = board.next_measurement()["heap"]
        say("a console open", "heap_used", one, "bytes")
        at = len(board.measured)
        assert client.ask("setAuthParams", userType="admin", authType="password", password="p" * 8)
        began = time.monotonic()
        assert client.login("p" * 8)["result"]
        say("login with a password", "took", round(1000 * (time.monotonic() - began), 1), "ms")
        board.next_measurement()
        say("login with a password", "longest_lag", board.worst_lag(at), "ms")
        at = len(board.measured)
        token = client.ask("getTokenForHttpServer")["token"]
        data = list_file(10_000)
        began = time.monotonic()
        status, _, _ = board.http("POST", "/cards?token=" + token, data)
        assert status == 200
        took = time.monotonic() - began
        board.next_measurement()
        heap = max(measured["heap"] for measured in board.measured[at:])
        say("uploading 10,000 cards", "took", round(1000 * took), "ms")
        say("uploading 10,000 cards", "heap_used", heap, "bytes")
        say("uploading 10,000 cards", "longest_lag", board.worst_lag(at), "ms")
        client.close()


if __name__ == "__main__":
    main()
