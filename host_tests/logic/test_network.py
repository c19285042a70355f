"""Keeping the network: attempts, pauses, and coming back. The board's part is played here."""

import asyncio

from tapauth import network
from tapauth.supervisor import Backoff


class End(Exception):
    """The test has seen enough."""


class Board:
    """Plays what connect_network() does next, and for how many looks the network then stays."""

    def __init__(self, plan):
        self.plan = plan
        self.looks = 0
        self.attempts = 0

    async def connect_network(self, config):
        assert config == {"ssid": "s"}
        self.attempts += 1
        if not self.plan:
            raise End
        step = self.plan.pop(0)
        if isinstance(step, OSError):
            raise step
        self.looks = step

    def network_up(self):
        self.looks -= 1
        return self.looks >= 0


class Log:
    def __init__(self):
        self.lines = []

    def warning(self, where, text, *arguments):
        self.lines.append(text.format(*arguments))

    info = warning


def play(plan):
    board, log, waits, beats = Board(plan), Log(), [], []

    async def pause(ms):
        waits.append(ms)

    real = network.sleep_ms
    network.sleep_ms = pause
    it = network.Network(board, {"ssid": "s"}, log, Backoff(500, 2000))
    try:
        asyncio.run(it.run(lambda: beats.append(1)))
    except End:
        pass
    finally:
        network.sleep_ms = real
    assert len(beats) >= len(waits)
    return it, board, log, waits


def test_it_comes_back_after_a_loss():
    it, board, log, waits = play([3, 2])
    assert it.outages == 2 and board.attempts == 3
    assert log.lines == ["up", "lost", "up", "lost"]
    assert waits == [1000] * 5


def test_failures_wait_longer_and_longer_and_say_why():
    it, board, log, waits = play([OSError(116, "no cable"), OSError(5), OSError(), 1])
    assert log.lines == [
        "no cable; again in 500 ms",
        "5; again in 1000 ms",
        "failed; again in 2000 ms",
        "up",
        "lost",
    ]
    # The two seconds in pieces: a supervisor wants to hear of it.
    assert waits == [500, 1000, 1000, 1000, 1000]
    assert it.outages == 1


def test_a_success_ends_the_growing():
    log = play([OSError(1), OSError(2), 1, OSError(3)])[2]
    assert log.lines[-1] == "3; again in 500 ms"
