"""The NTP client against a server on loopback."""

import asyncio
import socket
import threading

from tapauth import ntp
from tapauth.wallclock import WallClock


def serve(replies: int, shift: int = 0):
    """A server that answers `replies` requests; returns its port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(5)

    def run():
        for _ in range(replies):
            data, peer = sock.recvfrom(64)
            seconds = (2_208_988_800 + 1_900_000_000 + shift).to_bytes(4, "big")
            sock.sendto(b"noise", peer)
            sock.sendto(
                b"\x24\x02" + bytes(22) + data[40:48] + bytes(8) + seconds + bytes(4), peer
            )
        sock.close()

    threading.Thread(target=run, daemon=True).start()
    return sock.getsockname()[1]


def test_the_time_of_a_server():
    port = serve(1)
    assert asyncio.run(ntp.ask("127.0.0.1", port)) == 1_900_000_000


def test_a_silent_server_is_given_up(monkeypatch):
    monkeypatch.setattr(ntp, "_TIMEOUT_MS", 200)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        assert asyncio.run(ntp.ask("127.0.0.1", silent.getsockname()[1])) is None


def test_without_a_network_it_is_tried_again_soon_and_the_chips_clock_is_set(monkeypatch):
    attempts = iter([OSError(113), OSError(113), OSError(113), 1_900_000_000])
    waited, clocks = [], []

    async def ask(_host, _port):
        came = next(attempts)
        if isinstance(came, OSError):
            raise came
        return came

    class Known(Exception):
        pass

    class Wallclock:
        def set(self, seconds):
            clocks.append(seconds)
            return True

        def is_held(self):
            return False

    class Log:
        def warning(self, *_):
            waited.append(0)

    async def sleep_ms(milliseconds):
        if clocks:
            raise Known
        waited[-1] += milliseconds

    monkeypatch.setattr(ntp, "ask", ask)
    monkeypatch.setattr(ntp, "sleep_ms", sleep_ms)
    try:
        asyncio.run(ntp.keep_time("server", Wallclock(), Log(), lambda: None))
    except Known:
        pass
    assert waited == [1000, 2000, 4000]
    assert clocks == [1_900_000_000]


def test_one_wrong_answer_does_not_keep_the_true_time_out(monkeypatch):
    """Whichever of the first ones it is; and once the clock is held, one question an hour does."""
    true, day = 1_900_000_000, 86_400

    class Clock:
        ms = 20_000

        def now(self):
            return self.ms

    class Done(Exception):
        pass

    class Log:
        def warning(self, *_):
            pass

    for wrong in range(5):
        for shift in (400 * day, -2 * day):
            clock, asked = Clock(), []

            async def ask(_host, _port, wrong=wrong, shift=shift, clock=clock, asked=asked):
                asked.append(clock.ms)
                return true + clock.ms // 1000 + (shift if len(asked) == wrong + 1 else 0)

            async def sleep_ms(milliseconds, clock=clock):
                clock.ms += milliseconds + 3
                if clock.ms > 10 * 3_600_000:
                    raise Done

            monkeypatch.setattr(ntp, "ask", ask)
            monkeypatch.setattr(ntp, "sleep_ms", sleep_ms)
            wall = WallClock(clock, lambda *_: None, None, true // day - 3)
            try:
                asyncio.run(ntp.keep_time("server", wall, Log(), lambda: None))
            except Done:
                pass
            assert wall.unix() == true + clock.ms // 1000, (wrong, shift)
            assert wall.is_held() and len(asked) < 20
