"""The link where memory ends: no half packet, no deaf board, nothing lost that must not be."""

import asyncio

from scripted_broker import id_of, message, payload_of, play
from umqtt import simple

from tapauth import log

HELLO = message("a/b", b"MSG")
GOT = ("a/b", b"MSG")


def kinds(stream) -> list:
    return [kind for kind, _ in stream.take()]


def without_memory_at(frames, number):
    """Let there be no memory for what umqtt writes at the n-th time from now on.

    `frames` is the socket that the link gave to umqtt.
    """
    real = frames.write
    left = [number]

    def write(data, count=-1):
        left[0] -= 1
        if not left[0]:
            raise MemoryError
        real(data, count)

    frames.write = write


def test_half_a_message_for_want_of_memory_is_not_completed_by_the_next_ones():
    async def script(scene):
        for number in (1, 2, 3, 4):
            stream = await scene.connect()
            without_memory_at(simple.socket, number)
            try:
                scene.link.publish("evse/1/command", b'{"command": "stop_transaction"}')
                raise AssertionError("the caller thinks that it is sent")
            except MemoryError:
                pass
            del simple.socket.write
            scene.link.publish("t", b"A" * 60)
            await scene.pass_ms()
            kept = number == 1  # nothing of it was written
            whole = [(0x30, b"\x00\x01t" + b"A" * 60)] if kept else []
            assert stream.take() == whole, number
            await scene.pass_ms(300)
            assert stream.closed is not kept
            if kept:
                stream.cut()
                await scene.pass_ms(300)
            else:
                assert "want of memory" in scene.lines[-1]

    play(script)


def test_a_command_that_found_no_memory_on_its_way_out_is_sent_soon_and_once():
    async def script(scene):
        for number in (1, 2, 3, 4):
            stream = await scene.connect()
            without_memory_at(simple.socket, number)
            assert scene.link.enqueue("evse/1/command", b"stop", 4), "it waits, whatever happened"
            del simple.socket.write
            await scene.pass_ms(300)
            sent = stream.take()
            assert stream.closed is (number > 1)
            if stream.closed:
                assert sent == [], "half of it"
                stream = await scene.connect()
                sent = scene.greetings[1:]
            assert [payload_of(body) for _, body in sent] == [b"stop"], number
            stream.say(b"\x40\x02" + id_of(sent[0][1]).to_bytes(2, "big"))
            await scene.pass_ms(300)
            assert len(scene.link.outbox) == 0 and scene.link.connected
            stream.cut()
            await scene.pass_ms(300)

    play(script)


def test_no_memory_for_the_status_leaves_no_half_of_it_before_what_follows():
    async def script(scene):
        await scene.pass_ms(100)
        stream = scene.streams[0]
        stream.take()
        without_memory_at(simple.socket, 3)
        stream.say(b"\x20\x02\x00\x00")
        await scene.pass_ms()
        del simple.socket.write
        scene.link.publish("t", b"A" * 60)
        await scene.pass_ms(300)
        assert stream.take() == [] and stream.closed
        await scene.connect()
        assert b'"online"' in scene.greetings[0][1]

    play(script)


def test_a_receiver_that_ends_while_the_log_finds_no_memory_does_not_leave_a_deaf_board():
    async def script(scene):
        real = log.Log.trace, log.Log.error
        for failure in (MemoryError, IndexError):
            stream = await scene.connect()

            def fail(failure=failure):
                raise failure

            def without_memory(*arguments):
                raise MemoryError

            simple.socket.next_frame = fail
            log.Log.trace = log.Log.error = without_memory
            try:
                stream.say(HELLO)
                await scene.pass_ms(300)
            finally:
                del simple.socket.next_frame
                log.Log.trace, log.Log.error = real
            assert stream.closed and not scene.link.connected, failure
        stream = await scene.connect()
        stream.say(HELLO)
        await scene.pass_ms()
        assert scene.messages == [GOT]

    play(script)


def test_a_session_that_ends_for_want_of_memory_costs_the_next_one_nothing():
    async def script(scene):
        stream = await scene.connect()

        def without_memory():
            raise MemoryError

        simple.socket.next_frame = without_memory
        stream.say(HELLO)
        await scene.pass_ms(300)
        del simple.socket.next_frame
        assert "want of memory" in scene.lines[-1], scene.lines[-1]
        await scene.connect()
        assert len(scene.streams) == 2

    play(script)


def test_a_full_link_asks_for_a_sign_of_life_again_when_there_was_no_memory_to_ask():
    async def script(scene):
        stream = await scene.connect()
        while scene.link.publish("t", bytes(1000)):
            await scene.pass_ms()
        assert 0xC0 not in kinds(stream)
        without_memory_at(simple.socket, 1)
        try:
            scene.link.make_room(1000)
        except MemoryError:
            pass
        del simple.socket.write
        assert not scene.link.make_room(1000)
        await scene.pass_ms()
        assert 0xC0 in kinds(stream)

    play(script, keepalive_s=3600)


def test_a_retained_message_that_there_is_no_memory_to_read_does_not_keep_the_board_away():
    async def script(scene):
        for flags, packet_id in ((1, 0), (1, 7), (0, 8)):
            stream = await scene.connect()
            frames = simple.socket

            def read(count, real=frames.read):
                if count > 50:
                    raise MemoryError
                return real(count)

            frames.read = read
            stream.say(message("a", bytes(60), packet_id, flags=flags) + HELLO)
            await scene.pass_ms(300)
            del frames.read
            if flags:  # the broker would send it again in each session
                assert scene.link.connected and scene.messages == [GOT]
                assert stream.take() == ([(0x40, b"\x00\x07")] if packet_id else [])
                scene.messages.clear()
                stream.cut()
                await scene.pass_ms(300)
            else:  # it comes once: whoever sent it must see that it was lost
                assert stream.closed and scene.messages == []
        assert scene.link.oversized == 2

    play(script)


def test_a_connection_that_there_is_no_memory_to_use_is_hung_up():
    async def script(scene):
        opened, now = scene.open, scene.clock.now

        def without_memory():
            scene.clock.now = now
            raise MemoryError

        async def open(host, port, **options):
            streams = await opened(host, port, **options)
            scene.clock.now = without_memory
            return streams

        asyncio.open_connection = open
        await scene.pass_ms(100)
        assert scene.streams[0].closed, "or a broker has one more that says nothing"

    play(script)
