"""One end of a TCP connection, that which calls: bytes to segments, and segments to bytes.

Theory of operation. The far end is the TCP of the emulated board (RFC 9293), the near one a client
of this machine. Between the two is the emulator's queue of frames, which keeps their order. It
loses none; the board does, when a frame comes and its few buffers are in use. So there are
acknowledgements, a timer, and a small burst at the start, as on any network. Segments of the board
itself are never lost. A Call is in one of three states:

    CALLING   SYN is out; only a SYN-ACK or RST that belongs to it is taken
    OPEN      data goes both ways, from each side until its FIN: the client's last word is
              `_ending`, the board's FIN `_ended`
    OVER      both sides have said their last and know it, or RST has come or gone

`_out` are the client's bytes that the board has not acknowledged. The first `_flight` numbers of
it (the FIN behind the last byte has one, too) are under way; `_sent` is the most that it ever was,
since a resend makes `_flight` 0 and acknowledgements of what went before still come. `_burst` is
what may be under way for the sake of the board's buffers: it grows with what is acknowledged, and
is one segment after a loss (slow start). `_window` is what the board wants to have. A window of 0
is asked for news, with one byte, each time the timer goes off.

In a conflict:

* RST wins over everything: what waits on either side is dropped.
* The slower side wins: the smaller of `_window` and `_burst` holds for the client, and the board
  sees a window from which all is taken off that the client has not read. A window that was given
  is not taken back, as what the board sends into it lands on the client's own backlog.
* A FIN waits for all data before it, but not for a window.
* Silence loses: a board that owes an answer and sends nothing at all for PATIENCE_MS has gone, and
  the client is told so as by RST. While nothing is owed, a connection may be silent for ever.

Time is the board's own. The board is slow, and what it answers in time comes late for us.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
WINDOW = 65_535
LARGEST = 1460
"""Bytes of data in a frame of Ethernet."""
SMALLEST = 536
"""Bytes of data that a board takes in a segment when it does not say (RFC 9293, 3.7.1)."""
RESEND_MS = 1000
MOST_MS = 8000
PATIENCE_MS = 60_000
LOSS = 3
"""Acknowledgements of the same byte that tell of a loss (RFC 5681)."""

CALLING, OPEN, OVER = "calling", "open", "over"
_MASK = 0xFFFFFFFF
_AHEAD = 1 << 31


class Segment(NamedTuple):
    """A TCP segment without its ports; names as of rp2040py's net.TcpSegment."""

    seq: int
    ack: int
    flags: int
    window: int
    payload: bytes = b""
    mss: int | None = None


class Client(Protocol):
    """Somebody that a Call is made for."""

    def receive(self, data: bytes) -> None:
        """Take what the board sent."""

    def finish(self) -> None:
        """The board has sent its last."""

    def reset(self) -> None:
        """The board refused or broke the connection, or is silent."""

    def backlog(self) -> int:
        """Bytes of the board that wait still to be read."""


class Call:
    """A connection to the board. `send(segment)` brings one there, `now()` gives the board's
    milliseconds, `first` is any number of 32 bits.
    """

    def __init__(
        self,
        client: Client,
        send: Callable[[Segment], object],
        now: Callable[[], float],
        first: int,
    ):
        self.state = CALLING
        self._client = client
        self._send = send
        self._now = now
        self._una = first
        """The first number that the board has not acknowledged."""
        self._expected = 0
        """The number of the board's next byte."""
        self._out = bytearray()
        self._flight = self._sent = 0
        self._mss = SMALLEST
        self._window = 0
        self._burst = 0
        self._repeated = 0
        self._offered = WINDOW
        self._ending = self._finished = False  # our FIN is wanted; is acknowledged
        self._ended = False
        self._heard = now()
        self._wait()
        self._call()

    @property
    def waiting(self) -> int:
        """Bytes of the client that the board has not acknowledged."""
        return len(self._out)

    # -- from the client

    def write(self, data: bytes) -> None:
        """Send data."""
        if self.state != OVER:
            self._out += data
            self._flush()

    def end(self) -> None:
        """Send no more; the board may go on."""
        self._ending = True
        self._flush()
        self._settle()

    def abort(self) -> None:
        """Break the connection."""
        if self.state != OVER:
            self.state = OVER
            self._emit(RST | ACK, self._flight)

    def client_has_read(self) -> None:
        """Tell the board when the client's backlog has become so small that it may send again."""
        if self.state == OPEN and not self._ended and self._offered <= WINDOW // 2:
            self._emit(ACK, self._flight)

    # -- from the board

    def take(self, segment: Segment) -> None:
        """Take a segment of the board."""
        if self.state == OVER:
            return
        self._heard = self._now()
        if segment.flags & RST:
            self.state = OVER
            self._client.reset()
        elif self.state == CALLING:
            self._take_answer(segment)
        elif segment.flags & SYN:
            self._emit(ACK, self._flight)  # the board has lost our answer to its SYN
        else:
            self._take_acknowledgement(segment)
            self._take_data(segment)
            self._flush()
            self._settle()

    def _take_answer(self, segment: Segment) -> None:
        if segment.flags & (SYN | ACK) != SYN | ACK or segment.ack != self._una + 1 & _MASK:
            return
        self.state = OPEN
        self._una = segment.ack
        self._expected = segment.seq + 1 & _MASK
        self._window = segment.window
        self._mss = min(segment.mss or SMALLEST, LARGEST)
        self._burst = 4 * self._mss
        self._wait()
        self._emit(ACK, 0)
        self._flush()

    def _take_acknowledgement(self, segment: Segment) -> None:
        acknowledged = segment.ack - self._una & _MASK
        if acknowledged > self._sent:
            return
        if acknowledged:
            self._repeated = 0
            data = min(acknowledged, len(self._out))
            self._finished = acknowledged > data
            del self._out[:data]
            self._una = segment.ack
            self._sent -= acknowledged
            self._flight = max(0, self._flight - acknowledged)
            self._burst = min(self._burst + data, WINDOW)
            self._wait()
        elif self._sent and not segment.payload and segment.window == self._window:
            self._repeated += 1
            if self._repeated == LOSS:
                self._go_back()
        self._window = segment.window

    def _take_data(self, segment: Segment) -> None:
        known = self._expected - segment.seq & _MASK
        fin = segment.flags & FIN
        if known < _AHEAD:  # else something before it is missing
            data = segment.payload[known:]
            if data and not self._ended:
                self._expected = self._expected + len(data) & _MASK
                self._client.receive(data)
            if fin and known <= len(segment.payload) and not self._ended:
                self._expected = self._expected + 1 & _MASK
                self._ended = True
                self._client.finish()
        # What has come before is answered too: the board asks whether we are still there.
        if segment.payload or fin or known:
            self._emit(ACK, self._flight)

    # -- to the board

    def _emit(self, flags: int, at: int, payload: bytes = b"", mss: int | None = None) -> None:
        self._offered = max(0, WINDOW - self._client.backlog())
        acknowledged = self._expected if flags & ACK else 0
        number = self._una + at & _MASK
        self._send(Segment(number, acknowledged, flags, self._offered, payload, mss))

    def _call(self) -> None:
        self._emit(SYN, 0, mss=LARGEST)

    def _send_piece(self, size: int) -> None:
        piece = bytes(self._out[self._flight : self._flight + size])
        self._emit(ACK | PSH, self._flight, piece)
        self._flight += len(piece)

    def _flush(self) -> None:
        if self.state != OPEN:
            return
        limit = min(self._window, self._burst)
        while self._flight < len(self._out):
            rest = len(self._out) - self._flight
            size = min(self._mss, rest, limit - self._flight)
            # Small pieces cost the board as much as large ones: wait for a larger window.
            if size <= 0 or self._flight and size < min(self._mss, rest):
                break
            self._send_piece(size)
        if self._ending and not self._finished and self._flight == len(self._out):
            self._emit(ACK | FIN, self._flight)
            self._flight += 1
        self._sent = max(self._sent, self._flight)

    def _settle(self) -> None:
        if self._ended and self._finished:
            self.state = OVER

    # -- time

    def _wait(self) -> None:
        """Begin anew to wait for an answer."""
        self._pause_ms = RESEND_MS
        self._due = self._now() + RESEND_MS

    def tick(self) -> None:
        """Do what is due; to be called some times a second."""
        if self.state == OVER:
            return
        now = self._now()
        owes = self.state == CALLING or self._out or self._sent
        if not owes:
            self._heard = now
            self._wait()
        elif now - self._heard >= PATIENCE_MS:
            self.abort()
            self._client.reset()
        elif now >= self._due:
            self._pause_ms = min(2 * self._pause_ms, MOST_MS)
            self._due = now + self._pause_ms
            if self.state == CALLING:
                self._call()
            else:
                self._go_back()

    def _go_back(self) -> None:
        """Send again from the first byte that the board has not got."""
        self._flight = 0
        self._burst = self._mss
        if self._out and not self._window:
            self._send_piece(1)
            self._sent = max(self._sent, self._flight)
        else:
            self._flush()
