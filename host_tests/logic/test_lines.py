"""EVSEs by lines: events and the enable output, with inputs that a test sets and a moved clock."""

import asyncio

from tapauth.core import effects
from tapauth.core.authorizer import Authorizer
from tapauth.core.settings import AuthSettings
from tapauth.evse.lines import Debounced, LineEvse, LineEvses, session_event

ACCEPTED = {"command": "authorize_response", "result": {"authorization_status": "Accepted"}}
BLOCKED = {"command": "authorize_response", "result": {"authorization_status": "Blocked"}}
WITHDRAW = {"command": "withdraw_authorization"}
STOP = {"command": "stop_transaction", "reason": "Local"}


class Bench:
    """One EVSE; `plugged` and `fault` are its inputs. `enabled` notes each sample's output."""

    def __init__(self, plugged=False, fault=False):
        self.evse = LineEvse(50)
        self.plugged = plugged
        self.fault = fault
        self.now = 0

    def run(self, ms=100):
        """Events of this time."""
        for _ in range(0, ms, 10):
            self.now += 10
            self.evse.sense(self.plugged, self.fault, self.now)
        return self.events()

    def events(self):
        names = [session_event(name)["event"] for name in self.evse.events]
        self.evse.events.clear()
        return names

    def tell(self, command):
        self.evse.command(command)
        return self.events()


def charging():
    bench = Bench(plugged=True)
    assert bench.run() == ["SessionStarted"]
    assert bench.tell(ACCEPTED) == ["TransactionStarted"]
    assert bench.evse.enable
    return bench


def test_an_input_counts_when_it_was_quiet():
    line = Debounced(50)
    assert line.level is None
    assert not line.feed(True, 0)
    assert not line.feed(True, 49)
    assert line.level is None
    assert line.feed(True, 50) and line.level is True
    assert not line.feed(False, 60)
    assert not line.feed(True, 100)
    assert not line.feed(False, 110)
    assert not line.feed(False, 159)
    assert line.level is True
    assert line.feed(False, 160) and line.level is False


def test_plug_then_card_then_unplug():
    bench = charging()
    assert bench.run(1000) == [] and bench.evse.enable
    bench.plugged = False
    assert bench.run() == ["TransactionFinished", "SessionFinished"]
    assert not bench.evse.enable
    bench.plugged = True
    assert bench.run() == ["SessionStarted"]
    assert not bench.evse.enable


def test_card_then_plug():
    bench = Bench()
    assert bench.run() == []
    bench.evse.command(ACCEPTED)
    assert session_event(bench.evse.events[0])["session_started"] == {"reason": "Authorized"}
    assert bench.events() == ["SessionStarted"]
    assert bench.run(1000) == [] and not bench.evse.enable
    bench.plugged = True
    assert bench.run(40) == [] and not bench.evse.enable
    assert bench.run(50) == ["TransactionStarted"] and bench.evse.enable


def test_a_plug_in_says_so():
    bench = Bench(plugged=True)
    while not bench.evse.events:
        bench.now += 10
        bench.evse.sense(True, False, bench.now)
    assert [session_event(name) for name in bench.evse.events] == [
        {
            "event": "SessionStarted",
            "connector_id": 1,
            "session_started": {"reason": "EVConnected"},
        }
    ]


def test_a_refusal_enables_nothing():
    bench = Bench(plugged=True)
    bench.run()
    assert bench.tell(BLOCKED) == []
    assert bench.run() == [] and not bench.evse.enable


def test_a_start_authorizes_nothing_whatever_the_inputs():
    for plugged in (False, True):
        for fault in (False, True):
            bench = Bench(plugged, fault)
            assert not bench.evse.enable
            bench.run(1000)
            assert not bench.evse.enable


def test_nothing_starts_before_the_inputs_are_known():
    bench = Bench(plugged=True)
    bench.evse.command(ACCEPTED)
    bench.now = 10
    bench.evse.sense(True, False, 10)
    assert not bench.evse.enable
    assert "TransactionStarted" in bench.run() and bench.evse.enable


def test_stop_ends_the_transaction_and_the_authorization():
    bench = charging()
    assert bench.tell(STOP) == ["TransactionFinished"]
    assert bench.run() == [] and not bench.evse.enable
    assert bench.tell(STOP) == []
    bench.plugged = False
    assert bench.run() == ["SessionFinished"]


def test_withdraw_before_the_plug_ends_the_session():
    bench = Bench()
    bench.run()
    bench.tell(ACCEPTED)
    assert bench.tell(WITHDRAW) == ["Deauthorized", "SessionFinished"]
    bench.plugged = True
    assert bench.run() == ["SessionStarted"] and not bench.evse.enable


def test_withdraw_while_charging_switches_off_too():
    bench = charging()
    assert bench.tell(WITHDRAW) == ["TransactionFinished", "Deauthorized"]
    assert bench.run() == [] and not bench.evse.enable


def test_a_fault_switches_off_and_needs_a_new_authorization():
    bench = charging()
    bench.fault = True
    assert bench.run() == ["TransactionFinished", "PermanentFault"]
    assert not bench.evse.enable
    bench.fault = False
    assert bench.run(1000) == ["PermanentFaultCleared"] and not bench.evse.enable


def test_a_fault_takes_a_waiting_authorization():
    bench = Bench()
    bench.run()
    bench.tell(ACCEPTED)
    bench.fault = True
    assert bench.run() == ["PermanentFault", "Deauthorized", "SessionFinished"]
    bench.fault = False
    bench.plugged = True
    assert bench.run() == ["PermanentFaultCleared", "SessionStarted"]
    assert not bench.evse.enable


def test_an_authorization_during_a_fault_is_given_back():
    bench = Bench(plugged=True, fault=True)
    bench.run()
    assert bench.tell(ACCEPTED) == ["Deauthorized"]
    bench.fault = False
    bench.run()
    assert not bench.evse.enable


def test_a_glitch_changes_nothing():
    bench = charging()
    for line in ("plugged", "fault"):
        setattr(bench, line, not getattr(bench, line))
        assert bench.run(40) == []
        setattr(bench, line, not getattr(bench, line))
        assert bench.run(200) == [] and bench.evse.enable


class Line:
    """A pin: its level, and what it was driven to."""

    def __init__(self, level):
        self.level = level

    def __call__(self, level=None):
        if level is None:
            return self.level
        self.level = level
        return None


class Quiet:
    def warning(self, *_):
        pass

    info = warning

    def now(self):
        return 0


LINES = {"debounce_ms": 50, "plugged_low": True, "enable_low": False, "fault_low": False}


def test_polarity_and_off():
    for enable_low in (False, True):
        on = 0 if enable_low else 1
        for plugged_low in (False, True):
            config = dict(LINES)
            config.update({"plugged_low": plugged_low, "enable_low": enable_low})
            pins = (Line(0 if plugged_low else 1), Line(on), Line(0))
            evses = LineEvses([pins], config, Quiet(), Quiet(), lambda n, event: None)
            assert pins[1].level != on, "off as soon as it is there"
            for now in range(0, 100, 10):
                evses.poll(now)
            evses.command(1, ACCEPTED)
            evses.poll(100)
            assert pins[1].level == on
            evses.command(7, ACCEPTED)
            evses.off()
            assert pins[1].level != on


def test_a_broken_wire_is_a_fault_by_default():
    pins = (Line(0), Line(0), Line(1))  # pulled up
    seen = []
    evses = LineEvses(
        [pins], LINES, Quiet(), Quiet(), lambda n, event: seen.append(event["event"])
    )
    for now in range(0, 100, 10):
        evses.poll(now)
    evses.command(1, ACCEPTED)
    evses.poll(100)
    assert "PermanentFault" in seen and pins[1].level == 0


def test_refused_events_are_counted():
    pins = (Line(0), Line(0), Line(0))
    evses = LineEvses([pins], LINES, Quiet(), Quiet(), lambda n, event: "no such EVSE")
    for now in range(0, 100, 10):
        evses.poll(now)
    assert evses.refused == 1


def test_an_event_for_which_there_was_no_memory_is_told_again():
    pins = (Line(0), Line(0), Line(0))
    told = []
    short = []

    def report(number, event):
        if short.pop() if short else False:
            raise MemoryError
        told.append(event["event"])

    evses = LineEvses([pins], LINES, Quiet(), Quiet(), report)
    for now in range(0, 100, 10):
        evses.poll(now)
    assert told == ["SessionStarted"]
    short.extend([True, True])
    evses.command(1, ACCEPTED)
    for now in (100, 110):
        evses.poll(now)
        assert told == ["SessionStarted"] and pins[1].level == 1, "the charge goes on"
    evses.poll(120)
    evses.poll(130)
    assert told == ["SessionStarted", "TransactionStarted"], "once"
    short.extend([False, True, False, True])  # of the last two, told in order
    pins[0].level = 1
    for now in range(140, 240, 10):
        evses.poll(now)
    assert told[2:] == ["TransactionFinished", "SessionFinished"] and pins[1].level == 0


class Ticks(Quiet):
    def __init__(self):
        self.ms = 0

    def now(self):
        return self.ms


def test_a_command_switches_at_once_while_the_inputs_are_polled():
    pins = (Line(0), Line(0), Line(0))
    clock = Ticks()
    told = []
    short = []
    seen = []

    class Done(Exception):
        pass

    class Short(Line):
        """An input that is looked at without memory, once for each in `short`."""

        def __call__(self, *level):
            if short:
                raise short.pop()
            return super().__call__(*level)

    def beat():
        clock.ms += 10
        if clock.ms == 100:
            evses.command(1, ACCEPTED)
            seen.append(pins[1].level)
            assert told == ["SessionStarted"], "the report waits for the poll"
        elif clock.ms == 120:
            evses.command(1, {"command": "stop_transaction"})
            seen.append(pins[1].level)
        elif clock.ms == 140:
            pins[2].level = 1  # a wire breaks: not certain yet when the command comes
        elif clock.ms == 200:
            evses.command(1, ACCEPTED)
            seen.append(pins[1].level)
            pins[2].level = 0
        elif clock.ms == 300:
            short.append(MemoryError())
            evses.command(1, ACCEPTED)
            seen.append(pins[1].level)
        elif clock.ms == 310:
            seen.append(pins[1].level)
            raise Done

    pins = (Short(0), pins[1], pins[2])
    evses = LineEvses([pins], LINES, clock, Quiet(), lambda n, event: told.append(event["event"]))
    try:
        asyncio.run(evses.run(beat))
    except Done:
        pass
    assert seen == [1, 0, 0, 0, 1], seen
    assert told.count("TransactionStarted") == 2 and pins[1].level == 0


def test_no_line_is_switched_on_by_what_its_inputs_once_were():
    pins = (Line(0), Line(0), Line(0))
    told = []
    clock = Ticks()
    evses = LineEvses([pins], LINES, clock, Quiet(), lambda n, event: told.append(event["event"]))

    class Dead(Exception):
        pass

    def beats(count, enabled):
        """A heartbeat that ends the task, after so many polls 10 ms apart."""

        def beat():
            clock.ms += 10
            enabled.append(pins[1].level)
            if len(enabled) == count:
                raise Dead

        return beat

    def live(count):
        enabled = []

        async def task():
            try:
                await evses.run(beats(count, enabled))
            except Dead:
                pass

        asyncio.run(task())
        return enabled

    live(10)
    assert told == ["SessionStarted"]
    # The task is dead, and waits for its restart; the car leaves, and a wire breaks.
    pins[0].level = pins[2].level = 1
    evses.command(1, ACCEPTED)
    assert pins[1].level == 0
    assert live(20) == [0] * 20
    assert "PermanentFault" in told and told[-1] == "SessionFinished"
    # One that charged does not go on by itself.
    pins[0].level = pins[2].level = 0
    live(10)
    evses.command(1, ACCEPTED)
    assert live(10)[-1] == 0, "it was authorized before anybody looked"
    del told[:]
    evses.poll(clock.ms)
    evses.command(1, ACCEPTED)
    evses.poll(clock.ms)
    assert pins[1].level == 1
    evses.off()
    assert live(20) == [0] * 20
    assert told.count("TransactionStarted") == told.count("TransactionFinished") == 1


class Scarce(Line):
    """A plugged input; there is no memory to look at it for `short` times."""

    short = 0

    def __call__(self, level=None):
        if self.short:
            self.short -= 1
            raise MemoryError
        return 0


def test_lines_that_nobody_can_look_at_any_more_are_switched_off():
    for short in (4, 5):
        pins = (Scarce(0), Line(0), Line(0))
        clock = Ticks()
        evses = LineEvses([pins], LINES, clock, Quiet(), lambda n, event: None)
        enabled = []

        def beat(pins=pins, clock=clock, evses=evses, enabled=enabled, short=short):
            clock.ms += 10
            if clock.ms == 100:
                evses.command(1, ACCEPTED)
            elif clock.ms == 150:
                pins[0].short = short
            elif clock.ms == 300:
                raise KeyError("the end")
            enabled.append(pins[1].level)

        try:
            asyncio.run(evses.run(beat))
        except MemoryError:
            ended = True
        except KeyError:
            ended = False
        assert ended == (short == 5) and pins[1].level == 0
        assert enabled[11:] and all(enabled[11:]), "a moment ends no charge"


def test_an_event_that_cannot_be_taken_is_not_told_for_ever():
    pins = (Line(0), Line(0), Line(0))
    told = []

    def report(number, event):
        told.append(event["event"])
        raise KeyError("a fault elsewhere")

    evses = LineEvses([pins], LINES, Quiet(), Quiet(), report)
    for now in range(0, 100, 10):
        try:
            evses.poll(now)
        except KeyError:
            pass
    assert told == ["SessionStarted"]


def test_with_the_core_a_card_starts_and_stops_what_is_plugged():
    core = Authorizer(AuthSettings(connection_timeout=60), [1])
    pins = (Line(0), Line(0), Line(0))
    now = 0

    def report(number, event):
        refusal = core.session_event(number, event, now)
        carry()
        return refusal

    evses = LineEvses([pins], LINES, Quiet(), Quiet(), report)
    statuses = []

    def carry():
        for effect in core.take_effects():
            kind = effect[0]
            if kind == effects.STATUS:
                statuses.append(effect[2])
            elif kind == effects.VALIDATE:
                result = {"authorization_status": "Accepted"}
                core.validation_result(effect[1], result, now, True)
                carry()
            elif kind == effects.AUTHORIZE_RESPONSE:
                evses.command(effect[1], {"command": kind, "result": effect[3]})
            elif kind in (effects.STOP_TRANSACTION, WITHDRAW["command"]):
                evses.command(effect[1], {"command": kind})

    def pass_time():
        nonlocal now
        for _ in range(20):
            now += 10
            evses.poll(now)
            core.poll(now)
            carry()

    card = {
        "id_token": {"value": "04a1b2c3d4e5f6", "type": "ISO14443"},
        "authorization_type": "RFID",
    }
    pass_time()
    core.provide_token(card, now)
    carry()
    pass_time()
    assert pins[1].level == 1, statuses
    core.provide_token(card, now)
    carry()
    pass_time()
    assert pins[1].level == 0
    assert statuses == ["Processing", "Accepted", "UsedToStart", "Processing", "UsedToStop"]
    pins[0].level = 1
    pass_time()
    pins[0].level = 0
    core.provide_token(card, now)
    carry()
    pass_time()
    assert pins[1].level == 1
    now += 3_600_000
    pass_time()
    assert pins[1].level == 1, "a grant that is used does not run out"
