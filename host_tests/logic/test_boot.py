"""Which slot starts: every record, with every state of the slots, and whole histories."""

import os
import sys

import tapauth_boot as boot
import tapauth_slot

C = boot.CONFIRMED
SCRATCH = "tapauth-test-slot"


def sound_in(slots):
    return lambda slot: slot in slots


STATES = ([], ["a"], ["b"], ["a", "b"], [""], ["a", ""], ["b", ""], ["a", "b", ""])
RECORDS = [None] + [(slot, left) for slot in "ab" for left in (C, 0, 1, 2, 3)]


def test_only_whole_slots_start():
    for record in RECORDS:
        for slots in STATES:
            slot, _ = boot.decide(record, sound_in(slots))
            assert slot == "" or slot in slots, (record, slots)
            whole = [slot for slot in slots if slot]
            if whole and "" not in slots:
                assert slot, (record, slots)


def test_the_confirmed_slot_starts_while_it_is_whole():
    for slot in "ab":
        for slots in STATES:
            if slot in slots:
                assert boot.decide((slot, C), sound_in(slots)) == (slot, (slot, C))


def test_a_damaged_confirmed_slot_gives_way_to_one_that_must_prove_itself():
    assert boot.decide(("a", C), sound_in(["b"])) == ("b", ("b", boot.TRIALS - 1))
    assert boot.decide(("b", C), sound_in(["a"])) == ("a", ("a", boot.TRIALS - 1))


def test_a_trial_start_is_paid_before():
    for left in (3, 2, 1):
        assert boot.decide(("b", left), sound_in(["a", "b"])) == ("b", ("b", left - 1))


def test_a_trial_slot_that_is_damaged_is_not_started():
    for left in (3, 2, 1, 0):
        assert boot.decide(("b", left), sound_in(["a"])) == ("a", ("a", C))


def test_three_starts_without_confirmation_bring_the_old_one_back():
    record, started = ("b", boot.TRIALS), []
    for _ in range(6):
        slot, record = boot.decide(record, sound_in(["a", "b"]))
        started.append(slot)
    assert started == ["b", "b", "b", "a", "a", "a"]
    assert record == ("a", C)


def test_without_another_the_failed_one_goes_on():
    record = ("a", boot.TRIALS)
    for _ in range(6):
        slot, record = boot.decide(record, sound_in(["a"]))
        assert slot == "a"


def test_the_layout_before_slots_comes_back_after_a_failed_first_update():
    record, started = ("a", boot.TRIALS), []
    for _ in range(5):
        slot, record = boot.decide(record, sound_in(["a", ""]))
        started.append(slot)
    assert started == ["a", "a", "a", "", ""]


def test_a_lost_record_never_ends_at_nothing():
    record, started = None, []
    for _ in range(5):
        slot, record = boot.decide(record, sound_in(["a", "b"]))
        started.append(slot)
    assert started == ["a", "a", "a", "b", "b"] and record == ("b", C)
    assert boot.decide(None, sound_in(["b"])) == ("b", ("b", 2))
    assert boot.decide(None, sound_in([])) == ("", None)


def test_a_lost_record_starts_the_newer_firmware():
    try:
        for times, expected in (
            ({"a": 5, "b": 9}, "b"),
            ({"a": 9, "b": 5}, "a"),
            ({"b": 5}, "b"),  # a manifest from before it said when
            ({"a": 5}, "a"),
            ({"a": 5, "b": 5}, "a"),
        ):
            boot.built.clear()
            boot.built.update(times)
            assert boot.decide(None, sound_in(["a", "b"])) == (expected, (expected, 2))
            for slot in "ab":
                assert boot.decide(None, sound_in([slot])) == (slot, (slot, 2))
    finally:
        boot.built.clear()


def test_records_are_kept_and_damage_is_seen():
    old = tapauth_slot.RECORD
    tapauth_slot.RECORD = SCRATCH
    try:
        assert boot.read_record() is None
        for record in RECORDS[1:]:
            boot.write_record(*record)
            assert boot.read_record() == record
        with open(SCRATCH) as file:
            text = file.read()
        assert len(text) < 128, "inline in the directory"
        for i in range(len(text) - 1):
            damaged = text[:i] + chr(ord(text[i]) ^ 1) + text[i + 1 :]
            with open(SCRATCH, "w") as file:
                file.write(damaged)
            assert boot.read_record() is None, damaged
        for i in range(len(text) - 1):
            with open(SCRATCH, "w") as file:
                file.write(text[:i])
            assert boot.read_record() is None, text[:i]
    finally:
        tapauth_slot.RECORD = old
        os.remove(SCRATCH)


class Interrupted:
    """A boot_hal whose user presses Ctrl-C at the start, and twice while that is dealt with."""

    def __init__(self):
        self.kept_alive = 0

    def safe_mode(self):
        return False

    def start_watchdog(self, timeout_ms):
        raise KeyboardInterrupt

    def keep_alive(self):
        self.kept_alive += 1
        if self.kept_alive < 3:
            raise KeyboardInterrupt


class Watchdog:
    def feed(self):
        pass


class Ended(Exception):
    """The board restarted."""


class Restarted:
    """A boot_hal of a board that nobody interrupts."""

    def safe_mode(self):
        return False

    def start_watchdog(self, timeout_ms):
        return Watchdog()

    def pause(self, seconds):
        pass

    def reset(self):
        raise Ended


class Chosen:
    """A boot part that has chosen, without being able to write it down."""

    def choose(self):
        return "a"

    def is_sound(self, slot):
        return slot == "a"


def test_a_start_that_could_not_be_written_down_is_one_all_the_same():
    said, started = [], []
    kept = {name: getattr(tapauth_slot, name) for name in ("read_record", "_start", "note")}
    try:
        for record in (None, ("b", 2), ("b", C), ("a", 2), ("a", C)):
            sys.modules["boot_hal"] = Restarted()  # type: ignore[assignment]
            sys.modules["tapauth_boot"] = Chosen()  # type: ignore[assignment]
            tapauth_slot.read_record = lambda record=record: record
            tapauth_slot._start = lambda slot: started.append(slot) or "crashed"
            tapauth_slot.note = said.append
            try:
                tapauth_slot.main()
                raise AssertionError("went on")
            except Ended:
                pass
    finally:
        sys.modules["tapauth_boot"] = boot
        del sys.modules["boot_hal"]
        for name, value in kept.items():
            setattr(tapauth_slot, name, value)
    assert started == ["a"] * 5 and said == ["slot a: crashed"] * 5


class System:
    def __init__(self):
        self.path = ["/run"]
        self.modules = {"tapauth_slot": 1, "boot_hal": 2, "tapauth.app": 3}


def test_more_than_one_ctrl_c_leaves_the_console_ready():
    hal = Interrupted()
    system = System()
    before = tapauth_slot.sys
    sys.modules["boot_hal"] = hal  # type: ignore[assignment]
    tapauth_slot.sys = system  # type: ignore[assignment]
    try:
        tapauth_slot.main()
    finally:
        tapauth_slot.sys = before
        del sys.modules["boot_hal"]
    assert hal.kept_alive == 3
    assert system.path == ["", ".frozen", "/lib"]
    assert sorted(system.modules) == ["boot_hal", "tapauth_slot"]
