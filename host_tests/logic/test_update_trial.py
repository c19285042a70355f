"""A firmware on trial: confirmed by health, given up without it."""

from tapauth.update import FirmwareTrial

SETTINGS = {"confirm_s": 120, "give_up_s": 900}


class World:
    """What a trial sees and does."""

    def __init__(self, trial=True):
        self.lines = []
        self.confirmed = self.restarts = self.failures = 0
        self.is_healthy, self.is_busy, self.is_trial = True, False, trial
        self.running = "b"
        self.trial = FirmwareTrial(
            boot=self,
            settings=SETTINGS,
            log=self,
            healthy=lambda: self.is_healthy,
            restarts=lambda: self.failures,
            busy=lambda: self.is_busy,
            restart=self.restart,
        )

    def on_trial(self):
        return self.is_trial

    def confirm(self):
        self.confirmed += 1
        return True

    def restart(self):
        self.restarts += 1

    def info(self, where, text, *arguments):
        self.lines.append(text.format(*arguments))

    error = info

    def run(self, begin_s, end_s):
        for second in range(begin_s, end_s):
            self.trial.step(second * 1000)


def test_health_confirms_once():
    world = World()
    world.run(0, 120)
    assert not world.confirmed
    world.run(120, 2000)
    assert world.confirmed == 1 and world.lines == ["slot b confirmed"]
    world.is_healthy = False
    world.run(2000, 4000)
    assert not world.restarts, "after its confirmation nothing is given up"


def test_health_must_last():
    world = World()
    for begin in range(0, 800, 100):
        world.is_healthy = True
        world.run(begin, begin + 99)
        world.is_healthy = False
        world.run(begin + 99, begin + 100)
    assert not world.confirmed and not world.restarts


def test_a_task_that_fails_now_and_then_is_no_health():
    world = World()
    for begin in range(0, 1000, 100):
        world.failures += 1
        world.run(begin, begin + 100)
    assert not world.confirmed, "never 120 s without a failure"
    world.run(1000, 1019)
    assert not world.confirmed
    world.run(1019, 1022)
    assert world.confirmed == 1


def test_without_health_it_restarts():
    world = World()
    world.is_healthy = False
    world.run(0, 900)
    assert not world.restarts
    world.run(900, 901)
    assert world.restarts == 1 and not world.confirmed


def test_a_restart_waits_for_who_charges():
    world = World()
    world.is_healthy = False
    world.is_busy = True
    world.run(0, 5000)
    assert not world.restarts
    world.is_busy = False
    world.run(5000, 5001)
    assert world.restarts == 1


def test_health_late_is_health():
    world = World()
    world.is_healthy, world.is_busy = False, True
    world.run(0, 1000)
    world.is_healthy = True
    world.run(1000, 1121)
    assert world.confirmed == 1 and not world.restarts


def test_a_confirmed_firmware_is_left_alone():
    world = World(trial=False)
    world.is_healthy = False
    world.run(0, 5000)
    assert not world.restarts and not world.confirmed
