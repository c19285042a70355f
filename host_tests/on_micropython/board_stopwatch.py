"""Times the scanner's steps on the desktop board, what goes over the wire taken off."""

from time import clock  # processor time, in whole milliseconds

from tapauth.compat import ticks_diff, ticks_us

import board


class Stopwatch:
    """A scanner whose steps are timed; `longest_us` is the longest in microseconds.

    When other programs take this machine's processor away in the middle of a step, the time on
    the wall says nothing; then processor time, coarse as it is, bounds it.
    """

    def __init__(self, scanner):
        self.longest_us = 0
        self._scanner = scanner
        self._wire_us = 0
        self._wire_cpu = 0.0
        self._ask = board._link.ask
        board._link.ask = self._timed

    def _timed(self, *arguments):
        begin, cpu = ticks_us(), clock()
        try:
            return self._ask(*arguments)
        finally:
            self._wire_us += ticks_diff(ticks_us(), begin)
            self._wire_cpu += clock() - cpu

    def step(self, now):
        self._wire_us, self._wire_cpu = 0, 0.0
        begin, cpu = ticks_us(), clock()
        delay = self._scanner.step(now)
        wall = ticks_diff(ticks_us(), begin) - self._wire_us
        busy = int((clock() - cpu - self._wire_cpu) * 1e6) + 1000
        self.longest_us = max(self.longest_us, min(wall, busy))
        return delay
