"""The air around the board: one access point, and behind it nothing but this machine's loopback.

The emulator's own network lets the board out to any host. It must not: the board's firmware is
under test, and its passwords are for nobody. So the one address that answers is the gateway's:
over TCP it means 127.0.0.1 here; over UDP it is a DHCP server and an NTP server, both in this
process. There is no name look-up. The way in is the loopback's, too (way_in.py).
"""

import asyncio
import struct
import time

from rp2040py.external.cyw43 import Cyw43439, net
from rp2040py.external.cyw43.nat import GATEWAY_IP, GATEWAY_MAC, NatBridge, TcpReflector
from rp2040py.gpio_pin import GPIOPinState

from tools.emulator.way_in import WayIn

GATEWAY = "10.0.0.1"
SSID = "RP2040PY-GUEST"
"""The access point's name, which the emulator fixes; any password will do."""


SEQUENCE = 4
"""Where the number of a frame to the radio is in its SDPCM header."""
MOST_CREDITS = 8
NTP_PORT = 123
NTP_EPOCH = 2_208_988_800
"""1970-01-01 in NTP's seconds since 1900."""


class TimeServer:
    """Answers NTP requests to the gateway, and nothing else. `send(frame)` is the way back."""

    def __init__(self, send):
        self._send = send

    def maybe_handle(self, eth) -> bool:
        """Take an Ethernet frame with a datagram."""
        ip = net.parse_ipv4(eth.payload)
        udp = ip and net.parse_udp(ip.payload)
        if udp and ip.dst_ip == GATEWAY_IP and udp.dst_port == NTP_PORT:
            answer = self.answer(udp.payload)
            datagram = net.pack_udp(GATEWAY_IP, ip.src_ip, NTP_PORT, udp.src_port, answer)
            packet = net.pack_ipv4(GATEWAY_IP, ip.src_ip, net.IP_PROTO_UDP, datagram)
            self._send(net.pack_ethernet(eth.src_mac, GATEWAY_MAC, net.ETHERTYPE_IPV4, packet))
        return True

    @staticmethod
    def answer(request: bytes) -> bytes:
        """This machine's time, for a request of RFC 4330."""
        now = time.time() + NTP_EPOCH
        stamp = struct.pack("!II", int(now) & 0xFFFFFFFF, int(now % 1 * (1 << 32)))
        head = struct.pack("!BBbb8x4s", 0x24, 1, 6, -20, b"LOCL")
        return head + stamp + request[40:48].ljust(8, b"\0") + stamp + stamp


class Loopback:
    """What the board can reach. `ports` maps a port that the board connects to to one here."""

    def __init__(self, ports: dict[int, int]):
        self.ports = ports
        self.refused: list[tuple[str, int]] = []
        """What the board tried to reach beside it."""

    async def connect(self, host: str, port: int):
        """As asyncio.open_connection. Raises OSError for every host but the gateway."""
        if host != GATEWAY:
            self.refused.append((host, port))
            raise ConnectionRefusedError(f"{host} is out of the emulated board's reach")
        return await asyncio.open_connection("127.0.0.1", self.ports.get(port, port))


def follow_power(mcu, radio: Cyw43439) -> None:
    """Let an attached radio forget everything when the board, which was reset, drives its supply
    low. The emulator sees that only when the line was high before, and a reset hides that: the
    radio would not start a second time.
    """

    def changed(new, _old):
        if new == GPIOPinState.LOW:
            radio.bus.power_off()
            radio.bus.nat_bridge.reset()

    mcu.gpio[radio._power].add_listener(changed)


def count_credits(bus) -> None:
    """Keep what an attached radio lets the board send within bounds.

    Its driver may send as many frames as it has credits, and counts both in eight bits. The
    emulator gives one for every frame that the board sends and for every one that it gets: after
    256 more of these the two are equal, and the driver stands still until the next one comes.
    """
    write, queue = bus._write_wlan, bus.queue_rx_ethernet_frame
    sent = 0

    def write_wlan(data: bytes) -> None:
        nonlocal sent
        if len(data) > SEQUENCE:
            sent = data[SEQUENCE] + 1
        write(data)

    def queue_frame(frame: bytes) -> None:
        if (bus._bus_data_credit - sent) & 0xFF >= MOST_CREDITS:
            bus._bus_data_credit = (bus._bus_data_credit - 1) & 0xFF
        queue(frame)

    bus._write_wlan, bus.queue_rx_ethernet_frame = write_wlan, queue_frame


class Connections(TcpReflector):
    """The emulator's own connections, which the board begins, and those of a way in."""

    def __init__(self, mcu, send, loopback: Loopback, way_in: WayIn):
        super().__init__(mcu, send, connect_fn=loopback.connect)
        self._way_in = way_in

    def maybe_handle(self, eth, ip) -> bool:
        """Take an Ethernet frame with a segment."""
        return self._way_in.maybe_handle(ip) or super().maybe_handle(eth, ip)

    def _on_guest_segment(self, flow, tcp) -> None:
        # The emulator's own does not expect that the other side is gone already when the board
        # says its last, and would end with that.
        try:
            super()._on_guest_segment(flow, tcp)
        except OSError:
            flow.pump_task.cancel()
            self._flows.pop(flow.key, None)
            reset = self._build_tcp_frame(flow, flags=net.TCP_RST | net.TCP_ACK)
            self._queue_ethernet_frame(reset)

    def reset(self) -> None:
        """End all connections: the board has left the network."""
        super().reset()
        self._way_in.leave()


class Air(NatBridge):
    """What takes the board's frames, and sends others to it."""

    def __init__(self, mcu, send, loopback: Loopback, ports: dict[int, int]):
        super().__init__(mcu, send)
        if not hasattr(self, "_tcp") or not hasattr(self, "_udp"):
            raise SystemExit("this rp2040py is not 0.3.6: the board would reach other hosts")
        self.way_in = WayIn(mcu, send, ports)
        self._tcp = Connections(mcu, send, loopback, self.way_in)
        self._udp = TimeServer(send)

    def handle_outbound_ethernet_frame(self, frame: bytes) -> None:
        """Take a frame of the board."""
        eth = net.parse_ethernet(frame)
        if eth:
            self.way_in.join(eth.src_mac)
        super().handle_outbound_ethernet_frame(frame)


def confine(mcu, radio: Cyw43439, loopback: Loopback, ports: dict[int, int]) -> WayIn:
    """Leave an attached radio nothing but the loopback. Returns the way in, to `ports` of it."""
    count_credits(radio.bus)
    air = Air(mcu, radio.bus.queue_rx_ethernet_frame, loopback, ports)
    radio.bus.nat_bridge = air
    return air.way_in
