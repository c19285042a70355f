"""The parts of the local server that need no network."""

import asyncio
import json
import os

from conn_rig import Connection, Rig, finish
from visitor import Visitor

from tapauth import config_trial as trial_module
from tapauth.config_edit import changed, shown
from tapauth.config_trial import ConfigTrial
from tapauth.local import door, server
from tapauth.local.commands import Commands, Ports
from tapauth.local.interface import LocalInterface
from tapauth.local.learn import Learner
from tapauth.local.pipe import Pipe
from tapauth.local.server import LocalPeer, Server
from tapauth.local.tail import Tail
from tapauth.local.upload import take

from moved_clock import MovedClock

CARD = {"id_token": {"value": "04A1", "type": "ISO14443"}, "authorization_type": "RFID"}


def test_the_tail_keeps_the_last_lines_whole():
    written = []
    tail = Tail(written.append, 64)
    assert tail.lines() == []
    for number in range(30):
        tail(f"line {number}")
    assert written[0] == "line 0" and len(written) == 30
    assert tail.lines() == [f"line {number}" for number in range(23, 30)]
    tail("x" * 100)  # no line takes more than an eighth
    assert tail.lines()[-1] == "x" * 8
    for length in range(60):
        tail("y" * (length % 7))
        assert set("".join(tail.lines())) <= set("line 0123456789xy")
        assert tail.lines()[-1] == "y" * (length % 7)
    tail("\u00e4" * 6)
    assert tail.lines()[-1] == "\u00e4" * 4


def learner():
    clock, told = MovedClock(), []
    return clock, told, Learner(clock, lambda *arguments: told.append(arguments))


def test_a_tap_is_caught_once_and_waits_for_a_yes():
    clock, told, it = learner()
    me, other = Connection(), Connection()
    assert not it.tap(CARD) and it.tapped(me) is None
    it.start(me, 30)
    assert it.tapped(me) is None
    assert it.tap(CARD)
    assert not it.tap(CARD)  # the next one is decided on as ever
    assert told == [(me, "cardTapped", {"idToken": CARD["id_token"]})]
    assert it.tapped(other) is None
    assert it.tapped(me) == CARD["id_token"]
    it.stop(me)
    assert it.tapped(me) is None and it.connection is None


def test_a_tap_that_cannot_be_told_is_decided_on_and_not_learned_behind_it():
    clock, memory = MovedClock(), []

    def tell(*arguments):
        if not memory:
            raise MemoryError

    it, me = Learner(clock, tell), Connection()
    it.start(me, 30)
    try:
        it.tap(CARD)
        raise AssertionError
    except MemoryError:  # so the tap is decided on: see LocalInterface.tap
        assert it.tapped(me) is None and it.owns(me)
    memory.append("again")
    clock.advance(29_999)
    assert it.tap(CARD) and it.tapped(me) == CARD["id_token"]


def test_learning_ends_with_its_window():
    clock, told, it = learner()
    me = Connection()
    it.start(me, 30)
    clock.advance(29_999)
    assert it.tap(CARD)
    clock.advance(29_999)  # the yes has as long again
    it.poll()
    assert it.owns(me)
    clock.advance(1)
    assert it.tapped(me) is None
    assert told[-1] == (me, "learningEnded", {"cause": "time"})
    it.start(me, 5)
    clock.advance(5000)
    assert not it.tap(CARD)
    it.start(me, 5)
    it.stop(Connection())
    assert it.owns(me)
    it.stop(me)
    assert not it.owns(me)


def test_learning_is_for_whoever_is_still_admin():
    rig = Rig()
    admin = rig.login()
    ports = Ports()
    ports.cards = object()
    commands = Commands(rig.auth, ports, rig.clock, rig.log, lambda *arguments: None)
    assert finish(commands.handle(admin, {"method": "learnCard"}))["result"]
    other = rig.login()  # takes the role
    assert not commands.tap(CARD) and commands.learner.connection is None
    assert finish(commands.handle(other, {"method": "learnCard"}))["result"]
    # Nobody waits for a connection that lost the role.
    third = rig.login()
    assert finish(commands.handle(third, {"method": "learnCard"}))["result"]
    assert commands.tap(CARD) and commands.learner.owns(third)


class BusyOnce:
    """A card store with another change under way at first."""

    def __init__(self):
        self.asked = 0
        self.kept = []

    def find(self, token):
        return {"authorization_status": "Accepted"} if token in self.kept else None

    def put(self, token, info):
        self.asked += 1
        if self.asked == 1:
            raise ValueError("another change is under way")
        self.kept.append(token)
        yield 0


def test_a_tapped_card_waits_for_a_store_that_is_busy():
    rig = Rig()
    admin = rig.login()
    ports = Ports()
    ports.cards = cards = BusyOnce()
    commands = Commands(rig.auth, ports, rig.clock, rig.log, lambda *arguments: None)
    assert finish(commands.handle(admin, {"method": "learnCard"}))["result"]
    assert commands.tap(CARD)
    reply = finish(commands.handle(admin, {"method": "confirmCard"}))
    assert not reply["result"] and reply["error"] == "another change is under way"
    assert finish(commands.handle(admin, {"method": "confirmCard"}))["result"]
    assert cards.kept == [CARD["id_token"]]
    reply = finish(commands.handle(admin, {"method": "confirmCard"}))
    assert reply["error"] == "no card was tapped"


def test_one_admin_learns_at_a_time():
    rig = Rig(single_session=False)
    one, other = rig.login(), rig.login()
    ports = Ports()
    ports.cards = object()
    commands = Commands(rig.auth, ports, rig.clock, rig.log, lambda *arguments: None)
    for _ in range(2):
        assert finish(commands.handle(one, {"method": "learnCard"}))["result"]
    reply = finish(commands.handle(other, {"method": "learnCard"}))
    assert reply["error"] == "another connection is learning"
    assert commands.tap(CARD) and commands.learner.owns(one)


def test_errors_tell_no_more_than_they_should():
    rig = Rig()
    admin = rig.login()

    class Cards:
        def find(self, id_token):
            raise KeyError(id_token["value"])

    ports = Ports()
    ports.cards = Cards()
    commands = Commands(rig.auth, ports, rig.clock, rig.log, lambda *arguments: None)
    reply = finish(commands.handle(admin, {"method": "getCard", "idToken": "04ABCDEF"}))
    assert reply["error"] == "KeyError" and reply["result"] is False
    for method, error in (("getConfig", "no configuration file"), ("bench", "no bench")):
        assert finish(commands.handle(admin, {"method": method, "line": ""}))["error"] == error
    assert finish(commands.handle(admin, {"method": "nonsense"}))["error"] == "no such method"


class Full:
    """A server that has no memory for anything, behind its door."""

    def __init__(self):
        self.server = self.commands = self
        self.counts = {"server_events_dropped": 0}

    def push(self, event, members, for_admins):
        raise MemoryError

    tap = evses = name = lambda self, *arguments: self.push(None, None, None)


class Watching(LocalInterface):
    def __init__(self):
        self.app = self
        self.log = self.commands = self.door = Full()


def test_who_watches_cannot_harm_a_tap():
    watching = Watching()
    watching.token_status(CARD, "Accepted")
    watching.evses_changed()
    watching.errors_changed([])
    assert watching.tap(CARD) is False  # decided as ever
    assert watching.door.counts["server_events_dropped"] == 3
    watching.door.server = None
    watching.evses_changed()
    assert watching.tap(CARD) is False


def test_configuration_is_shown_without_secrets_and_changed_with_them():
    text = '{"mqtt": {"host": "h", "password": "s", "user": ""}, "rpc": {"backend_key": "k"}}'
    seen = shown(text)
    assert seen == {
        "mqtt": {"host": "h", "password": "***", "user": ""},
        "rpc": {"backend_key": "***"},
    }
    checked = []
    seen["mqtt"]["host"] = "new"
    seen["rpc"] = {"backend_key": "other"}
    seen["evses"] = [1]
    done = json.loads(changed(text, seen, checked.append))
    assert done["mqtt"] == {"host": "new", "password": "s", "user": ""}
    assert done["rpc"] == {"backend_key": "other"} and done["evses"] == [1]
    assert json.loads(checked[0]) == done
    done = json.loads(changed(text, {"mqtt": {"user": None}, "rpc": None}, checked.append))
    assert done == {"mqtt": {"host": "h", "password": "s"}}
    # A mask that stands for nothing would be believed to be a secret.
    for bad in (
        {"mqtt": {"host": {"x": 1}}},
        {"mqtt": {"host": {"password": "***"}}},
        {"mqtt": {"host": "h", "new_host_password": "***"}},
    ):
        try:
            changed(text, bad, checked.append)
        except ValueError as error:
            assert "host" in str(error)
        else:
            raise AssertionError(bad)


# Trial: every step is a rename, and the power may go before each.


class Cut(Exception):
    pass


# Runs side by side are told apart by their number, where they have one.
STEM = f"build/trial_test_{getattr(os, 'getpid', int)()}."


def clear():
    for name in ("json", "new", "prev", "try"):
        try:
            os.remove(STEM + name)
        except OSError:
            pass
    with open(STEM + "json", "w") as file:
        file.write("old")


def test_a_new_configuration_needs_a_yes():
    clear()
    trial = ConfigTrial(STEM + "json")
    assert trial.begin() == "" and not trial.on and not trial.confirm()
    trial.apply("new")
    assert trial.pending and trial.read() == "new"
    assert trial.begin() == "trial" and trial.on and not trial.pending
    assert trial.confirm() and not trial.on
    assert trial.begin() == "" and trial.read() == "new"


def test_without_a_yes_the_old_one_returns_at_the_next_start():
    clear()
    trial = ConfigTrial(STEM + "json")
    trial.apply("new")
    trial.apply("newer")  # before a restart; the one to return to is still the old
    assert trial.begin() == "trial" and trial.read() == "newer"
    assert trial.begin() == "restored" and trial.read() == "old"
    assert trial.begin() == "" and trial.read() == "old"


def test_a_power_cut_at_any_step_leaves_a_good_configuration():
    rename, remove = os.rename, os.remove
    for steps in range(6):
        clear()
        left = [steps]

        def guarded(work, left=left):
            def step(*arguments):
                if not left[0]:
                    raise Cut
                left[0] -= 1
                work(*arguments)

            return step

        class Fs:
            pass

        fs = Fs()
        fs.open, fs.rename, fs.remove = open, guarded(rename), guarded(remove)
        trial = ConfigTrial(STEM + "json", fs)
        try:
            trial.apply("new")
            trial.begin()
            trial.confirm()
        except Cut:
            pass
        again = ConfigTrial(STEM + "json")
        again.begin()
        assert again.read() in ("old", "new")
        again.begin()
        assert not again.on and not again.pending
        # Only a confirmed one stays.
        assert again.read() == ("new" if steps >= 4 else "old"), steps


def test_a_trial_that_nobody_confirms_ends_in_a_reset():
    clear()
    trial = ConfigTrial(STEM + "json")
    resets = []

    async def run(confirmed, charging_until=0):
        seconds = 0

        async def second(ms):
            nonlocal seconds
            seconds += 1
            if seconds == 100 and confirmed:
                trial.confirm()
            if seconds > 900:
                raise Cut

        sleep, trial_module.sleep_ms = trial_module.sleep_ms, second
        try:
            await trial.watch(
                lambda: resets.append(seconds), lambda: seconds < charging_until, lambda: None
            )
        except Cut:
            pass
        trial_module.sleep_ms = sleep

    trial.apply("new")
    trial.begin()
    asyncio.run(run(False))
    assert resets == [300]
    assert trial.begin() == "restored"
    trial.apply("new")
    trial.begin()
    asyncio.run(run(True))
    assert resets == [300]
    # A car that charges is not cut off by it.
    trial.apply("new")
    trial.begin()
    asyncio.run(run(False, charging_until=777))
    assert resets == [300, 777]


# Bounds of a connection.


class Stream:
    """Gives `data` in pieces of `size`."""

    def __init__(self, data: bytes, size: int):
        self.data = data
        self.size = size
        self.taken = 0

    async def read(self, count):
        count = min(count, self.size)
        data, self.data = self.data[:count], self.data[count:]
        self.taken += len(data)
        return data

    def get_extra_info(self, name):
        return ("192.0.2.1", 5)


def pipe(data, size):
    stream = Stream(data, size)
    return stream, Pipe(stream, stream, None, 0, 0)


def test_a_head_is_read_however_it_comes():
    async def run():
        for size in (1, 2, 7, 1000):
            _, it = pipe(b"GET / HTTP/1.1\r\nA: b\r\n\r\nbody", size)
            assert await it.readline() == b"GET / HTTP/1.1\r\n"
            assert await it.readline() == b"A: b\r\n"
            assert await it.readline() == b"\r\n"
            assert await it.readexactly(4) == b"body"
            assert await it.read(5) == b"" and await it.readline() == b""

    asyncio.run(run())


def test_a_head_that_is_too_long_is_not_even_read():
    async def run():
        for data in (b"x" * 8000, b"x: y\r\n" * 1500, b"x" * 1000 + b"\n" + b"y" * 8000):
            stream, it = pipe(data, 1000)
            lines = 0
            try:
                while True:
                    await it.readline()
                    lines += 1
            except ValueError:
                pass
            assert stream.taken <= 2048 + 512 and lines < 400

    asyncio.run(run())


def test_a_frame_that_is_cut_is_an_error():
    async def run():
        _, it = pipe(b"abc", 2)
        try:
            await it.readexactly(4)
        except OSError as error:
            return error.args[0]

    assert asyncio.run(run()) == 104


def test_an_event_for_which_there_is_no_memory_does_not_end_all_events():
    sent = []

    class Socket:
        async def send(self, data, opcode=None):
            if data == "large":
                raise MemoryError
            sent.append(data)

    async def run():
        peer = LocalPeer(None, Socket(), MovedClock(), 1000)
        for text in ("one", "large", "two", "three"):
            assert peer.push(text)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(run())
    assert sent == ["one", "two", "three"]


class Slow:
    """The WebSocket of a peer that takes nothing; `frames` is how many it sends at once."""

    def __init__(self, frames=0):
        self.frames = frames
        self.pings = 0

    async def send(self, text):
        await asyncio.Event().wait()

    async def ping(self):
        self.pings += 1

    async def receive(self, heard):
        for _ in range(self.frames):
            await heard()
        return "{}"


def test_frames_of_any_kind_are_read_at_a_rate_of_20_a_second_after_the_first_30():
    clock, slept = MovedClock(), []

    async def sleep(ms):
        slept.append(ms)
        clock.advance(ms)

    peer = LocalPeer(pipe(b"", 1)[1], Slow(130), clock, 60_000)
    real, server.sleep_ms = server.sleep_ms, sleep
    try:
        assert asyncio.run(peer.receive()) == "{}"
    finally:
        server.sleep_ms = real
    assert slept == [50] * 100
    assert peer.pipe.deadline == 0  # a stranger gets no more time for anything that it sends


def test_a_silent_peer_is_pinged_once_and_what_it_answers_gives_it_time():
    clock = MovedClock()
    socket = Slow(1)
    peer = LocalPeer(pipe(b"", 1)[1], socket, clock, 60_000)

    async def run():
        async def later(ms):
            clock.advance(ms)
            peer.look_after(clock.now())
            for _ in range(3):
                await asyncio.sleep(0)

        await later(59_999)
        assert socket.pings == 0  # a stranger
        peer.settle(True)
        deadline = peer.pipe.deadline
        assert deadline == clock.now() + 60_000
        await later(29_999)
        assert socket.pings == 0
        await later(1)
        await later(20_000)
        assert socket.pings == 1 and peer.pipe.deadline == deadline
        await peer.receive()
        assert peer.pipe.deadline == clock.now() + 60_000
        await later(30_000)
        assert socket.pings == 2

    asyncio.run(run())


def test_who_loses_the_right_to_listen_is_told_however_slowly_he_reads():
    rig = Rig()
    counts = {"server_events_dropped": 0}
    settings = {"tls_cert": "", "max_connections": 4}
    server = Server(settings, Ports(), rig.auth, rig.clock, rig.log, counts)
    peer = LocalPeer(pipe(b"", 1)[1], Slow(), rig.clock, 60_000)

    async def run():
        while peer.push("an event for who is authorized"):
            pass
        await asyncio.sleep(0)
        peer.push("one more, as one is on its way")
        peer.settle(True)
        rig.auth.on_lost(peer, 1)
        assert not peer.pipe.settled
        # The events that waited were not for this one any more, and are counted.
        assert counts["server_events_dropped"] == 8
        assert peer.forget() == 1
        while peer.push("x"):
            pass
        server.commands.learner.start(peer, 5)
        rig.clock.advance(5000)
        server.commands.learner.poll()  # tells that the time is over
        assert counts["server_events_dropped"] == 9

    asyncio.run(run())


def test_who_cannot_be_told_for_lack_of_memory_that_he_is_out_is_hung_up_on():
    rig = Rig(single_session=False)
    counts = {"server_events_dropped": 0, "server_dropped": 0}
    rig.auth.iterations = 1000
    settings = {"tls_cert": "", "max_connections": 4}
    server = Server(settings, Ports(), rig.auth, rig.clock, rig.log, counts)
    peers = [LocalPeer(pipe(b"", 1)[1], Slow(), rig.clock, 60_000) for _ in range(3)]
    for peer in peers:
        rig.login(connection=peer)
        peer.settle(True)
        peer.push = no_memory
    request = {"method": "setAuthParams", "userType": "admin", "authType": "password"}
    request["password"] = "a new password"
    assert finish(server.commands.handle(peers[2], request))["result"]
    assert [rig.auth.role(peer) for peer in peers] == [0, 0, 2]
    late = rig.clock.now()
    assert [late >= peer.pipe.deadline for peer in peers] == [True, True, False]


def no_memory(*arguments):
    raise MemoryError


class Flash:
    """A card store whose flash is full after 600 bytes, behind a server; and its upload."""

    def __init__(self):
        self.ports = self.cards = self
        self.log = Rig().log
        self.clock = MovedClock()
        self.taken = 0
        self.aborted = False

    def load(self):
        return self

    def write(self, data):
        self.taken += len(data)
        if self.taken > 600:
            raise OSError(28)
        yield

    def abort(self):
        self.aborted = True


class Body:
    """The pipe of an upload of `size` bytes, of which a part arrives."""

    def __init__(self, size):
        self.size = size

    async def readexactly(self, count):
        if count > self.size:
            raise OSError(104)
        self.size -= count
        return bytes(count)


def test_an_upload_is_told_that_the_flash_is_full():
    flash, body = Flash(), Body(3000)
    status, text = asyncio.run(take(flash, body, 3000, "token"))
    assert status == 422 and "28" in text and flash.aborted
    assert body.size == 0  # unread, it would take the response with it
    # A connection that was cut has nobody to be told.
    for size in (500, 1500):
        flash = Flash()
        try:
            asyncio.run(take(flash, Body(size), 3000, "token"))
            raise AssertionError
        except OSError as error:
            assert error.args[0] == 104 and flash.aborted


class Sender:
    """Both streams of who sends `data` and keeps what is said to that."""

    def __init__(self, data):
        self.data = data
        self.said = b""

    def get_extra_info(self, name):
        return ("192.0.2.1", 1)

    async def read(self, count):
        data, self.data = self.data[:count], self.data[count:]
        return data

    def write(self, data):
        self.said += bytes(data)

    async def drain(self):
        pass

    def close(self):
        pass

    async def wait_closed(self):
        pass


class Kept(Flash):
    """A card store that takes a list, after which no memory is left to load the answer's code."""

    version = 7

    def write(self, data):
        yield

    def commit(self):
        server.http_parts = no_memory
        yield


def test_an_upload_is_answered_when_there_is_no_memory_for_the_code_of_answers():
    rig = Rig()
    token = rig.login().reply["tokenForHttpServer"]
    settings = {"tls_cert": "", "max_connections": 4, "names": ""}
    ports, counts = Ports(cards=Kept()), {"server_refused": 0}
    head = "POST /cards?token=" + token + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 600"
    sender = Sender(head.encode() + b"\r\n\r\n" + bytes(600))
    code = server.http_parts
    try:
        it = Server(settings, ports, rig.auth, rig.clock, rig.log, counts)
        asyncio.run(it.accept(sender, sender))
    finally:
        server.http_parts = code
    assert sender.said.startswith(b"HTTP/1.0 200 ") and sender.said.endswith(b"\r\n\r\n")


def test_an_address_that_has_all_it_may_have_takes_no_place_from_another():
    rig = Rig()
    settings = {"tls_cert": "", "max_connections": 4}
    counts = {"server_refused": 0, "server_dropped": 0}
    server = Server(settings, Ports(), rig.auth, rig.clock, rig.log, counts)

    async def come(address):
        caller = Visitor(address)
        asyncio.create_task(server.accept(caller, caller))
        for _ in range(5):
            await asyncio.sleep(0)
        return caller

    async def run():
        other = await come("other")
        rig.clock.advance(2001)
        crowd = []
        for _ in range(3):
            crowd.append(await come("same"))
        assert (await come("same")).closed and not other.closed
        rig.clock.advance(2001)
        crowd.append(await come("same"))  # the oldest of its own makes room
        assert [one.closed for one in crowd] == [True, False, False, False]
        assert not other.closed
        third = await come("third")
        assert other.closed and not third.closed
        assert counts == {"server_refused": 1, "server_dropped": 2}
        server.close()

    asyncio.run(run())


def test_a_connection_there_is_no_memory_to_refuse_is_closed_all_the_same():
    closed = []

    class Writer:
        def write(self, data):
            raise MemoryError

        def close(self):
            pass

        async def wait_closed(self):
            closed.append(True)

    asyncio.run(door.turn_away(Writer()))
    assert closed == [True]
