"""The desktop as a board: its lines end at the simulated parts of another process.

The environment variable TAPAUTH_BENCH=host:port names that process (tools/desk/bench_link.py holds
the protocol). Without it the board has no reader, and nobody watches its watchdog or its lamp.
Runs on MicroPython's Unix port only. What each function must do: boards/README.md.
"""

import os
import socket
import struct
import sys

RESET_EXIT = 3
"""Exit status of a board that restarted itself; whoever started it starts it again."""

BENCH_LOST_EXIT = 4
"""Exit status when the simulated parts hung up."""


class _Link:
    """One connection for all lines, made at first use."""

    def __init__(self):
        self._socket = None
        self._head = bytearray(3)

    def _connect(self):
        name = os.getenv("TAPAUTH_BENCH")
        if not name:
            raise OSError(19)
        host, port = name.rsplit(":", 1)
        self._socket = socket.socket()
        self._socket.setsockopt(6, 1, 1)  # TCP_NODELAY
        self._socket.connect(socket.getaddrinfo(host, int(port))[0][-1])

    def ask(self, opcode: str, address: int = 0, data=b"", reply=None):
        """One exchange; puts the answer into `reply`, which must have the room for it.

        Returns the length of the answer. Raises OSError(19) when it is refused.
        """
        if self._socket is None:
            self._connect()
        try:
            self._socket.write(struct.pack(">BBH", ord(opcode), address, len(data)) + data)
            got = self._socket.readinto(self._head)
            status, length = struct.unpack(">BH", self._head) if got == 3 else (0, -1)
            missing = length
            if length > 0:
                missing -= self._socket.readinto(memoryview(reply)[:length]) or 0
        except OSError:
            missing = -1
        if missing:
            sys.exit(BENCH_LOST_EXIT)
        if status:
            raise OSError(19)
        return length


_link = _Link()


class _I2C:
    def writeto(self, address, data):
        _link.ask("W", address, bytes(data))
        return len(data)

    def readfrom_into(self, address, buffer):
        _link.ask("R", address, struct.pack(">H", len(buffer)), buffer)


class _SPI:
    """Sends the most significant bit first, as an RP2040 does."""

    def write(self, data):
        _link.ask("T", 0, bytes(data), bytearray(len(data)))

    def readinto(self, buffer):
        _link.ask("T", 0, bytes(len(buffer)), buffer)


class _UART:
    def __init__(self):
        self._waiting = bytearray(2)

    def any(self):
        _link.ask("N", 0, b"", self._waiting)
        return struct.unpack(">H", self._waiting)[0]

    def readinto(self, buffer):
        return _link.ask("V", 0, struct.pack(">H", len(buffer)), buffer) or None

    def write(self, data):
        _link.ask("U", 0, bytes(data))
        return len(data)


class _Pin:
    """A line of the reader: an output kept here, or an input asked for each time."""

    def __init__(self, opcode: str, is_output: bool):
        self._opcode = opcode
        self._is_output = is_output
        self._level = bytearray(b"\x01")

    def value(self, level=None):
        if level is not None:
            self._level[0] = 1 if level else 0
            _link.ask(self._opcode, 0, bytes(self._level))
            return None
        if not self._is_output:
            _link.ask(self._opcode, 0, b"", self._level)
        return self._level[0]

    __call__ = value


class _Watchdog:
    def __init__(self, timeout_ms: int):
        _link.ask("A", 0, struct.pack(">I", timeout_ms))

    def feed(self):
        _link.ask("F")


class _NoWatchdog:
    def feed(self):
        pass


def reader_bus(config: dict):
    _link.ask("B")
    if config["bus"] == "spi":
        return _SPI(), _Pin("C", True), False
    return _UART() if config["bus"] == "uart" else _I2C()


def reset_pin(config: dict):
    return _Pin("X", True) if config["reset_pin"] >= 0 else None


def irq_pin(config: dict):
    return _Pin("I", False) if config["irq_pin"] >= 0 else None


def watchdog(timeout_ms: int):
    if "boot_hal" in sys.modules:
        sys.modules["boot_hal"].keep_alive()  # a chip has one watchdog: this one goes on
    return _Watchdog(timeout_ms) if os.getenv("TAPAUTH_BENCH") else _NoWatchdog()


_shown = ""


def lamp(pattern: str, outputs: int):
    global _shown
    # A terminal does not blink: it is told the pattern, once.
    if pattern != _shown and os.getenv("TAPAUTH_BENCH"):
        _shown = pattern
        _link.ask("L", 0, pattern.encode())


def bench(line: str):
    """Obey a line as typed at the desktop charger. Raises OSError when it makes no sense."""
    _link.ask("K", 0, line.encode())


def evse_lines(evse_id: int, config: dict):
    return None


def unique_id() -> bytes:
    return (os.getenv("TAPAUTH_UNIQUE_ID") or "desktop").encode()


def set_clock(unix_seconds: int):
    pass  # the computer's own is right


def reset():
    if "boot_hal" in sys.modules:
        sys.modules["boot_hal"].reset()
    sys.exit(RESET_EXIT)


async def connect_network(config: dict):
    pass


def network_up() -> bool:
    return True
