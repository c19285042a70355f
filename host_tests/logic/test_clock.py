"""The clock: monotonic and never wrapping."""

from tapauth import compat


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
