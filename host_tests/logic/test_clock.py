"""The clocks: one monotonic and never wrapping, and the time of day, which is not turned back."""

import os

from tapauth import BUILT, compat, wallclock
from tapauth.core.timestamps import parse_rfc3339
from tapauth.wallclock import WallClock, load_day, save_day

from moved_clock import MovedClock


def test_clock_survives_a_wrap_of_the_ticks():
    readings = [2**30 - 5, 2**30 - 1, 3, 1000]
    ticks, diff = compat.ticks_ms, compat.ticks_diff
    try:
        compat.ticks_ms = lambda: readings.pop(0)
        compat.ticks_diff = lambda end, start: (end - start + 2**29) % 2**30 - 2**29
        clock = compat.Clock()
        assert [clock.now(), clock.now(), clock.now()] == [4, 8, 1005]
    finally:
        compat.ticks_ms, compat.ticks_diff = ticks, diff


def test_unix_time_counts_from_1970():
    assert compat.unix_time() > 1_700_000_000


# The time of day: what has been seen is not undone

NOW = 1_900_000_000
DAY = 86_400


class Rig:
    def __init__(self, kept_day=0):
        self.clock = MovedClock()
        self.told = []
        self.refusals = 0
        self.wall = WallClock(
            self.clock, lambda unix, now: self.told.append(unix), self._refused, kept_day
        )

    def _refused(self):
        self.refusals += 1

    def pass_s(self, seconds):
        self.clock.advance(seconds * 1000)


def test_a_clock_is_never_before_the_firmware_was_built():
    rig = Rig()
    built = parse_rfc3339(BUILT)
    assert not rig.wall.set(built - 1)
    assert rig.wall.unix() is None and rig.told == []
    assert (rig.refusals, rig.wall.refused) == (1, 1)
    assert rig.wall.set(built)
    rig.pass_s(500)
    assert not rig.wall.set(built + 499), "the board has run since"
    assert rig.wall.set(built + 500)
    assert rig.wall.floor() == rig.wall.text()


def test_a_clock_is_never_before_the_day_that_was_kept():
    rig = Rig(NOW // DAY)
    assert not rig.wall.set(NOW // DAY * DAY - 1)
    assert rig.wall.set(NOW // DAY * DAY)


def test_a_kept_day_that_makes_no_sense_does_not_stop_the_clock():
    for day in (-1, 0, 1, 99_999_999):
        assert Rig(day).wall.set(NOW), day


def test_expired_cards_stay_expired_whoever_turns_the_clock_back():
    rig = Rig()
    rig.wall.set(NOW)
    for _ in range(60):
        rig.pass_s(60)
        assert rig.wall.set(NOW + rig.clock.now() // 1000)
    assert not rig.wall.set(NOW + 3600 - 400)
    assert not rig.wall.set(NOW - 30 * DAY)
    assert rig.wall.unix() == NOW + 3600
    assert rig.wall.refused == 2


def test_a_clock_is_not_turned_back_in_small_steps():
    rig = Rig()
    rig.wall.set(NOW)
    rig.pass_s(3600)
    for step in range(1, 1000):
        rig.wall.set(NOW + 3600 - 100 * step)
    assert rig.wall.unix() >= NOW + 3600 - 310
    # Nor before it is held, without beginning anew.
    rig = Rig()
    rig.wall.set(NOW)
    for step in range(1, 60):
        rig.pass_s(60)
        rig.wall.set(NOW + 60 * step - 100 * step)
    assert rig.wall.day_to_keep() == 0, "it was moved too often to be believed"


def test_a_clock_may_be_as_wrong_as_a_quartz():
    rig = Rig()
    rig.wall.set(NOW)
    late = 0
    for hour in range(1, 24 * 60):
        rig.pass_s(3600)
        late = hour * 3600 // 10_000  # 100 ppm
        assert rig.wall.set(NOW + hour * 3600 + late), hour
    assert late > 300


def test_an_expired_card_stays_expired_however_long_the_board_has_run():
    for days in (1, 30, 100):
        rig = Rig()
        rig.wall.set(NOW)
        for _ in range(days):
            rig.pass_s(DAY)
            assert rig.wall.set(NOW + rig.clock.now() // 1000)
        assert not rig.wall.set(NOW + days * DAY - 301 - days * 9), days


def test_a_wrong_year_does_not_last():
    rig = Rig()
    assert rig.wall.set(NOW)
    assert rig.wall.set(4_000_000_000)
    rig.pass_s(60)
    assert rig.wall.set(NOW + 60), "the right time is taken, for nothing was held yet"
    rig.pass_s(3600)
    assert not rig.wall.set(4_000_000_000), "and from then on it stays"
    assert rig.wall.unix() == NOW + 3660
    # With nobody there who knows better it is held, until the board starts again.
    rig = Rig(NOW // DAY)
    rig.wall.set(4_000_000_000)
    rig.pass_s(3600)
    assert not rig.wall.set(NOW + 3600)
    kept = rig.wall.day_to_keep()
    assert kept == NOW // DAY + 31
    rig = Rig(kept)
    assert rig.wall.set(NOW + 32 * DAY), "a month later at most all is well"


def test_an_old_time_that_a_broker_kept_does_not_keep_the_true_time_out():
    for hours in (0, 1, 48):
        rig = Rig(NOW // DAY - 30)
        assert rig.wall.set_from(NOW - 10 * DAY, True)
        rig.pass_s(3600 * hours)
        assert rig.wall.unix() == NOW - 10 * DAY + 3600 * hours
        assert rig.wall.day_to_keep() == 0, "it is the time of nobody who knows it"
        assert rig.wall.set_from(NOW - 5 * DAY, True) and rig.wall.set(NOW)
        rig.pass_s(3599)
        assert rig.wall.set(NOW + 3599 - 400), "it is not held before an hour has passed"
        rig.pass_s(3601)
        assert not rig.wall.set(NOW - 10 * DAY) and rig.wall.day_to_keep() == NOW // DAY


def test_an_old_time_that_moves_the_clock_forward_does_not_hold_it_there():
    rig = Rig()
    rig.wall.set(NOW)
    rig.pass_s(1800)
    assert rig.wall.set_from(NOW + 5 * DAY, True)
    rig.pass_s(3600)
    assert rig.wall.set(NOW + 5400), "who says it now is believed"
    # Nor one a moment ahead does anything to a clock that is held.
    rig.pass_s(3600)
    assert rig.wall.set_from(NOW + 9100, True)
    assert not rig.wall.set(NOW) and rig.wall.unix() == NOW + 9100


def test_the_day_is_kept_once_and_only_when_the_clock_is_held():
    rig = Rig(NOW // DAY)
    assert rig.wall.day_to_keep() == 0
    rig.wall.set(NOW + 2 * DAY)
    rig.pass_s(3599)
    assert rig.wall.day_to_keep() == 0
    rig.pass_s(1)
    for _ in range(2):
        assert rig.wall.day_to_keep() == (NOW + 3600) // DAY + 2, "it is not kept yet"
    rig.wall.note_kept(rig.wall.day_to_keep())
    assert rig.wall.day_to_keep() == 0
    rig.pass_s(DAY)
    assert rig.wall.day_to_keep() == (NOW + 3600) // DAY + 3


def test_a_day_that_could_not_be_kept_for_want_of_memory_leaves_the_one_before():
    def no_memory(_):
        raise MemoryError

    path = "clock-day-without-memory"
    save_day(20_781, path)
    wallclock.str = no_memory
    try:
        save_day(20_782, path)
        raise AssertionError("there was no memory")
    except MemoryError:
        pass
    finally:
        del wallclock.str
    try:
        assert load_day(path) == 20_781
    finally:
        os.remove(path)


def test_the_kept_day_survives_and_nonsense_counts_as_none():
    path = "clock-day-of-a-test"
    try:
        for day in (20_781, 20_782):
            save_day(day, path)
            assert load_day(path) == day
        for text in ("", "x", "12.5", "-"):
            with open(path, "w") as file:
                file.write(text)
            assert load_day(path) == 0
    finally:
        os.remove(path)
    assert load_day(path) == 0
