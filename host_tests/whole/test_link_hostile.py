"""The link in real MicroPython against real brokers, through a network that does its worst.

Each scenario prints the longest turn that the reader's task had to wait for: in processor time of
the firmware, which counts, and in wall time, which includes whatever else this machine does.
"""

import contextlib
import socket
import threading
import time

import pytest
from brokers import BROKERS

from tools.desk.broker import free_port
from tools.rigs import hostile_proxy as network
from tools.rigs.hostile_proxy import HostileProxy, once
from tools.rigs.probes import Observer, Probe

MAIN = "mosquitto" if "mosquitto" in BROKERS else "embedded"
MAX_BUSY_US = 10_000
MAX_LATE_US = 200_000
"""Half of what the link allows the network: a call that waited for it would take longer."""


class Scene:
    """A broker, the hostile proxy before it, an observer behind it, and the probe."""

    def __init__(self, broker, proxy, observer, probe):
        self.broker = broker
        self.proxy = proxy
        self.observer = observer
        self.probe = probe

    def wait_for_session(self, number: int) -> None:
        """Wait until the link has come up for that many times."""
        self.probe.wait_for(lambda: self.probe.sessions >= number)

    def wait_for_events(self, more: int) -> None:
        """Wait until the observer has seen that many further events."""
        goal = len(self.observer.order) + more
        self.probe.wait_for(lambda: len(self.observer.order) >= goal)

    def finish(self) -> dict:
        """Stop the probe and check what holds after every scenario. Returns its result."""
        self.wait_for_events(10)
        self.observer.rest(self.probe)
        result = self.observer.stop(self.probe)
        print("\n".join(self.probe.lines))
        order = self.observer.order
        assert result["restarts"] == 0
        assert result["broken"] == 0, "a message that was cut was handed on"
        assert result["mqtt_outbox_dropped"] == result["mqtt_unacknowledged"] == 0
        assert order == list(range(len(order))), "in order, without a gap"
        assert result["waiting"] == 0
        assert len(order) == result["queued"], "what was acknowledged has arrived"
        assert result["second_busy_us"] <= MAX_BUSY_US
        assert result["late_us"] <= MAX_LATE_US
        return result


@contextlib.contextmanager
def scene(broker_name: str, title: str, tell, **settings):
    with (
        BROKERS[broker_name]() as broker,
        HostileProxy(broker.port) as proxy,
        Observer(broker.port) as observer,
        Probe(proxy.port, **settings) as probe,
    ):
        it = Scene(broker, proxy, observer, probe)
        it.wait_for_session(1)
        it.wait_for_events(3)
        yield it
        it.result = it.finish()
        tell(
            f"{title} ({broker_name}): longest stall {it.result['busy_us'] / 1000:.1f} ms"
            f" (wall {it.result['late_us'] / 1000:.1f} ms),"
            f" {it.result['mqtt_sessions']} sessions,"
            f" {len(it.observer.events)} deliveries of {len(it.observer.order)} events",
        )


def both(test):
    """Against every broker that is here."""
    return pytest.mark.parametrize("broker_name", sorted(BROKERS))(test)


def test_a_packet_that_stalls_in_its_middle(tell):
    with scene(MAIN, "stall mid-packet", tell) as it:
        it.proxy.down = once(network.PUBLISH, network.half_then_silence)
        it.observer.send(b"stalled " * 20)
        it.wait_for_session(2)
        it.observer.send(b"whole")
    assert it.result["intact"] == 1


@both
def test_a_payload_that_is_cut(broker_name, tell):
    with scene(broker_name, "cut mid-payload, both ways", tell) as it:
        for session in (2, 3):
            it.proxy.down = once(network.PUBLISH, network.half_then_cut)
            it.observer.send(b"cut " * 50)
            it.wait_for_session(session)
        it.proxy.up = once(network.PUBLISH, network.half_then_cut)
        it.wait_for_session(4)
    assert it.result["intact"] == 0


@both
def test_acknowledgements_that_come_late(broker_name, tell):
    with scene(broker_name, "late PUBACK", tell) as it:
        # Later than the firmware waits before it sends a message again.
        for _ in range(3):
            it.proxy.down = once(network.PUBACK, network.late(0.6))
            it.wait_for_events(10)
    assert it.result["mqtt_sessions"] == 1
    assert len(it.observer.events) > len(it.observer.order), "some came twice"


def test_acknowledgements_that_never_come(tell):
    with scene(MAIN, "PUBACK never", tell) as it:
        it.proxy.down = network.never_acknowledge
        it.wait_for_session(3)
        it.proxy.heal()
    assert it.result["mqtt_sessions"] >= 3


def test_delivery_byte_by_byte(tell):
    with scene(MAIN, "byte by byte", tell, timeout_ms=3000, keepalive_s=4) as it:
        it.proxy.down = it.proxy.up = network.byte_by_byte
        for number in range(20):
            it.observer.send(b"number %d " % number * 10)
        it.probe.wait_for(lambda: len(it.observer.order) > 20)
    assert it.result["intact"] == 20
    assert it.result["mqtt_sessions"] == 1


@both
def test_a_message_of_100_kb(broker_name, tell):
    with scene(broker_name, "100 KB message", tell) as it:
        for _ in range(3):
            it.observer.send(b"x" * 100_000)
            it.observer.send(b"small")
    assert it.result["intact"] == 3
    assert it.result["mqtt_oversized"] == 3
    assert it.result["mqtt_sessions"] == 1


@both
def test_a_flood_of_1000_messages(broker_name, tell):
    with scene(broker_name, "flood of 1,000", tell) as it:
        before = len(it.observer.order)
        for number in range(1000):
            it.observer.send(b"flood %d" % number)
        it.wait_for_events(10)
        during = len(it.observer.order) - before
    assert it.result["intact"] == 1000
    assert it.result["mqtt_sessions"] == 1
    assert during >= 10


def test_a_half_open_connection(tell):
    with scene(MAIN, "half-open", tell) as it:
        it.proxy.down = it.proxy.up = network.swallow
        began = time.monotonic()
        it.probe.wait_for_line("W mqtt")
        assert time.monotonic() - began < 4
        it.proxy.heal()
        it.wait_for_session(2)
        # First the broker speaks for the old connection, then the board for the new one.
        it.probe.wait_for(lambda: it.observer.statuses[-1] == "online")


@both
def test_a_broker_that_restarts(broker_name, tell):
    with scene(broker_name, "broker restart", tell) as it:
        it.broker.stop()
        time.sleep(0.5)
        it.broker.start()
        it.wait_for_session(2)
        # A new broker knows nothing: the observer must be back before events count.
        time.sleep(1.5)
        # The messages between were delivered to the broker when the observer was not there.
        gap = it.observer.order
        it.observer.events[:] = range(max(gap) + 1)
        it.wait_for_events(5)
        later = it.observer.order[max(gap) + 1 :]
        assert later == list(range(later[0], later[0] + len(later)))
        it.observer.events[:] = range(max(it.observer.order) + 1)


class NameServer:
    """Answers every question with 127.0.0.1, or, when mute, not at all."""

    def __init__(self):
        self.mute = True
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01"
        while True:
            try:
                query, peer = self._socket.recvfrom(512)
            except OSError:
                return
            self.asked += 1
            if not self.mute:
                header = query[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00"
                self._socket.sendto(header + query[12:] + record, peer)


def test_a_name_server_that_fails(tell):
    names = NameServer()
    with (
        contextlib.closing(names),
        BROKERS[MAIN]() as broker,
        HostileProxy(broker.port) as proxy,
        Observer(broker.port) as observer,
        Probe(proxy.port, host="broker.test", name_server=names.address, period_ms=200) as probe,
    ):
        it = Scene(broker, proxy, observer, probe)
        probe.wait_for_line("no address for the broker's name")
        assert names.asked == 3
        names.mute = False
        it.wait_for_session(1)
        # From now on the address is known: a mute name server costs nothing any more.
        names.mute = True
        asked = names.asked
        proxy.down = once(network.PUBACK, network.half_then_cut)
        it.wait_for_session(2)
        assert names.asked == asked
        result = it.finish()
        tell(f"DNS failure ({MAIN}): longest stall {result['busy_us'] / 1000:.1f} ms")


def test_a_name_that_only_the_platform_can_look_up():
    with (
        BROKERS[MAIN]() as broker,
        Observer(broker.port) as observer,
        Probe(broker.port, host="localhost") as probe,
    ):
        probe.wait_for_line("up 1")
        assert observer.stop(probe)["mqtt_lookup_ms"] < 1000


@both
def test_200_events_while_the_broker_is_down(broker_name):
    port = free_port()
    outbox = {"outbox_messages": 32, "outbox_bytes": 8192}
    with (
        BROKERS[broker_name]() as broker,
        Observer(broker.port) as observer,
        Probe(port, events=200, period_ms=1, **outbox) as probe,
    ):
        probe.wait_for_line("ECONNREFUSED")
        time.sleep(1)
        with HostileProxy(broker.port, port=port):
            probe.wait_for(lambda: 199 in observer.events)
            result = observer.stop(probe)
    assert observer.events == list(range(168, 200))
    assert result["queued"] == 200
    assert result["mqtt_outbox_dropped"] == 168
    assert result["waiting"] == 0


def test_the_will_speaks_for_a_board_that_loses_power():
    with (
        BROKERS[MAIN]() as broker,
        Observer(broker.port) as observer,
        Probe(broker.port) as probe,
    ):
        probe.wait_for(lambda: "online" in observer.statuses)
        probe._process.kill()
        probe.wait_for(lambda: observer.statuses == ["online", "offline"])
