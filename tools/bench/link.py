"""What the network costs the firmware: the link in real MicroPython, broker up, down, stalling.

    python -m tools.bench.link

Prints a JSON object a line: suite, case, metric, value, unit. `enqueue` is how long the call takes
that hands over a status; `to_subscriber` is from there to another client, in wall time; `stall` is
the longest turn that the reader's task waited for, in processor time of the firmware alone, and
`stall_wall` in wall time, with everything else that this machine did meanwhile.
"""

import contextlib
import json
import statistics
import threading
import time
from collections.abc import Iterable, Iterator

from tools.bench.rows import row
from tools.build import build
from tools.desk.broker import EmbeddedBroker, free_port
from tools.rigs.hostile_proxy import PUBLISH, HostileProxy
from tools.rigs.probes import Observer, Probe

SECONDS = 6.0
PERIOD_MS = 20
SETTINGS = {"keepalive_s": 4, "timeout_ms": 1000, "outbox_messages": 32, "outbox_bytes": 8192}


def stalling(packet: bytes) -> Iterable[bytes]:
    """Now and then a packet stops in its middle for a while."""
    if packet[0] & 0xF0 != PUBLISH or time.time() % 1.0 < 0.9:
        yield packet
        return
    yield packet[: len(packet) // 2]
    time.sleep(0.7)
    yield packet[len(packet) // 2 :]


def measure(case: str, probe: Probe, observer: Observer) -> list[dict]:
    """The rows of a probe that has run for long enough; it is stopped."""
    result = observer.stop(probe)
    stall_ms, wall_ms = result["busy_us"] / 1000, result["late_us"] / 1000
    rows = [
        row("link", case, "enqueue_median", result["enqueue_us"]["median"], "us"),
        row("link", case, "enqueue_worst", result["enqueue_us"]["worst"], "us"),
        row("link", case, "stall", stall_ms, "ms"),
        row("link", case, "stall_wall", wall_ms, "ms"),
        row("link", case, "dropped", result["mqtt_outbox_dropped"], "messages"),
    ]
    if case != "down" and observer.latencies_ms:
        times = observer.latencies_ms
        rows.append(row("link", case, "to_subscriber_median", statistics.median(times), "ms"))
        rows.append(row("link", case, "to_subscriber_worst", max(times), "ms"))
    return rows


def chatter(observer: Observer, proxy: HostileProxy) -> threading.Event:
    """Keep messages coming to the probe, so that there is something to stall."""
    done = threading.Event()

    def talk() -> None:
        while not done.wait(0.02):
            observer.send(b"x" * 200)

    proxy.down = proxy.up = stalling
    threading.Thread(target=talk, daemon=True).start()
    return done


@contextlib.contextmanager
def stage(port: int = 0) -> Iterator[tuple]:
    """A broker, a proxy, an observer and a probe; with `port`, the probe finds nothing there."""
    with (
        EmbeddedBroker() as broker,
        HostileProxy(broker.port) as proxy,
        Observer(broker.port) as observer,
        Probe(port or proxy.port, period_ms=PERIOD_MS, **SETTINGS) as probe,
    ):
        yield broker, proxy, observer, probe


def run() -> list[dict]:
    """All rows."""
    build()
    rows = []
    with stage() as (_, _, observer, probe):
        time.sleep(SECONDS)
        rows += measure("up", probe, observer)
    with stage() as (_, proxy, observer, probe):
        probe.wait_for_line("up 1")
        done = chatter(observer, proxy)
        time.sleep(SECONDS)
        done.set()
        proxy.heal()
        rows += measure("stalling", probe, observer)
    port = free_port()
    with stage(port) as (broker, _, observer, probe):
        time.sleep(SECONDS)
        # Only then is there a way in, to ask for the result.
        with HostileProxy(broker.port, port=port):
            probe.wait_for_line("up 1")
            rows += measure("down", probe, observer)
    return rows


def main() -> None:
    for measured in run():
        print(json.dumps(measured))


if __name__ == "__main__":
    main()
