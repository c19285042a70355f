"""Tap rules: newness by absence, refusals, two cards, the guard after a start."""

from tapauth.core.taps import GUARDED, REFUSED, TOKEN, TWO_CARDS, Taps, read_targets, refusal

A = bytes.fromhex("04a1b2c3d4e5f6")
B = bytes.fromhex("deadbeef")


def target(number, uid, length=None):
    head = bytes((number, 0x00, 0x44, 0x00, len(uid) if length is None else length))
    return head + uid


def token(value):
    return (
        TOKEN,
        {"id_token": {"value": value, "type": "ISO14443"}, "authorization_type": "RFID"},
    )


def test_a_card_makes_a_provided_id_token():
    assert Taps().observe([A], 0, 10) == token("04a1b2c3d4e5f6")
    assert Taps(uppercase=True).observe([B], 0, 10) == token("DEADBEEF")
    ten = bytes.fromhex("0001020304050607080a")
    assert Taps().observe([ten], 0, 10) == token("0001020304050607080a")


def test_a_resting_card_is_one_tap_however_long_it_rests():
    taps = Taps()
    seen = [taps.observe([A], now - 100, now) for now in range(100, 60_000, 100)]
    assert seen[0] == token("04a1b2c3d4e5f6")
    assert seen[1:] == [None] * (len(seen) - 1)
    assert taps.taps == 1


def test_a_card_is_new_after_an_absence_of_removal_ms_and_not_before():
    taps = Taps(removal_ms=2000)
    assert taps.observe([A], 0, 10)
    assert taps.observe([], 100, 300) is None
    assert taps.observe([A], 1900, 2099) is None
    assert taps.observe([], 2200, 2400) is None
    assert taps.observe([A], 4100, 4200) == token("04a1b2c3d4e5f6")


def test_a_flickering_card_is_one_tap():
    taps = Taps()
    assert taps.observe([A], 0, 10)
    for now in range(1000, 100_000, 1000):
        here = [A] if now % 2000 == 0 else []
        assert taps.observe(here, now - 900, now) is None


def test_another_card_is_new_at_once_and_the_first_one_is_not():
    taps = Taps()
    assert taps.observe([A], 0, 10) == token("04a1b2c3d4e5f6")
    assert taps.observe([B], 100, 110) == token("deadbeef")
    assert taps.observe([A], 200, 210) is None
    assert taps.observe([B], 300, 310) is None


def test_time_in_which_the_reader_saw_nothing_is_no_absence():
    taps = Taps()
    assert taps.observe([A], 0, 10)
    taps.observe([], 100, 300)
    taps.blind()
    assert taps.observe([A], 9000, 9100) is None
    taps.observe([], 9200, 9400)
    assert taps.observe([A], 11_200, 11_300) == token("04a1b2c3d4e5f6")


def test_of_two_cards_none_is_taken_and_it_is_said_once():
    taps = Taps()
    assert taps.observe([A, B], 0, 10) == (TWO_CARDS, None)
    assert taps.observe([A, B], 100, 110) is None
    assert taps.observe([A], 200, 210) is None, "the one left was never tapped alone"
    assert taps.observe([B], 300, 310) is None
    taps.observe([], 400, 600)
    assert taps.observe([A, B], 2500, 2600) == (TWO_CARDS, None)
    assert (taps.taps, taps.refused) == (0, {TWO_CARDS: 2})


def test_a_second_card_beside_a_resting_one_is_not_taken():
    taps = Taps()
    assert taps.observe([A], 0, 10) == token("04a1b2c3d4e5f6")
    assert taps.observe([A, B], 100, 110) == (TWO_CARDS, None)
    assert taps.observe([B], 200, 210) is None


def test_refused_uids_and_their_reasons():
    reasons = [
        (bytes(4), "UID all 00"),
        (bytes(7), "UID all 00"),
        (b"\xff" * 7, "UID all FF"),
        (b"\x08\x01\x02\x03", "random UID"),
        (b"\x01\x02\x03", "UID of 3 bytes"),
        (bytes(range(11)), "UID of 11 bytes"),
        (b"", "UID of 0 bytes"),
        (None, "wrong length byte"),
    ]
    for uid, reason in reasons:
        taps = Taps()
        assert taps.observe([uid], 0, 10) == (REFUSED, reason)
        assert taps.observe([uid], 100, 110) is None, "said once a presence"
        counted = "UID length" if reason.startswith("UID of") else reason
        assert (taps.taps, taps.refused) == (0, {counted: 1})
    assert refusal(b"\x08" + A[1:]) is None, "08 marks a random UID of 4 bytes only"
    assert refusal(b"\xff\xff\xff\xfe") is None


def test_a_phone_with_a_new_random_uid_at_each_look_is_refused_once():
    taps = Taps()
    said = [taps.observe([bytes((8, i, 1, 2))], i * 100, i * 100 + 10) for i in range(200)]
    assert said[0] == (REFUSED, "random UID")
    assert said[1:] == [None] * 199


def test_many_cards_in_a_row_leave_a_bounded_memory():
    taps = Taps()
    for i in range(1000):
        uid = bytes((4, i & 255, i >> 8, 7))
        assert taps.observe([uid], i * 10, i * 10 + 5) == token(uid.hex())
    assert len(taps.known) <= 6


def test_the_card_that_started_a_charge_cannot_stop_it_at_once():
    taps = Taps(removal_ms=500, restart_guard_ms=3000)
    assert taps.observe([A], 0, 10) == token("04a1b2c3d4e5f6")
    taps.started("04A1B2C3D4E5F6", 20)
    taps.observe([], 100, 300)
    assert taps.observe([A], 700, 710) == (GUARDED, None)
    assert taps.refused == {GUARDED: 1}
    assert taps.observe([A], 4000, 4010) is None, "it must be lifted and tapped again"
    taps.observe([], 4100, 4700)
    assert taps.observe([A], 4800, 4810) == token("04a1b2c3d4e5f6")


def test_the_guard_is_for_the_starting_card_only():
    taps = Taps()
    taps.started("04a1b2c3d4e5f6", 0)
    assert taps.observe([B], 100, 110) == token("deadbeef")


def test_targets_of_an_answer():
    ten = bytes(range(1, 11))
    assert read_targets(b"\x00") == []
    assert read_targets(b"\x01" + target(1, A)) == [A]
    assert read_targets(b"\x01" + target(1, ten)) == [ten]
    assert read_targets(b"\x02" + target(1, A) + target(2, ten)) == [A, ten]
    assert read_targets(bytearray(b"\x01" + target(1, B) + b"\x03\x75\x77")) == [B], "with an ATS"


def test_targets_with_a_wrong_length_byte():
    assert read_targets(b"\x01" + target(1, B, length=7)) == [None]
    assert read_targets(b"\x01" + target(1, A, length=4)) == [None]
    assert read_targets(b"\x01" + target(1, b"")[:3]) == [None]
    assert read_targets(b"\x02" + target(1, A) + target(2, B, length=9)) == [A, None]
    assert read_targets(b"\x01" + target(1, A, length=255)) == [None]


def test_an_answer_that_is_none():
    for answer in (b"", b"\x03", b"\xff\x00"):
        try:
            read_targets(answer)
        except ValueError:
            continue
        raise AssertionError(answer)
