"""The board's health on `{base}/health`: how it is, for people and for fleet software."""

import gc
import json

from tapauth import __version__
from tapauth.compat import largest_block, mem_free, sleep_ms


class Health:
    """`interval_s` is the time between reports in seconds; `counters()` gives what the other rooms
    counted, a dict for JSON, to publish along.
    """

    def __init__(self, topic: str, interval_s: int, clock, supervisor, link, counters):
        self._topic = topic
        self._interval_s = interval_s
        self._clock = clock
        self._supervisor = supervisor
        self._link = link
        self._counters = counters

    def report(self) -> dict:
        """Heap in bytes, times in the unit that the name ends in."""
        supervisor = self._supervisor
        gc.collect()
        free = mem_free()
        largest = largest_block(free)
        supervisor.min_block = min(supervisor.min_block, largest)
        return {
            "version": __version__,
            "uptime_s": self._clock.now() // 1000,
            "heap_free": free,
            "heap_used_after_gc": supervisor.live_heap,
            "heap_largest_block": largest,
            "heap_min_free": supervisor.min_free,
            "heap_min_largest_block": supervisor.min_block,
            "max_lag_ms": supervisor.max_lag_ms,
            "restarts": {task.name: task.restarts for task in supervisor.tasks if task.restarts},
            "counters": self._counters(),
        }

    def publish(self) -> None:
        """Publish a report now, if there is memory for it."""
        try:
            self._link.publish(self._topic, json.dumps(self.report()), True)
        except MemoryError:
            pass  # the next one tells how little there was

    async def run(self, beat) -> None:
        """Publish a report now and then, for ever."""
        waited = 0
        while True:
            beat()
            await sleep_ms(1000)
            waited += 1
            if waited >= self._interval_s:
                waited = 0
                self.publish()
