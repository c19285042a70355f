"""What the boot part needs, on the desktop: a watchdog at the other end of a connection.

TAPAUTH_BOOT_WATCHDOG=host:port names it. It is armed by a line with the timeout in milliseconds,
fed by an empty line, and ends the process when it starves; a connection that is closed disarms.
TAPAUTH_SAFE_MODE=1 stands for the safe-mode pin.
"""

import os
import socket
import time

_watch = None


class _Watchdog:
    def __init__(self, address: str, timeout_ms: int):
        host, port = address.rsplit(":", 1)
        self._socket = socket.socket()
        self._socket.connect(socket.getaddrinfo(host, int(port))[0][-1])
        self._socket.write(b"%d\n" % timeout_ms)

    def feed(self):
        self._socket.write(b"\n")

    def close(self):
        self._socket.close()


class _NoWatchdog:
    def feed(self):
        pass

    close = feed


def safe_mode() -> bool:
    return os.getenv("TAPAUTH_SAFE_MODE") == "1"


def start_watchdog(timeout_ms: int):
    global _watch
    keep_alive()
    address = os.getenv("TAPAUTH_BOOT_WATCHDOG")
    _watch = _Watchdog(address, timeout_ms) if address else _NoWatchdog()
    return _watch


def keep_alive():
    """Disarm; also when board.py takes over with a watchdog of its own."""
    global _watch
    if _watch:
        _watch.close()
        _watch = None


def pause(seconds: int):
    time.sleep(seconds)


def reset():
    # Not sys.exit(): with a console (micropython -i) that would lead to its prompt.
    os.system("kill -KILL $PPID")
