"""What hostile peers can do to the local server: its limits hold, and the loop keeps its pace."""

import contextlib
import json
import socket
import struct
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tools.rigs.local_board import HELLO, Client, LocalBoard

CARD = "04a1b2c3d4e5f6"
LAG_MS = 100
"""The longest that the loop may keep a tap waiting here, on a machine that others use too."""


@pytest.fixture
def board():
    with LocalBoard() as board:
        yield board
        assert board.process.poll() is None, "\n".join(board.lines)
        assert not [line for line in board.lines if " E " in line or "Traceback" in line]
        board.next_measurement()
        assert board.worst_lag(1) < LAG_MS


def raw(board: LocalBoard, data: bytes = b"") -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", board.port), timeout=20)
    peer.sendall(data)
    return peer


def hosted(request: bytes) -> bytes:
    """A request with the header without which none is looked at."""
    return request.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nHost: localhost\r\n", 1)


def upgraded(board: LocalBoard, path: str = "/api") -> socket.socket:
    """A WebSocket whose frames are made by hand."""
    peer = raw(
        board,
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "\r\n".encode(),
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += peer.recv(1)
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    return peer


def is_closed(peer: socket.socket, seconds: float = 15) -> bool:
    peer.settimeout(seconds)
    try:
        while peer.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def frame(text: bytes, opcode: int = 1, length: int | None = None) -> bytes:
    length = len(text) if length is None else length
    if length < 126:
        head = bytes((0x80 | opcode, 0x80 | length))
    elif length < 65536:
        head = bytes((0x80 | opcode, 0x80 | 126)) + struct.pack(">H", length)
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + struct.pack(">Q", length)
    return head + bytes(4) + text  # masked with zeros


def taps_work(admin: Client) -> None:
    """A tap comes out as events, at once."""
    before = time.monotonic()
    assert admin.ask("bench", line="tap " + CARD)["result"]
    for status in ("Processing", "Rejected"):
        while admin.event("tokenValidationStatus")["status"] != status:
            pass
    assert time.monotonic() - before < 1


def test_guessing_over_many_connections(board):
    codes = []

    def guess(number):
        with contextlib.suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
            try:
                client = Client(board.port)
            except AssertionError:
                return  # of the client's library, when it is turned away in the handshake
            for attempt in range(4):
                codes.append(client.login(f"GUESS{number}{attempt}")["resultCode"])
            client.close()

    guessers = [threading.Thread(target=guess, args=(number,)) for number in range(12)]
    for one in guessers:
        one.start()
    for one in guessers:
        one.join()
    assert codes.count(8) == 5 and set(codes) == {8, 6}
    reply = board.client().login(board.pins["admin"])
    assert reply["resultCode"] == 6 and 0 < reply["retryAfter"] <= 30
    # Neither does a power cut help.
    board.stop()
    board.start()
    assert board.client().login("GUESS")["resultCode"] == 6


def test_tokens_of_another_start(board):
    with board.admin() as admin:
        reply = admin.login(board.pins["admin"])
    board.stop()
    board.start()
    with board.client() as client:
        assert client.login(reply["token"])["resultCode"] == 8
        assert client.login(reply["tokenForHttpServer"])["resultCode"] == 8
        for kind in ("token", "tokenForHttpServer"):
            assert board.http("GET", "/cards?token=" + reply[kind])[0] == 403
        assert client.login(board.pins["admin"])["resultCode"] == 0


def test_a_stranger_gets_nothing_of_his_own_back(board):
    with board.client() as client:
        for method in ([[]], {"a": {}}, "x" * 3000, None, 5):
            client.socket.send(json.dumps({"method": method, "requestId": [5]}))
            reply = json.loads(client.socket.recv(10))
            assert reply["result"] is False and reply["requestId"] == ""
            assert reply["method"] in ("", "x" * 64)
        # As deep as a message can be.
        client.socket.send('{"method":' + "[" * 2000 + "]" * 2000 + "}")
        assert json.loads(client.socket.recv(10))["result"] is False
        client.socket.send('{"requestId":' + '{"a":' * 650 + "1" + "}" * 651)
        assert json.loads(client.socket.recv(10))["result"] is False


def test_who_says_nothing_loads_nothing(board):
    time.sleep(4.5)
    idle = board.next_measurement()["heap"]
    with board.client():
        time.sleep(1.5)
        opened = board.next_measurement()["heap"] - idle
        silent = [raw(board) for _ in range(2)]
        time.sleep(0.5)
        more = board.next_measurement()["heap"] - idle - opened
        assert more < 8000, more
        for peer in silent:
            peer.close()


def test_oversize_credentials_cost_no_derivation(board):
    with board.client() as client:
        for _ in range(10):
            assert client.login("x" * 3000)["resultCode"] == 8
        assert client.login(board.pins["admin"])["resultCode"] == 0  # none of them counted


def test_slow_heads_are_given_up_and_make_room(board):
    with board.admin() as admin:
        slow = [raw(board, b"GET / HTTP/1.1\r\nX: ") for _ in range(4)]
        began = time.monotonic()
        while time.monotonic() - began < 3:
            for peer in slow:
                with contextlib.suppress(OSError):
                    peer.sendall(b"a")
            taps_work(admin)
        # Strangers that wait are given up for another one.
        assert board.http("GET", "/")[0] == 200
        assert all(is_closed(peer) for peer in slow)
        assert time.monotonic() - began < 12
        taps_work(admin)


def test_silent_websockets_are_given_up(board):
    peers = [upgraded(board) for _ in range(3)]
    peers[1].sendall(frame(b"x" * 100)[:20])
    began = time.monotonic()
    with board.admin() as admin:
        while time.monotonic() - began < 32:
            for peer in peers[2:]:
                with contextlib.suppress(OSError):
                    peer.sendall(frame(b"{}"))
            taps_work(admin)
            time.sleep(0.5)
        assert all(is_closed(peer, 5) for peer in peers)
        taps_work(admin)


def test_fifty_connections(board):
    with board.admin() as admin:
        crowd = []
        for _ in range(50):
            with contextlib.suppress(OSError):
                crowd.append(raw(board))
        taps_work(admin)
        counters = admin.ask("getStatus")["status"]["counters"]
        assert counters["server_refused"] + counters["server_dropped"] >= 40
        time.sleep(2.1)
        assert board.http("GET", "/")[0] == 200
        for peer in crowd:
            peer.close()
        with board.client() as client:
            assert client.ask("getStatus")["error"] == "not authorized"
        taps_work(admin)


def test_frames_that_are_none(board):
    with board.admin() as admin:
        for bad in (
            frame(b"", length=2**63 - 1),
            frame(b"", length=2**32),
            frame(b"x" * 4097),
            frame(b"", length=4097),
            frame(b"x", opcode=0),
            frame(b"\xff\xfe"),
            b"\x01\x83\x00\x00\x00\x00abc" + frame(b"x"),  # another begins within the first
            frame(b"", opcode=8),
        ):
            peer = upgraded(board)
            peer.sendall(bad)
            assert is_closed(peer), bad[:20]
        for cut in range(1, 12):
            peer = upgraded(board)
            peer.sendall(frame(b'{"method":"auth"}')[:cut])
            peer.shutdown(socket.SHUT_WR)
            assert is_closed(peer), cut
        # One byte at a time is slow, and no fault.
        peer = upgraded(board)
        for byte in frame(b'{"method":"auth","requestId":"9"}'):
            peer.sendall(bytes((byte,)))
            time.sleep(0.002)
        assert b'"resultCode": 11' in peer.recv(1000)
        peer.close()
        taps_work(admin)


def next_frame(peer: socket.socket) -> tuple[int, bytes]:
    """(opcode, data) of a short frame that the server sends."""

    def read(count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = peer.recv(count - len(data))
            assert piece, "the connection was closed"
            data += piece
        return data

    first, size = read(2)
    if size == 126:
        (size,) = struct.unpack(">H", read(2))
    return first & 15, read(size)


def test_a_peer_that_breaks_the_protocol_reads_why_before_the_connection_ends(board):
    for bad, code in (
        (frame(b"x" * 100_000), 1009),
        (frame(HELLO.encode()) + frame(b"x" * 5000), 1009),
        (frame(b"x", opcode=2), 1003),
        (b"\x81\x02{}", 1002),  # without a mask
        (b"\xc1\x80" + bytes(4), 1002),
        (frame(b"x" * 126, opcode=9), 1002),
        (frame(b"\xff"), 1007),
    ):
        for path in ("/api", "/rpc"):
            with upgraded(board, path) as peer:
                with contextlib.suppress(ConnectionError):
                    peer.sendall(bad)
                seen = next_frame(peer)
                while seen[0] == 1:  # the answer to what was good
                    seen = next_frame(peer)
                assert seen == (8, code.to_bytes(2, "big")), (path, bad[:10])
                assert is_closed(peer)
    for data in (b"", b"\x03\xe8", b"\x0f\xa0bye"):
        with upgraded(board) as peer:
            peer.sendall(frame(data, opcode=8))
            assert next_frame(peer) == (8, data[:2])
            assert peer.recv(1) == b""


def test_no_event_follows_the_close_of_a_connection(board):
    with board.admin() as admin, upgraded(board) as peer:
        request = {"method": "auth", "type": "secured", "credentials": board.pins["user"]}
        peer.sendall(frame(json.dumps(request).encode()))
        assert b'"result": true' in next_frame(peer)[1]
        peer.sendall(frame(b"x", opcode=2))  # the board waits for what may still come of it
        assert next_frame(peer) == (8, b"\x03\xeb")
        taps_work(admin)
        assert peer.recv(1) == b""


def test_who_only_listens_stays_as_long_as_he_answers_pings():
    # The library of the other answers Pings by itself.
    board = LocalBoard(hasten={"idle_s": 2})
    with board, board.client() as other, upgraded(board) as peer:
        request = {"method": "auth", "type": "secured", "credentials": board.pins["user"]}
        peer.sendall(frame(json.dumps(request).encode()))
        assert b'"result": true' in next_frame(peer)[1]
        for _ in range(5):
            seen = next_frame(peer)
            assert seen[0] == 9
            peer.sendall(frame(seen[1], opcode=10))
        other.login(board.pins["admin"])
        other.ask("bench", line="tap " + CARD)
        assert b"tokenValidationStatus" in next_frame(peer)[1]
        assert is_closed(peer)  # it has stopped to answer
        assert other.ask("getStatus")["result"]


def test_a_flood_of_messages_is_read_slowly(board):
    with board.admin() as admin:
        flood = upgraded(board)
        flood.settimeout(0.2)
        began = time.monotonic()
        sent = 0
        pings = frame(b"p" * 100, opcode=9)
        while time.monotonic() - began < 3:
            with contextlib.suppress(OSError):
                sent += flood.send((frame(b"{}") + pings) * 50)
            taps_work(admin)
            time.sleep(0.1)
        flood.close()
        taps_work(admin)


def test_a_peer_that_does_not_read_is_no_burden(board):
    with board.client() as user:
        user.login(board.pins["user"])
        deaf = user.socket.socket
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        with board.admin() as admin:
            idle = board.next_measurement()["heap"]
            for _ in range(20):
                admin.ask("bench", line="tap " + CARD)
                while not admin.events.empty():
                    admin.events.get()
                time.sleep(0.05)
            taps_work(admin)
            assert board.next_measurement()["heap"] - idle < 20_000


def test_requests_that_are_none(board):
    with board.admin() as admin:
        token = admin.ask("getTokenForHttpServer")["token"]
        for head in (
            b"\r\n",
            b"GET\r\n\r\n",
            b"\xff\xfe\xfd\r\n\r\n",
            b"GET / HTTP\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
            b"GET /../config.json HTTP/1.1\r\n\r\n",
            b"GET /%2e%2e/config.json HTTP/1.1\r\n\r\n",
            b"DELETE / HTTP/1.1\r\n\r\n",
            b"GET /api HTTP/1.1\r\n\r\n",
            b"GET /api HTTP/1.1\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
            b"GET /cards?token=%zz HTTP/1.1\r\n\r\n",
        ):
            peer = raw(board, hosted(head))
            peer.settimeout(10)
            data = b""
            with contextlib.suppress(OSError):
                while piece := peer.recv(4096):
                    data += piece
            assert not data or data.split()[1] in (b"400", b"403", b"404", b"405"), (head, data)
        for head in (
            # What two readers could read in two ways.
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"POST /cards HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
            b"POST /cards HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0",
            b"POST /cards HTTP/1.1\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\nOrigin: http://localhost\r\nOrigin: null\r\n\r\n",
            b"GET /log HTTP/1.1\r\nAuthorization: Bearer x\r\nAuthorization: Bearer y\r\n\r\n",
            b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nAccept : x\r\n\r\n",
            b"GET / HTTP/1.1\r\n: x\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"GET\t/\tHTTP/1.1\r\n\r\n",
            b"GET / x HTTP/1.1\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            *[
                b"POST /cards HTTP/1.1\r\nContent-Length: " + length + b"\r\n\r\n"
                for length in (b"+5", b"1_0", b"0x5", b"5-", b"5,5", b"\xd9\xa3", b"9" * 400)
            ],
        ):
            peer = raw(board, hosted(head))
            peer.settimeout(10)
            assert peer.recv(100).split()[1] == b"400", head
            peer.close()
        for length in ("-5", "0", "3000000", "99999999999"):
            start = f"POST /cards?token={token} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"
            peer = raw(board, hosted(start.encode()))
            assert peer.recv(100).split()[1] in (b"411", b"413"), length
            peer.close()
        # An upload that stops leaves the list free for the next one.
        start = f"POST /cards?token={token} HTTP/1.1\r\nContent-Length: 5000\r\n\r\n"
        peer = raw(board, hosted(start.encode()) + b"TapCards")
        peer.close()
        time.sleep(0.3)
        assert admin.ask("addCard", idToken=CARD)["result"]
        card = admin.ask("getCard", idToken=CARD)["card"]
        assert card["authorization_status"] == "Accepted"
        lines = json.dumps(admin.ask("getLog")["lines"])
        assert token not in lines and "xxxx" not in lines
