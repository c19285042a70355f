"""The link against a broker that misbehaves in each way that hurts umqtt.simple.

The rows of the table in docs/mqtt-link.md, one after the other.
"""

from scripted_broker import id_of, message, payload_of, play

HELLO = message("a/b", b"MSG")
GOT = ("a/b", b"MSG")


def kinds(stream) -> list:
    return [kind for kind, _ in stream.take()]


def test_half_a_message_blocks_nothing_and_arrives_when_whole():
    async def script(scene):
        stream = await scene.connect()
        for byte in HELLO[:-1]:
            stream.say(bytes((byte,)))
            await scene.pass_ms(100)
            assert not scene.messages
            assert scene.link.publish("still", "alive")
        stream.say(HELLO[-1:])
        await scene.pass_ms()
        assert scene.messages == [GOT]

    play(script)


def test_a_message_cut_by_the_end_of_the_stream_is_not_acted_on():
    async def script(scene):
        for cut in range(1, len(HELLO)):
            stream = await scene.connect()
            stream.say(HELLO[:cut])
            stream.cut()
            await scene.pass_ms(300)
            assert stream.closed and not scene.link.connected
        assert scene.messages == []
        assert scene.link.sessions == len(HELLO) - 1

    play(script)


def test_late_and_unknown_acknowledgements_are_consumed_whole():
    async def script(scene):
        stream = await scene.connect()
        # The second would make umqtt wait for 2,816 bytes.
        stream.say(b"\x40\x02\x00\x07" + b"\x40\x02\x00\x30" + b"\x90\x03\x00\x30\x01" + HELLO)
        await scene.pass_ms()
        assert scene.messages == [GOT]
        assert scene.link.connected

    play(script)


def test_a_qos1_message_without_acknowledgement_is_tried_again_but_not_for_ever():
    async def script(scene):
        stream = await scene.connect()
        assert scene.link.enqueue("t", "first")
        assert scene.link.enqueue("t", "second")
        await scene.pass_ms()
        sent = stream.take()
        assert [kind for kind, _ in sent] == [0x32], "one under way"
        await scene.pass_ms(5300)
        again = [packet for packet in stream.take() if packet[0] != 0xC0]
        assert again == [(0x3A, sent[0][1])], "the same id, marked as a duplicate"
        await scene.pass_ms(5300)
        assert stream.closed, scene.lines
        assert "no acknowledgement" in scene.lines[-1]
        stream = await scene.connect()
        assert (0x3A, sent[0][1]) in scene.greetings
        stream.say(b"\x40\x02" + id_of(sent[0][1]).to_bytes(2, "big"))
        await scene.pass_ms()
        assert payload_of(stream.take()[0][1]) == b"second"

    play(script)


def test_a_late_acknowledgement_ends_the_retries():
    async def script(scene):
        stream = await scene.connect()
        scene.link.enqueue("t", "only")
        await scene.pass_ms(5300)
        sent = [packet for packet in stream.take() if packet[0] & 0xF0 == 0x30]
        assert [kind for kind, _ in sent] == [0x32, 0x3A]
        stream.say(b"\x40\x02" + id_of(sent[0][1]).to_bytes(2, "big"))
        await scene.pass_ms(20_000)
        assert len(scene.link.outbox) == 0
        assert not [kind for kind in kinds(stream) if kind & 0xF0 == 0x30]

    play(script, keepalive_s=3600)


def test_a_message_that_comes_twice_is_handled_once_and_acknowledged_twice():
    async def script(scene):
        stream = await scene.connect()
        stream.say(message("a", b"1", 7))
        stream.say(message("a", b"1", 7, flags=8))
        stream.say(message("a", b"2", 7))
        await scene.pass_ms()
        assert scene.messages == [("a", b"1"), ("a", b"2")]
        assert stream.take() == [(0x40, b"\x00\x07")] * 3
        assert scene.link.duplicates == 1

    play(script)


def test_nonsense_ends_the_session_and_the_link_comes_back():
    async def script(scene):
        for nonsense in (
            b"\x30\x00",  # umqtt: IndexError
            b"\x30\x03\x00\x40x",  # topic longer than the frame
            b"\x32\x05\x00\x03a/b",  # no packet id
            b"\x34\x07\x00\x01a\x00\x01hi",  # QoS 2, umqtt: AssertionError after delivery
            b"\x36\x07\x00\x01a\x00\x01hi",  # no QoS at all
            b"\x30\xff\xff\xff\xff\x01",  # malformed length
            b"\x40\x01\x00",
            b"\x90\x00",
            b"\xf0\x02\x00\x00",
            b"\x00\x02\x00\x00",
        ):
            stream = await scene.connect()
            stream.say(nonsense + HELLO)
            await scene.pass_ms(300)
            assert stream.closed, nonsense
        assert scene.messages == []

    play(script)


def test_an_idle_link_pings_and_a_silent_peer_is_given_up():
    async def script(scene):
        stream = await scene.connect()
        began = scene.clock.now()
        await scene.pass_ms(5300)
        assert kinds(stream) == [0xC0]
        stream.say(b"\xd0\x00")
        await scene.pass_ms(20_000)
        assert not stream.closed
        while not stream.closed and scene.clock.now() - began < 60_000:
            await scene.pass_ms(50)
        silent = scene.clock.now() - began - 5300
        assert 30_000 <= silent <= 30_700, silent
        assert "silent" in scene.lines[-1]

    play(script, keepalive_s=20)


def test_a_dribble_of_bytes_is_no_sign_of_life():
    async def script(scene):
        stream = await scene.connect()
        stream.say(b"\x30\x7f")
        for _ in range(60):
            if stream.closed:
                break
            stream.say(b"x")
            await scene.pass_ms(250)
        assert stream.closed
        assert scene.messages == []

    play(script, keepalive_s=5)


def test_a_readable_stream_without_bytes_is_not_closed():
    async def script(scene):
        stream = await scene.connect()
        stream.say_nothing_readable()
        await scene.pass_ms(300)
        stream.say(HELLO)
        await scene.pass_ms()
        assert scene.messages == [GOT]
        assert not stream.closed

    play(script)


def test_a_write_that_stalls_is_noticed_and_bounded():
    async def script(scene):
        stream = await scene.connect()
        stream.full = True
        accepted = 0
        for _ in range(200):
            accepted += scene.link.publish("topic", bytes(91))
            stream.say(b"\xd0\x00")  # alive in the other direction
            await scene.pass_ms(50)
        assert accepted * 100 < 9000, "what waits for a stalled write is bounded"
        assert scene.link.dropped == 200 - accepted
        for _ in range(20):
            stream.say(b"\xd0\x00")
            await scene.pass_ms(50)
        assert stream.closed
        assert "takes no more bytes" in scene.lines[-1]

    play(script)


def test_what_is_sent_into_silence_is_bounded_and_asks_for_an_answer():
    async def script(scene):
        stream = await scene.connect()
        accepted = 0
        for _ in range(100):
            accepted += scene.link.publish("topic", bytes(91))
            await scene.pass_ms(50)
        assert accepted < 41, accepted
        assert 0xC0 in kinds(stream), "a ping, long before the keepalive asks for one"
        stream.say(b"\xd0\x00")
        await scene.pass_ms()
        assert scene.link.publish("topic", bytes(91))

    play(script, keepalive_s=3600)


def test_each_publish_is_one_write():
    async def script(scene):
        stream = await scene.connect()
        before = stream.writes
        scene.link.publish("topic", "payload", True)
        scene.link.publish("topic", "payload")
        await scene.pass_ms()
        assert stream.writes == before + 1
        assert stream.take() == [(0x31, b"\x00\x05topicpayload"), (0x30, b"\x00\x05topicpayload")]

    play(script)


def test_messages_over_the_limit_are_skipped_acknowledged_and_counted():
    async def script(scene):
        stream = await scene.connect()
        # 100,005 bytes, of which the first come one by one.
        for byte in b"\x32\xa5\x8d\x06\x00\x01t\x00\x09":
            stream.say(bytes((byte,)))
            await scene.pass_ms()
        for _ in range(100):
            stream.say(bytes(1000))
            await scene.pass_ms()
        stream.say(HELLO)
        await scene.pass_ms()
        assert scene.messages == [GOT]
        assert scene.link.oversized == 1
        assert stream.take() == [(0x40, b"\x00\x09")]

    play(script)


def test_a_flood_leaves_turns_for_others():
    async def script(scene):
        stream = await scene.connect()
        stream.say(HELLO * 100)
        turns = 0
        while len(scene.messages) < 100:
            before = len(scene.messages)
            await scene.sleep(0)
            turns += 1
            assert len(scene.messages) - before <= 2
            assert turns < 1000

    play(script)


# No memory
