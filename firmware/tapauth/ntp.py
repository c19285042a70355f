"""The time of day from an NTP server (RFC 4330, the simple client), without waiting in a call.

Only the look-up of the server's name blocks; an address instead of a name avoids it.
"""

import os
import socket

from tapauth.compat import const, sleep_ms

_PERIOD_MS = const(3_600_000)
_UNHELD_MS = const(900_000)  # so that a wrong first answer is contradicted before it is held
_RETRY_MS = const(30_000)
_NO_NETWORK_MS = const(1000)
_TIMEOUT_MS = const(3000)
_LOOK_MS = const(20)
_REQUEST = b"\x23"  # no leap second, version 4, client
_SERVER = const(4)
_UNSYNCHRONISED = const(3)
_EPOCH = 2_208_988_800  # 1970-01-01 in NTP's seconds since 1900


def read_answer(data: bytes, nonce: bytes) -> int | None:
    """Unix seconds in a server's answer to the request that carried `nonce`; None for any other
    packet, and for a server that is not synchronised itself.
    """
    if len(data) < 48 or data[24:32] != nonce:
        return None
    leap = data[0] >> 6
    mode = data[0] & 7
    stratum = data[1]
    # RFC 4330, 5: a server that knows no time says so by any of these.
    if leap == _UNSYNCHRONISED or mode != _SERVER or not 1 <= stratum <= 15:
        return None
    if data[40:48] == bytes(8):
        return None
    seconds = int.from_bytes(data[40:44], "big")
    # The 32 bits wrap in 2036: small numbers are of the next era.
    return seconds - _EPOCH + (0x1_0000_0000 if seconds < 0x8000_0000 else 0)


async def ask(host: str, port: int = 123) -> int | None:
    """Ask once. Unix seconds, or None when no sound answer came in time. Raises OSError."""
    address = socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM)[0][-1]
    nonce = os.urandom(8)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        # The transmit timestamp is ours to choose; the answer brings it back.
        sock.sendto(_REQUEST + bytes(39) + nonce, address)
        waited = 0
        while waited < _TIMEOUT_MS:
            await sleep_ms(_LOOK_MS)
            waited += _LOOK_MS
            try:
                data = sock.recv(64)
            except OSError:
                continue  # nothing there yet
            seconds = read_answer(data, nonce)
            if seconds is not None:
                return seconds
        return None
    finally:
        sock.close()


async def keep_time(host: str, wallclock, log, beat, port: int = 123) -> None:
    """Set `wallclock` from the server, every hour once it is held, for ever."""
    soon = _NO_NETWORK_MS
    while True:
        wait = _RETRY_MS
        try:
            seconds = await ask(host, port)
            if seconds is None:
                log.warning("clock", "no answer from the NTP server")
            elif wallclock.set(seconds):  # which tells of a time that cannot be right
                wait = _PERIOD_MS if wallclock.is_held() else _UNHELD_MS
                soon = _NO_NETWORK_MS
        except OSError as error:
            # At the start there is no network yet, and TLS waits for the time.
            log.warning("clock", "NTP server not reached ({})", error)
            wait = soon
            soon = min(2 * soon, _RETRY_MS)
        while wait > 0:
            beat()
            await sleep_ms(1000)
            wait -= 1000
