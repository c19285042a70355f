"""EVerest's API modules without a network: checks, heartbeats, envelopes, timeouts."""

import json

from recording_link import EVEREST, RecordingLink, quiet_log

from tapauth import errors
from tapauth.errors import Errors
from tapauth.everest import module as api_module
from tapauth.everest import validator
from tapauth.everest.client import EverestClient
from tapauth.everest.consumer import AuthConsumer
from tapauth.everest.module import INITIAL, LOST, BadMessage, CommunicationCheck, reply_topic
from tapauth.everest.validator import AuthTokenValidator
from tapauth.wallclock import WallClock

from moved_clock import MovedClock

TOKEN = {"id_token": {"value": "04a1b2c3", "type": "ISO14443"}, "authorization_type": "RFID"}


def setting(**changed):
    settings = dict(EVEREST)
    settings.update(changed)
    return settings


def without_memory(*arguments):
    """Stands in for a function that finds no memory."""
    raise MemoryError


class Rig:
    """A module with its surroundings, and a station that notes what reaches it."""

    def __init__(self):
        self.clock = MovedClock()
        self.link = RecordingLink()
        self.log = quiet_log(self.clock)
        self.errors = Errors("b/errors", self.log, self.link)
        self.wallclock = WallClock(self.clock, lambda unix, now: None)
        self.answers = []
        self.learned = []
        self.unknown = True

    def is_unknown(self, id_token):
        assert id_token == TOKEN["id_token"]
        return self.unknown

    def learn(self, token, result):
        self.learned.append((token, result["authorization_status"]))

    def answer(self, request_id, result):
        self.answers.append((request_id, result))

    def common(self, **changed):
        return (setting(**changed), self.clock, self.link, self.errors, self.log, self)


# Communication check


def make_check(timeout_s=5):
    changes = []
    check = CommunicationCheck(timeout_s, 0, lambda *change: changes.append(change))
    return check, changes


def test_check_is_in_fault_from_the_start_until_the_first_sign():
    for sign in (True, False):
        check, changes = make_check()
        assert changes == [(INITIAL, True)]
        check.poll(60_000)
        assert changes == [(INITIAL, True)], "one fault at a time"
        check.heard(sign, 60_100)
        assert changes == [(INITIAL, True), (INITIAL, False)]


def test_check_finds_the_loss_after_the_timeout_once():
    check, changes = make_check()
    check.heard(True, 1000)
    del changes[:]
    check.poll(5999)
    assert changes == []
    check.poll(6000)
    assert changes == [(LOST, True)]
    check.poll(60_000)
    assert changes == [(LOST, True)]
    check.heard(True, 60_001)
    assert changes == [(LOST, True), (LOST, False)]
    check.poll(65_001)
    assert changes[2:] == [(LOST, True)]


def test_check_ends_for_good_by_false():
    check, changes = make_check()
    check.heard(False, 10)
    del changes[:]
    check.poll(100_000)
    check.heard(True, 100_001)
    check.poll(200_000)
    assert changes == []


def test_check_is_off_below_a_second():
    check, changes = make_check(0)
    check.poll(100_000)
    check.heard(True, 100_001)
    assert changes == []


def test_check_tells_later_what_there_was_no_memory_to_tell():
    changes = []
    lacking = []

    def on_change(sub_type, active):
        if lacking:
            raise MemoryError
        changes.append((sub_type, active))

    check = CommunicationCheck(5, 0, on_change)
    now = 0
    for act, change in (
        (lambda now: check.heard(True, now), (INITIAL, False)),
        (check.poll, (LOST, True)),
        (lambda now: check.heard(True, now), (LOST, False)),
    ):
        del changes[:]
        lacking.append(1)
        try:
            act(now + 10_000)
        except MemoryError:
            pass
        del lacking[:]
        now += 20_000
        act(now)
        assert changes == [change]


# Envelopes


def test_reply_topics():
    for request, expected in (
        ({"headers": {"replyTo": "a/b"}}, "a/b"),
        ({}, None),
        ({"headers": None}, None),
        ({"headers": []}, None),
        ({"headers": {}}, None),
        ({"headers": {"replyTo": ""}}, None),
        ({"headers": {"replyTo": "a/+"}}, None),
        ({"headers": {"replyTo": "a/#"}}, None),
        ({"headers": {"replyTo": "a\0"}}, None),
        ({"headers": {"replyTo": "x" * 65536}}, None),
    ):
        assert reply_topic(request, RecordingLink()) == expected, request
    for request in ([], None, 5, "x", {"headers": {"replyTo": 5}}, {"headers": {"replyTo": None}}):
        try:
            reply_topic(request, RecordingLink())
        except BadMessage:
            pass
        else:
            raise AssertionError(request)


# Heartbeat


def test_heartbeat_is_immediate_periodic_and_wraps_at_64_bits():
    rig = Rig()
    module = AuthConsumer("auth_api", *rig.common(communication_check_s=0), rig.wallclock)
    module.heartbeats = 2**64 - 2
    beats = []
    for _ in range(70):
        module.tick(rig.clock.now())
        beats += [(rig.clock.now(), value) for _, value in rig.link.take()]
        rig.clock.advance(50)
    assert beats == [(0, 2**64 - 2), (1000, 2**64 - 1), (2000, 0), (3000, 1)], beats


def test_heartbeat_waits_for_the_link_and_begins_each_connection():
    rig = Rig()
    module = AuthConsumer("auth_api", *rig.common(communication_check_s=0), rig.wallclock)
    rig.link.connected = False
    module.tick(0)
    assert rig.link.take() == []
    rig.link.connected = True
    module.link_up()
    module.tick(5000)
    module.tick(5050)
    assert [value for _, value in rig.link.take()] == [0]


def test_heartbeat_off():
    rig = Rig()
    settings = rig.common(communication_check_s=0, heartbeat_interval_ms=0)
    module = AuthConsumer("auth_api", *settings, rig.wallclock)
    module.tick(0)
    module.tick(10_000)
    assert rig.link.take() == []


# Statuses


def test_statuses_carry_sequence_and_time():
    rig = Rig()
    module = AuthConsumer("auth_api", *rig.common(communication_check_s=0), rig.wallclock)
    module.status(TOKEN, "Processing", [])
    rig.wallclock.set(1_900_000_000)
    module.status(TOKEN, "Rejected", [])
    sent = [value for _, value in rig.link.take()]
    assert [value["seq"] for value in sent] == [0, 1]
    assert [value["time"] for value in sent] == ["clock not set", "2030-03-17T17:46:40Z"]


def test_get_before_any_status_is_null():
    rig = Rig()
    module = AuthConsumer("auth_api", *rig.common(communication_check_s=0), rig.wallclock)
    topic = "everest_api/1/auth_consumer/auth_api/m2e/token_validation_status/get"
    assert module.message(topic, b'{"headers":{"replyTo":"r"}}')
    assert rig.link.take() == [("r", None)]
    assert not module.message("everest_api/1/auth_consumer/other/m2e/x", b"")


def test_a_request_that_cannot_be_processed_for_want_of_memory_is_rejected():
    rig = Rig()
    module = AuthConsumer("auth_api", *rig.common(communication_check_s=0), rig.wallclock)
    rig.withdraw = without_memory
    request = b'{"headers":{"replyTo":"r"},"payload":{}}'
    topic = "everest_api/1/auth_consumer/auth_api/m2e/withdraw_authorization"
    assert module.message(topic, request)
    assert rig.link.take() == [("r", "Rejected")]
    assert module.refused == 1


# Provider


def test_a_long_token_is_refused_while_memory_is_scarce_and_a_short_one_is_not():
    rig = Rig()
    came = []
    rig.provide_token = came.append
    module = api_module.AuthTokenProvider("nfc_reader", *rig.common(communication_check_s=0))
    topic = "everest_api/1/auth_token_provider/nfc_reader/m2e/provided_token"
    long = dict(TOKEN)
    long["certificate"] = "x" * 2000
    real = api_module.is_scarce
    try:
        api_module.is_scarce = lambda words: True
        for token in (long, TOKEN):
            assert module.message(topic, json.dumps(token).encode())
        assert came == [TOKEN] and module.refused == 1
        api_module.is_scarce = lambda words: False
        assert module.message(topic, json.dumps(long).encode())
        assert came == [TOKEN, long]
    finally:
        api_module.is_scarce = real


# Validator


def make_validator(rig, **changed):
    changed["communication_check_s"] = 0
    module = AuthTokenValidator("local_list", *rig.common(**changed), rig)
    module.link_up()
    return module


def test_a_validator_that_is_out_of_reach_fails_at_once():
    rig = Rig()
    rig.link.connected = False
    make_validator(rig).validate(7, TOKEN)
    assert rig.answers == [(7, None)]


def test_a_mute_validator_fails_within_the_timeout():
    rig = Rig()
    module = make_validator(rig)
    module.validate(7, TOKEN)
    module.tick(rig.clock.advance(1900))
    assert rig.answers == []
    module.tick(rig.clock.advance(100))
    assert rig.answers == [(7, None)]


def test_a_busy_link_does_not_decide_about_a_driver():
    for offline in (False, True):
        rig = Rig()
        module = make_validator(rig, accept_unknown_offline=offline)
        rig.link.room = False
        module.validate(7, TOKEN)
        module.tick(rig.clock.advance(1000))
        assert rig.answers == [] and rig.link.take() == []
        rig.link.room = True
        module.tick(rig.clock.advance(100))
        sent = [value for topic, value in rig.link.take() if topic.endswith("validate_token")]
        assert [request["payload"] for request in sent] == [TOKEN], "asked late, and once"
        module.tick(rig.clock.advance(100))
        assert not [topic for topic, _ in rig.link.take() if topic.endswith("validate_token")]
        module.tick(rig.clock.advance(800))
        assert len(rig.answers) == 1, "and no longer waited for"
        rig.link.room = False
        module.validate(8, TOKEN)
        rig.link.connected = False
        module.tick(rig.clock.advance(10))
        assert len(rig.answers) == 2, "the link is down: nothing to wait for"


def answers_without_a_reply(rig):
    """What a tap gets by the rule that lets unknown drivers charge."""
    module = make_validator(rig, accept_unknown_offline=True)
    module.validate(7, TOKEN)
    module.tick(rig.clock.advance(2000))
    return rig.answers


def test_a_driver_may_be_accepted_when_the_network_is_gone():
    assert answers_without_a_reply(Rig())[0][1]["authorization_status"] == "Accepted"


def test_only_a_driver_who_is_unknown_is_accepted_when_the_network_is_gone():
    for connected in (False, True):
        for unknown, answer in ((True, "Accepted"), (False, None)):
            rig = Rig()
            rig.unknown = unknown
            rig.link.connected = connected
            answers = answers_without_a_reply(rig)
            assert len(answers) == 1
            result = answers[0][1]
            assert (result and result["authorization_status"]) == answer, (connected, unknown)


def test_who_had_any_answer_but_yes_is_not_accepted_when_the_network_is_gone():
    """Whether or not the store has learned it: that may be full, or not learn such an answer."""
    refused = (
        {"authorization_status": "Blocked"},
        {"authorization_status": "ConcurrentTx"},
        {"authorization_status": "Accepted", "evse_ids": []},
        {"authorization_status": "Accepted", "evse_ids": [40]},
        {"authorization_status": "Accepted", "parent_id_token": {"value": "P", "type": "Local"}},
    )
    plain = {"authorization_status": "Accepted", "tariff_messages": []}
    for result in refused:
        rig = Rig()
        module = make_validator(rig, accept_unknown_offline=True)

        def ask(answer, rig=rig, module=module):
            """What a tap gets; no answer: the link is down."""
            del rig.answers[:]
            rig.link.connected = answer is not None
            module.validate(7, TOKEN)
            sent = [value for topic, value in rig.link.take() if topic.endswith("validate_token")]
            if answer:
                module.message(sent[0]["headers"]["replyTo"], json.dumps(answer).encode())
            return rig.answers[0][1]

        assert ask(None) == plain
        assert ask(result) == result
        assert ask(None) is None
        assert ask(plain) == plain
        assert ask(None) == plain


def test_nobody_is_accepted_unasked_when_more_were_refused_than_can_be_remembered():
    for learned in (True, False):
        rig = Rig()
        module = make_validator(rig, accept_unknown_offline=True)
        refused = []

        def is_unknown(id_token, learned=learned, refused=refused):
            return not learned or id_token["value"] not in refused

        rig.is_unknown = is_unknown
        for i in range(100):
            token = {"id_token": {"value": f"card {i}", "type": "Local"}}
            token["authorization_type"] = "RFID"
            module.validate(i, token)
            topic = [value for name, value in rig.link.take() if "validate_token" in name][0]
            module.message(topic["headers"]["replyTo"], b'{"authorization_status":"Blocked"}')
            refused.append(f"card {i}")
        rig.link.connected = False
        del rig.answers[:]
        module.validate(7, token)
        module.validate(7, TOKEN)
        statuses = [answer and answer["authorization_status"] for _, answer in rig.answers]
        assert statuses == [None, "Accepted" if learned else None]


def test_requests_end_by_their_own_replies_only():
    rig = Rig()
    module = make_validator(rig)
    module.validate(1, TOKEN)
    module.validate(2, TOKEN)
    topics = [value["headers"]["replyTo"] for _, value in rig.link.take()]
    assert len(set(topics)) == 2
    reply = b'{"authorization_status":"Blocked"}'
    assert module.message(topics[1], b"nonsense")
    assert module.message(topics[1], reply)
    assert module.message(topics[1], reply)
    assert [request_id for request_id, _ in rig.answers] == [2]
    assert rig.learned == [(TOKEN, "Blocked")]
    assert module.refused == 2
    module.tick(rig.clock.advance(2000))
    assert [request_id for request_id, _ in rig.answers] == [2, 1]
    assert module.pending == {}


def reply_topics_of(rig):
    return [v["headers"]["replyTo"] for t, v in rig.link.take() if t.endswith("validate_token")]


UNUSABLE = (
    b'{"authorization_status":"Blocked","tariff_messages":null}',
    b'{"authorization_status":"Revoked"}',
    b'{"authorization_status":"Blocked",}',
    b"",
)


def test_a_refusal_that_cannot_be_read_does_not_let_the_driver_charge():
    for reply in UNUSABLE:
        rig = Rig()
        module = make_validator(rig, accept_unknown_offline=True)
        module.validate(7, TOKEN)
        module.message(reply_topics_of(rig)[0], reply)
        assert rig.answers == [], "a valid reply may still come"
        module.tick(rig.clock.advance(2000))
        assert rig.answers == [(7, None)], reply
        assert module.pending == {}


def test_a_refusal_there_is_no_memory_for_does_not_let_the_driver_charge():
    for lacking in ("load", "check_validation_result"):
        rig = Rig()
        module = make_validator(rig, accept_unknown_offline=True)
        module.validate(7, TOKEN)
        real = getattr(validator, lacking)
        setattr(validator, lacking, without_memory)
        try:
            module.message(reply_topics_of(rig)[0], b'{"authorization_status":"Blocked"}')
        except MemoryError:
            pass  # the application counts it
        finally:
            setattr(validator, lacking, real)
        module.tick(rig.clock.advance(2000))
        assert rig.answers == [(7, None)], lacking


def test_a_refusal_that_finds_no_memory_to_be_remembered_is_one_all_the_same():
    rig = Rig()
    module = make_validator(rig, accept_unknown_offline=True)
    module.validate(7, TOKEN)
    real, validator.key_of = validator.key_of, without_memory
    try:
        module.message(reply_topics_of(rig)[0], b'{"authorization_status":"Blocked"}')
    finally:
        validator.key_of = real
    rig.link.connected = False
    module.validate(8, TOKEN)
    statuses = [result and result["authorization_status"] for _, result in rig.answers]
    assert statuses == ["Blocked", None]


def test_a_valid_reply_after_one_that_cannot_be_read_counts():
    for reply in UNUSABLE:
        rig = Rig()
        module = make_validator(rig)
        module.validate(7, TOKEN)
        topic = reply_topics_of(rig)[0]
        module.message(topic, reply)
        module.message(topic, b'{"authorization_status":"Accepted"}')
        assert [result["authorization_status"] for _, result in rig.answers] == ["Accepted"]


def test_a_driver_is_not_refused_because_the_answer_cannot_be_learned():
    rig = Rig()
    rig.learn = without_memory
    module = make_validator(rig)
    module.validate(7, TOKEN)
    assert module.message(reply_topics_of(rig)[0], b'{"authorization_status":"Accepted"}')
    assert [result["authorization_status"] for _, result in rig.answers] == ["Accepted"]
    assert module.pending == {}


def test_a_request_is_answered_when_the_card_cannot_be_looked_up_for_want_of_memory():
    for connected in (True, False):
        rig = Rig()
        rig.is_unknown = without_memory
        rig.link.connected = connected
        assert answers_without_a_reply(rig) == [(7, None)]


def test_a_request_whose_end_found_no_memory_ends_at_the_next_tick():
    rig = Rig()
    module = make_validator(rig)
    module.validate(7, TOKEN)
    answer, rig.answer = rig.answer, without_memory
    try:
        module.tick(rig.clock.advance(2000))
    except MemoryError:
        pass
    rig.answer = answer
    module.tick(rig.clock.advance(50))
    assert rig.answers == [(7, None)] and module.pending == {}


# EverestClient


def make_attached(rig):
    shown = []

    def validate(token):
        return {"authorization_status": "Accepted", "tariff_messages": []}, True

    settings, clock, link, errors, log, _ = rig.common()
    module = EverestClient(
        settings, clock, link, errors, log, validate, lambda *status: shown.append(status)
    )
    return module, shown


def test_attached_provides_tokens_and_signs_of_life():
    rig = Rig()
    module, _ = make_attached(rig)
    assert module.provide_token(TOKEN)
    assert rig.link.take() == [
        ("everest_api/1/auth_token_provider/nfc_reader/m2e/provided_token", TOKEN)
    ]
    module.tick(0)
    signs = rig.link.take()
    assert len(signs) == 3
    assert all(topic.endswith("/m2e/communication_check") and value for topic, value in signs)
    module.tick(1999)
    assert rig.link.take() == []
    rig.link.connected = False
    assert not module.provide_token(TOKEN)


def test_attached_validates_for_everest():
    rig = Rig()
    module, _ = make_attached(rig)
    topic = "everest_api/1/auth_token_validator/local_list/e2m/validate_token"
    request = {"headers": {"replyTo": "r/1"}, "payload": TOKEN}
    assert module.message(topic, json.dumps(request).encode())
    assert rig.link.take() == [
        ("r/1", {"authorization_status": "Accepted", "tariff_messages": []})
    ]
    for payload in (b"", b"[]", b"{}", b'{"headers":{"replyTo":"r"}}', b'{"payload":{}}'):
        assert module.message(topic, payload)
    assert module.refused == 5
    assert rig.link.take() == []


def test_attached_shows_the_fate_of_a_tap():
    rig = Rig()
    module, shown = make_attached(rig)
    topic = "everest_api/1/auth_consumer/auth_api/e2m/token_validation_status"
    message = {"token": TOKEN, "status": "UsedToStart", "messages": []}
    assert module.message(topic, json.dumps(message).encode())
    assert shown == [(TOKEN, "UsedToStart", [])]
    for payload in (b"5", b'{"token":{},"status":"x"}', b'{"status":"x"}'):
        assert module.message(topic, payload)
    for status in (None, 5, "", "x", "usedtostart", "Processing Accepted"):
        assert module.message(topic, json.dumps(dict(message, status=status)).encode())
    assert len(shown) == 1
    assert module.refused == 9


def test_attached_notices_that_everest_is_gone():
    rig = Rig()
    module, _ = make_attached(rig)
    module.tick(rig.clock.advance(10_001))
    last = rig.link.take()[-1]
    assert last[0] == "b/errors"
    assert last[1][0]["sub_type"] == "EVerest's heartbeat lost"
    module.message("everest_api/1/auth_token_provider/nfc_reader/e2m/heartbeat", b"41")
    assert rig.link.take() == [("b/errors", [])]


def test_attached_answers_everest_and_nothing_that_takes_it_for_more():
    rig = Rig()
    module, _ = make_attached(rig)
    rig.link.names = list(module.subscriptions)
    validator = "everest_api/1/auth_token_validator/local_list/"
    for topic, count in (
        (validator + "m2e/reply/7a4f0f8e", 1),
        ("r/1", 1),
        (validator + "e2m/validate_token", 0),
        (validator + "m2e/validate_result_update", 0),
        ("everest_api/1/auth_token_validator/of_another/m2e/reply/7a4f0f8e", 0),
        ("everest_api/1/auth_token_provider/nfc_reader/m2e/provided_token", 0),
        ("everest_api/1/auth_consumer/auth_api/e2m/token_validation_status", 0),
        ("tapauth/b/time", 0),
    ):
        request = {"headers": {"replyTo": topic}, "payload": TOKEN}
        assert module.message(validator + "e2m/validate_token", json.dumps(request).encode())
        assert [to for to, _ in rig.link.take()] == [topic] * count


# Errors and time


def test_errors_are_published_once_each():
    rig = Rig()
    rig.errors.set(True, "generic/VendorWarning", "a", "x", "m")
    rig.errors.set(True, "generic/VendorWarning", "a", "x", "m")
    rig.errors.set(True, "generic/VendorWarning", "a", "y", "m")
    rig.errors.set(False, "generic/VendorWarning", "a", "x", "m")
    rig.errors.set(False, "generic/VendorWarning", "a", "x", "m")
    assert [[error["origin"] for error in value] for _, value in rig.link.take()] == [
        ["x"],
        ["x", "y"],
        ["y"],
    ]


def test_errors_that_a_busy_link_did_not_take_are_not_forgotten():
    rig = Rig()
    rig.link.room = False
    rig.errors.set(True, "generic/VendorWarning", "a", "x", "m")
    assert rig.errors.unsent
    rig.link.room = True
    rig.errors.publish()
    assert not rig.errors.unsent
    assert [topic for topic, _ in rig.link.take()] == ["b/errors"]


def test_an_error_that_finds_no_memory_is_told_later_and_costs_its_finder_nothing():
    rig = Rig()
    rig.errors.on_change = without_memory

    class NoJson:
        dumps = without_memory

    for owner, name, short in ((rig.link, "publish", without_memory), (errors, "json", NoJson)):
        real = getattr(owner, name)
        setattr(owner, name, short)
        try:
            rig.errors.set(True, "generic/VendorWarning", name, "x", "m")
        finally:
            setattr(owner, name, real)
        assert rig.errors.unsent
        rig.errors.publish()
        assert not rig.errors.unsent
        assert rig.link.take()[-1][1][-1]["sub_type"] == name


def test_the_wall_clock_takes_what_can_be_right():
    clock = MovedClock()
    told = []
    wall = WallClock(clock, lambda unix, now: told.append((unix, now)))
    assert wall.unix() is None
    for value in (0, 1, True, None, 1.9e9, "x", [], "2019-01-01T00:00:00Z", 4_200_000_000):
        assert not wall.set_from(value), value
    assert wall.unix() is None and told == []
    clock.advance(10_500)
    assert wall.set_from("2030-03-17T17:46:40Z")
    assert told == [(1_900_000_000, 10_500)]
    clock.advance(2_000)
    assert wall.unix() == 1_900_000_002


def test_a_time_that_was_kept_moves_the_clock_only_forward():
    clock = MovedClock()
    wall = WallClock(clock, lambda unix, now: None)
    assert wall.set_from(1_900_000_000, True), "better than none"
    assert wall.set_from("2029-01-01T00:00:00Z", True), "in order, and no news"
    assert wall.set_from(1_900_000_000, True)
    assert not wall.set_from(5, True)
    assert wall.unix() == 1_900_000_000
    assert wall.set_from(1_900_000_010, True)
    assert wall.unix() == 1_900_000_010
