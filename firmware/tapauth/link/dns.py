"""The broker's address from a name server, without holding up the loop.

MicroPython's getaddrinfo() blocks until the name server has answered or been given up. One
question for an IPv4 address over UDP is little enough to ask it here.
"""

import os
import socket

from tapauth.compat import const, resolve, sleep_ms

_PORT = const(53)
_TRIES = const(3)
_TRY_MS = const(1500)
_STEP_MS = const(20)
_MESSAGE_MAX = const(512)  # RFC 1035, 2.3.4
_HEADER = const(12)
_FRESH_MS = const(3_600_000)

# RFC 1035, 4.1: what follows the identifier in the header of a query; type A and class IN; bits.
_ONE_QUESTION = b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"  # recursion is desired
_ADDRESS = b"\x00\x01\x00\x01"
_ROOT = b"\x00"
_IS_REPLY = const(0x80)
_CODE = const(0x0F)
_POINTER = const(0xC0)


class LookupFailed(OSError):
    """No address for the name. The text says why."""


def question(name: str, identifier: bytes) -> bytes:
    """The query for an IPv4 address of `name` (RFC 1035, 4.1). Raises ValueError for no name."""
    query = bytearray(identifier + _ONE_QUESTION)
    for label in name.encode().split(b"."):
        if not 0 < len(label) < 64:
            raise ValueError("not a host name")
        query.append(len(label))
        query += label
    return bytes(query + _ROOT + _ADDRESS)


def _after_name(reply: bytes, at: int) -> int:
    while reply[at]:
        if reply[at] >= _POINTER:  # to the rest of the name, elsewhere: that is its end here
            return at + 2
        at += 1 + reply[at]
    return at + 1


def answer(reply: bytes, query: bytes) -> str:
    """The address in a reply to `query`, or "" when the reply is none to it.

    Raises LookupFailed when the server says that there is no address.
    """
    if reply[:2] != query[:2] or reply[_HEADER : len(query)] != query[_HEADER:]:
        return ""
    code = reply[3] & _CODE
    if code or not reply[2] & _IS_REPLY:
        raise LookupFailed(f"the name server refused with code {code}")
    try:
        at = len(query)
        for _ in range(reply[6] << 8 | reply[7]):
            at = _after_name(reply, at)
            # Type and class, time to live (4 bytes), length of the data, data.
            kind = reply[at : at + 4]
            length = reply[at + 8] << 8 | reply[at + 9]
            at += 10 + length
            if kind == _ADDRESS and length == 4 and at <= len(reply):
                return ".".join(str(byte) for byte in reply[at - 4 : at])
    except IndexError:
        pass  # cut short
    raise LookupFailed("the name server knows no IPv4 address")


async def look_up(name: str, server: str, clock) -> str:
    """Ask `server` ("address" or "address:port") for an address of `name`.

    Raises LookupFailed when none came after three tries of 1.5 s each.
    """
    host, _, port = server.partition(":")
    query = question(name, os.urandom(2))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        # Connected, so that nobody else's packets come in.
        sock.connect(socket.getaddrinfo(host, int(port or _PORT))[0][-1])
        for _ in range(_TRIES):
            try:
                sock.send(query)
            except OSError:
                pass  # counts as unanswered: the network may be back for the next try
            asked = clock.now()
            while clock.now() - asked < _TRY_MS:
                await sleep_ms(_STEP_MS)
                try:
                    reply = sock.recv(_MESSAGE_MAX)
                except OSError:
                    continue
                address = answer(reply, query) if reply and len(reply) > _HEADER else ""
                if address:
                    return address
    finally:
        sock.close()
    raise LookupFailed("the name server does not answer")


class Resolver:
    """An address of `host`, by what `name_server` says, or by the platform's look-up.

    Without a name server the look-up blocks; `blocked_ms` is the longest that it did.
    """

    def __init__(self, host: str, name_server: str, clock):
        self.blocked_ms = 0
        self._host = host
        self._server = name_server
        self._clock = clock
        self._address = ""
        self._fresh_until = 0

    def doubt(self) -> None:
        """The address did not work: look it up again, and keep it only if that fails."""
        self._fresh_until = 0

    async def find(self) -> str:
        """An address, from the last hour or new. Raises LookupFailed when there never was one."""
        now = self._clock.now()
        if now < self._fresh_until:
            return self._address
        try:
            if self._server:
                self._address = await look_up(self._host, self._server, self._clock)
            else:
                self._address = resolve(self._host)
                self.blocked_ms = max(self.blocked_ms, self._clock.now() - now)
            self._fresh_until = now + _FRESH_MS
            return self._address
        except (OSError, ValueError) as error:
            reason = f"no address for the broker's name ({error})"
        if not self._address:
            raise LookupFailed(reason)
        return self._address  # one that once worked is better than none
