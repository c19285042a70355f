"""Keeps the board's time from running ahead of ours: the emulator skips the time in which the
processor sleeps, and a watchdog or a time-out would be over before anybody could answer.
"""

import asyncio
import time

SLICE_NS = 2_000_000
SLOW_S = 0.25
"""Being behind by more is not caught up."""


class Pacing:
    """Drives a Simulator in the place of its own execute(). `speed` is how many of the board's
    seconds may pass in one of ours, `lost_s` counts the seconds by which the board was slower.
    """

    def __init__(self, simulator, clock, speed: float):
        self.lost_s = 0.0
        self._speed = speed
        self._simulator = simulator
        self._clock = clock
        self._wall = 0.0
        self._board = 0.0
        self._ended = False
        self._alarm = clock.create_alarm(self._look)
        simulator.execute = self._execute
        simulator.stop = self._stop

    def _begin(self) -> None:
        self._wall, self._board = time.monotonic(), self._clock.nanos

    def _ahead_s(self) -> float:
        board = (self._clock.nanos - self._board) / 1e9
        return board / self._speed - (time.monotonic() - self._wall)

    def _look(self) -> None:
        self._alarm.schedule(SLICE_NS)
        if self._ahead_s() > 0:
            self._simulator.stopped = True  # ends this batch

    async def _execute(self) -> None:
        self._begin()
        self._alarm.schedule(SLICE_NS)
        try:
            while not self._ended:
                self._simulator.stopped = False
                self._simulator._execute_batch()
                ahead = self._ahead_s()
                if ahead < -SLOW_S:
                    self.lost_s -= ahead
                    self._begin()
                await asyncio.sleep(max(0.0, ahead))
        except Exception as error:
            self._simulator.engine_room_error = error
            raise
        finally:
            self._simulator.stopped = True

    def _stop(self) -> None:
        self._ended = True
        self._simulator.stopped = True
