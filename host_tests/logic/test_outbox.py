"""The outbox: order, room, retries, and packet ids that MQTT allows."""

from tapauth.compat import MICROPYTHON
from tapauth.core.effects import LASTING, ORDINARY, PROGRESS, REFUSAL, STOP, WITHDRAWAL
from tapauth.link.outbox import Outbox

if MICROPYTHON:
    import micropython


def fill(box, count, start=0, keep=False):
    for number in range(start, start + count):
        box.add(b"t", str(number).encode(), keep)


def drain(box, now=0):
    """Send and acknowledge everything; returns the payloads as text."""
    came = []
    while True:
        message = box.due(now)
        if message is None:
            return came
        came.append(message[1].decode())
        assert box.acknowledged(box.sent(now))


def test_messages_leave_in_order_one_at_a_time():
    box = Outbox(10, 1000, 5000)
    fill(box, 3)
    assert box.due(0)[1] == b"0"
    box.sent(0)
    assert box.due(1) is None
    assert box.acknowledged(box.packet_id)
    assert drain(box) == ["1", "2"]
    assert len(box) == 0 and box.bytes == 0


def test_a_message_that_is_not_acknowledged_goes_again_under_its_id():
    box = Outbox(10, 1000, 5000)
    fill(box, 2)
    first = box.sent(100)
    assert box.due(5099) is None
    assert not box.stuck(5099)
    assert box.due(5100)[1] == b"0"
    assert box.sent(5100) == first
    assert box.tries == 2
    assert box.due(10_099) is None
    assert box.stuck(10_100)
    box.session_ended()
    assert not box.stuck(10_100)
    assert box.due(10_100)[1] == b"0"
    assert box.sent(10_100) == first
    assert not box.acknowledged(first + 1)
    assert box.acknowledged(first)
    assert not box.acknowledged(first), "a second acknowledgement is nobody's"
    assert box.due(10_100)[1] == b"1"


def test_a_message_that_could_not_be_written_is_due_at_once():
    box = Outbox(10, 1000, 5000)
    fill(box, 1)
    for now in (100, 350, 600):
        assert box.due(now)[1] == b"0"
        box.sent(now)
        box.not_sent()
    assert box.tries == 0
    assert not box.stuck(60_000)
    first = box.sent(850)
    assert box.due(1100) is None
    assert box.acknowledged(first)


def test_an_acknowledgement_from_the_last_session_counts_for_nothing():
    box = Outbox(10, 1000, 5000)
    fill(box, 1)
    first = box.sent(0)
    box.session_ended()
    assert not box.acknowledged(first)
    assert len(box) == 1


def test_a_message_that_nobody_ever_acknowledges_is_given_up_and_counted():
    box = Outbox(10, 1000, 5000)
    fill(box, 2)
    sessions = 0
    while box.due(0)[1] == b"0":
        box.sent(0)
        box.session_ended()
        sessions += 1
        assert sessions < 50
    assert sessions == 10
    assert box.unacknowledged == 1
    assert box.tries == 0
    assert drain(box) == ["1"]


def test_when_full_the_oldest_goes_and_is_counted():
    box = Outbox(32, 100_000, 5000)
    fill(box, 200)
    assert box.dropped == 168
    assert drain(box) == [str(number) for number in range(168, 200)]


def test_bytes_are_bounded_too():
    box = Outbox(100, 100, 5000)
    for number in range(10):
        assert box.add(b"topic", bytes(15 - number), False)
    assert box.bytes <= 100
    assert box.dropped > 0
    assert not box.add(b"topic", bytes(96), False)
    assert box.dropped_kept == 0


def test_marked_messages_outlive_others():
    box = Outbox(4, 1000, 5000)
    fill(box, 2, keep=True)
    fill(box, 4, start=2)
    assert box.dropped == 2
    assert box.dropped_kept == 0
    assert drain(box) == ["0", "1", "4", "5"]


def test_only_a_marked_message_displaces_marked_ones():
    box = Outbox(2, 1000, 5000)
    fill(box, 2, keep=True)
    assert not box.add(b"t", b"plain", False)
    assert (box.dropped, box.dropped_kept) == (1, 0)
    assert box.add(b"t", b"marked", True)
    assert (box.dropped, box.dropped_kept) == (2, 1)
    assert drain(box) == ["1", "marked"]


def test_the_one_under_way_is_not_dropped():
    box = Outbox(2, 1000, 5000)
    fill(box, 2)
    first = box.sent(0)
    fill(box, 1, start=2)
    assert box.acknowledged(first)
    assert drain(box) == ["2"]
    box = Outbox(1, 1000, 5000)
    fill(box, 1)
    box.sent(0)
    assert not box.add(b"t", b"1", True)
    assert (box.dropped, box.dropped_kept) == (1, 1)


def test_a_dropped_message_leaves_its_id_and_tries_behind():
    box = Outbox(1, 1000, 5000)
    fill(box, 1)
    first = box.sent(0)
    box.session_ended()
    fill(box, 1, start=1)
    assert box.tries == 0
    assert box.sent(0) != first


def test_packet_ids_are_legal_and_not_under_way():
    box = Outbox(2, 1000, 5000)
    fill(box, 1)
    mine = box.sent(0)
    seen = bytearray(65_536)
    for _ in range(65_534):
        seen[box.next_id()] += 1
    assert seen[0] == seen[mine] == 0
    assert sum(seen) == 65_534 and max(seen) == 1, "each of the others once"
    assert box.next_id() not in (0, mine)


# Authorizations, and what takes them back

WITHDRAW = b'{"command": "withdraw_authorization"}'


def grant(box, text, now, topic=b"evse/1", wait_ms=60_000):
    return box.add(topic, text, LASTING, now + wait_ms, WITHDRAW)


def test_an_authorization_that_waited_too_long_is_withdrawn_instead():
    box = Outbox(10, 1000, 5000)
    grant(box, b"accepted", 0)
    fill(box, 1)
    assert box.due(59_999)[1] == b"accepted"
    assert box.due(60_000)[1] == WITHDRAW
    assert box.expired == 1
    assert drain(box, 60_000) == [WITHDRAW.decode(), "0"]
    assert box.bytes == 0


def test_an_authorization_that_waited_too_long_is_withdrawn_also_without_memory():
    box = Outbox(10, 1000, 5000)
    grant(box, b"accepted", 0)
    box.sent(0)
    box.session_ended()
    if MICROPYTHON:
        micropython.heap_lock()
    try:
        box.due(60_000)
    except MemoryError:
        pass
    finally:
        if MICROPYTHON:
            micropython.heap_unlock()
    assert box.bytes == len(b"evse/1") + len(WITHDRAW) and box.expired == 1
    assert box.packet_id == box.tries == 0
    assert drain(box, 60_000) == [WITHDRAW.decode()]


def test_an_old_authorization_that_was_not_acknowledged_is_not_sent_again():
    box = Outbox(10, 1000, 5000)
    grant(box, b"accepted", 0)
    first = box.sent(58_000)
    assert box.due(61_000) is None, "it is on its way: nothing overtakes it"
    assert box.due(63_000)[1] == WITHDRAW
    assert box.tries == 0, "another message, and no duplicate of the first"
    assert box.sent(63_000) != first
    assert not box.acknowledged(first), "the answer to the old one is not the withdrawal's"
    box = Outbox(10, 1000, 5000)
    grant(box, b"accepted", 0)
    box.sent(100)
    box.session_ended()
    assert box.due(60_000)[1] == WITHDRAW


def test_a_withdrawal_leaves_no_authorization_to_be_sent_before_it():
    box = Outbox(10, 1000, 5000)
    grant(box, b"one", 0)
    grant(box, b"other", 0, b"evse/2")
    assert box.add(b"evse/1", WITHDRAW, WITHDRAWAL)
    assert drain(box) == ["other", WITHDRAW.decode()]
    grant(box, b"one", 0)
    assert box.add(b"evse/1", b"stop", STOP)
    assert drain(box) == ["stop"]


def test_a_withdrawn_authorization_that_is_on_its_way_is_not_sent_again():
    box = Outbox(10, 1000, 5000)
    grant(box, b"accepted", 0)
    box.sent(0)
    box.add(b"evse/1", WITHDRAW, WITHDRAWAL)
    assert box.due(4999) is None
    assert box.due(5000)[1] == WITHDRAW
    assert drain(box, 5000) == [WITHDRAW.decode()], "once"


def test_what_is_granted_anew_after_a_withdrawal_comes_after_it():
    box = Outbox(10, 1000, 5000)
    for round in range(3):
        grant(box, b"grant %d" % round, round)
        box.add(b"evse/1", WITHDRAW, WITHDRAWAL)
    grant(box, b"last", 5000)
    assert drain(box, 5000) == [WITHDRAW.decode(), "last"]


def test_an_authorization_whose_session_is_over_is_withdrawn_instead():
    box = Outbox(10, 1000, 5000)
    grant(box, b"one", 0)
    grant(box, b"other", 0, b"evse/2")
    box.add(b"evse/1", WITHDRAW, WITHDRAWAL)
    assert drain(box, 10) == ["other", WITHDRAW.decode()]


def test_stops_and_withdrawals_are_never_lost_for_want_of_room():
    box = Outbox(4, 100, 5000)
    for number in range(4):
        box.add(b"evse/8", b"refusal %d" % number, REFUSAL)
    for evse in range(1, 9):
        assert box.add(b"evse/%d" % evse, WITHDRAW, WITHDRAWAL)
        assert box.add(b"evse/%d" % evse, b"stop", STOP)
    assert drain(box) == [WITHDRAW.decode(), "stop"] * 8
    box = Outbox(1, 100, 5000)
    fill(box, 1, keep=True)
    box.sent(0)
    assert box.add(b"evse/1", b"stop", STOP)


def test_repeated_stops_and_withdrawals_take_no_more_room():
    box = Outbox(4, 100, 5000)
    for number in range(500):
        box.add(b"evse/%d" % (1 + number % 2), WITHDRAW, WITHDRAWAL)
        box.add(b"evse/%d" % (1 + number % 2), b"stop %d" % number, STOP)
    assert drain(box) == [WITHDRAW.decode(), "stop 498", WITHDRAW.decode(), "stop 499"]


def test_statuses_of_strangers_do_not_displace_a_drivers_start():
    box = Outbox(6, 1000, 5000)
    box.add(b"s", b"Processing", PROGRESS)
    box.add(b"s", b"Accepted", PROGRESS)
    grant(box, b"command", 0)
    box.add(b"s", b"UsedToStart", LASTING)
    for number in range(20):
        box.add(b"s", b"Processing", PROGRESS)
        box.add(b"s", b"Rejected %d" % number, ORDINARY)
    came = drain(box)
    assert came[:2] == ["command", "UsedToStart"]
    assert came[2:] == [f"Rejected {number}" for number in range(16, 20)]
    assert box.dropped_kept == 0


def stop_before_others():
    """An outbox with a stop, another topic's message, and what comes behind the stop."""
    box = Outbox(10, 1000, 5000)
    box.add(b"evse/1", b"stop", STOP)
    fill(box, 1)
    box.add(b"evse/1", WITHDRAW, WITHDRAWAL)
    return box


def test_a_stop_that_nobody_acknowledges_is_not_given_up_and_blocks_no_other_topic():
    box = stop_before_others()
    for _ in range(10):
        assert box.due(0)[1] == b"stop"
        box.sent(0)
        box.session_ended()
    assert box.unacknowledged == 1
    assert drain(box) == ["0", "stop", WITHDRAW.decode()], "in order at its EVSE"


def test_a_stop_is_not_lost_when_a_session_ends_without_memory():
    box = stop_before_others()
    for _ in range(9):
        box.sent(0)
        box.session_ended()
    box.sent(0)
    size = box.bytes
    if MICROPYTHON:
        micropython.heap_lock()
    try:
        box.session_ended()
    finally:
        if MICROPYTHON:
            micropython.heap_unlock()
    assert box.bytes == size and box.packet_id == box.tries == 0
    assert drain(box) == ["0", "stop", WITHDRAW.decode()]


def test_a_full_heap_can_be_helped_by_what_matters_least():
    box = Outbox(10, 1000, 5000)
    fill(box, 2)
    box.add(b"evse/1", b"stop", STOP)
    assert box.shed(STOP) and box.shed(STOP)
    assert not box.shed(STOP), "no stop goes for another"
    assert drain(box) == ["stop"]
