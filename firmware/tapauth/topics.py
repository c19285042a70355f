"""The one check of a topic, before a stranger's text or a setting is used as one.

A broker hangs up on a client that publishes to a topic that is none, or whose last will goes
there. Where that topic came in a retained message, the board would be off its broker until
somebody clears the message.
"""

from tapauth.compat import const
from tapauth.json_in import decode

MAX_BYTES = const(1024)
"""Most bytes of a topic. MQTT allows 65535; a longer one leaves too little of what the link sends
at once for the payload."""
MAX_LEVELS = const(100)
"""Most levels; mosquitto hangs up beyond 201, other brokers sooner."""


def is_text(text: str) -> bool:
    """Whether `text` can go into an MQTT packet: no control characters, no non-characters, no
    halves of surrogate pairs. (MQTT 3.1.1, 1.5.3; brokers refuse all that it says they *may*.)
    """
    try:
        data = text.encode()
        if data and min(data) < 0x20 or b"\x7f" in data:
            return False
        if len(data) == len(text):
            return True
        decode(data)
    except ValueError:  # half a pair: CPython's encode() or our decode()
        return False
    code = 0
    for byte in data + b"/":  # which ends the last character
        if byte & 0xC0 == 0x80:
            code = code << 6 | byte & 0x3F
            continue
        if 0x80 <= code < 0xA0 or 0xFDD0 <= code < 0xFDF0 or code & 0xFFFE == 0xFFFE:
            return False
        code = 0
        if byte >= 0x80:  # the first byte of two, three or four has these bits of the character
            code = byte & (0x07 if byte >= 0xF0 else 0x0F if byte >= 0xE0 else 0x1F)
    return True


def fault(text: str) -> str:
    """Why `text` cannot be a topic, or a part of one; "" when it can."""
    if not is_text(text):
        return "control characters, and others that are none, are not allowed in MQTT topics"
    if "+" in text or "#" in text:
        return "+ and # have a meaning in MQTT topics and are not allowed"
    if text.startswith("$"):
        return "topics that begin with $ are the broker's own"
    if not 1 <= len(text.encode()) <= MAX_BYTES or text.count("/") >= MAX_LEVELS:
        return f"a topic has 1 to {MAX_BYTES} bytes and at most {MAX_LEVELS} levels"
    return ""


def matches(name: str, topic: str) -> bool:
    """Whether a subscription to the topic filter `name` brings the messages of `topic`."""
    levels = topic.split("/")
    parts = name.split("/")
    for at, part in enumerate(parts):
        if part == "#":
            return True
        if at == len(levels) or part not in ("+", levels[at]):
            return False
    return len(parts) == len(levels)


def _means_more(topic: str) -> bool:
    """Whether EVerest's API reads something into each message there, and none is a reply.

    Requests go below `m2e/`, of whichever board. Messages right below `e2m/` or `everest_api/`
    tell all clients something; a reply goes at least one level deeper.
    """
    levels = topic.split("/")
    return (
        "m2e" in levels or "query-modules" in levels or levels[-2:-1] in (["e2m"], ["everest_api"])
    )


def takes_reply(topic: str, own: str, names: list, replies: str = "") -> bool:
    """Whether a reply may go to `topic`, which is a stranger's word.

    Not where brokers hang up, and not where anybody reads more into it than a reply: at and below
    `own` (a start of topics with a slash at its end, or ""), where the topic filters `names` bring
    it back to us, or where EVerest's API speaks, but for what begins with `replies`.
    """
    if fault(topic) or own and (topic + "/").startswith(own):
        return False
    for name in names:
        if matches(name, topic):
            return False
    return bool(replies) and topic.startswith(replies) or not _means_more(topic)
