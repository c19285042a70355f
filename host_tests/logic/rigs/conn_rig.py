"""A connection auth with a moved clock, a flash in RAM and connections that remember."""

from tapauth.local.login.accounts import freeze, open_keeper, thaw
from tapauth.local.login.auth import ConnectionAuth

from moved_clock import MovedClock

PASSWORD = "correct horse"
USER_PASSWORD = "battery staple"


class Quiet:
    """A log that keeps its last lines."""

    def __init__(self):
        self.lines = []

    def _take(self, where, text, *arguments):
        del self.lines[:-20]
        self.lines.append(where + ": " + text.format(*[str(one) for one in arguments]))

    info = warning = error = debug = _take

    def trace(self, error):
        pass


class RamFile:
    """A StateFile in RAM; `fail` makes saving fail."""

    def __init__(self):
        self.data = None
        self.fail = False

    def load(self):
        return self.data

    def save(self, data):
        if self.fail:
            raise OSError(28)
        self.data = data


class Connection:
    """A connection, and the causes for which it lost its authorization."""

    def __init__(self):
        self.session = None
        self.lost = []


class Noise:
    """A repeatable stand-in for the board's random generator; `fail` makes it fail."""

    def __init__(self):
        self.state = 1
        self.fail = False

    def __call__(self, count):
        if self.fail:
            raise OSError(5)
        data = bytearray()
        for _ in range(count):
            self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
            data.append(self.state >> 16 & 255)
        return bytes(data)


def finish(steps):
    """Run a generator to its end; its result."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


class Rig:
    """A board that derives `best` iterations in half a second; boot() is a reboot."""

    def __init__(self, **settings):
        self.best = 1000
        self.settings = {"plan_pro": True, "single_session": True}
        self.recoverable = settings.pop("pin_recoverable", False)
        self.settings.update(settings)
        self.file = RamFile()
        self.log = Quiet()
        self.noise = Noise()
        self.boot()

    def boot(self):
        self.clock = MovedClock()
        self.shown = []
        show = self.shown.append
        self.keeper = finish(
            open_keeper(self.file, self.noise, b"unit", self.recoverable, show, self.log, 0)
        )
        self.auth = ConnectionAuth(
            self.settings, self.keeper, self.clock, self.log, self._calibrate
        )
        self.auth.on_lost = self._lost

    def sleep(self):
        """Nobody is connected for a while: connection auth is put by, and fetched again."""
        for session in self.auth.sessions.all:
            if session.connection:
                self.auth.closed(session.connection)
        kept = freeze(self.auth)
        parts = (self.file, self.noise, self.recoverable, self.shown.append)
        self.auth = thaw(kept, *parts, self.settings, self.clock, self.log)
        self.auth.on_lost = self._lost
        self.auth.measure = self._calibrate
        self.keeper = self.auth.keeper

    def _calibrate(self):
        yield
        return self.best

    def _lost(self, connection, cause):
        connection.lost.append(cause)

    def pin(self, role="admin"):
        """The PIN that was shown last."""
        return [line.split()[-1] for line in self.shown if line.startswith(role)][-1]

    def ask(self, connection, method, **members):
        members["method"] = method
        return finish(self.auth.handle(connection, members))

    def code(self, connection=None, **members):
        """The result code of an auth; on the way, what every reply must have."""
        reply = self.ask(connection or Connection(), "auth", **members)
        assert reply["result"] == (reply["resultCode"] == 0)
        for name in ("previleges", "token", "tokenForHttpServer"):
            assert (name in reply) == reply["result"]
        return reply["resultCode"]

    def login(self, secret=None, connection=None, **members):
        """An authorized connection; its reply is `reply`."""
        connection = connection or Connection()
        if secret is None:
            secret = self.pin()
        reply = self.ask(connection, "auth", type="secured", credentials=secret, **members)
        assert reply["resultCode"] == 0, reply
        connection.reply = reply
        return connection

    def set(self, connection, user, kind, password=None):
        members = {"userType": user, "authType": kind}
        if password is not None:
            members["password"] = password
        return self.ask(connection, "setAuthParams", **members)

    def passwords(self):
        """Both roles with passwords; the admin that did it."""
        admin = self.login()
        assert self.set(admin, "admin", "password", PASSWORD)["result"]
        assert self.set(admin, "user", "password", USER_PASSWORD)["result"]
        return admin

    def open_all(self):
        """Nothing protected; the admin that did it."""
        admin = self.login()
        assert self.set(admin, "admin", "unsecured")["result"]
        return admin
