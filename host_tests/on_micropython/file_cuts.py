"""Scenarios for power_cuts.py: the small files of tapauth.small_file, each with what reads it."""

import json
import os
import random

from power_cuts import Scenario

from tapauth.config_trial import ConfigTrial
from tapauth.local.login.accounts import open_keeper
from tapauth.local.login.kept import PASSWORD, PIN, Account, StateFile
from tapauth.local.login.sessions import ADMIN, USER
from tapauth.rpc.records import GOOD, LOST, RecordFile, Table
from tapauth.small_file import Flash
from tapauth.wallclock import load_day, save_day


class Day(Scenario):
    """Sixty days are kept, one after another."""

    blocks = 16
    path = "/cut/day"
    first = 20_000

    def changes(self, board):
        yield 0
        for day in range(self.first, self.first + 60):
            save_day(day, self.path)
            assert load_day(self.path) == day
            yield day

    def state(self, board):
        return load_day(self.path)

    def go_on(self, board, found, point):
        save_day(30_000, self.path)
        assert load_day(self.path) == 30_000


class RpcTables(Scenario):
    """A table of the auth service: rows are added, replaced and removed."""

    def table(self):
        return Table(RecordFile(Flash, "/cut/rpc_tokens"), 8, 64)

    def steps(self):
        """What is done to the table, one after another: (key, value), None to remove."""
        for number in range(12):
            yield b"owner\0app%d" % number, b"%08d" % number
        yield b"owner\0app3", None
        yield b"owner\0app5", b"changed!"
        yield b"owner\0app5", None
        yield b"other\0app5", b"again..."

    def changes(self, board):
        table = self.table()
        rows = {}
        yield {}
        for key, value in self.steps():
            if value is None:
                table.remove(key)
                rows.pop(key)
            else:
                assert table.put(key, value)
                rows[key] = value
            yield dict(rows)
        assert len(rows) == 11, rows

    def state(self, board):
        table = self.table()
        assert table.state != LOST
        return {key: table.get(key) for key in table.keys(b"")}

    def go_on(self, board, found, point):
        assert self.table().put(b"after\0the cut", b"12345678")
        again = self.table()
        assert again.get(b"after\0the cut") == b"12345678" and again.state == GOOD

    def check_all(self, found):
        # Both outcomes were met.
        assert found["old"] > 50 and found["new"] > 0


class Told:
    """A log of which nothing is expected."""

    def __init__(self):
        self.lines = []

    def error(self, part, text, *values):
        self.lines.append(text.format(*values))


def noise(count):
    """Random bytes that are the same in every run."""
    return bytes([random.getrandbits(8) for _ in range(count)])


class Login(Scenario):
    """PINs and passwords and the count of failures, from the first start on."""

    def keeper(self):
        log = Told()
        steps = open_keeper(
            StateFile("/cut/conn"), noise, b"unit", True, lambda text: None, log, now=0
        )
        while True:
            try:
                next(steps)
            except StopIteration as end:
                assert not log.lines, log.lines
                return end.value

    def kept(self, keeper):
        accounts = [keeper.accounts[role] for role in (ADMIN, USER)]
        rows = [(account.kind, account.record, account.pin) for account in accounts]
        return rows, keeper.lockout.failures

    def changes(self, board):
        random.seed(7)
        yield None
        keeper = self.keeper()
        yield self.kept(keeper)
        # Three wrong PINs, each kept before it is looked at, and then the right one.
        for _ in range(3):
            keeper.lockout.begin(0)
            keeper.keep(keeper.accounts)
            yield self.kept(keeper)
        keeper.lockout.passed(True)
        keeper.keep(keeper.accounts)
        yield self.kept(keeper)
        record = "pbkdf2-sha256$1000$" + "5a" * 16 + "$" + "c3" * 32
        for role, account in (
            (USER, Account(PIN, record, "ABC234")),
            (ADMIN, Account(PASSWORD, record)),
            (USER, Account()),
        ):
            accounts = dict(keeper.accounts)
            accounts[role] = account
            keeper.keep(accounts)
            yield self.kept(keeper)
        # The next start makes its secrets anew, and nothing else.
        keeper = self.keeper()
        assert not keeper.accounts[USER].kind, "unsecured"
        yield self.kept(keeper)

    def state(self, board):
        data = StateFile("/cut/conn").load()
        if data is None:
            return None
        assert data, "the file is damaged"
        return self.kept(self.keeper())

    def go_on(self, board, found, point):
        if found:
            keeper = self.keeper()
            keeper.lockout.begin(0)
            keeper.keep(keeper.accounts)
            rows, failures = self.kept(self.keeper())
            assert rows == found[0] and failures == found[1] + 1


def configuration(name):
    """A configuration as long as a board's, of one's own name."""
    return json.dumps({"board_id": name, "filler": name[0] * 1400})


class Trial(Scenario):
    """A configuration is changed, put on trial, confirmed, and changed once more in vain."""

    steady = False  # a start that follows a start ends the trial

    def trial(self):
        return ConfigTrial("/cut/config.json")

    def start(self):
        """(what begin() says, the name of the configuration in force)."""
        trial = self.trial()
        said = trial.begin()
        return said, json.loads(trial.read())["board_id"]

    def prepare(self, board):
        with open("/cut/config.json", "w") as file:
            file.write(configuration("old"))

    def changes(self, board):
        # What the next start runs, and the one after it when nobody confirms.
        yield "old", "old"
        for name in ("new", "newer"):
            self.trial().apply(configuration(name))
            yield name, "old"
        assert self.start() == ("trial", "newer")
        yield "old", "old"
        assert self.trial().confirm()
        yield "newer", "newer"
        self.trial().apply(configuration("worse"))
        yield "worse", "newer"
        assert self.start() == ("trial", "worse")
        yield "newer", "newer"
        assert self.start() == ("restored", "newer")
        yield "newer", "newer"

    def fits(self, found, expected, again):
        # The start that was cut was the trial.
        return found == expected[0] or again and found == expected[1]

    def label(self, found, before):
        return found

    def state(self, board):
        return self.start()[1]

    def go_on(self, board, found, point):
        # Of what was on trial and not confirmed nothing is left after two more starts.
        said, name = self.start()
        assert self.start() == ("", name)
        trial = self.trial()
        assert not trial.on and not trial.pending
        assert name == found or said == "restored"
        trial.apply(configuration("last"))
        assert self.start() == ("trial", "last")
        assert trial.confirm()
        assert self.start() == ("", "last")

    def check_all(self, found):
        assert sorted(found) == ["new", "newer", "old", "worse"]


class Careless(Scenario):
    """What the rig must catch: a file that is removed before the new one is there, or a change
    that is acknowledged before it is on flash.
    """

    def __init__(self, early):
        self.early = early

    def changes(self, board):
        yield b""
        with open("/cut/file", "wb") as file:
            file.write(b"one")
        yield b"one"
        if self.early:
            yield b"two"
        with open("/cut/next", "wb") as file:
            file.write(b"two")
        if not self.early:
            os.remove("/cut/file")
        os.rename("/cut/next", "/cut/file")
        yield b"two"

    def state(self, board):
        try:
            with open("/cut/file", "rb") as file:
                return file.read()
        except OSError:
            return b""


SCENARIOS = {
    "day": Day(),
    "rpc_tables": RpcTables(),
    "login": Login(),
    "trial": Trial(),
    "careless_order": Careless(early=False),
    "careless_answer": Careless(early=True),
}
