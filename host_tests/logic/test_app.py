"""The application between its parts: what one of them cannot do costs the others nothing."""

import asyncio
import sys

from recording_link import RecordingLink, quiet_log
from scarcity import without_memory_for

from tapauth import console, log
from tapauth.compat import MICROPYTHON, largest_block, late
from tapauth.core import taps
from tapauth.errors import Errors
from tapauth.health import Health
from tapauth.local import interface
from tapauth.local.interface import LocalInterface
from tapauth.reader import scanner
from tapauth.supervisor import Supervisor
from tapauth.wallclock import WallClock

from moved_clock import MovedClock

sys.modules["board"] = type("Board", (), {})()  # type: ignore[assignment]
from tapauth.roles.base import App  # noqa: E402

del sys.modules["board"]
if MICROPYTHON:
    import micropython

TOKEN = {"id_token": {"value": "04a1", "type": "ISO14443"}, "authorization_type": "RFID"}


def without_memory(*arguments, **named):
    """Stands in for a function that finds no memory."""
    raise MemoryError


class Part:
    """Notes what it is told, or has no memory for it."""

    def __init__(self, short=False):
        self.told = []
        self.short = short

    def evses(self):
        return []

    def link_up(self):
        self.note("link_up")

    def tick(self, now):
        self.note("tick")

    def push(self, event, members, for_admins=None):
        raise MemoryError

    def show(self, name, now):
        self.note(name)

    def condition(self, name, met, now):
        if met:
            self.note(name)

    def note(self, what):
        if self.short:
            raise MemoryError
        self.told.append(what)


def make(*parts):
    """An App with as much of it as a test needs."""
    app = App()
    app.clock = MovedClock(1000)
    app.log = quiet_log(app.clock)
    app.link = RecordingLink()
    app.errors = Errors("b/errors", app.log, app.link)
    app.supervisor = Supervisor(app.clock, app.log)
    app.health = Health("b/health", 60, app.clock, app.supervisor, app.link, dict)
    app.feedback = Part()
    app.apis = list(parts)
    app.wallclock = WallClock(app.clock, lambda unix, now: None)
    return app


def turn(app):
    """One turn of the task of the APIs."""
    beats = []

    def beat():
        if beats:
            raise StopIteration
        beats.append(1)

    try:
        asyncio.run(app.tick(beat))
    except (StopIteration, RuntimeError):
        pass


def test_a_part_without_memory_at_connect_keeps_no_other_from_its_connection():
    app = make(Part(True), Part())
    app.link_up()
    assert app.apis[1].told == ["link_up"]
    app = make(Part())
    app.health.report = without_memory
    app.link_up()
    assert app.apis[0].told == ["link_up"]
    assert app.link.take() == [("b/errors", [])]


def test_a_part_without_memory_for_what_is_due_keeps_no_other_from_it():
    app = make(Part(True), Part())
    turn(app)
    assert app.apis[1].told == ["tick"]


def test_a_lost_reader_is_shown_when_there_is_no_memory_to_publish_it():
    app = make()
    app.errors.set = without_memory
    try:
        app.card(scanner.LOST, "no ACK", 1000)
    except MemoryError:
        pass  # its task is restarted
    assert app.feedback.told == ["fault"]


def test_a_module_that_there_was_no_memory_to_load_is_told_once():
    app = make()
    app.log = log.Log(app.clock, b"", write=lambda line: lines.append(line))
    lines = []
    turn(app)
    said = len(lines)
    failures = late.failures
    try:
        with without_memory_for("tapauth.ntp"):
            asyncio.run(app.keep_time(None))
    except MemoryError:
        pass  # its task is restarted
    turn(app)
    turn(app)
    assert late.failures == failures + 1
    assert [line.split("app: ")[1] for line in lines[said:]] == [
        f"no memory to load ntp; {late.failures} times so far"
    ]


def test_the_worst_of_the_heap_since_the_start_is_in_the_health_report():
    app = make()
    report = app.health.report()
    supervisor = app.supervisor
    assert report["heap_min_largest_block"] <= report["heap_largest_block"]
    if not MICROPYTHON:
        return
    hogs = []
    size = 1 << 14
    while size > 1024:  # holes are left, but no large one
        try:
            hogs.append(bytearray(size))
        except MemoryError:
            size //= 2
    worst = largest_block(supervisor.min_block)
    del hogs
    supervisor.min_block = worst  # as run() does every ten seconds
    report = app.health.report()
    assert report["heap_min_largest_block"] == worst < 4096


def test_a_driver_without_memory_for_his_tap_is_told_to_try_again():
    app = make()
    app.provide_token = without_memory
    app.card(taps.TOKEN, TOKEN, 1000)
    assert app.feedback.told == ["reading", "refused"]


def test_who_watches_costs_no_driver_his_tap_when_memory_is_short():
    app = make()
    app.settings = settings_of_local()
    local = LocalInterface(app, Part(), None, None)
    for server, dropped in ((None, 0), (Part(), 3)):
        local.door.server = server
        if MICROPYTHON:
            micropython.heap_lock()
        try:
            local.token_status(TOKEN, "Rejected")
            local.evses_changed()
            local.errors_changed(app.apis)
        finally:
            if MICROPYTHON:
                micropython.heap_unlock()
        assert local.door.counts["server_events_dropped"] == dropped


def test_a_restart_that_is_wanted_is_no_failure_of_code_in_flash():
    told = []
    board = sys.modules["tapauth.roles.base"].board
    board.reset = lambda: told.append("reset")
    app = App()
    app.restart()
    assert told == ["reset"] and app.allow_pinning() == "another chip"
    app.pins = Part()
    app.pins.well = lambda: told.append("well")
    app.restart()
    assert told == ["reset", "well", "reset"]


def settings_of_local(tls=False):
    return {"server": {}, "network": {"hostname": ""}, "mqtt": {"tls": {"enabled": tls}}}


def beats_until_it_opens(tls, connects_at):
    """After how many beats a local interface opens whose link connects at one of them."""
    app = make()
    app.settings = settings_of_local(tls)
    app.link.connected = False
    local = LocalInterface(app, Part(), None, None)
    beats = []

    def beat():
        beats.append(1)
        app.link.connected = len(beats) >= connects_at

    async def soon(ms):
        pass

    async def opening():
        raise MemoryError

    local.door.open = opening
    own, interface.sleep_ms = interface.sleep_ms, soon
    try:
        asyncio.run(local.run(beat))
    except MemoryError:
        return len(beats)
    finally:
        interface.sleep_ms = own


def test_the_local_interface_opens_after_tls_to_the_broker_and_does_not_wait_for_ever():
    assert beats_until_it_opens(tls=True, connects_at=5) == 5
    assert beats_until_it_opens(tls=False, connects_at=5) == 1
    assert beats_until_it_opens(tls=True, connects_at=1000) == 151


class Typed:
    """A console on which `text` is typed: it stands in for `select` and for `sys`."""

    POLLIN = 1

    def __init__(self, text):
        self.stdin = self
        self.text = text

    def poll(self, wait=None):
        return self if wait is None else bool(self.text)

    def register(self, stream, what):
        pass

    def read(self, count):
        character, self.text = self.text[0], self.text[1:]
        return character


def test_a_console_line_without_memory_does_not_keep_the_console_from_the_next_one():
    typed = Typed("status\n" * 2)
    told = []
    real = console.select, console.sys, asyncio.create_task
    left = [1]

    def create_task(coroutine):
        if left[0]:
            left[0] = 0
            coroutine.close()
            raise MemoryError
        return real[2](coroutine)

    async def main():
        it = console.Console(lambda: told.append(1), str, quiet_log(MovedClock()))
        asyncio.create_task = create_task
        for _ in range(2):  # as its supervisor starts it again
            beats = []

            def beat(beats=beats):
                beats.append(1)
                if len(beats) > 3:
                    raise ValueError

            try:
                await it.run(beat)
            except (MemoryError, ValueError):
                pass

    console.select = console.sys = typed
    try:
        asyncio.run(main())
    finally:
        console.select, console.sys, asyncio.create_task = real
    assert told == [1]
