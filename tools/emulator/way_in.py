"""The way to the emulated board: ports of this machine's loopback that stand for ports of its own.

Theory of operation. A listener on 127.0.0.1 takes a client; a Visitor joins the client's socket to
a Call (tcp_call.py), whose segments go to the board as frames of the gateway, from a port of the
gateway that no other call has had lately. So the board sees every client as 10.0.0.1. What comes
back finds its call by both ports; all other segments are the emulator's own, for the connections
that the board began. Each step of a connection is passed on as what it was:

    client                      board
    connects                    SYN; the client is accepted before the board has been asked, as a
                                listener cannot wait with that
    sends, too fast             data, as the window allows; the client is no longer read
    shuts down its writing      FIN, behind the data; the board may go on sending
    resets, or is gone when     RST
    the board sends
                                RST, also in answer to SYN: the client is reset
                                FIN: our writing is shut down, the client may go on sending
                                sends, too fast: its window closes until the client has read

While the board has no network (before its radio has sent a frame, after its power was cut, when it
has left the network) a client is reset at once, and so are all that were connected. A call that is
over is remembered for a while: a board that has lost our last word and asks gets RST.

Everything happens in the emulator's one event loop; times are the board's, by an alarm of its
clock that rings only while there are calls.
"""

import asyncio
import random
import socket
import struct
from collections import deque
from functools import partial

from rp2040py.external.cyw43 import net
from rp2040py.external.cyw43.nat import GATEWAY_IP, GATEWAY_MAC, GUEST_IP

from tools.emulator.tcp_call import OVER, RST, Call, Segment

HOST = "127.0.0.1"
FIRST_PORT, LAST_PORT = 49_152, 65_535
"""Ports of the gateway that calls come from (RFC 6335)."""
TICK_NS = 200_000_000
READ_AHEAD = 32_768
"""Bytes of a client that may wait for the board."""
REMEMBERED = 64
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Visitor(asyncio.Protocol):
    """A client's socket, and the call to the board that is made for it."""

    def __init__(self, way: "WayIn", port: int):
        self._way = way
        self._port = port
        self._call: Call | None = None
        self._reading = True

    # -- the client's socket

    def connection_made(self, transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=READ_AHEAD, low=0)
        self._call = self._way.call(self, self._port)
        if not self._call:
            self.reset()

    def data_received(self, data: bytes) -> None:
        if self._call:
            self._call.write(data)
            self.look()

    def eof_received(self) -> bool:
        if self._call:
            self._call.end()
            self.look()
        return True  # the client may read on

    def resume_writing(self) -> None:
        if self._call:
            self._call.client_has_read()

    def connection_lost(self, error) -> None:
        if self._call:
            self._call.abort()

    # -- the call

    def receive(self, data: bytes) -> None:
        self._transport.write(data)

    def finish(self) -> None:
        try:
            self._transport.write_eof()
        except OSError:  # the client has reset it, which nobody has been told yet
            self._transport.abort()

    def reset(self) -> None:
        handle = self._transport.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()

    def backlog(self) -> int:
        return self._transport.get_write_buffer_size()

    def look(self) -> None:
        """Something has come, or gone: read the client on or not, end what is over."""
        assert self._call
        if self._call.state == OVER:
            self._transport.close()
        elif self._reading and self._call.waiting > READ_AHEAD:
            self._reading = False
            self._transport.pause_reading()
        elif not self._reading and self._call.waiting <= READ_AHEAD // 2:
            self._reading = True
            self._transport.resume_reading()


class WayIn:
    """`ports` maps a port of the board to one here, 0 for any. `send(frame)` brings a frame of
    Ethernet to the board. It is open from open() to close().
    """

    def __init__(self, mcu, send, ports: dict[int, int]):
        self._clock = mcu.clock
        self._send = send
        self._ports = ports
        self._board_mac: bytes | None = None
        self._servers: list[asyncio.Server] = []
        self._calls: dict[tuple[int, int], tuple[Call, Visitor]] = {}
        """By the board's port and the gateway's."""
        self._past: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self._next_port = FIRST_PORT
        self._alarm = self._clock.create_alarm(self._tick)

    async def open(self) -> dict[int, int]:
        """Begin to listen. Returns which port of the board is which here. Raises OSError."""
        loop = asyncio.get_running_loop()
        opened = {}
        for port, here in self._ports.items():
            server = await loop.create_server(partial(Visitor, self, port), HOST, here)
            self._servers.append(server)
            opened[port] = server.sockets[0].getsockname()[1]
        return opened

    def close(self) -> None:
        """Take nobody any more."""
        for server in self._servers:
            server.close()
        self.leave()

    # -- the board's network

    def join(self, board_mac: bytes) -> None:
        """The board has a network and this address in it."""
        self._board_mac = board_mac

    def leave(self) -> None:
        """The board has no network any more: all its connections are gone."""
        self._board_mac = None
        calls = list(self._calls.values())
        self._calls.clear()
        self._past.clear()
        for call, visitor in calls:
            call.state = OVER  # the board has forgotten it, and must not be told
            visitor.reset()

    def maybe_handle(self, ip: net.Ipv4Packet) -> bool:
        """Take a packet of the board, if it is for one of the calls."""
        tcp = net.parse_tcp(ip.payload) if ip.dst_ip == GATEWAY_IP else None
        if tcp is None:
            return False
        key = tcp.src_port, tcp.dst_port
        if key in self._calls:
            call, visitor = self._calls[key]
            call.take(tcp)
            self._settle(key)
            visitor.look()
            return True
        if key in self._past:
            if not tcp.flags & RST:
                self._emit(key, Segment(tcp.ack, 0, RST, 0))
            return True
        return False

    # -- calls

    def call(self, visitor: Visitor, port: int) -> Call | None:
        """Call the board's port; None while the board has no network."""
        if not self._board_mac:
            return None
        key = port, self._free_port(port)
        if not self._calls:
            self._alarm.schedule(TICK_NS)
        call = Call(
            visitor,
            send=lambda segment: self._emit(key, segment),
            now=lambda: self._clock.nanos / 1e6,
            first=random.getrandbits(32),
        )
        self._calls[key] = call, visitor
        return call

    def _free_port(self, port: int) -> int:
        while True:
            found = self._next_port
            self._next_port = FIRST_PORT if found == LAST_PORT else found + 1
            if (port, found) not in self._calls and (port, found) not in self._past:
                return found

    def _emit(self, key: tuple[int, int], segment: Segment) -> None:
        if not self._board_mac:
            return
        packed = net.pack_tcp(GATEWAY_IP, GUEST_IP, key[1], key[0], *segment[:5], mss=segment.mss)
        packet = net.pack_ipv4(GATEWAY_IP, GUEST_IP, net.IP_PROTO_TCP, packed)
        self._send(net.pack_ethernet(self._board_mac, GATEWAY_MAC, net.ETHERTYPE_IPV4, packet))

    def _settle(self, key: tuple[int, int]) -> None:
        if self._calls[key][0].state == OVER:
            del self._calls[key]
            self._past.append(key)

    def _tick(self) -> None:
        for key, (call, _) in list(self._calls.items()):
            call.tick()
            self._settle(key)
        if self._calls:
            self._alarm.schedule(TICK_NS)
