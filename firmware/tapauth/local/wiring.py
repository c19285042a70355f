"""The local interface while somebody is connected: ports to the other rooms, and the server."""

import os

from tapauth.compat import forget, late
from tapauth.local.commands import Ports
from tapauth.local.login.auth import ConnectionAuth
from tapauth.local.login.kept import StateFile
from tapauth.local.server import Server


def _parse(text: str) -> dict:
    """Check a configuration; the tables are in memory only meanwhile. Raises ValueError."""
    with late("config"):
        from tapauth import config

    forget(config)
    return config.parse(text)


def _trial():
    """The trial of a new configuration: all that a trial remembers is in files."""
    with late("config_trial"):
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
        self.clear_cache = vault.clear_cache

    def find(self, id_token: dict):
        """The store's word on a card: a ValidationResult, or None."""
        return self._vault.look_up(id_token)[0]

    def update(self, request: dict):
        """Steps: a differential list, whole or not at all. Returns "Accepted" or
        "VersionMismatch", and the version held. Raises ValueError, StoreError, OSError.
        """
        with late("changes_in"):
            from tapauth.cards import changes_in

        forget(changes_in)
        version, changes, base = changes_in.read_update(request)
        status = yield from self._vault.update(version, changes, base)
        return status, self._vault.store.version

    def export(self):
        """(bytes in all, generator of pieces) of the list."""
        with late("list_out"):
            from tapauth.cards import list_out

        forget(list_out)  # an export under way lives as long as it runs
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
        """Save the settings of this moment to flash, and restart the board."""
        self._local.app.vault.save()
        self._local.app.restart()

    def status(self) -> dict:
        """The part of getStatus that tells of the board."""
        app = self._local.app
        status = app.health.report()
        status["link"] = "up" if app.link.connected else "down"
        status["counters"].update(self._local.door.counts)
        return status


def _auth(local, kept):
    """Steps: make the ConnectionAuth, as one was put by, or of this start. Raises OSError."""
    with late("accounts"):
        from tapauth.local.login import accounts

    forget(accounts)
    app, board = local.app, local.board
    settings = local.settings
    file = StateFile("/conn")
    # A PIN goes to the serial console only: never into the log, whose tail can be read.
    if kept:
        return accounts.thaw(
            kept,
            file=file,
            source=os.urandom,
            pin_recoverable=settings["pin_recoverable"],
            show=print,
            settings=settings,
            clock=app.clock,
            log=app.log,
        )
    keeper = yield from accounts.open_keeper(
        file,
        source=os.urandom,
        unique=board.unique_id(),
        pin_recoverable=settings["pin_recoverable"],
        show=print,
        log=app.log,
        now=app.clock.now() // 1000,
    )
    return ConnectionAuth(settings, keeper, app.clock, app.log)


def make(local, kept, counts: dict):
    """Steps: make the Server of a LocalInterface, as door.Door wants one. Raises OSError."""
    app = local.app
    auth = yield from _auth(local, kept)
    ports = Ports(
        board=Board(local),
        cards=Cards(app.vault) if app.vault.store else None,
        config=_trial,
        parse=_parse,
        tail=app.tail,
        bench=getattr(local.board, "bench", None),
    )
    if local.rpc:
        from tapauth.rpc.service import RpcPeer

        ports.rpc = (local.rpc, RpcPeer)
    return Server(
        local.settings,
        ports=ports,
        auth=auth,
        clock=app.clock,
        log=app.log,
        counts=counts,
    )
