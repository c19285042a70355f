"""What may become a topic, and where no reply goes."""

from tapauth.topics import MAX_BYTES, fault, is_text, matches, takes_reply


def char(code: int) -> str:
    """A character, of those that UTF-8 has: MicroPython's chr() gives any."""
    return chr(code)


def test_a_topic_that_brokers_hang_up_on_is_none():
    codes = list(range(0x20)) + list(range(0x7F, 0xA0))
    codes += [0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xFDD0, 0xFDDF, 0xFDEF]
    for plane in range(17):
        codes += [plane << 16 | 0xFFFE, plane << 16 | 0xFFFF]
    for code in codes:
        for text in (
            char(code),
            "a/" + char(code),
            char(code) + "/b",
            "\xe4" + char(code) + "\xe4",
        ):
            assert fault(text), hex(code)
            assert not is_text(text), hex(code)
    for text in ("", "+", "a/+/b", "a#", "$SYS/x", "$", "/" * 100, "x" * (MAX_BYTES + 1)):
        assert fault(text), text
    assert fault("\xe4" * (MAX_BYTES // 2 + 1))


def test_any_other_text_is_a_topic():
    for text in (
        "a",
        "/",
        "a//b",
        " ",
        "a/$b",
        "\xa0\xe4\u20ac\u0fff\ud7ff\ue000\ufdcf\ufdf0\ufffd",
        "\U00010000\U0001f697\U0010fffd",
        "everest_api/1/auth_consumer/auth_api/e2m/withdraw_authorization/5b0e7c1e-8f2b",
        "/" * 99,
        "x" * MAX_BYTES,
        "\xe4" * (MAX_BYTES // 2),
    ):
        assert fault(text) == "", text
    # No topics, but a client id or a user may be.
    for text in ("", "a+b", "#", "$"):
        assert is_text(text)


def test_filters_bring_what_brokers_say_they_bring():
    for name, topic, expected in (
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b", "a", False),
        ("a/b", "A/b", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("#", "a/b", True),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a//c", True),
        ("a/+/c", "a/b/b/c", False),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("+", "a/b", False),
    ):
        assert matches(name, topic) == expected, (name, topic)


API = "everest_api/1/auth_consumer/auth_api/"
OWN = "tapauth/b/"
NAMES = [API + "m2e/#", "everest_api/discover", "site/+/x", "tapauth/b/rpc"]


def test_a_reply_is_no_request_no_news_and_nothing_that_we_hear():
    for topic in (
        API + "m2e/set_master_pass_group_id",
        API + "m2e/reply/0123",
        "site/7/everest_api/1/auth_consumer/another/m2e/withdraw_authorization",
        "everest_api/1/auth_token_validator/another/m2e/reply/0123",
        API + "e2m/token_validation_status",
        API + "e2m/heartbeat",
        "everest_api/discover",
        "everest_api/ready_beacon",
        "everest_api/query-modules/auth_consumer",
        "tapauth/b",
        "tapauth/b/",
        "tapauth/b/time",
        "tapauth/b/evse/1/command",
        "tapauth/b/anything",
        "site/7/x",
        "a/+",
        "a\x01",
    ):
        assert not takes_reply(topic, OWN, NAMES), topic
    for topic in (
        "r",
        "a/b",
        "e2m",
        "my/m2e2/x",
        "tapauth/bb",
        "tapauth/other/reply",
        "site/7/y",
        API + "e2m/withdraw_authorization/5b0e7c1e",
        API + "e2m/token_validation_status/get/5b0e7c1e",
    ):
        assert takes_reply(topic, OWN, NAMES), topic
        assert takes_reply(topic, "", []), topic


def test_everests_own_topics_for_replies_take_them():
    replies = "everest_api/1/auth_token_validator/local_list/m2e/reply/"
    assert takes_reply(replies + "7a4f", OWN, NAMES, replies)
    assert not takes_reply(replies + "7a4f", OWN, NAMES)
    assert not takes_reply(replies + "7a4f", OWN, [replies + "#"], replies)
    assert not takes_reply(replies + "7\n4f", OWN, NAMES, replies)
    other = "everest_api/1/auth_token_validator/other/m2e/reply/7a4f"
    assert not takes_reply(other, OWN, NAMES, replies)
