"""The name look-up: what is asked, and which answers are believed."""

import asyncio

from tapauth.link import dns

from moved_clock import MovedClock

QUERY = dns.question("broker.example", b"\x12\x34")
A_RECORD = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc0\x00\x02\x07"
ALIAS = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x0e\x10\x00\x04\x01x\xc0\x13"


def reply(count, records, code=0, identifier=b"\x12\x34"):
    header = identifier + bytes((0x81, 0x80 | code)) + b"\x00\x01" + count.to_bytes(2, "big")
    return header + b"\x00\x00\x00\x00" + QUERY[12:] + records


def failure(action) -> str:
    try:
        action()
    except (OSError, ValueError) as error:
        return str(error)
    raise AssertionError("no failure")


def test_the_question_is_one_for_an_ipv4_address():
    assert QUERY == (
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
        b"\x06broker\x07example\x00\x00\x01\x00\x01"
    )
    for name in ("", "a..b", "x" * 64):
        assert "name" in failure(lambda name=name: dns.question(name, b"\x00\x00"))


def test_an_answer_is_read_also_behind_an_alias():
    assert dns.answer(reply(1, A_RECORD), QUERY) == "192.0.2.7"
    assert dns.answer(reply(2, ALIAS + A_RECORD), QUERY) == "192.0.2.7"


def test_what_answers_another_question_is_ignored():
    assert dns.answer(reply(1, A_RECORD, identifier=b"\x12\x35"), QUERY) == ""
    other = reply(1, A_RECORD).replace(b"broker", b"breaker")
    assert dns.answer(other, QUERY) == ""


def test_refusals_and_empty_answers_are_failures():
    assert "code 3" in failure(lambda: dns.answer(reply(0, b"", code=3), QUERY))
    assert "no IPv4" in failure(lambda: dns.answer(reply(0, b""), QUERY))
    assert "no IPv4" in failure(lambda: dns.answer(reply(1, ALIAS), QUERY))


def test_a_reply_cut_anywhere_is_a_failure_or_ignored():
    whole = reply(2, ALIAS + A_RECORD)
    for length in range(13, len(whole)):
        try:
            assert dns.answer(whole[:length], QUERY) == "", length
        except dns.LookupFailed:
            pass


class Names:
    """Stands in for the network: answers in turn, None for no answer."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def look_up(self, name, server, clock):
        self.asked += 1
        found = self.answers.pop(0)
        if found is None:
            raise dns.LookupFailed("the name server does not answer")
        return found


def resolve_with(names, script):
    clock = MovedClock()
    resolver = dns.Resolver("broker.example", "10.0.0.53", clock)
    real, dns.look_up = dns.look_up, names.look_up
    try:
        asyncio.run(script(resolver, clock))
    finally:
        dns.look_up = real


def test_an_address_is_kept_for_an_hour_or_until_in_doubt():
    names = Names("10.0.0.1", "10.0.0.2", "10.0.0.3")

    async def script(resolver, clock):
        assert await resolver.find() == "10.0.0.1"
        clock.advance(3_599_999)
        assert await resolver.find() == "10.0.0.1"
        clock.advance(1)
        assert await resolver.find() == "10.0.0.2"
        resolver.doubt()
        assert await resolver.find() == "10.0.0.3"
        assert names.asked == 3

    resolve_with(names, script)


def test_an_old_address_is_better_than_none():
    async def script(resolver, clock):
        try:
            await resolver.find()
        except dns.LookupFailed:
            pass
        else:
            raise AssertionError("an address out of nothing")
        assert await resolver.find() == "10.0.0.1"
        resolver.doubt()
        assert await resolver.find() == "10.0.0.1"

    resolve_with(Names(None, "10.0.0.1", None), script)
