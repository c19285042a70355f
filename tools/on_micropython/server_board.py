"""A board with its local interface, on MicroPython: authorization core, card store, server.

    micropython server_board.py PORT FOLDER [SETTINGS]

What is not under test is left out: no MQTT, and taps and EVSEs are those of the bench. Prints the
PINs, and as a line of JSON now and then the heap in use and the longest delay of the loop.
"""

# mypy: ignore-errors
# (Ports are joined here that no type is written down for.)

import asyncio
import gc
import json
import os
import sys

from tapauth import compat
from tapauth.cards import files
from tapauth.cards.store import Store
from tapauth.compat import Clock, sleep_ms
from tapauth.console import Console
from tapauth.core.authorizer import Authorizer
from tapauth.core.evse import STATES
from tapauth.core.settings import AuthSettings
from tapauth.local.door import Door
from tapauth.local.tail import Tail
from tapauth.log import INFO, Log, token_name

SETTINGS = {
    "address": "127.0.0.1",
    "names": "charger.example",
    "max_connections": 6,
    "idle_s": 120,
    "plan_pro": True,
    "single_session": True,
    "pin_recoverable": False,
    "tls_cert": "",
    "tls_key": "",
}

# What an EVSE reports when the board has told it something.
ANSWERS = {"stop_transaction": "TransactionFinished", "withdraw_authorization": "Deauthorized"}


class Cards:
    """The store as the commands want it."""

    def __init__(self, store):
        self._store = store
        self.put, self.delete = store.put, store.delete
        self.status, self.load = store.status, store.load

    def find(self, id_token):
        return self._store.lookup(id_token, None)[0]

    def export(self):
        from tapauth.cards import list_out

        compat.forget(list_out)
        return list_out.export(self._store)


class RpcPeer:
    def __init__(self):
        self.name = ""
        self.close = 0


class Board:
    def __init__(self, port, folder):
        self.clock = Clock()
        self.tail = Tail()
        self.key = os.urandom(16)
        self.log = Log(self.clock, self.key, INFO, self.tail)
        self.core = Authorizer(AuthSettings(connection_timeout=60), [1, 1])
        self.settings_in_force = {"connection_timeout": 60, "master_pass_group_id": ""}
        self.store = Store(files, folder + "/store", bytes(range(32)), 20_000)
        self.folder = folder
        self.worst = 0
        self.watchers: list = []
        settings = dict(SETTINGS)
        settings["port"] = port
        if len(sys.argv) > 3:
            settings.update(json.loads(sys.argv[3]))
        self.settings = settings
        self.door = Door(settings, self.make, self.clock, self.log)

    def make(self, kept, counts):
        """As tapauth.local.wiring does it."""
        from tapauth.local.commands import Ports
        from tapauth.local.login.accounts import open_keeper, thaw
        from tapauth.local.login.auth import ConnectionAuth
        from tapauth.local.login.kept import StateFile
        from tapauth.local.server import Server

        compat.unload("tapauth.local.login.accounts")
        ports = Ports(self, Cards(self.store), self.trial, self.parse, self.tail, self.bench)
        ports.rpc = (self, RpcPeer)
        file = StateFile(self.folder + "/conn")
        common = (self.settings, self.clock, self.log)
        if kept:

            def make_auth(on_lost):
                return thaw(kept, file, os.urandom, False, print, *common, on_lost)
        else:
            now = self.clock.now() // 1000
            keeper = yield from open_keeper(file, os.urandom, b"unit", False, print, self.log, now)

            def make_auth(on_lost):
                return ConnectionAuth(self.settings, keeper, self.clock, self.log, on_lost)

        return Server(self.settings, ports, make_auth, self.clock, self.log, counts)

    def trial(self):
        from tapauth.config_trial import ConfigTrial

        compat.unload("tapauth.config_trial")
        return ConfigTrial(self.folder + "/config.json")

    def handle(self, data, peer):
        """In the place of the cloud auth service: who says its name is believed."""
        if data == "go":
            peer.close = 1008
            return None
        peer.name = data
        return "you are " + data

    def trusts(self, peer):
        return bool(peer.name)

    def parse(self, text):
        if json.loads(text).get("evses", 1) != 1:
            raise ValueError("evses: 1 is allowed")

    # The port `board`.

    def status(self):
        return {
            "version": "0.1.0",
            "uptime_s": self.clock.now() // 1000,
            "heap_free": compat.mem_free(),
            "max_lag_ms": self.worst,
            "link": "down",
            "counters": self.door.counts,
        }

    def evses(self):
        return [
            {
                "evseId": evse.id,
                "connectors": [STATES[state] for state in evse.connectors],
                "authorized": evse.grant is not None,
                "charging": evse.transaction_active,
            }
            for evse in self.core.evses
        ]

    def withdraw(self, request):
        result = self.core.withdraw(request, self.clock.now())
        self.carry_out()
        return result

    def set_master_pass_group_id(self, text):
        done = self.core.set_master_pass_group_id(text, self.clock.now())
        self.carry_out()
        return done

    def set_connection_timeout(self, seconds):
        done = self.core.set_connection_timeout(seconds, self.clock.now())
        self.carry_out()
        return done

    def in_force(self):
        return self.settings_in_force

    def restart(self):
        sys.exit(3)

    # The bench.

    def bench(self, line):
        verb, _, rest = line.partition(" ")
        if verb == "tap":
            token = {
                "id_token": {"value": rest, "type": "ISO14443"},
                "authorization_type": "RFID",
            }
            if not self.door.server.commands.tap(token):
                self.core.provide_token(token, self.clock.now())
        elif verb in ("plug", "start", "stop", "unplug"):
            names = {"plug": "SessionStarted", "start": "TransactionStarted"}
            names.update({"stop": "TransactionFinished", "unplug": "SessionFinished"})
            event = {"event": names[verb], "connector_id": 1}
            if verb == "plug":
                event["session_started"] = {"reason": "EVConnected"}
            if self.core.session_event(int(rest), event, self.clock.now()):
                raise OSError(22)
        elif verb != "lift":
            raise OSError(22)
        self.carry_out()

    def carry_out(self):
        while True:
            taken = self.core.take_effects()
            if not taken:
                break
            for effect in taken:
                if effect[0] == "validate":
                    result, settled = self.store.lookup(effect[3]["id_token"], None)
                    self.core.validation_result(
                        effect[1],
                        result or {"authorization_status": "Unknown", "tariff_messages": []},
                        self.clock.now(),
                        settled,
                    )
                elif effect[0] == "status":
                    token = effect[1]
                    self.log.info("auth", "{}: {}", token, effect[2])
                    self.push(
                        "tokenValidationStatus",
                        {"card": token_name(self.key, token), "status": effect[2]},
                        {"idToken": token["id_token"]},
                    )
                elif effect[0] == "save":
                    self.settings_in_force[effect[1]] = effect[2]
                elif effect[0] in ANSWERS:
                    event = {"event": ANSWERS[effect[0]], "connector_id": 1}
                    self.core.session_event(effect[1], event, self.clock.now())
        self.push("evsesChanged", {"evses": self.evses()})

    def push(self, *event):
        if self.door.server:
            self.door.server.push(*event)

    # Tasks.

    async def watch(self):
        since = 0
        while True:
            before = self.clock.now()
            await sleep_ms(10)
            self.worst = max(self.worst, self.clock.now() - before - 10)
            since += 1
            self.core.poll(self.clock.now())
            if since >= 4:
                since = 0
                gc.collect()
                print(json.dumps({"heap": compat.mem_alloc(), "lag_ms": self.worst}))
                self.worst = 0

    async def run(self):
        asyncio.create_task(self.watch())
        console = Console(self.status, self.log)
        console.obey = self.door.obey
        asyncio.create_task(console.run(lambda: None))
        await self.door.run(lambda: None)


def main():
    folder = sys.argv[2]
    try:
        with open(folder + "/config.json") as file:
            file.read()
    except OSError:
        with open(folder + "/config.json", "w") as file:
            file.write('{"mqtt": {"host": "h", "password": "secret"}}')
    gc.collect()
    board = Board(int(sys.argv[1]), folder)
    asyncio.run(board.run())


main()
