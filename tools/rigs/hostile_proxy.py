"""A TCP proxy between the firmware and a real broker that does to the bytes what networks do."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable

PUBLISH, PUBACK = 0x30, 0x40

Rule = Callable[[bytes], Iterable[bytes]]


class Cut(Exception):
    """Raised by a rule: both connections end here."""


def packet_length(data: bytes) -> int:
    """Length of the whole MQTT packet that `data` begins with, 0 when that is not known yet."""
    length = 0
    for position, byte in enumerate(data[1:5]):
        length |= (byte & 0x7F) << (7 * position)
        if not byte & 0x80:
            return position + 2 + length
    return 0


class HostileProxy:
    """Forwards connections to `target` on loopback, packet by packet. A context manager.

    `down` and `up` are the rules for packets to and from the firmware: each gets a whole packet
    and yields what to forward, sleeping or raising Cut as it likes; when `raw`, they get bytes as
    they come. `tls`, an ssl.SSLContext, makes the firmware's side TLS, for which it has
    `handshake_s` seconds. `connections` counts them. `port` is a free one unless given.
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None, port: int = 0):
        self.target = target
        self.handshake_s = 10.0
        self.down: Rule = lambda packet: (packet,)
        self.up: Rule = lambda packet: (packet,)
        self.raw = False
        self.connections = 0
        self.refusals: list[str] = []
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "HostileProxy":
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            self._end(one)

    def heal(self) -> None:
        """From now on forward everything at once."""
        self.down = self.up = lambda packet: (packet,)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self._tls:
                client.settimeout(self.handshake_s)
                client = self._tls.wrap_socket(client, server_side=True)
                client.settimeout(None)
            broker = socket.create_connection(("127.0.0.1", self.target))
        except OSError as error:
            self.refusals.append(str(error))
            client.close()
            return
        self.connections += 1
        for one in (client, broker):
            self._open.add(one)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink, name in ((client, broker, "up"), (broker, client, "down")):
            pump = threading.Thread(target=self._pump, args=(source, sink, name), daemon=True)
            pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        buffer = b""
        try:
            while data := source.recv(65536):
                buffer += data
                while (length := self._length(buffer)) and length <= len(buffer):
                    packet, buffer = buffer[:length], buffer[length:]
                    for piece in getattr(self, name)(packet):
                        sink.sendall(piece)
        except (OSError, Cut):
            pass
        self._end(source)
        self._end(sink)

    def _length(self, data: bytes) -> int:
        return len(data) if self.raw else packet_length(data)

    def _end(self, one: socket.socket) -> None:
        self._open.discard(one)
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def once(kind: int, rule: Rule) -> Rule:
    """A rule that treats the first packet of a kind as `rule` does, and forwards all others."""
    done = threading.Event()

    def apply(packet: bytes) -> Iterable[bytes]:
        if packet[0] & 0xF0 != kind or done.is_set():
            return (packet,)
        done.set()
        return rule(packet)

    return apply


def half_then_silence(packet: bytes) -> Iterable[bytes]:
    """The packet stops in its middle; nothing follows, and nobody hangs up."""
    yield packet[: len(packet) // 2]
    time.sleep(60)


def half_then_cut(packet: bytes) -> Iterable[bytes]:
    """The connection ends in the middle of the packet."""
    yield packet[: len(packet) // 2]
    time.sleep(0.05)
    raise Cut


def byte_by_byte(packet: bytes) -> Iterable[bytes]:
    """Each byte in a segment of its own."""
    for byte in packet:
        yield bytes((byte,))
        time.sleep(0.0003)


def swallow(packet: bytes) -> Iterable[bytes]:
    """Nothing gets through, and nobody hangs up: the connection is half open."""
    return ()


def late(seconds: float) -> Rule:
    """The packet, and all behind it, comes `seconds` late."""

    def apply(packet: bytes) -> Iterable[bytes]:
        time.sleep(seconds)
        return (packet,)

    return apply


def never_acknowledge(packet: bytes) -> Iterable[bytes]:
    """No acknowledgement ever comes; all else does."""
    return () if packet[0] & 0xF0 == PUBACK else (packet,)
