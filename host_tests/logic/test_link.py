"""The life of a session: coming back, subscriptions, status, refusals, counters."""

import json

from scripted_broker import Scene, id_of, message, payload_of, play

from tapauth import wallclock

HELLO = message("a/b", b"MSG")
GOT = ("a/b", b"MSG")


def test_lost_connections_are_tried_again_later_and_later():
    async def script(scene):
        scene.refusing = True
        await scene.pass_ms(200_000)
        gaps = [b - a for a, b in zip(scene.attempts, scene.attempts[1:])]  # noqa: B905
        planned = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        for gap, least in zip(gaps, planned):  # noqa: B905
            assert least <= gap <= least * 5 // 4 + 100, gaps
        assert len([line for line in scene.lines if "no connection" in line]) == 1
        scene.refusing = False
        await scene.connect()
        assert scene.ups == 1

    play(script)


def test_a_broker_that_welcomes_and_hangs_up_is_not_hammered():
    async def script(scene):
        for _ in range(6):
            stream = await scene.connect()
            stream.cut()
            await scene.pass_ms(300)
        assert scene.attempts[-1] - scene.attempts[-2] > 8000

    play(script)


def test_subscriptions_are_confirmed_before_the_link_is_up_and_renewed():
    async def script(scene):
        link = scene.link
        for name in ("a/+", "b/#", "a/+"):
            link.subscribe(name)
        for session in range(2):
            while len(scene.streams) == session:
                await scene.pass_ms(50)
            stream = scene.streams[session]
            await scene.pass_ms()
            stream.take()
            stream.say(b"\x20\x02\x00\x00")
            await scene.pass_ms()
            kind, body = stream.take()[0]
            assert (kind, body[2:]) == (0x82, b"\x00\x03a/+\x01\x00\x03b/#\x01")
            assert not link.connected
            stream.say(b"\x90\x04" + body[:2] + b"\x01\x80")
            await scene.pass_ms()
            assert link.connected and scene.ups == session + 1
            assert link.refused == session + 1
            assert [line for line in scene.lines if "b/#" in line and " E " in line]
            stream.cut()
            await scene.pass_ms(300)

    play(script)


def test_a_subscription_may_come_at_any_time_one_request_after_the_other():
    async def script(scene):
        link = scene.link
        stream = await scene.connect()
        long = "y/" + "z" * 600
        for name in ("x", long, "w", "x"):
            link.subscribe(name)
        await scene.pass_ms()
        for expected in ([b"x"], [long.encode()], [b"w"]):
            sent = stream.take()
            assert [packet[0] for packet in sent] == [0x82], "one under way"
            body = b""
            for name in expected:
                body += len(name).to_bytes(2, "big") + name + b"\x01"
            assert sent[0][1][2:] == body
            stream.say(b"\x90\x03" + sent[0][1][:2] + b"\x01")
            await scene.pass_ms()
        assert stream.take() == []
        assert link.subscriptions.names == ["x", long, "w"]
        assert scene.ups == 1

    play(script)


def test_a_subscription_that_is_never_answered_ends_the_session():
    async def script(scene):
        stream = await scene.connect()
        scene.link.subscribe("x")
        await scene.pass_ms(5400)
        assert stream.closed
        assert "SUBSCRIBE" in scene.lines[-1]

    play(script)


def test_who_must_tell_a_lost_message_again_sees_the_board_go_and_come_back():
    async def script(scene):
        stream = await scene.connect()
        scene.link.message_lost()
        scene.link.message_lost()
        await scene.pass_ms(500)
        assert stream.closed
        assert 0xE0 not in [kind for kind, _ in stream.take()], "no goodbye: the will is told"
        assert "memory" in scene.lines[-1]
        stream = await scene.connect()
        assert any(b"online" in body for _, body in scene.greetings) and scene.ups == 2
        await scene.pass_ms(5000)
        assert not stream.closed, "once"

    play(script)


def test_the_status_is_announced_and_the_will_is_left():
    async def script(scene):
        await scene.pass_ms(100)
        stream = scene.streams[0]
        kind, hello = stream.take()[0]
        assert kind == 0x10
        assert hello[7] == 0b00101110, "clean session; a will, retained, with QoS 1"
        assert b"base/status" in hello and b'"offline"' in hello
        stream.say(b"\x20\x02\x00\x00")
        await scene.pass_ms()
        kind, body = stream.take()[0]
        assert kind == 0x31
        status = json.loads(body[13:])
        assert status["state"] == "online" and status["version"]

    play(script)


def test_refusals_are_told():
    async def script(scene):
        for code, words in ((4, "wrong user"), (5, "not authorized"), (99, "code 99")):
            count = len(scene.streams)
            while len(scene.streams) == count:
                await scene.pass_ms(50)
            scene.streams[-1].say(bytes((0x20, 2, 0, code)))
            await scene.pass_ms(300)
            assert words in scene.lines[-1], scene.lines
            assert scene.streams[-1].closed

    play(script)


def test_a_broker_without_welcome_is_left_after_ten_seconds():
    async def script(scene):
        await scene.pass_ms(100)
        await scene.pass_ms(9500)
        assert not scene.streams[0].closed
        await scene.pass_ms(1000)
        assert scene.streams[0].closed

    play(script)


def test_names_and_passwords_are_counted_in_bytes():
    async def script(scene):
        await scene.pass_ms(100)
        hello = scene.streams[0].take()[0][1]
        assert hello.endswith(b"\x00\x05\xc3\xa4\xc3\xb6x\x00\x04\xf0\x9f\x94\x91")

    play(script, user="\u00e4\u00f6x", password="\U0001f511")


def test_a_fault_in_what_is_called_does_not_cost_the_session():
    async def script(scene):
        stream = await scene.connect()

        def broken(topic, payload, retained):
            scene.messages.append((topic, payload))
            raise KeyError("04a1b2c3")

        scene.link.on_message = broken
        stream.say(message("a", b"1", 3) + message("a", b"2", 4))
        await scene.pass_ms()
        assert len(scene.messages) == 2
        assert scene.link.connected
        assert stream.take() == [(0x40, b"\x00\x03"), (0x40, b"\x00\x04")]
        assert not [line for line in scene.lines if "04a1" in line]

    play(script)


def test_a_topic_that_is_no_text_is_counted():
    async def script(scene):
        stream = await scene.connect()
        stream.say(b"\x30\x05\x00\x02\xff\xfex" + HELLO)
        await scene.pass_ms()
        assert scene.messages == [GOT]
        assert scene.link.malformed == 1

    play(script)


def test_a_topic_that_no_topic_can_be_is_counted():
    async def script(scene):
        stream = await scene.connect()
        for topic in (b"a\n", b"\xed\xa0\xbd", b"\xc0\x80", b"a\xef\xbf\xbf", b"\0"):
            stream.say(bytes((0x30, 3 + len(topic), 0, len(topic))) + topic + b"x")
        stream.say(HELLO)
        await scene.pass_ms()
        assert scene.messages == [GOT]
        assert scene.link.malformed == 5

    play(script)


def test_whether_a_message_was_retained_goes_with_it():
    async def script(scene):
        stream = await scene.connect()
        stream.say(message("a", b"1", flags=1) + message("b", b"2"))
        stream.say(message("c", b"3", 7, flags=1) + message("d", b"4", 8) + HELLO)
        await scene.pass_ms()
        told = [("a", True), ("b", False), ("c", True), ("d", False), ("a/b", False)]
        assert scene.retained == told

    play(script)


def test_a_reply_goes_to_nothing_of_the_boards_own():
    async def script(scene):
        scene.link.subscribe("x/m/#")
        scene.link.subscribe("y/+/z")
        for topic in ("base/time", "base", "x/m/a", "x/m", "y/1/z", "a\n", "", "q/m2e/a"):
            assert not scene.link.check_reply(topic), topic
        assert scene.link.counters()["mqtt_replies_refused"] == 8
        for topic in ("basement", "x/n", "y/1/2/z", "reply/1"):
            assert scene.link.check_reply(topic), topic
        assert scene.link.check_reply("q/m2e/reply/1", "q/m2e/reply/")
        assert scene.link.counters()["mqtt_replies_refused"] == 8

    play(script)


def test_without_a_connection_events_wait_and_others_are_dropped():
    async def script(scene):
        assert not scene.link.publish("t", "now")
        assert scene.link.dropped == 1
        for number in range(40):
            assert scene.link.enqueue("t", str(number))
        assert not scene.link.enqueue("t", bytes(5000)), "longer than can ever be sent"
        assert scene.link.outbox.dropped == 9
        stream = await scene.connect()
        came = []
        sent = scene.greetings[1:]  # after the status
        while sent:
            for _, body in sent:
                stream.say(b"\x40\x02" + id_of(body).to_bytes(2, "big"))
                came.append(payload_of(body))
            await scene.pass_ms()
            sent = stream.take()
        assert came == [str(number).encode() for number in range(8, 40)], came
        assert len(scene.link.outbox) == 0

    play(script)


def test_tls_without_a_set_clock_is_not_tried():
    from tapauth.link import tls

    async def script(scene):
        await scene.pass_ms(2000)
        assert scene.attempts == []
        assert "clock is not set" in scene.lines[-1]

    settings = {"enabled": True, "ca_file": "/no/ca", "cert_file": "", "server_name": ""}
    real = tls.unix_time
    try:
        for unix in (1_609_459_200, wallclock.EARLIEST - 1):
            tls.unix_time = lambda unix=unix: unix
            play(script, tls=settings)
    finally:
        tls.unix_time = real

    async def no_file(scene):
        await scene.pass_ms(2000)
        assert scene.attempts == [], "no way back to plain TCP"
        assert "mqtt.tls.ca_file cannot be used" in scene.lines[-1]

    play(no_file, tls=settings)


def test_counters_have_one_name_each():
    assert len(Scene({}).link.counters()) == 12


# Requests that ask for answers


async def answers_to(scene, stream, count, size, pongs=True) -> int:
    """Answer `count` requests that come at once, each with `size` bytes; returns how many went."""

    def answer(topic, payload, retained):
        scene.messages.append((topic, payload))
        scene.link.publish("reply/" + payload.decode(), b"r" * size)

    scene.link.on_message = answer
    for number in range(count):
        stream.say(message("request/" + "x" * 40, b"%04d" % number))
    answered = []
    idle = 0
    while idle < 100:
        await scene.pass_ms(10)
        sent = stream.take()
        idle = 0 if sent else idle + 1
        for kind, body in sent:
            if kind == 0x30:
                answered.append(body[8:12])
            elif pongs and kind == 0xC0:
                stream.say(b"\xd0\x00")
    assert answered == [b"%04d" % number for number in range(len(answered))], "in order"
    return len(answered)


def test_each_of_many_requests_at_once_is_answered():
    async def script(scene):
        stream = await scene.connect()
        assert await answers_to(scene, stream, 50, 150) == 50
        assert scene.link.dropped == 0

    play(script, keepalive_s=3600)


def test_large_answers_to_many_small_requests_all_arrive():
    async def script(scene):
        stream = await scene.connect()
        assert await answers_to(scene, stream, 30, 1200) == 30, scene.lines
        assert scene.link.dropped == 0

    play(script, keepalive_s=3600)


def test_requests_wait_while_the_broker_gives_no_sign_of_life():
    async def script(scene):
        stream = await scene.connect()
        count = await answers_to(scene, stream, 20, 400, pongs=False)
        assert count < 10, "its messages wait where they are"
        assert len(scene.messages) == count and scene.link.dropped == 0

    play(script, keepalive_s=3600)


def test_a_message_longer_than_the_window_goes_alone():
    async def script(scene):
        stream = await scene.connect()
        assert scene.link.publish("t", bytes(3000))
        assert not scene.link.make_room(9000)
        await scene.pass_ms()
        assert [kind for kind, _ in stream.take()][-1] == 0xC0, "a sign of life is asked for"
        stream.say(b"\xd0\x00")
        await scene.pass_ms()
        assert scene.link.make_room(9000)
        assert scene.link.publish("t", bytes(9000))
        assert not scene.link.publish("t", b"small")
        await scene.pass_ms()
        assert [len(body) for _, body in stream.take()] == [9003]
        assert not scene.link.publish("t", bytes(20_000))
        lines = [line for line in scene.lines if "dropped" in line]
        assert len(lines) == 1, "one line a session"

    play(script, keepalive_s=3600)


def test_a_flood_of_requests_does_not_keep_a_long_message_waiting():
    async def script(scene):
        stream = await scene.connect()
        scene.link.on_message = lambda topic, payload, retained: scene.link.publish(
            "reply", bytes(600)
        )
        for _ in range(240):
            stream.say(message("request/" + "x" * 40, b"1234"))
        replies = 0
        long = False
        while not long and replies < 240:
            await scene.pass_ms(10)
            for kind, body in stream.take():
                if kind == 0xC0:
                    stream.say(b"\xd0\x00")
                replies += kind == 0x30
                long = long or len(body) > 9000
            if scene.link.make_room(9000):
                scene.link.publish("long", bytes(9000))
        assert long and replies < 180, (replies, "it had to wait for all of them")

    play(script, keepalive_s=3600)
