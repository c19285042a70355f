"""The wire between the firmware under real MicroPython and the parts simulated on the desktop.

One TCP connection on loopback. The firmware asks, the bench answers, one at a time:

    request   opcode (1 byte)  address (1)  length (2, big-endian)  data
    reply     status (1: 0 done, 1 refused) length (2, big-endian)  data

    W  I2C write to `address`                   refused: not acknowledged
    R  I2C read from `address`, data: count (2) reply: that many bytes; refused: as above
    B  the bus is set up anew
    C  SPI: the line NSS, data: level (1)
    T  SPI: shift data out                      reply: what came in, as many bytes
    U  UART write
    V  UART read, data: count (2)               reply: at most so many bytes, those that are there
    N  UART                                     reply: how many bytes are there (2)
    X  reader's reset line, data: level (1)
    I  reader's IRQ line                        reply: level (1)
    A  arm the watchdog, data: milliseconds (4)
    F  feed the watchdog
    L  lamp, data: name of the pattern as text

Further lines of a board are further opcodes: `BenchServer.handlers[ord("S")] = function`, which
gets the address and the data and returns the reply's data; OSError makes it "refused".
"""

import socket
import threading
from collections.abc import Callable

from tools.pn532.buses import I2CPort, SPIPort, UARTPort
from tools.pn532.chip import Chip


def _ignore(*_arguments) -> None:
    """Default of a callback nobody waits for."""


class BenchServer:
    """Serves one firmware at a time; when it goes, the next may connect.

    `on_arm(milliseconds)`, `on_feed()`, `on_lamp(pattern)`, `on_connect()` and `on_disconnect()`
    are called in the server's thread and should return quickly. `address` is "host:port" for the
    firmware's environment variable TAPAUTH_BENCH. Use as a context manager or call close().
    """

    def __init__(
        self,
        chip: Chip,
        on_arm: Callable[[int], object] = _ignore,
        on_feed: Callable[[], object] = _ignore,
        on_lamp: Callable[[str], object] = _ignore,
        on_connect: Callable[[], object] = _ignore,
        on_disconnect: Callable[[], object] = _ignore,
    ):
        self.chip = chip
        self.i2c, self.spi, self.uart = I2CPort(chip), SPIPort(chip), UARTPort(chip)
        self.on_connect, self.on_disconnect = on_connect, on_disconnect
        self.handlers: dict[int, Callable[[int, bytes], bytes | None]] = {
            ord("W"): self._write,
            ord("R"): self._read,
            ord("B"): lambda _address, _data: self.i2c.renew(),
            ord("C"): lambda _, data: self.spi.cs(data[0]),
            ord("T"): lambda _, data: self.spi.exchange(data),
            ord("U"): lambda _, data: _nothing(self.uart.write(data)),
            ord("V"): self._uart_read,
            ord("N"): lambda _address, _data: self.uart.any().to_bytes(2, "big"),
            ord("X"): lambda _, data: chip.reset_line(data[0]),
            ord("I"): lambda _address, _data: bytes((chip.irq_line(),)),
            ord("A"): lambda _, data: _nothing(on_arm(int.from_bytes(data, "big"))),
            ord("F"): lambda _address, _data: _nothing(on_feed()),
            ord("L"): lambda _, data: _nothing(on_lamp(data.decode())),
        }
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._peer: socket.socket | None = None
        self._closed = False
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="bench", daemon=True)
        self._thread.start()

    def __enter__(self) -> "BenchServer":
        return self

    def __exit__(self, *_error) -> None:
        self.close()

    def close(self) -> None:
        """Hang up and end the thread."""
        self._closed = True
        for one in (self._listener, self._peer):
            try:
                if one is not None:
                    one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._listener.close()
        self._thread.join(5)

    def _write(self, address: int, data: bytes) -> None:
        self.i2c.writeto(address, data)

    def _read(self, address: int, data: bytes) -> bytes:
        return self.i2c.readfrom(address, int.from_bytes(data, "big"))

    def _uart_read(self, _address: int, data: bytes) -> bytes:
        buffer = bytearray(int.from_bytes(data, "big"))
        return bytes(buffer[: self.uart.readinto(buffer) or 0])

    def _serve(self) -> None:
        while not self._closed:
            try:
                self._peer, _ = self._listener.accept()
            except OSError:
                return
            with self._peer as peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.on_connect()
                try:
                    self._converse(peer)
                except OSError:
                    pass  # the firmware was killed in the middle of a word
                self.on_disconnect()

    def _converse(self, peer: socket.socket) -> None:
        with peer.makefile("rb") as stream:
            while len(head := stream.read(4)) == 4:
                data = stream.read(int.from_bytes(head[2:4], "big"))
                try:
                    status, reply = 0, self.handlers[head[0]](head[1], data) or b""
                except (OSError, LookupError):
                    status, reply = 1, b""
                peer.sendall(bytes((status,)) + len(reply).to_bytes(2, "big") + reply)


def _nothing(_result: object) -> None:
    """Drop what a callback returned: it is no reply."""
