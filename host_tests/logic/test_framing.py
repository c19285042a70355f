"""MQTT frames: whole ones only, however they arrive, and nothing longer than agreed."""

from tapauth.link.framing import FrameSocket, ProtocolError, request

PUBLISH = b"\x30\x08\x00\x03a/bMSG"  # topic a/b, payload MSG
PINGRESP = b"\xd0\x00"


def feed(frames, data):
    """Feed bytes as a socket would; returns the types of the frames that became whole."""
    kinds = []
    while data:
        room = frames.room()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        frames.received(count)
        data = data[count:]
        while True:
            kind = frames.next_frame()
            if not kind:
                break
            kinds.append(kind)
    return kinds


def refused(action) -> str:
    try:
        action()
    except ProtocolError as error:
        return str(error)
    raise AssertionError("not refused")


def test_a_frame_is_there_only_when_whole():
    for cut in range(1, len(PUBLISH)):
        frames = FrameSocket(64, 64)
        assert feed(frames, PUBLISH[:cut]) == []
        room = frames.room()
        rest = PUBLISH[cut:]
        room[: len(rest)] = rest
        frames.received(len(rest))
        assert frames.next_frame() == 0x30
        assert frames.read(len(PUBLISH)) == PUBLISH
        assert frames.next_frame() == 0


def test_many_frames_in_one_read_byte_by_byte_and_in_odd_pieces():
    stream = (PUBLISH + PINGRESP) * 20
    for size in (1, 2, 3, 7, 64, len(stream)):
        frames = FrameSocket(64, 64)
        kinds = []
        for start in range(0, len(stream), size):
            kinds += feed(frames, stream[start : start + size])
        assert kinds == [0x30, 0xD0] * 20, (size, kinds)


def test_an_unread_frame_is_consumed_whole():
    frames = FrameSocket(64, 64)
    # A late PUBACK, which umqtt would leave half read; what follows must still make sense.
    assert feed(frames, b"\x40\x02\x00\x07" + PUBLISH) == [0x40, 0x30]


def test_reading_past_a_frame_is_refused_not_waited_for():
    frames = FrameSocket(64, 64)
    data = PUBLISH + PINGRESP
    frames.room()[: len(data)] = data
    frames.received(len(data))
    assert frames.next_frame() == 0x30
    assert frames.read(1) == b"\x30"
    assert "shorter" in refused(lambda: frames.read(10))


def test_a_frame_over_the_limit_is_skipped_and_counted():
    long = b"\x30" + bytes([0x80 | (300 & 0x7F), 300 >> 7]) + b"x" * 300
    for size in (1, 5, 64, 1000):
        frames = FrameSocket(64, 64)
        stream = PUBLISH + long + PINGRESP + long + PUBLISH
        kinds = []
        for start in range(0, len(stream), size):
            kinds += feed(frames, stream[start : start + size])
        assert kinds == [0x30, 0xD0, 0x30], (size, kinds)
        assert frames.oversized == 2


def test_a_malformed_length_is_refused():
    frames = FrameSocket(64, 64)
    assert "length" in refused(lambda: feed(frames, b"\x30\xff\xff\xff\xff\x01"))


def test_a_packet_type_that_does_not_exist_is_refused():
    frames = FrameSocket(64, 64)
    assert "type 0" in refused(lambda: feed(frames, PINGRESP + b"\x00\x02xx" + PUBLISH))


def test_a_long_message_is_acknowledged_when_it_asks_for_that():
    long = b"\x32" + bytes([0x80 | (300 & 0x7F), 300 >> 7]) + b"\x00\x03a/b\x12\x34" + b"x" * 293
    for size in (1, 5, 64, 1000):
        frames = FrameSocket(64, 64)
        kinds = []
        for start in range(0, len(long + PUBLISH), size):
            kinds += feed(frames, (long + PUBLISH)[start : start + size])
        assert kinds == [0x30]
        assert bytes(frames.out) == b"\x40\x02\x12\x34"


def test_a_long_message_on_a_long_topic_is_skipped_too():
    # Retained, it would come at each connect: to hang up would be to hang up for ever.
    long = b"\x32\x90\x03\x01\x2c" + b"t" * 300 + b"\x12\x34" + b"x" * 96
    for size in (1, 5, 64, 1000):
        frames = FrameSocket(64, 64)
        kinds = []
        for start in range(0, len(long + PUBLISH), size):
            kinds += feed(frames, (long + PUBLISH)[start : start + size])
        assert kinds == [0x30] and frames.oversized == 1
        assert bytes(frames.out) == b"\x40\x02\x12\x34"
    cut = b"\x32\x90\x03\x01\x8f" + b"t" * 300
    assert "shorter" in refused(lambda: feed(FrameSocket(64, 64), cut))


def test_a_large_buffer_is_there_only_for_a_large_message():
    frames = FrameSocket(8192, 64)
    assert len(frames.room()) < 1100
    large = b"\x30\x80\x2f\x00\x03a/b" + b"x" * 6011
    assert feed(frames, PUBLISH + large + PUBLISH) == [0x30] * 3
    assert frames.oversized == 0
    assert len(frames.room()) < 1100
    assert feed(frames, large[:500]) == []
    assert len(frames.room()) > 5000
    frames.reset()
    assert feed(frames, PUBLISH) == [0x30]
    assert len(frames.room()) < 1100


def test_the_packet_id_of_a_message_is_inside_the_frame_or_refused():
    frames = FrameSocket(64, 64)
    assert feed(frames, b"\x32\x06\x00\x01a\x01\x02x"[:7]) == []
    frames.room()[:1] = b"x"
    frames.received(1)
    assert frames.next_frame() == 0x32
    assert frames.publish_id() == 0x0102
    for cut in (b"\x32\x01\x00", b"\x32\x03\x00\x01a", b"\x32\x04\x00\xffab", b"\x32\x00"):
        frames = FrameSocket(64, 64)
        frames.room()[: len(cut)] = cut
        frames.received(len(cut))
        frames.next_frame()
        assert "shorter" in refused(frames.publish_id), cut


def test_requests_to_subscribe_are_well_formed_whatever_their_length():
    assert request(0x0102, [b"a/b"]) == b"\x82\x08\x01\x02\x00\x03a/b\x01"
    assert request(1, [b"a", b"b"]) == b"\x82\x0a\x00\x01\x00\x01a\x01\x00\x01b\x01"
    long = request(1, [b"x" * 123])
    assert long[:3] == b"\x82\x80\x01" and len(long) == 3 + 128


def test_what_waits_to_be_sent_is_bounded():
    frames = FrameSocket(64, 16)
    frames.write(b"x" * 10)
    frames.write(b"yyyyyyyy", 6)
    assert bytes(frames.out) == b"x" * 10 + b"y" * 6
    assert "room" in refused(lambda: frames.write(b"z"))
    assert len(frames.out) == 16


def test_an_expected_answer_comes_before_the_stream():
    frames = FrameSocket(64, 64)
    frames.expect(b"\x20\x02\x00\x00")
    assert frames.read(4) == b"\x20\x02\x00\x00"


def test_reset_forgets_everything():
    frames = FrameSocket(64, 64)
    feed(frames, PUBLISH[:5])
    frames.write(b"x")
    frames.reset()
    assert bytes(frames.out) == b""
    assert feed(frames, PUBLISH) == [0x30]
