"""MQTT frames between a byte stream and umqtt.simple, which then never waits for the network.

umqtt.simple reads its socket as if every byte were there already, blocks when it is not, and
hands on what it got when the peer goes away in the middle. FrameSocket stands in for that socket:
bytes that arrived are fed in, umqtt reads only when a whole frame is there, and what umqtt writes
is collected for the caller to send. No I/O here; the limits are fixed at construction.

The link fills room() and tells received(); next_frame() then moves one machine along:

    collecting   the frame at the start of the buffer is not whole: more bytes are wanted
    at hand      the frame is whole: umqtt reads it, or the link takes body(); the next call of
                 next_frame() throws it away, read or not
    skipping     `_skip` bytes of a frame that is too long are thrown away as they come
    packet id    of such a frame, when it is a PUBLISH with QoS 1: its topic is skipped, its packet
                 id comes next, and `_rest` counts it and what follows. It is acknowledged,
                 and the rest is skipped

A frame that is longer than agreed and one that the heap has no room for are the same: both are
skipped and counted, and the session goes on. Hanging up would be worse, as the broker would send
a retained or unacknowledged message again in each session, for ever. But bytes that are no MQTT
raise ProtocolError, after which nobody knows where a frame begins: the session must end.

While a canned answer is left (expect()), umqtt reads that and not the frame.
"""

from tapauth.compat import const

CONNACK = const(0x20)
PUBLISH = const(0x30)
PUBACK = const(0x40)
SUBSCRIBE = const(0x82)
SUBACK = const(0x90)
PINGRESP = const(0xD0)

QOS_1 = const(0x02)  # bits in the first byte of a PUBLISH (MQTT 3.1.1, 3.3.1)
QOS_2 = const(0x04)
DUPLICATE = const(0x08)
RETAINED = const(0x01)

_KIND_AND_QOS = const(0xF6)  # of the first byte: without DUPLICATE and RETAINED
_FIRST_KIND = const(0x10)
_MORE = const(0x80)  # in a byte of the length: another one follows
_HEADER_MAX = const(5)  # packet type and at most four bytes of length (MQTT 3.1.1, 2.2.3)
_SMALL = const(1024)  # most frames are shorter, and heap is precious


class ProtocolError(Exception):
    """The peer sent what no MQTT broker sends, or more than was agreed. The text says what."""


def request(packet_id: int, filters: list) -> bytes:
    """A SUBSCRIBE packet that asks for QoS 1, for some encoded topic filters.

    That of umqtt.simple takes one filter, and is malformed from 123 bytes of it on.
    """
    body = bytearray(packet_id.to_bytes(2, "big"))
    for name in filters:
        body += len(name).to_bytes(2, "big")
        body += name
        body.append(1)
    length = len(body)
    if length < 128:
        return bytes((SUBSCRIBE, length)) + body
    return bytes((SUBSCRIBE, length & 0x7F | 0x80, length >> 7)) + body


class FrameSocket:
    """The socket that umqtt.simple sees, and the buffers behind it.

    `in_max` and `out_max` are bytes: the longest frame taken in, and the most that may wait to
    be sent. A longer frame from the broker, or one that the heap has no room for, is skipped,
    acknowledged if it asks for that, and counted in `oversized`. The buffer is small, and larger
    only while a frame needs it.
    """

    def __init__(self, in_max: int, out_max: int):
        self._small = min(in_max, _SMALL) + _HEADER_MAX
        self._in = bytearray(self._small)
        self._view = memoryview(self._in)
        self._filled = 0  # bytes in the buffer
        # Of the frame at hand: how far umqtt has read, its end (0: none is), its body's start.
        self._read = 0
        self._end = 0
        self._body = 0
        self._skip = 0
        self._rest = 0  # of a frame being skipped: the bytes behind _skip, a packet id first
        self._canned = b""
        self._in_max = in_max
        self._out_max = out_max
        self.out = bytearray()
        self.oversized = 0

    # For umqtt.simple. Its waits are answered from expect(), or from a whole frame.

    def socket(self):
        """umqtt makes its socket by this; see mqtt.py."""
        return self

    def getaddrinfo(self, host, port):
        """umqtt resolves the broker's address by this; the link already has."""
        return [(host, port)]

    def connect(self, address) -> None:
        """The link is connected before umqtt says hello."""

    def setblocking(self, flag) -> None:
        """Nothing here ever blocks."""

    def settimeout(self, seconds) -> None:
        """Nothing here ever waits."""

    def close(self) -> None:
        """The link closes its own stream."""

    def read(self, count: int) -> bytes:
        """`count` bytes of the frame at hand. Raises ProtocolError when the frame is shorter."""
        if self._canned:
            data = self._canned[:count]
            self._canned = self._canned[count:]
            return data
        if not 0 <= count <= self._end - self._read:
            raise ProtocolError("frame shorter than it says")
        data = bytes(self._view[self._read : self._read + count])
        self._read += count
        return data

    def write(self, data, count: int = -1) -> None:
        """Collects what is to be sent. Raises ProtocolError when too much waits already."""
        if count < 0:
            count = len(data)
        if len(self.out) + count > self._out_max:
            raise ProtocolError("more to send than there is room for")
        self.out.extend(data if count == len(data) else data[:count])

    # For the link.

    def expect(self, answer: bytes) -> None:
        """Gives umqtt, which would wait for it, an answer that the link will check itself."""
        self._canned = answer

    def room(self):
        """A memoryview to receive into; never empty when next_frame() found nothing."""
        return self._view[self._filled :]

    def received(self, count: int) -> None:
        """`count` bytes were put at the start of room()."""
        self._filled += count

    def next_frame(self) -> int:
        """The type byte of the frame that is complete now, or 0 when none is.

        The frame stays readable until the next call. Raises ProtocolError for a type or a length
        field that MQTT does not allow.
        """
        self._drop(self._end)
        self._end = 0
        # The last frame was a large one, and what came behind it fits into the small buffer.
        if len(self._in) > self._small and self._filled <= self._small:
            self._resize(self._small)
        while True:
            if self._skip:
                dropped = min(self._skip, self._filled)
                self._skip -= dropped
                self._drop(dropped)
            # Two bytes: the shortest frame, or the packet id that comes next.
            if self._filled < 2 or self._skip:
                return 0
            if self._rest:
                # Acknowledged, or the broker would send it for ever.
                self.write(bytes((PUBACK, 2, self._in[0], self._in[1])))
                self._skip, self._rest = self._rest, 0
                continue
            if self._in[0] < _FIRST_KIND:
                raise ProtocolError("packet type 0")
            length = 0
            position = 1
            while True:
                if position >= self._filled:
                    return 0
                byte = self._in[position]
                length |= (byte & ~_MORE) << (7 * (position - 1))
                position += 1
                if not byte & _MORE:
                    break
                if position >= _HEADER_MAX:
                    raise ProtocolError("malformed length")
            whole = position + length
            # The buffer grows before the frame is there: room() is then never empty.
            if length > self._in_max or not self._resize(max(whole, len(self._in))):
                if self._in[0] & _KIND_AND_QOS == PUBLISH | QOS_1:
                    if self._filled < position + 2:
                        return 0  # the length of the topic says where the packet id is
                    topic = 2 + (self._in[position] << 8 | self._in[position + 1])
                    if topic + 2 > length:
                        raise ProtocolError("frame shorter than it says")
                    self._rest = length - topic
                self.oversized += 1
                self._skip = whole - self._rest
                continue
            if self._filled < whole:
                return 0
            self._body = position
            self._end = whole
            self._read = 0
            return self._in[0]

    def _resize(self, size: int) -> bool:
        """Have a buffer of `size` bytes with what is in it. False: the heap has none."""
        if size != len(self._in):
            try:
                buffer = bytearray(size)
            except MemoryError:
                return False
            buffer[: self._filled] = self._view[: self._filled]
            self._in = buffer
            self._view = memoryview(buffer)
        return True

    @property
    def skipping(self) -> bool:
        """A message that is too long is coming in, and being thrown away."""
        return self._skip > 0 or self._rest > 0

    def body(self) -> bytes:
        """The frame without its type and its length."""
        return bytes(self._view[self._body : self._end])

    def publish_id(self) -> int:
        """The packet id of the PUBLISH frame, one with QoS 1. Raises ProtocolError for none."""
        at = self._body + 2
        if at <= self._end:
            at += self._in[at - 2] << 8 | self._in[at - 1]
        if at + 2 > self._end:
            raise ProtocolError("frame shorter than it says")
        return self._in[at] << 8 | self._in[at + 1]

    def _drop(self, count: int) -> None:
        if count:
            left = self._filled - count
            # The two overlap; both interpreters copy as memmove() does.
            self._view[:left] = self._view[count : self._filled]
            self._filled = left

    def reset(self) -> None:
        """Forgets everything buffered: a new connection begins."""
        self._filled = self._read = self._skip = self._rest = self._end = 0
        self._canned = b""
        self.out = bytearray()
