"""Lamp and buzzer: what is shown when, and that it starts in the call that asks for it."""

from tapauth.feedback import (
    ACCEPTED,
    BUZZER,
    FAULT,
    GREEN,
    OFFLINE,
    READING,
    READY,
    RED,
    REFUSED,
    Feedback,
)


class Desk:
    """A port that writes down what it is told, and when."""

    def __init__(self):
        self.now = 0
        self.told = []
        self.feedback = Feedback(self.port)

    def port(self, pattern, outputs):
        self.told.append((self.now, pattern, outputs))

    def run(self, until):
        """Step as the task does; returns what was told meanwhile."""
        before = len(self.told)
        while self.now < until:
            self.feedback.step(self.now)
            self.now += 50
        return self.told[before:]

    def shown(self):
        return self.told[-1][1]


def test_ready_is_a_short_green_flash_every_three_seconds():
    told = Desk().run(6000)
    assert told == [(0, READY, GREEN), (100, READY, 0), (3000, READY, GREEN), (3100, READY, 0)]


def test_a_pattern_starts_in_the_call():
    desk = Desk()
    desk.run(1000)
    for name, outputs in ((READING, GREEN), (ACCEPTED, GREEN | BUZZER), (REFUSED, RED | BUZZER)):
        desk.now += 1
        desk.feedback.show(name, desk.now)
        assert desk.told[-1] == (desk.now, name, outputs)


def test_accepted_beeps_once_then_is_green_and_ends():
    desk = Desk()
    desk.run(500)
    desk.feedback.show(ACCEPTED, 500)
    desk.run(3700)
    assert desk.told[2:] == [
        (500, ACCEPTED, GREEN | BUZZER),
        (700, ACCEPTED, GREEN),
        (3500, READY, GREEN),
        (3600, READY, 0),
    ]


def test_refused_beeps_three_times_in_red():
    desk = Desk()
    desk.feedback.show(REFUSED, 0)
    desk.run(2200)
    told = desk.told
    assert [outputs for _, name, outputs in told if name == REFUSED] == [6, 2, 6, 2, 6, 2]
    assert told[6] == (2100, READY, GREEN)


def test_reading_blinks_until_the_decision_or_gives_up():
    desk = Desk()
    desk.feedback.show(READING, 0)
    assert len(desk.run(1000)) == 9
    desk.feedback.show(ACCEPTED, 1000)
    assert desk.shown() == ACCEPTED
    desk.feedback.show(READING, 1000)
    desk.run(20_950)
    assert desk.shown() == READING
    desk.run(21_100)
    assert desk.shown() == READY


def test_the_gravest_condition_is_shown():
    desk = Desk()
    desk.run(100)
    desk.feedback.condition(OFFLINE, True, 100)
    assert desk.shown() == OFFLINE
    desk.feedback.condition(FAULT, True, 100)
    assert desk.shown() == FAULT
    desk.feedback.condition(OFFLINE, False, 100)
    assert desk.shown() == FAULT
    desk.feedback.condition(OFFLINE, True, 100)
    desk.feedback.condition(FAULT, False, 100)
    assert desk.shown() == OFFLINE
    desk.feedback.condition(OFFLINE, False, 100)
    assert desk.shown() == READY


def test_a_condition_waits_behind_a_decision():
    desk = Desk()
    desk.feedback.show(ACCEPTED, 0)
    desk.feedback.condition(FAULT, True, 0)
    desk.run(2950)
    assert desk.shown() == ACCEPTED
    desk.run(3100)
    assert desk.shown() == FAULT


def test_a_condition_told_again_does_not_start_its_pattern_anew():
    desk = Desk()
    desk.feedback.condition(FAULT, True, 0)
    desk.run(400)
    desk.feedback.condition(FAULT, True, 400)
    assert desk.run(1100) == [(500, FAULT, 0), (1000, FAULT, RED)]


def test_the_port_hears_of_changes_only():
    desk = Desk()
    told = desk.run(60_000)
    assert len(told) == 40
    assert all(told[i][1:] != told[i + 1][1:] for i in range(len(told) - 1))
