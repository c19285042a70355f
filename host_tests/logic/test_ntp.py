"""NTP answers: only a sound one, and only to our own question."""

from tapauth.ntp import read_answer

NONCE = b"12345678"


def answer(seconds, first=0x24, stratum=2, nonce=NONCE):
    return (
        bytes((first, stratum))
        + bytes(22)
        + nonce
        + bytes(8)
        + seconds.to_bytes(4, "big")
        + bytes(4)
    )


def test_a_sound_answer_gives_unix_seconds():
    assert read_answer(answer(2_208_988_800 + 1_900_000_000), NONCE) == 1_900_000_000


def test_the_seconds_go_on_after_2036():
    unix = 2_100_000_000
    assert read_answer(answer((2_208_988_800 + unix) % 2**32), NONCE) == unix


def test_what_is_no_sound_answer_is_not_used():
    good = 2_208_988_800 + 1_900_000_000
    for data in (
        b"",
        answer(good)[:47],
        answer(good, nonce=b"87654321"),
        answer(good, first=0xE4),  # the server's own clock is not synchronised
        answer(good, first=0x23),  # a client's packet
        answer(good, stratum=0),  # kiss of death
        answer(good, stratum=16),
        answer(0),  # no time: it is not the beginning of 2036's era
    ):
        assert read_answer(data, NONCE) is None
