"""The emulator's own end of a TCP connection, against a far end that loses segments."""

import random

import pytest

from tools.emulator.tcp_call import (
    ACK,
    CALLING,
    FIN,
    LARGEST,
    OPEN,
    OVER,
    PATIENCE_MS,
    PSH,
    RESEND_MS,
    RST,
    SYN,
    WINDOW,
    Call,
    Segment,
)

MASK = 0xFFFFFFFF
FIRST = MASK - 5
"""Numbers run over soon after the start."""
BOARD_FIRST = MASK - 20
STEP_MS = 50


class Wire:
    """A Call, its client, and the board's end as RFC 9293 wants it, but simple: segments that are
    not the next are dropped, each is acknowledged. `lose(segment)` tells which never arrive.
    """

    def __init__(self, mss: int | None = 100, window: int = 1000, lose=lambda segment: False):
        self.time = 0.0
        self.sent: list[Segment] = []
        """All that the Call sent."""
        self.came = bytearray()
        self.ended = self.was_reset = False
        self.unread = 0
        self.board_got = bytearray()
        self.board_ended = False
        self.window = window
        self._mss = mss
        self._lose = lose
        self._way: list[Segment] = []
        self._next = 0
        self._mine = BOARD_FIRST
        self._out = bytearray()
        self.call = Call(self, self._take, lambda: self.time, FIRST)

    # The client.

    def receive(self, data: bytes) -> None:
        self.came += data

    def finish(self) -> None:
        self.ended = True

    def reset(self) -> None:
        self.was_reset = True

    def backlog(self) -> int:
        return self.unread

    # The board.

    def _take(self, segment: Segment) -> None:
        self.sent.append(segment)
        assert len(segment.payload) <= (self._mss or 536)
        if not self._lose(segment):
            self._way.append(segment)

    def from_board(self, flags: int = ACK, payload: bytes = b"", **other) -> None:
        fields = {"seq": self._mine, "ack": self._next, "window": self.window, **other}
        self.call.take(Segment(flags=flags, payload=payload, **fields))

    def board_says(self, payload: bytes = b"", fin: bool = False) -> None:
        self.from_board(ACK | FIN if fin else ACK, payload)
        self._mine = self._mine + len(payload) + fin & MASK

    def step(self, milliseconds: int = STEP_MS) -> None:
        """Let what is under way arrive, and time pass."""
        way, self._way = self._way, []
        for segment in way:
            if segment.flags & SYN:
                self._next = segment.seq + 1 & MASK
                self._mine = BOARD_FIRST
                self.from_board(SYN | ACK, mss=self._mss)
                self._mine = BOARD_FIRST + 1 & MASK
            elif segment.flags & RST:
                pass
            elif segment.payload or segment.flags & FIN:
                if segment.seq == self._next and not self.board_ended:
                    taken = segment.payload[: self.window] if not self.window else segment.payload
                    self.board_got += taken
                    self._next = self._next + len(taken) & MASK
                    if segment.flags & FIN and len(taken) == len(segment.payload):
                        self.board_ended = True
                        self._next = self._next + 1 & MASK
                self.from_board()
        self.time += milliseconds
        self.call.tick()

    def run(self, condition, steps: int = 4000) -> None:
        while not condition():
            steps -= 1
            assert steps, "not in time"
            self.step()


@pytest.fixture
def wire():
    it = Wire()
    it.step()
    assert it.call.state == OPEN
    return it


def test_it_calls_with_its_mss_and_takes_the_boards(wire):
    assert wire.sent[0] == Segment(FIRST, 0, SYN, WINDOW, b"", LARGEST)
    assert wire.sent[1][:4] == (FIRST + 1 & MASK, BOARD_FIRST + 1 & MASK, ACK, WINDOW)
    assert Wire().call.state == CALLING


def test_data_before_the_answer_waits_for_it():
    wire = Wire(mss=None)
    wire.call.write(b"x" * 700)
    wire.call.end()
    assert len(wire.sent) == 1
    wire.run(lambda: wire.board_ended)
    assert wire.board_got == b"x" * 700


def test_no_more_is_under_way_than_the_board_wants(wire):
    wire.window = 250
    wire.call.write(b"")
    wire.from_board()
    wire.call.write(bytes(1000))
    assert (
        sum(len(segment.payload) for segment in wire.sent) == 200
    )  # no piece smaller than need be
    wire.run(lambda: len(wire.board_got) == 1000)


def test_what_is_lost_is_sent_again():
    for seed in range(30):
        chance = random.Random(seed)
        wire = Wire(lose=lambda segment, chance=chance: chance.random() < 0.3)
        data = chance.randbytes(20_000)
        wire.call.write(data[:9000])
        wire.step()
        wire.call.write(data[9000:])
        wire.call.end()
        wire.run(lambda wire=wire: wire.board_ended and wire.call._finished)
        assert wire.board_got == data


def test_three_answers_to_one_byte_tell_of_a_loss_before_the_timer_does():
    lost = []

    def lose(segment):
        if segment.payload and not lost:
            lost.append(segment)
            return True
        return False

    wire = Wire(lose=lose)
    wire.step()
    wire.call.write(bytes(400))
    began = wire.time
    wire.run(lambda: len(wire.board_got) == 400)
    assert wire.time - began < RESEND_MS


def test_a_closed_window_is_asked_for_news(wire):
    wire.window = 0
    wire.from_board()
    wire.call.write(b"abc")
    before = len(wire.sent)
    assert not any(segment.payload for segment in wire.sent)
    for _ in range(600):
        wire.step(1000)  # it may stay closed for ever
    asked = [segment.payload for segment in wire.sent[before:]]
    assert set(asked) == {b"a"} and not wire.was_reset
    wire.window = 1000
    wire.run(lambda: wire.board_got == b"abc")


def test_what_comes_is_passed_on_once_and_acknowledged(wire):
    wire.board_says(b"hello ")
    wire._mine = wire._mine - 3 & MASK
    wire.board_says(b"lo world")  # sent again, with more
    assert wire.came == b"hello world"
    wire.from_board(payload=b"later", seq=wire._mine + 10 & MASK)
    assert wire.came == b"hello world" and wire.sent[-1].ack == wire._mine
    before = len(wire.sent)
    wire.from_board(seq=wire._mine - 1 & MASK)  # is somebody there?
    assert len(wire.sent) == before + 1 and wire.sent[-1].ack == wire._mine
    wire.from_board()
    assert len(wire.sent) == before + 1


def test_a_slow_client_closes_the_window_and_opens_it_again(wire):
    wire.unread = 70_000
    wire.board_says(b"x")
    assert wire.sent[-1].window == 0
    wire.unread = 0
    wire.call.client_has_read()
    assert wire.sent[-1].window == WINDOW
    before = len(wire.sent)
    wire.call.client_has_read()
    assert len(wire.sent) == before


def test_each_side_may_end_first_and_the_other_goes_on(wire):
    wire.call.write(b"request")
    wire.call.end()
    wire.run(lambda: wire.board_ended)
    wire.board_says(b"answer")
    assert wire.came == b"answer" and wire.call.state == OPEN
    wire.board_says(fin=True)
    assert wire.ended and wire.call.state == OVER

    other = Wire()
    other.step()
    other.board_says(b"hello", fin=True)
    assert other.ended and other.call.state == OPEN
    other.board_says(b"too late")
    other.call.write(b"still here")
    other.call.end()
    other.run(lambda: other.board_ended)
    assert other.board_got == b"still here" and other.came == b"hello"
    assert other.call.state == OVER and not other.was_reset


def test_a_fin_that_comes_again_is_answered_and_counted_once(wire):
    wire.board_says(fin=True)
    number = wire._mine
    wire._mine = number - 1 & MASK
    wire.board_says(fin=True)
    assert wire.sent[-1].ack == number


def test_a_refusal_and_a_break_reach_the_client(wire):
    refused = Wire()
    refused.from_board(RST | ACK)
    assert refused.was_reset and refused.call.state == OVER
    wire.call.write(bytes(5000))
    wire.from_board(RST)
    assert wire.was_reset and wire.call.state == OVER
    before = len(wire.sent)
    wire.call.write(b"x")
    wire.call.end()
    wire.call.abort()
    for _ in range(100):
        wire.step()
    assert len(wire.sent) == before


def test_a_client_that_breaks_it_breaks_it_for_the_board(wire):
    wire.call.write(b"12")
    wire.call.abort()
    assert wire.sent[-1].flags == RST | ACK and wire.sent[-1].seq == FIRST + 3 & MASK
    assert wire.call.state == OVER and not wire.was_reset


def test_a_board_that_is_not_there_is_called_for_a_while():
    wire = Wire(lose=lambda segment: True)
    wire.run(lambda: wire.was_reset)
    assert PATIENCE_MS <= wire.time < PATIENCE_MS + 10 * STEP_MS
    calls = [segment for segment in wire.sent if segment.flags == SYN]
    assert 5 < len(calls) < 20 and wire.call.state == OVER


def test_nobody_is_given_up_who_owes_nothing(wire):
    for _ in range(10):
        wire.step(PATIENCE_MS)
    wire.call.write(b"x")
    wire.step()
    assert wire.board_got == b"x" and not wire.was_reset
    assert wire.sent[-1].flags == ACK | PSH
