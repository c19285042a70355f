"""Frames from the reader's UART: fragments, garbage, and reads that never wait."""

from tapauth.reader.pn532_hsu import HSUTransport

ACK = b"\x00\x00\xff\x00\xff\x00"
VERSION = b"\x00\x00\xff\x06\xfa\xd5\x03\x32\x01\x06\x07\xe8\x00"
DATA = b"\x32\x01\x06\x07"


class Uart:
    """What machine.UART offers to the transport; `come` is what the chip sent."""

    def __init__(self):
        self.come = b""
        self.sent = b""
        self.reads = 0

    def any(self):
        return len(self.come)

    def readinto(self, buffer):
        self.reads += 1
        count = min(len(buffer), len(self.come))
        buffer[:count] = self.come[:count]
        self.come = self.come[count:]
        return count or None

    def write(self, data):
        self.sent += bytes(data)
        return len(data)


def wired():
    uart = Uart()
    transport = HSUTransport(lambda: uart)
    transport.open()
    return uart, transport


def test_an_answer_behind_its_ack_in_one_burst():
    uart, transport = wired()
    transport.start(0x02, b"")
    assert uart.sent == b"\x00\x00\xff\x02\xfe\xd4\x02\x2a\x00"
    assert not transport.take_ack()
    uart.come = ACK + VERSION
    assert transport.take_ack()
    assert bytes(transport.answer(0x02, 4)) == DATA
    assert transport.answer(0x02, 4) is None
    assert transport.noise == 0


def test_a_byte_at_a_time():
    uart, transport = wired()
    for byte in ACK[:-1]:
        uart.come = bytes((byte,))
        assert not transport.take_ack()
    uart.come = ACK[-1:]
    assert transport.take_ack()
    for byte in VERSION[:-1]:
        uart.come = bytes((byte,))
        assert transport.answer(0x02, 4) is None
    uart.come = VERSION[-1:]
    assert bytes(transport.answer(0x02, 4)) == DATA


def test_what_is_no_frame_is_skipped_and_counted():
    for garbage, counted in (
        (b"\xff\x80\x55", 3),
        (b"\x00\x00\x00\x00", 0),  # more zeros before the start than needed
        (b"\x00\x00\x17", 3),
        (b"\x00\x00\xff\x12\x34", 5),  # a start without a length
        (b"\x00\x00\xff\x00", 3),  # its last byte begins the frame
        (b"\x00\x00\xff\xc0\x40", 5),  # longer than any answer
        (b"\xa5\x00\x00\xff\x3c", 5),
    ):
        uart, transport = wired()
        uart.come = garbage + VERSION
        for _ in range(3):
            data = transport.answer(0x02, 4)
            if data is not None:
                break
        assert data is not None and bytes(data) == DATA, garbage
        assert transport.noise == counted, (garbage, transport.noise)


def test_a_frame_cut_short_does_not_spoil_the_next_exchange():
    uart, transport = wired()
    uart.come = VERSION[:9]
    assert transport.answer(0x02, 4) is None
    transport.abort()
    transport.start(0x02, b"")
    uart.come = ACK + VERSION
    assert transport.take_ack()
    assert bytes(transport.answer(0x02, 4)) == DATA


def test_what_came_late_is_dropped_when_the_next_command_is_sent():
    uart, transport = wired()
    uart.come = VERSION * 3
    transport.start(0x02, b"")
    assert uart.come == b""
    uart.come = ACK
    assert transport.take_ack()


def test_a_broken_frame_is_an_error():
    uart, transport = wired()
    for broken in (
        VERSION[:-2] + b"\x00\x00",
        ACK,
        VERSION[:6] + b"\x05" + VERSION[7:-2] + b"\xe6\x00",
    ):
        uart.come = broken
        try:
            transport.answer(0x02, 4)
        except (RuntimeError, IndexError):
            continue
        raise AssertionError(broken)
    uart.come = VERSION
    try:
        transport.take_ack()
    except RuntimeError:
        return
    raise AssertionError("an answer is no ACK")


def test_a_line_that_babbles_holds_nobody_up():
    uart, transport = wired()
    uart.come = b"\x55" * 10_000
    assert transport.answer(0x02, 4) is None
    assert uart.reads <= 4
    transport.abort()
    assert uart.reads <= 36
