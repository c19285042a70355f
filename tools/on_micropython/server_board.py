"""A whole board without its outside, on MicroPython: what tests of the local interface talk to.

    micropython -m server_board CHECKOUT FOLDER SETTINGS

FOLDER is the board's flash, with /config.json and /site.key on it, and CHECKOUT has the built
firmware. SETTINGS, a JSON object, goes over what the configuration says of the server, and may be
what no configuration allows, such as a shorter wait. All parts are the firmware's own, made and
joined by tapauth/start.py as on any board. Four things are the bench's, since a test that waited
for the real ones would test those:

- taps come as the reader hands them on, and no reader is polled;
- the EVSEs are `Evses` below, which do at once what a car and a charger take seconds for;
- there is no MQTT broker, so the link stays down and keeps trying;
- the flash is a folder of the machine, so that a test can look into it: no littlefs, no wear.

`bench` obeys "tap UID", "lift", and "plug", "start", "stop" or "unplug" with an EVSE's number.
Prints, beside the log and the PINs, now and then a line of JSON: the heap in use after a
collection, and the longest delay of the loop since the line before.
"""

# mypy: ignore-errors
# (The firmware is on the board's flash, which is not where mypy looks.)

import asyncio
import gc
import json
import os
import sys

import vfs

CHECKOUT, FOLDER, SETTINGS = sys.argv[1:]
IMAGE = "/host/build/firmware"
RESET_EXIT = 3

_EVENTS = {
    "plug": "SessionStarted",
    "start": "TransactionStarted",
    "stop": "TransactionFinished",
    "unplug": "SessionFinished",
}
# What an EVSE reports when the board has told it something.
_ANSWERS = {"stop_transaction": "TransactionFinished", "withdraw_authorization": "Deauthorized"}


class Board:
    """What boards/README.md asks for, with the bench behind it. `app` comes after the start."""

    def __init__(self):
        self.app = None

    def reader_bus(self, config):
        raise OSError(19)

    def reset_pin(self, config):
        return None

    irq_pin = reset_pin

    def watchdog(self, timeout_ms):
        return self

    def feed(self):
        pass

    def lamp(self, pattern, outputs):
        pass

    def evse_lines(self, evse_id, config):
        return (lambda *_: 1), (lambda *_: 0), (lambda *_: 0)  # nothing plugged in, no fault

    def unique_id(self):
        return b"unit"

    def set_clock(self, unix_seconds):
        pass

    def reset(self):
        sys.exit(RESET_EXIT)

    async def connect_network(self, config):
        pass

    def network_up(self):
        return True

    def bench(self, line):
        """Obey a line of the page's bench. Raises OSError when it makes no sense."""
        app = self.app
        verb, _, rest = line.partition(" ")
        if verb == "tap":
            token = {
                "id_token": {"value": rest, "type": "ISO14443"},
                "authorization_type": "RFID",
            }
            app.card(taps.TOKEN, token, app.clock.now())
        elif verb in _EVENTS:
            if app.evses.report(int(rest), _EVENTS[verb]):
                raise OSError(22)
        elif verb != "lift":
            raise OSError(22)


class Evses:
    """EVSEs that report what the bench says, and obey at once. Joined as those of evse/ are."""

    subscriptions = ()

    def __init__(self, app):
        self.refused = 0
        self._app = app

    def report(self, evse_id, name):
        """Something happened at an EVSE; returns why the core refuses it, or None."""
        event = {"event": name, "connector_id": 1}
        if name == "SessionStarted":
            event["session_started"] = {"reason": "EVConnected"}
        return self._app.session_event(evse_id, event)

    def command(self, evse_id, command):
        answer = _ANSWERS.get(command["command"])
        if answer:
            self.report(evse_id, answer)

    def message(self, topic, payload):
        return False

    def link_up(self):
        pass

    def tick(self, now):
        pass


class Folder:
    """A file system in a folder of the machine. VfsPosix alone, below a root, renames nothing."""

    def __init__(self, root):
        self._root = root
        self._inside = vfs.VfsPosix(root)
        self._machine = vfs.VfsPosix()

    def __getattr__(self, name):
        return getattr(self._inside, name)

    def rename(self, old, new):
        self._machine.rename(self._root + old, self._root + new)


async def no_reader(beat):
    """The task of the reader: taps are the bench's."""
    while True:
        beat()
        await sleep_ms(1000)


async def watch(clock):
    """Measure the loop and the heap, for ever."""
    since = worst = 0
    while True:
        before = clock.now()
        await sleep_ms(10)
        worst = max(worst, clock.now() - before - 10)
        since += 1
        if since >= 4:
            gc.collect()
            print(json.dumps({"heap": mem_alloc(), "lag_ms": worst}))
            since = worst = 0


async def run(app):
    asyncio.create_task(watch(app.clock))
    await app.supervisor.run()


def main():
    """What app.main() does, with the bench put in between."""
    from tapauth import start

    begun = start.begin()
    begun[0]["server"].update(json.loads(SETTINGS))
    app = board.app = start.make(*begun)
    del begun
    # The lines are there so that the configuration is one that a board starts with.
    app.apis.remove(app.lines)
    app.lines = None
    app.evses = Evses(app)
    app.apis.append(app.evses)
    app.scan = no_reader
    start.add_tasks(app)
    forget(start)
    del start
    asyncio.run(run(app))


gc.threshold(8192)  # as boot.py does
vfs.umount("/")
vfs.mount(Folder(FOLDER), "/")
vfs.mount(vfs.VfsPosix(CHECKOUT), "/host")
os.chdir("/")
sys.path[:] = [IMAGE, IMAGE + "/lib", ".frozen"]
sys.modules["board"] = board = Board()

from tapauth.compat import forget, mem_alloc, sleep_ms  # noqa: E402
from tapauth.core import taps  # noqa: E402

main()
