"""The supervisor: restarts with backoff, and a watchdog that is fed only while all is well."""

import asyncio

from tapauth import compat, log
from tapauth import supervisor as supervising
from tapauth.supervisor import Backoff, SupervisedTask, Supervisor

from moved_clock import MovedClock


class Watchdog:
    def __init__(self):
        self.fed = 0

    def feed(self):
        self.fed += 1


def quiet_log(clock):
    return log.Log(clock, b"", write=lambda line: None)


def test_backoff_doubles_to_its_limit_and_starts_again():
    backoff = Backoff(100, 350)
    assert [backoff.next() for _ in range(4)] == [100, 200, 350, 350]
    backoff.reset()
    assert [backoff.next() for _ in range(2)] == [100, 200]


def test_a_task_is_stalled_when_it_runs_and_does_not_beat():
    clock = MovedClock()

    async def run(beat):
        pass

    task = SupervisedTask("t", run, 1000, clock)
    assert not task.stalled(clock.advance(5000))
    task.start(clock.now()).close()
    assert not task.stalled(clock.advance(1000))
    assert task.stalled(clock.advance(1))
    task.beat()
    assert not task.stalled(clock.now())


def test_a_task_that_was_healthy_for_long_is_restarted_soon_again():
    clock = MovedClock()

    async def run(beat):
        pass

    task = SupervisedTask("t", run, 1000, clock)
    waits = []
    for lived in (0, 0, 0, 60_000, 0):
        task.start(clock.now()).close()
        waits.append(task.failed(clock.advance(lived)))
    assert waits == [500, 1000, 2000, 500, 1000], waits
    assert task.restarts == 5


def run_for(supervisor, ms):
    """Run the supervisor's own loop for a while in real time."""

    async def main():
        running = asyncio.create_task(supervisor.run())
        await compat.sleep_ms(ms)
        running.cancel()

    asyncio.run(main())


def test_a_failing_task_is_restarted_and_the_others_go_on():
    clock = compat.Clock()
    watchdog = Watchdog()
    supervisor = Supervisor(clock, quiet_log(clock), watchdog)
    starts = []
    steps = []

    async def failing(beat):
        starts.append(clock.now())
        raise ValueError("as planned")

    async def steady(beat):
        while True:
            beat()
            steps.append(1)
            await compat.sleep_ms(20)

    supervisor.add("failing", failing)
    supervisor.add("steady", steady)
    run_for(supervisor, 1000)
    assert len(starts) == 2, starts
    assert starts[1] - starts[0] >= 500
    assert supervisor.tasks[0].restarts == 2
    assert supervisor.tasks[1].restarts == 0
    assert len(steps) > 20
    assert watchdog.fed > 5


def test_collections_are_put_off_while_drivers_wait_but_not_for_long():
    clock = compat.Clock()
    supervisor = Supervisor(clock, quiet_log(clock))
    told = []

    async def reader(beat):
        while True:
            supervisor.hold_collection()  # a card after the other
            beat()
            await compat.sleep_ms(50)

    own = supervising.collect_after
    supervising.collect_after = lambda size: told.append((size, clock.now()))
    try:
        supervisor.add("reader", reader)
        run_for(supervisor, 1500)
    finally:
        supervising.collect_after = own
    usual = told[0][0]
    assert usual > 0 and [size for size, _ in told[:5]] == [usual, -1, usual, -1, usual], told
    for held, over in ((1, 2), (3, 4)):
        # At most four ticks of run(), which may take longer on a loaded machine.
        assert told[over][1] - told[held][1] >= 250, told


def test_a_task_there_is_no_memory_to_start_does_not_end_the_firmware():
    clock = compat.Clock()
    watchdog = Watchdog()
    supervisor = Supervisor(clock, quiet_log(clock), watchdog)
    starts = []

    async def failing(beat):
        starts.append(clock.now())
        raise ValueError("as planned")

    supervisor.add("failing", failing)
    real = asyncio.create_task
    left = [3]

    def create_task(coroutine):
        if left[0]:
            left[0] -= 1
            coroutine.close()
            raise MemoryError
        return real(coroutine)

    async def main():
        running = asyncio.create_task(supervisor.run())
        asyncio.create_task = create_task
        await compat.sleep_ms(700)
        assert not running.done()
        running.cancel()

    try:
        asyncio.run(main())
    finally:
        asyncio.create_task = real
    assert len(starts) == 1 and starts[0] >= 200, starts
    assert watchdog.fed > 3


def test_a_task_that_fails_when_there_is_no_memory_is_restarted_too():
    class Clock(compat.Clock):
        short = False

        def now(self):
            if self.short:
                self.short = False
                raise MemoryError
            return super().now()

    clock = Clock()
    supervisor = Supervisor(clock, quiet_log(clock))
    starts = []

    async def failing(beat):
        starts.append(1)
        clock.short = len(starts) == 1
        raise ValueError("as planned")

    supervisor.add("failing", failing)
    run_for(supervisor, 500)
    assert len(starts) == 2, starts
    assert not supervisor.tasks[0].running


def test_a_task_that_ends_is_restarted_too():
    clock = compat.Clock()
    supervisor = Supervisor(clock, quiet_log(clock))

    async def ending(beat):
        pass

    supervisor.add("ending", ending)
    run_for(supervisor, 300)
    assert supervisor.tasks[0].restarts == 1


def test_the_watchdog_starves_while_a_task_hangs():
    clock = compat.Clock()
    watchdog = Watchdog()
    supervisor = Supervisor(clock, quiet_log(clock), watchdog)

    async def hanging(beat):
        beat()
        await asyncio.Event().wait()

    supervisor.add("hanging", hanging, 250)
    run_for(supervisor, 400)
    before = watchdog.fed
    assert supervisor.stalled(clock.now()) == "hanging"
    run_for(supervisor, 300)
    assert watchdog.fed == before


def test_a_blocked_loop_is_measured():
    clock = compat.Clock()
    supervisor = Supervisor(clock, quiet_log(clock))

    async def blocking(beat):
        await compat.sleep_ms(50)
        started = compat.ticks_ms()
        while compat.ticks_diff(compat.ticks_ms(), started) < 150:
            pass
        await asyncio.Event().wait()

    supervisor.add("blocking", blocking)
    run_for(supervisor, 500)
    assert supervisor.max_lag_ms >= 80, supervisor.max_lag_ms


def test_the_largest_block_is_looked_at_every_ten_seconds_and_its_least_is_kept():
    asked = []

    def block(most):
        asked.append(most)
        return most - 100 if len(asked) < 3 else most

    async def soon(ms):
        await own_sleep(0)

    own_block, own_sleep = supervising.largest_block, supervising.sleep_ms
    supervising.largest_block, supervising.sleep_ms = block, soon
    try:
        clock = MovedClock()
        supervisor = Supervisor(clock, quiet_log(clock))
        supervisor.min_block = 5000

        async def main():
            task = asyncio.create_task(supervisor.run())
            while len(asked) < 5:
                await own_sleep(0)
            task.cancel()

        asyncio.run(main())
    finally:
        supervising.largest_block, supervising.sleep_ms = own_block, own_sleep
    assert asked[:5] == [5000, 4900, 4800, 4800, 4800] and supervisor.min_block == 4800
