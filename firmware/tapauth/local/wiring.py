"""The local interface while somebody is connected: ports to the other rooms, and the server."""

import os

from tapauth.compat import forget
from tapauth.local.commands import Ports
from tapauth.local.login.auth import ConnectionAuth
from tapauth.local.login.kept import StateFile
from tapauth.local.server import Server

import board


def _parse(text: str) -> dict:
    """Check a configuration; its tables are in memory only meanwhile. Raises ValueError."""
    from tapauth import config

    try:
        return config.parse(text)
    finally:
        forget(config)


def _trial():
    """The trial of a new configuration: all of it is in files."""
    from tapauth import config_trial

    forget(config_trial)
    return config_trial.ConfigTrial()


class Cards:
    """The card store as the commands want it."""

    def __init__(self, vault):
        store = vault.store
        self._vault = vault
        self.put, self.delete = store.put, vault.delete
        self.status, self.load = store.status, store.load

    def find(self, id_token: dict):
        """What the store says of a card: a ValidationResult, or None."""
        return self._vault.look_up(id_token)[0]

    def export(self):
        """(bytes in all, generator of pieces) of the list."""
        from tapauth.cards import list_out

        forget(list_out)  # what is under way lives as long as it runs
        return list_out.export(self._vault.store)


class Board:
    """The port `board`: see commands.Ports."""

    def __init__(self, local):
        self._local = local
        commands = local.commands
        self.evses = commands.evses
        self.withdraw = commands.withdraw
        self.set_master_pass_group_id = commands.set_master_pass_group_id
        self.set_connection_timeout = commands.set_connection_timeout
        self.in_force = commands.in_force

    def restart(self) -> None:
        """Restart the board; a setting of this moment is on flash then."""
        self._local.app.vault.save()
        board.reset()

    def status(self) -> dict:
        """What getStatus tells of the board."""
        app = self._local.app
        status = app.health.report()
        status["link"] = "up" if app.link.connected else "down"
        return status


def _auth(kept, settings: dict, app):
    """A function of `on_lost` that makes the ConnectionAuth. A generator. Raises OSError."""
    file = StateFile("/conn")
    recoverable = settings["pin_recoverable"]
    # A PIN goes to the serial console only: never into the log, whose tail can be read.
    if kept:
        from tapauth.local.login import accounts

        forget(accounts)
        thaw = accounts.thaw
        return lambda on_lost: thaw(
            kept, file, os.urandom, recoverable, print, settings, app.clock, app.log, on_lost
        )
    from tapauth.local.login import accounts

    forget(accounts)
    now = app.clock.now() // 1000
    keeper = yield from accounts.open_keeper(
        file, os.urandom, board.unique_id(), recoverable, print, app.log, now
    )
    return lambda on_lost: ConnectionAuth(settings, keeper, app.clock, app.log, on_lost)


def make(local, kept, counts: dict):
    """The Server of a LocalInterface, as door.Door wants it. A generator. Raises OSError."""
    app = local.app
    settings = app.settings["server"]
    make_auth = yield from _auth(kept, settings, app)
    ports = Ports(
        Board(local),
        Cards(app.vault) if app.vault.store else None,
        _trial,
        _parse,
        app.tail,
        getattr(board, "bench", None),
    )
    if local.rpc:
        from tapauth.rpc.service import RpcPeer

        ports.rpc = (local.rpc, RpcPeer)
    return Server(settings, ports, make_auth, app.clock, app.log, counts)
