"""Runs the named tasks of the firmware, restarts a failed one, and watches over all of them.

Each task is a coroutine function that takes `beat`, which it calls whenever it makes progress. A
task is in one of three states, at which run() looks ten times a second:

    running   it is under way, and has beaten within `stall_ms`
    stalled   it is under way, and has not
    failed    it raised, or ended, which no task should: it starts again at `restart_at`; so does
              one that was never started

A failed task harms no other. It is started again after 0.5 s, doubling to 30 s; one that had run
for a minute begins the row anew. A stalled task cannot be helped from here: it may hold the loop,
or wait for what never comes. So the watchdog is fed only while no task is stalled, and what hangs
ends in a reset of the board, which is safe, instead of a dead reader. A failed task does not keep
the watchdog hungry: it is looked after already, and a reset would end what the others do.

The supervisor must outlive what it watches over, so want of memory decides nothing here:

* A task is marked as not running before anything that needs memory is done about it. Without
  memory for the rest, the log line and the count of the failure are lost, the restart is not.
* A task that there is no memory to start stays failed until the next look.
* Only the supervisor's own failure ends the firmware, and the boot part restarts the board.

run() also measures how late the loop is, which delays a tap too, and the heap after a collection,
which it makes once a second. A collection takes a board some 20 ms, in which nothing else happens.
MicroPython makes more of them, whenever so many bytes were given out (_COLLECT_AFTER, which counts
the frames of calls too, given back at once): a tap met two or three. So hold_collection() puts
them off while a driver waits, for less than half a second. Until then the heap is collected only
when nothing is left of it. After every tenth collection run() looks whether the largest block of
the heap is smaller than ever.
"""

import asyncio
import gc

from tapauth.compat import collect_after, const, largest_block, mem_alloc, mem_free, sleep_ms

_TICK_MS = const(100)
_COLLECT_TICKS = const(10)
_LOOK_COLLECTIONS = const(10)
_COLLECT_AFTER = const(16384)  # bytes; boot.py has less, as what is loaded stays
_NOT_YET = const(-1)
_HELD_TICKS = const(4)
_FIRST_BACKOFF_MS = const(500)
_LAST_BACKOFF_MS = const(30_000)
_HEALTHY_MS = const(60_000)  # a task that ran for so long had no lasting trouble


class Backoff:
    """Waiting times that double from `first` to `last` milliseconds; reset() starts again."""

    def __init__(self, first: int = _FIRST_BACKOFF_MS, last: int = _LAST_BACKOFF_MS):
        self._first = first
        self._last = last
        self._next = first

    def next(self) -> int:
        """The time to wait now, in milliseconds."""
        wait = self._next
        self._next = min(wait * 2, self._last)
        return wait

    def reset(self) -> None:
        """The last attempt has worked."""
        self._next = self._first


class SupervisedTask:
    """One named task: its coroutine, its progress and its failures."""

    def __init__(self, name: str, run, stall_ms: int, clock):
        self.name = name
        self.stall_ms = stall_ms
        self.restarts = 0
        self.running = False
        self._run = run
        self._clock = clock
        self._wait = _FIRST_BACKOFF_MS  # as a Backoff's, of which each task would have one
        self._started = 0
        self._beaten = 0
        self.restart_at = 0

    def beat(self) -> None:
        """The task made progress."""
        self._beaten = self._clock.now()

    def stalled(self, now: int) -> bool:
        """The task runs and has not beaten for longer than it may. `now` in milliseconds."""
        return self.running and now - self._beaten > self.stall_ms

    def start(self, now: int):
        """Marks it running and returns the coroutine to run."""
        self.running = True
        self._started = self._beaten = now
        return self._run(self.beat)

    def failed(self, now: int) -> int:
        """Marks it failed. Returns the milliseconds until its next start."""
        self.running = False
        self.restarts += 1
        if now - self._started >= _HEALTHY_MS:
            self._wait = _FIRST_BACKOFF_MS
        wait = self._wait
        self._wait = min(wait * 2, _LAST_BACKOFF_MS)
        self.restart_at = now + wait
        return wait


class Supervisor:
    """The scheduler's watchman: tasks, watchdog, loop lag and heap.

    `max_lag_ms` is the longest time that the loop kept a due task waiting, `min_free` the least
    free heap in bytes seen after a collection, `min_block` the least of the largest blocks, all
    since the start; `live_heap` is the used heap in bytes after the last collection.
    """

    def __init__(self, clock, log, watchdog=None):
        self.tasks: list[SupervisedTask] = []
        self.max_lag_ms = 0
        self.min_free = self.min_block = mem_free()
        self.live_heap = mem_alloc()
        self._clock = clock
        self._log = log
        self._watchdog = watchdog
        self._ticks = 0  # since the last collection, more of them when that was put off
        self._held = False
        self._collections = 0  # since the last look for the largest block
        self._complained = ""  # of this stalled task: once, until it moves

    def add(self, name: str, run, stall_ms: int = 5000) -> None:
        """Adds a task: `run(beat)` is its coroutine function, `stall_ms` its longest silence."""
        self.tasks.append(SupervisedTask(name, run, stall_ms, self._clock))

    def stalled(self, now: int) -> str:
        """The name of a task without progress, or ""."""
        for task in self.tasks:
            if task.stalled(now):
                return task.name
        return ""

    def restarts(self) -> int:
        """How often a task was restarted, of all tasks."""
        return sum([task.restarts for task in self.tasks])

    def hold_collection(self) -> None:
        """Put collections off: a driver waits. The next one comes in 0.4 s at the latest."""
        # Once for each collection, so that cards in a row cannot put it off for ever.
        if not self._held:
            self._held = True
            self._ticks = _COLLECT_TICKS - _HELD_TICKS
            collect_after(_NOT_YET)

    def _collect(self) -> None:
        self._ticks = 0
        self._held = False
        gc.collect()
        collect_after(_COLLECT_AFTER)
        self.live_heap = mem_alloc()
        self.min_free = min(self.min_free, mem_free())
        self._collections += 1
        if self._collections >= _LOOK_COLLECTIONS:
            self._collections = 0
            self.min_block = largest_block(self.min_block)

    async def _guard(self, task: SupervisedTask) -> None:
        error = None
        try:
            await task.start(self._clock.now())
        except Exception as raised:  # whatever it is, the other tasks go on
            error = raised
        task.running = False  # first: it is restarted also without memory for the rest
        wait = task.failed(self._clock.now())
        self._log.error(
            "supervisor", "task {}: {}; restart in {} ms", task.name, error or "ended", wait
        )
        if error:
            self._log.trace(error)

    def _check(self, now: int) -> None:
        for task in self.tasks:
            if not task.running and now >= task.restart_at:
                # Marked at once: the coroutine itself begins a little later.
                task.running = True
                task.beat()
                try:
                    asyncio.create_task(self._guard(task))
                except MemoryError:
                    task.running = False  # until the next look; the other tasks go on
        stalled = self.stalled(now)
        if stalled != self._complained:
            self._complained = stalled
            if stalled:
                self._log.error("supervisor", "task {} makes no progress", stalled)
        if self._watchdog and not stalled:
            self._watchdog.feed()

    async def run(self) -> None:
        """Runs for ever."""
        collect_after(_COLLECT_AFTER)
        while True:
            before = self._clock.now()
            self._check(before)
            self._ticks += 1
            # Now and then, and not only when memory has ended: `live_heap` is true after it alone.
            if self._ticks >= _COLLECT_TICKS:
                self._collect()
            started = self._clock.now()
            await sleep_ms(_TICK_MS)
            # The time that one turn of this loop took beyond its sleep, itself included.
            lag = self._clock.now() - started - _TICK_MS
            self.max_lag_ms = max(self.max_lag_ms, lag, started - before)
