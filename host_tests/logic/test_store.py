"""The token store's rules: what it answers and what it takes."""

import os

from store_kit import (
    BLOCKED,
    DAY,
    NOW,
    accepted,
    again,
    list_file,
    new_store,
    parent,
    refuses,
    status_of,
    take_list,
    token,
    upload,
)

from tapauth.cards import store as store_module
from tapauth.cards.codec import Busy, Full, StoreError, parse_time, seal, spelling_hash
from tapauth.cards.rewrite import merge
from tapauth.cards.store import MAX_UPDATE, finish
from tapauth.core.timestamps import format_rfc3339


def test_a_list_card_answers_in_full_and_settles():
    store = new_store("full")
    info = accepted(
        parent_id_token=parent("FLEET"), evse_ids=[2, 32], expiry_time="2027-01-01T00:00:30Z"
    )
    finish(store.put(token(1), info))
    store = again(store)
    assert store.lookup({"value": token(1)["value"].lower(), "type": "ISO14443"}, NOW) == (
        {
            "authorization_status": "Accepted",
            "tariff_messages": [],
            "parent_id_token": parent("FLEET"),
            "evse_ids": [2, 32],
            "expiry_time": "2027-01-01T00:00:00Z",
        },
        True,
    )
    assert store.lookup(token(2), NOW) == (None, False)
    assert store.lookup(token(1, "ISO15693"), NOW) == (None, False)


def test_expiry_with_and_without_a_clock():
    store = new_store("expiry")
    finish(store.put(token(1), accepted(expiry_time=format_rfc3339(NOW + 60))))
    finish(store.put(token(2), accepted()))
    assert status_of(store, token(1)) == "Accepted"
    assert status_of(store, token(1), NOW + 60) == "Expired"
    assert status_of(store, token(1), None) == "NotAtThisTime"
    assert status_of(store, token(2), None) == "Accepted"
    store = again(store, accept_expiry_without_clock=True)
    assert status_of(store, token(1), None) == "Accepted"


def test_random_and_empty_uids_are_refused_everywhere():
    store = new_store("random")
    for value in ("08AB12CD", "00000000", "FFFFFFFFFFFFFF", "", "08:ab:12:cd"):
        bad = {"value": value, "type": "ISO14443"}
        assert store.lookup(bad, NOW)[0]["authorization_status"] == "Invalid"
        assert store.lookup(bad, NOW)[1]
        assert refuses(ValueError, store.put(bad, accepted()))
        assert not finish(store.learn(bad, accepted(), NOW))
    assert store.lookup({"value": "08AB12CD", "type": "Local"}, NOW) == (None, False)
    assert store.lookup({"value": "08AB12CD34EF56", "type": "ISO14443"}, NOW) == (None, False)


SPELLINGS = ("04a1b2c3d4e5f6", "04:A1:B2:C3:D4:E5:F6", " 04-a1-b2 c3.D4e5f6 ", "0x04A1B2C3D4E5F6")


def card(value, kind="ISO14443"):
    return {"value": value, "type": kind}


def test_a_card_is_one_card_however_its_uid_is_written():
    store = new_store("spelling")
    for written in SPELLINGS:
        finish(store.put(card(written), accepted()))
        assert store.listed == 1
        finish(store.put(card(written), {"authorization_status": "Blocked"}))
        for read in SPELLINGS:
            assert status_of(store, card(read)) == "Blocked", (written, read)
        assert finish(store.delete(card(written)))
        assert status_of(store, card(SPELLINGS[0])) is None
    for kind, one, other in (
        ("ISO15693", "E0:04:01:00:12:34:56:78", "e004010012345678"),
        ("MacAddress", "00-1A-2B-3C-4D-5E", "001a2b3c4d5e"),
        ("Local", "Front-Door", "FRONT-DOOR"),
    ):
        finish(store.put(card(one, kind), {"authorization_status": "Blocked"}))
        assert status_of(store, card(other, kind)) == "Blocked"
    # A value that only looks like a UID is text, in which every mark counts.
    assert status_of(store, card("FRONTDOOR", "Local")) is None


def test_no_list_takes_a_card_that_no_reader_can_read():
    store = new_store("no_uid")
    fullwidth = "".join(chr(0xFF10 + int(digit)) for digit in "04112233")
    for value in (
        "04A1",
        "04A1B2C3D4E5F",
        "04A1B2C3D4E5F607",
        "04A1B2G3",
        "0x0x04A1B2C3",
        "04;A1;B2;C3",
        "front door",
        fullwidth,
        "04A1B2C3" + 29 * ":",
    ):
        for info in (accepted(), {"authorization_status": "Blocked"}):
            assert refuses(ValueError, store.put(card(value), info)), value
            assert refuses(ValueError, store.update(1, [(card(value), info)])), value
    for value in ("E00401", "04A1B2C3D4E5F6", "E0040100123456789"):
        assert refuses(ValueError, store.put(card(value, "ISO15693"), accepted())), value
    for value in ("x" * 37, "caf\u00e9", "a\nb"):
        assert refuses(ValueError, store.put(card(value, "Local"), accepted())), value
    assert store.listed == store.version == 0
    # A validator answers for whatever its clients call a token.
    assert finish(store.learn(card("front door"), accepted(), NOW))
    assert status_of(store, card("Front Door")) == "Accepted"


def kept_in_another_spelling(store, value, info):
    """Put a card in the way of older firmware: whatever was typed, in upper case."""
    digest = store_module.digest
    store_module.digest = lambda key, _: spelling_hash(key, "ISO14443", value.upper())
    finish(store.put(card("04A1B2C3"), info))
    store_module.digest = digest


def test_of_a_card_in_two_spellings_the_stricter_entry_counts():
    odd, tapped = "04:A1:B2:C3", "04a1b2c3"
    blocked = {"authorization_status": "Blocked"}
    soon, late = "2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"
    for old, new, right in (
        (blocked, accepted(), "Blocked"),
        (accepted(), blocked, "Blocked"),
        (accepted(evse_ids=[3]), accepted(evse_ids=[1, 2]), [3]),
        (accepted(), accepted(evse_ids=[1, 2]), [1, 2]),
        (accepted(expiry_time=late), accepted(expiry_time=soon), soon),
        (accepted(expiry_time=soon), accepted(), soon),
        (blocked, None, "Blocked"),
    ):
        store = new_store("two")
        if new:
            finish(store.put(card(tapped), new))
        kept_in_another_spelling(store, odd, old)
        result, settled = store.lookup(card(odd), NOW)
        assert settled and right in result.values(), (old, new)
        # A change in that spelling is a change of the card, and leaves one entry of it.
        finish(store.put(card(odd), blocked))
        assert store.listed == 1
        assert status_of(store, card(odd)) == status_of(store, card(tapped)) == "Blocked"
        kept_in_another_spelling(store, odd, accepted())
        assert finish(store.delete(card(odd))) and store.listed == 0
        assert status_of(store, card(odd)) is None


def test_the_cache_holds_what_the_list_does_not():
    store = new_store("cache")
    finish(store.put(token(1), {"authorization_status": "Blocked"}))
    assert not finish(store.learn(token(1), accepted(), NOW))
    assert finish(store.learn(token(2), accepted(parent_id_token=parent("P")), NOW))
    assert finish(store.learn(token(3), {"authorization_status": "Blocked"}, NOW))
    assert not finish(store.learn(token(2), accepted(parent_id_token=parent("P")), NOW))
    for kind in ("Central", "NoAuthorization"):
        assert not finish(store.learn(token(4, kind), accepted(), NOW))
    assert not finish(store.learn(token(4), {"authorization_status": "ConcurrentTx"}, NOW))
    store = again(store)
    assert status_of(store, token(1)) == "Blocked"
    assert store.lookup(token(2), NOW)[1]
    assert store.lookup(token(3), NOW)[0]["authorization_status"] == "Blocked"
    assert not store.lookup(token(3), NOW)[1]
    assert (store.listed, store.cached) == (1, 2)
    finish(store.put(token(2), accepted()))
    assert (store.listed, store.cached) == (2, 1)


def test_a_card_that_is_accepted_nowhere_is_not_remembered_as_accepted_everywhere():
    store = new_store("nowhere")
    for more in ({}, {"parent_id_token": parent("P")}):
        assert not finish(store.learn(token(1), accepted(evse_ids=[], **more), NOW))
        store = again(store)
        assert store.lookup(token(1), NOW) == (None, False)
    assert finish(store.learn(token(1), accepted(evse_ids=[1]), NOW))


def test_a_card_accepted_under_a_condition_is_not_remembered_as_accepted_without():
    conditions = (
        {"allowed_energy_transfer_modes": ["AC_single_phase_core"]},
        {"reservation_id": 7},
        {"evse_ids": []},
    )
    store = new_store("condition")
    finish(store.put(token(3), accepted()))
    for i, condition in enumerate(conditions):
        for more in ({}, {"parent_id_token": parent("P"), "tariff_messages": []}):
            answer = accepted(**more)
            answer.update(condition)
            for known in (False, True):
                if known:
                    finish(
                        store.learn(token(1), accepted(expiry_time="2026-12-01T00:00:00Z"), NOW)
                    )
                assert not finish(store.learn(token(1), answer, NOW))
                store = again(store)
                assert store.lookup(token(1), NOW) == (None, False) and store.cached == i
            assert not finish(store.learn(token(3), answer, NOW))
            assert status_of(store, token(3)) == "Accepted", "what the list says stays"
        # A condition that limits nothing, or an answer that accepts nothing, is remembered.
        condition["authorization_status"] = "Blocked"
        assert finish(store.learn(token(10 + i), condition, NOW)), condition
    result = accepted(certificate_status="Accepted", tariff_messages=[{"content": "0.30"}])
    assert finish(store.learn(token(2), result, NOW))


def test_a_cached_card_goes_when_unused_and_stays_when_used():
    store = new_store("unused", cache_days=40)
    finish(store.learn(token(1), accepted(), NOW))
    finish(store.learn(token(2), accepted(), NOW))
    for day in range(0, 40, 5):
        assert status_of(store, token(1), NOW + day * DAY) == "Accepted"
        finish(store.tidy(NOW + day * DAY))
    store = again(store, cache_days=40)
    assert status_of(store, token(2), NOW + 41 * DAY) is None
    assert status_of(store, token(1), NOW + 41 * DAY) == "Accepted"


def test_a_tap_writes_nothing_but_the_first_after_a_while():
    store = new_store("wear", cache_days=40)
    finish(store.learn(token(1), accepted(), NOW))
    for day in (0, 9, 10, 11):
        assert status_of(store, token(1), NOW + day * DAY) == "Accepted"
        assert bool(store.touched) == (day == 11)
        finish(store.tidy(NOW + day * DAY))
    status_of(store, token(1), NOW + 11 * DAY)
    assert not store.touched
    length = len(store.journal)
    assert not finish(store.learn(token(1), accepted(), NOW + 21 * DAY))
    assert len(store.journal) == length
    assert finish(store.learn(token(1), accepted(), NOW + 22 * DAY))


def test_a_cleared_cache_stays_cleared_and_hides_no_list():
    store = new_store("clear")
    for i in range(60):
        finish(store.put(token(i), accepted()))
    for i in range(100, 160):
        finish(store.learn(token(i), accepted(), NOW))
    finish(store.delete(token(0)))
    finish(store.learn(token(0), accepted(), NOW))
    store.clear_cache()
    finish(store.learn(token(200), accepted(), NOW))
    for _ in range(2):
        assert [status_of(store, token(i)) for i in (0, 100, 159)] == [None] * 3
        assert status_of(store, token(59)) == status_of(store, token(200)) == "Accepted"
        assert (store.listed, store.cached) == (59, 1)
        store = again(store)
    for i in range(300, 400):  # through a flush
        finish(store.put(token(i), accepted()))
    assert status_of(store, token(0)) is None and status_of(store, token(100)) is None
    assert (store.listed, store.cached) == (159, 1)


def test_a_differential_list_follows_the_version_rule():
    store = new_store("update")
    assert finish(store.update(3, [(token(1), accepted()), (token(2), accepted())])) == "Accepted"
    assert finish(store.update(3, [(token(1), None)])) == "VersionMismatch"
    assert finish(store.update(2, [(token(1), None)])) == "VersionMismatch"
    assert status_of(store, token(1)) == "Accepted"
    changes = [(token(1), None)] + [(token(i), accepted()) for i in range(10, 60)]
    assert finish(store.update(4, changes)) == "Accepted"
    assert finish(store.update(9, [])) == "Accepted"
    store = again(store)
    assert (store.version, store.listed) == (9, 51)
    assert status_of(store, token(1)) is None and status_of(store, token(59)) == "Accepted"
    assert refuses(ValueError, store.update(10, [(token(1), accepted())] * (MAX_UPDATE + 1)))
    assert refuses(ValueError, store.update(10, [(token(70), accepted()), (token(71), BAD)]))
    assert status_of(store, token(70)) is None and store.version == 9


BAD = {"authorization_status": "Accepted", "evse_ids": [33]}


def test_a_full_cache_loses_the_least_valuable_first():
    store = new_store("evict", capacity=200, cache_days=100)
    for i in range(40):
        finish(store.put(token(i), accepted()))
    gone = format_rfc3339(NOW - 3 * DAY)
    for i in range(100, 260):
        day = NOW - (259 - i) // 10 * DAY
        if i % 10 == 0:
            finish(store.learn(token(i), {"authorization_status": "Blocked"}, day))
        elif i % 10 == 1:
            finish(store.learn(token(i), accepted(expiry_time=gone), day))
        else:
            finish(store.learn(token(i), accepted(), day))
    for i in range(300, 400):
        finish(store.learn(token(i), accepted(), NOW))
    assert store.listed == 40
    assert store.listed + store.cached <= 200 + 54
    left = [i for i in range(100, 260) if store.lookup(token(i), NOW)[0]]
    assert not [i for i in left if i % 10 < 2]
    kept = [i for i in range(100, 260) if i % 10 > 1]
    assert 0 < len(left) < len(kept)
    # Of one day any may go, but no younger day than the oldest that is left.
    assert left[0] // 10 >= kept[-len(left)] // 10
    assert status_of(store, token(39)) == status_of(store, token(399)) == "Accepted"
    for i in range(1000, 1160):
        finish(store.put(token(i), accepted()))
    assert refuses(Full, store.put(token(2000), accepted()))
    assert not finish(store.learn(token(2000), accepted(), NOW))


def test_a_card_leaves_the_cache_in_the_order_of_its_worth():
    today = NOW // DAY * DAY
    ways = [{"authorization_status": "Blocked"}, accepted(expiry_time=format_rfc3339(today))]
    ways += [accepted()] * 4
    ages = [0, 0, 9, 6, 3, 0]
    for gone in range(7):
        store = new_store("worth", capacity=15)
        for day in range(10):  # in the order of the days
            for i, info in enumerate(ways):
                if ages[i] == 9 - day:
                    assert finish(store.learn(token(i), info, NOW - (9 - day) * DAY))
        for i in range(9 + gone):
            finish(store.put(token(100 + i), accepted()))
        finish(merge(store, (), (), 0))
        left = [i for i in range(6) if store.lookup(token(i), NOW)[0]]
        assert left == list(range(gone, 6)), gone
        assert (store.listed, store.cached) == (9 + gone, 6 - gone)


def test_a_merge_and_a_full_list_leave_out_what_was_unused_for_too_long():
    for renew in (take_list, lambda store: finish(merge(store, (), (), 0))):
        store = new_store("aged", cache_days=40)
        finish(store.learn(token(1), accepted(), NOW))
        finish(store.learn(token(2), accepted(), NOW + DAY))
        store.day(NOW + 40 * DAY)
        renew(store)
        assert store.cached == 2  # the last day of the first
        store.day(NOW + 41 * DAY)
        renew(store)
        assert store.cached == 1
        assert status_of(store, token(1), None) is None
        assert status_of(store, token(2), None) == "Accepted"


def test_a_tapped_card_that_is_withdrawn_does_not_return_when_its_use_is_written():
    withdrawals = (
        (None, lambda store: finish(store.delete(token(1)))),
        (None, lambda store: store.clear_cache()),
        ("Blocked", lambda store: finish(store.put(token(1), BLOCKED))),
        ("Blocked", lambda store: finish(store.learn(token(1), BLOCKED, NOW + 50 * DAY))),
        ("Blocked", lambda store: finish(store.update(3, [(token(1), BLOCKED)]))),
    )
    for right, withdraw in withdrawals:
        store = new_store("touched")
        finish(store.learn(token(1), accepted(), NOW))
        assert status_of(store, token(1), NOW + 50 * DAY) == "Accepted"
        withdraw(store)
        counts = (store.listed, store.cached)
        for _ in range(3):
            finish(store.tidy(NOW + 51 * DAY))
            assert status_of(store, token(1), NOW + 51 * DAY) == right
            assert (store.listed, store.cached) == counts
            store = again(store)


def test_the_last_moment_and_the_last_day_of_a_card():
    store = new_store("last", cache_days=40)
    hour = (NOW // 21600 + 1) * 21600  # both kinds of record hold it exactly
    finish(store.put(token(1), accepted(expiry_time=format_rfc3339(hour))))
    finish(store.learn(token(2), accepted(expiry_time=format_rfc3339(hour)), NOW))
    for i in (1, 2):
        assert status_of(store, token(i), hour - 1) == "Accepted"
        assert status_of(store, token(i), hour) == "Expired"
    assert not store.lookup(token(2), hour)[1]  # a validator may know better
    finish(store.learn(token(3), accepted(), NOW))
    assert status_of(store, token(3), NOW + 40 * DAY) == "Accepted"
    assert status_of(store, token(3), NOW + 41 * DAY) is None


def test_a_list_holds_its_capacity_and_no_card_more():
    for fill in (take_list, one_by_one, lambda store, cards: at_once(store, cards)):
        store = new_store("capacity", capacity=9)
        try:
            fill(store, range(10))
            raise AssertionError("ten cards")
        except Full:
            pass
        assert store.listed in (0, 9)
        store = new_store("capacity", capacity=9)
        assert finish(store.learn(token(50), accepted(), NOW))
        fill(store, range(9))
        assert store.listed == 9 and not finish(store.learn(token(60), accepted(), NOW))
        assert [status_of(store, token(i)) for i in range(10)] == ["Accepted"] * 9 + [None]
        finish(store.put(token(8), BLOCKED))  # another status needs no room
        assert finish(store.delete(token(8)))
        finish(store.put(token(9), accepted()))
        assert store.listed == 9


def one_by_one(store, cards):
    for i in cards:
        finish(store.put(token(i), accepted()))


def at_once(store, cards):
    finish(store.update(store.version + 1, [(token(i), accepted()) for i in cards]))


def test_a_list_with_bytes_behind_its_end_is_refused():
    store = new_store("behind")
    take_list(store, range(30))
    pages = list_file(store, 9, range(40))
    sealed = bytearray(pages[-1])
    seal(sealed, 9, len(pages))  # whole, and at its place, and yet not of the list
    for more in (pages[-1], sealed, bytes(256), pages[0], b"x", pages[-1] + pages[-1]):
        assert refuses(StoreError, upload(store, pages + [more]))
        assert store.version == 1 and store.listed == 30 and not store.damage
    assert refuses(StoreError, upload(store, pages[:-1]))
    finish(upload(store, pages))
    assert store.version == 9 and store.listed == 40


def test_a_card_that_a_merge_leaves_out_is_not_counted_twice():
    store = new_store("counts", cache_days=40, capacity=1000)
    for days in (0, 50):
        for i in range(44):
            now = NOW + days * DAY
            finish(store.learn(token(days * 100 + i), accepted(), now + i % 2 * DAY))
    store.day(NOW + 99 * DAY)
    while store.journal.has_room(1):
        finish(store.put(token(7000 + len(store.journal)), accepted()))
    store.cards.run_end -= 1000  # as if so much had been appended that it is merged now
    finish(store.put(token(5001), accepted()))
    counts = (store.listed, store.cached)
    finish(merge(store, (), (), 0))
    assert counts == (store.listed, store.cached)


def test_settings_survive_and_are_checked():
    store = new_store("settings")
    assert store.master_pass_group_id is None and store.connection_timeout is None
    store.set_master_pass_group_id("MASTERS")
    store.set_connection_timeout(45)
    store = again(store)
    assert (store.master_pass_group_id, store.connection_timeout) == ("MASTERS", 45)
    for bad in (9, 301):
        try:
            store.set_connection_timeout(bad)
            raise AssertionError
        except ValueError:
            pass
    try:
        store.set_master_pass_group_id("x" * 37)
        raise AssertionError
    except ValueError:
        pass
    store.set_master_pass_group_id("")
    assert again(store).master_pass_group_id == ""


def test_a_setting_that_is_kept_during_an_upload_or_a_merge_spoils_neither():
    store = new_store("settings_meanwhile")
    for i in range(640):
        finish(store.put(token(i), accepted()))
    merging = store.update(1, [(token(i), None) for i in range(90)])
    for seconds, steps in ((100, merging), (200, upload(store, list_file(store, 5)))):
        for step, _ in enumerate(steps):
            store.set_connection_timeout(seconds + step)
            store.set_master_pass_group_id(str(step))
        assert step > 5
        store = again(store)
        assert not store.damage and store.connection_timeout == seconds + step
        assert store.master_pass_group_id == str(step)
    assert store.version == 5 and store.listed == 0


def test_a_start_removes_what_a_power_cut_left_half_written():
    store = new_store("left")
    store.set_connection_timeout(77)
    for name in ("new", "settings.new", "j4.new"):
        with open(store.folder + "/" + name, "wb") as file:
            file.write(b"half")
    os.remove(store.folder + "/j4")  # being made when the power went
    store = again(store)
    assert store.connection_timeout == 77 and not store.damage
    names = sorted(os.listdir(store.folder))
    assert names == ["cards", "j0", "j1", "j2", "j3", "j4", "settings"]


def test_lookups_go_on_during_a_merge_and_changes_wait():
    store = new_store("merge")
    for i in range(640):
        finish(store.put(token(i), accepted()))
    steps = store.update(1, [(token(i), None) for i in range(90)])
    seen = ended = 0
    for _ in steps:
        # All at once, and then only the acknowledgement is left.
        found = status_of(store, token(5))
        assert found == status_of(store, token(89)) and found in ("Accepted", None)
        ended += found is None
        assert bool(ended) == (found is None)
        assert refuses(Busy, store.put(token(900), accepted()))
        seen += 1
    assert seen > 20 and ended <= 1
    assert status_of(store, token(5)) is None
    assert store.listed == 550 and store.status()["delta"] == 0


def test_a_change_given_up_halfway_changes_nothing():
    store = new_store("given_up")
    for i in range(640):
        finish(store.put(token(i), accepted()))
    for stop in (1, 3, 10, 25, 40):
        steps = store.update(1, [(token(i), None) for i in range(90)])
        for _ in range(stop):
            next(steps)
        steps.close()
        assert status_of(store, token(5)) == "Accepted" and store.version == 0
    store = again(store)
    assert not store.damage and store.listed == 640
    finish(store.update(1, [(token(i), None) for i in range(90)]))
    assert again(store).listed == 550


def test_times_go_both_ways():
    for text, unix in (
        ("1970-01-01T00:00:00Z", 0),
        ("2000-02-29T12:00:00Z", 951_825_600),
        ("2026-09-21T14:13:20Z", NOW),
        ("2055-11-24T00:00:00Z", 2_710_627_200),
    ):
        assert parse_time(text) == unix and format_rfc3339(unix) == text
    assert parse_time("2026-09-21T16:13:20.123+02:00") == NOW
    for bad in (
        "2026-09-21",
        "2026-13-21T00:00:00Z",
        "2026-09-21T00:00:00",
        "2026-09-21 00:00:00",
    ):
        try:
            parse_time(bad)
            raise AssertionError(bad)
        except ValueError:
            pass
