"""A bus that the board cannot set up is tried again, and the reason is told."""

from tapauth.reader import scanner
from tapauth.reader.task import open_reader

SETTINGS = {
    "address": 36,
    "removal_ms": 2000,
    "restart_guard_ms": 3000,
    "uppercase": False,
    "poll_ms": 50,
    "heartbeat_ms": 2000,
}


class Board:
    def __init__(self, short=0):
        self.attempts = 0
        self.events = []
        self.short = short

    def take(self, event, value, now):
        if self.short:
            self.short -= 1
            raise MemoryError
        self.events.append((event, value))

    def reader_bus(self, config):
        self.attempts += 1
        raise OSError(19, "this board has no " + config["bus"] + " for the reader")

    def reset_pin(self, config):
        return None

    irq_pin = reset_pin


def test_the_reason_is_the_board_s_and_it_is_tried_again():
    for bus in ("spi", "uart", "i2c"):
        settings = dict(SETTINGS)
        settings["bus"] = bus
        board = Board()
        made, _ = open_reader(board, settings, board.take)
        now = 0
        while now < 20_000:
            now += made.step(now)
        assert [event[0] for event in board.events] == [scanner.LOST]
        assert "no " + bus + " for the reader" in board.events[0][1]
        assert board.attempts > 5, "no way to go on but to set it up again"


def test_a_lost_reader_is_told_again_when_there_was_no_memory_to_hear_of_it():
    board = Board(short=2)
    made, _ = open_reader(board, dict(SETTINGS, bus="spi"), board.take)
    now = restarts = 0
    while now < 20_000:
        try:
            now += made.step(now)
        except MemoryError:  # as its supervisor starts its task again
            restarts += 1
            now += 500
    assert restarts == 2
    assert [event[0] for event in board.events] == [scanner.LOST], "once it could be heard"
    assert made.outages == 1
