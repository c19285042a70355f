"""A new firmware on trial: kept when it is healthy for long enough, given up when it is not.

The boot part (tapauth_boot.py) starts a new firmware at most three times without a confirmation;
after that it goes back to the old one by itself. So what is left to do here is to confirm, or to
restart. A trial is in one of these states:

    unhealthy   since the start, or again; after `give_up_s` from the start, the board restarts
    healthy     since `_healthy_since`; after `confirm_s` without a break the slot is confirmed
    over        confirmed: nothing is watched any more, until the next update

Healthy is what the composition root says: the reader answers, the link is up (or the board is
configured to do without), no task stalls. A task that failed since the last look is no health
either, though the supervisor has started it again: a firmware whose tasks fail now and then is
none to keep. In a conflict:

* A driver who charges wins: while a restart would end somebody's charging, the trial goes on.
* Health wins over time: a firmware that becomes healthy after `give_up_s`, while somebody charges,
  can still be confirmed.
* A power cut in between costs one of the three starts, and nothing else.
"""

from tapauth.compat import sleep_ms


class FirmwareTrial:
    """`boot` is the boot part (on_trial(), confirm()), `settings` the section "update".

    `healthy()` tells how it goes and `restarts()` how often a task failed since the start;
    `busy()` tells whether a restart of the board would end somebody's charging, and `restart()`
    restarts it. Times are in milliseconds.
    """

    def __init__(self, boot, settings: dict, log, healthy, restarts, busy, restart):
        self.running = boot.on_trial()
        self._boot = boot
        self._confirm_ms = settings["confirm_s"] * 1000
        self._give_up_ms = settings["give_up_s"] * 1000
        self._log = log
        self._healthy = healthy
        self._restarts = restarts
        self._seen = 0  # of the restarts
        self._busy = busy
        self._restart = restart
        self._healthy_since: int | None = None

    def step(self, now: int) -> None:
        """To be called every second or so; `now` counts from the start."""
        if not self.running:
            return
        # In each step, healthy or not: a failure before this one counts no more.
        restarts = self._restarts()
        steady = restarts == self._seen
        self._seen = restarts
        if not steady or not self._healthy():
            self._healthy_since = None
            if now >= self._give_up_ms and not self._busy():
                self._log.error("update", "not healthy for too long: restart")
                self._restart()
            return
        if self._healthy_since is None:
            self._healthy_since = now
        if now - self._healthy_since >= self._confirm_ms:
            self.running = False
            if self._boot.confirm():
                self._log.info("update", "slot {} confirmed", self._boot.running)


async def run(trial: FirmwareTrial, clock, beat) -> None:
    """Watch a trial for ever."""
    while True:
        beat()
        trial.step(clock.now())
        await sleep_ms(1000)
