"""The way to the emulated board's own ports, with a small server on it and not our firmware.

MicroPython's image for the board, its lwIP and its asyncio; clients are plain sockets.
"""

import socket
import struct
import subprocess
import threading
import time

import pytest

from tools.desk.flash_image import write_image
from tools.emulator.board import SSID, EmulatedPico
from tools.emulator.install import PYTHON
from tools.emulator.install import image as micropython_image
from tools.emulator.ready_flash import BLOCKS
from tools.paths import ROOT

ECHO, COUNT, TALK, RUDE, NOBODY = 7, 9, 19, 21, 4
"""Ports of the board: what each does is in SERVER."""
TALKS = 100_000
WAIT_S = 240
SERVER = f"""
import asyncio, network
network.WLAN(network.STA_IF).active(False)
nic = network.WLAN(network.STA_IF)
nic.active(True)
nic.connect({SSID!r}, "any")

async def echo(reader, writer):
    while data := await reader.read(2048):
        writer.write(data)
        await writer.drain()
    await end(writer)

async def count(reader, writer):
    # Answers when the peer has said its last: it has to have its own direction still.
    total = check = 0
    while data := await reader.read(2048):
        total += len(data)
        check = (check + sum(data)) & 0xFFFF
    writer.write("%d %d" % (total, check))
    await writer.drain()
    await end(writer)

async def talk(reader, writer):
    # The first to end.
    piece = bytes(range(250))
    for _ in range({TALKS} // 250):
        writer.write(piece)
        await writer.drain()
    await end(writer)

async def rude(reader, writer):
    # Closed with bytes unread: lwIP sends RST.
    await reader.readexactly(1)
    await asyncio.sleep(1)
    await end(writer)

async def end(writer):
    writer.close()
    await writer.wait_closed()

async def main():
    while not nic.isconnected():
        await asyncio.sleep_ms(100)
    for port, serve in (({ECHO}, echo), ({COUNT}, count), ({TALK}, talk), ({RUDE}, rude)):
        await asyncio.start_server(serve, "0.0.0.0", port)
    print("SERVING", *nic.ifconfig())
    while True:
        await asyncio.sleep(1)

asyncio.run(main())
"""

GONE = """
import asyncio, socket, struct
from rp2040py.external.cyw43 import net
from rp2040py.external.cyw43.nat import GATEWAY_IP, GATEWAY_MAC, GUEST_IP
from rp2040py.simulator import Simulator
from tools.emulator.network import Air, Loopback

def flags_of(frame):
    return net.parse_tcp(net.parse_ipv4(net.parse_ethernet(frame).payload).payload).flags

async def main():
    simulator = Simulator()
    simulator.bind_loop()
    frames = []
    air = Air(simulator.rp2040, frames.append, Loopback({}), {})
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def board_sends(seq, flags):
        segment = net.pack_tcp(GUEST_IP, GATEWAY_IP, 50000, port, seq, 0, flags, 1000)
        packet = net.pack_ipv4(GUEST_IP, GATEWAY_IP, net.IP_PROTO_TCP, segment)
        air.handle_outbound_ethernet_frame(
            net.pack_ethernet(GATEWAY_MAC, bytes(6), net.ETHERTYPE_IPV4, packet)
        )

    board_sends(0, net.TCP_SYN)
    while not frames:
        await asyncio.sleep(0.01)
    board_sends(1, net.TCP_ACK)
    peer = listener.accept()[0]
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    board_sends(1, net.TCP_FIN | net.TCP_ACK)  # before anybody has looked
    assert flags_of(frames[-1]) & net.TCP_RST, frames

asyncio.run(main())
"""

CLIENT_GONE = """
import asyncio, socket, struct
from rp2040py.external.cyw43 import net
from rp2040py.external.cyw43.nat import GATEWAY_IP, GATEWAY_MAC, GUEST_IP
from rp2040py.simulator import Simulator
from tools.emulator.network import Air, Loopback

def segment_of(frame):
    return net.parse_tcp(net.parse_ipv4(net.parse_ethernet(frame).payload).payload)

async def main():
    simulator = Simulator()
    simulator.bind_loop()
    frames = []
    air = Air(simulator.rp2040, frames.append, Loopback({}), {80: 0})
    port = (await air.way_in.open())[80]

    def board_sends(seq, flags):
        ack = segment_of(frames[0]).seq + 1 if frames else 0
        to = segment_of(frames[0]).src_port if frames else 1
        segment = net.pack_tcp(GUEST_IP, GATEWAY_IP, 80, to, seq, ack, flags, 1000)
        packet = net.pack_ipv4(GUEST_IP, GATEWAY_IP, net.IP_PROTO_TCP, segment)
        air.handle_outbound_ethernet_frame(
            net.pack_ethernet(GATEWAY_MAC, bytes(6), net.ETHERTYPE_IPV4, packet)
        )

    board_sends(0, net.TCP_ACK)  # it is in the network
    peer = socket.create_connection(("127.0.0.1", port))
    while not frames:
        await asyncio.sleep(0.01)
    board_sends(0, net.TCP_SYN | net.TCP_ACK)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    board_sends(1, net.TCP_FIN | net.TCP_ACK)  # before anybody has looked
    await asyncio.sleep(0.1)
    assert segment_of(frames[-1]).flags & net.TCP_RST, frames

asyncio.run(main())
"""


class Board:
    """The board, and sockets to its ports."""

    def __init__(self, folder):
        self.lines: list[str] = []
        flash = folder / "flash"
        write_image(flash, {"/main.py": SERVER.encode()}, BLOCKS)
        self._serving = threading.Event()
        self.board = EmulatedPico(
            micropython_image(),
            flash,
            folder / "tty",
            ways_in=dict.fromkeys((ECHO, COUNT, TALK, RUDE, NOBODY), 0),
            on_line=self._line,
        )

    def _line(self, text: str) -> None:
        print("  |", text[:150], flush=True)
        self.lines.append(text)
        if text.startswith("SERVING"):
            self._serving.set()

    def serves(self) -> None:
        """Wait until the board has its servers."""
        assert self._serving.wait(WAIT_S)
        self._serving.clear()

    def connect(self, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.board.ways_in[port]), WAIT_S)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    it = Board(tmp_path_factory.mktemp("way"))
    with it.board:
        it.serves()
        yield it


def all_of(peer: socket.socket) -> bytes:
    """Everything until the other side's last word."""
    return b"".join(iter(lambda: peer.recv(65536), b""))


def pattern(length: int, seed: int) -> bytes:
    return bytes((seed + i * 7 + (i >> 8)) & 0xFF for i in range(length))


def echoed(board: Board, data: bytes) -> bytes:
    """Send and read at the same time; all that came back."""
    with board.connect(ECHO) as peer:
        sender = threading.Thread(target=lambda: (peer.sendall(data), peer.shutdown(1)))
        sender.start()
        came = all_of(peer)
        sender.join(WAIT_S)
        return came


def test_100_kb_go_there_and_back(board, tell):
    data = pattern(100_000, 1)
    began, clock = time.monotonic(), board.board.state()["seconds"]
    assert echoed(board, data) == data
    took = board.board.state()["seconds"] - clock
    tell(f"100 KB there and back: {took:.1f} s of the board, {time.monotonic() - began:.0f} s")


def test_several_at_once_do_not_mix(board):
    parts = [pattern(5_000 + 1000 * n, n) for n in range(4)]
    came: dict[int, bytes] = {}
    threads = [
        threading.Thread(target=lambda n=n: came.setdefault(n, echoed(board, parts[n])))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert [came[n] for n in range(4)] == parts


def test_a_client_that_says_its_last_still_gets_an_answer(board):
    data = pattern(3000, 5)
    with board.connect(COUNT) as peer:
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        assert all_of(peer).decode() == f"{len(data)} {sum(data) & 0xFFFF}"


def test_a_board_that_says_its_last_first(board):
    """And to a client that reads late: the board waits with what has no place on the way."""
    with board.connect(TALK) as peer:
        time.sleep(3)
        assert all_of(peer) == bytes(range(250)) * (TALKS // 250)


def test_a_port_that_nobody_listens_on(board):
    with board.connect(NOBODY) as peer, pytest.raises(ConnectionResetError):
        peer.recv(1)


def test_a_board_that_breaks_the_connection(board):
    with board.connect(RUDE) as peer, pytest.raises(ConnectionResetError):
        peer.sendall(b"read, and not read")
        peer.recv(1)


def test_the_radio_never_stands_still(board):
    """However many frames go into the board, more than go out of it."""
    with board.connect(ECHO) as peer:
        # A round is two frames in and one out. The port between them makes the count odd.
        for number in range(300):
            if number == 150:
                test_a_port_that_nobody_listens_on(board)
            peer.sendall(b"x")
            assert peer.recv(1) == b"x"
    assert not [line for line in board.lines if "STALL" in line]


def test_a_client_that_breaks_the_connection(board):
    peer = board.connect(ECHO)
    peer.sendall(b"x")
    assert peer.recv(1) == b"x"
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    assert echoed(board, b"still there") == b"still there"


@pytest.mark.parametrize("script", [GONE, CLIENT_GONE], ids=["board calls", "client calls"])
def test_the_board_ends_a_connection_whose_other_end_is_gone(script):
    """In the emulator alone, without a board: a crash there would be the end of the board."""
    done = subprocess.run([PYTHON, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_is_on_one_address_of_this_machine_only(board):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", board.board.ways_in[ECHO]), 5)


def test_a_reset_ends_all_and_the_next_start_serves_again(board):
    with board.connect(ECHO) as peer:
        peer.sendall(b"x")
        assert peer.recv(1) == b"x"
        board.board.reset()
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
    with board.connect(ECHO) as peer, pytest.raises(ConnectionResetError):
        peer.recv(1)  # the board has no network yet
    board.serves()
    assert echoed(board, b"there again") == b"there again"
