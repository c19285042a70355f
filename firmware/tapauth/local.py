"""Joins the local interface to the rest of the firmware; loaded only where it is configured."""

import os

from tapauth.compat import unload
from tapauth.conn.auth import ConnectionAuth
from tapauth.conn.keeper import Keeper
from tapauth.conn.state_file import StateFile
from tapauth.server.commands import Ports
from tapauth.server.serial_console import SerialConsole
from tapauth.server.service import Server

PAGE = "/tapauth/server/console.gz"


def _parse(text: str) -> dict:
    """Check a configuration; its tables are in memory only meanwhile. Raises ValueError."""
    from tapauth import config

    try:
        return config.parse(text)
    finally:
        unload("tapauth.config")


class Cards:
    """The card store as the commands want it."""

    def __init__(self, vault):
        store = vault.store
        self._vault = vault
        self.put, self.delete = store.put, store.delete
        self.status, self.load = store.status, store.load

    def find(self, id_token: dict):
        """What the store says of a card: a ValidationResult, or None."""
        return self._vault.look_up(id_token)[0]

    def export(self):
        """(bytes in all, generator of pieces) of the list."""
        from tapauth.store import export

        unload("tapauth.store.export")  # what is under way lives as long as it runs
        return export.export(self._vault.store)


class Local:
    """The local interface of an App. `bench` obeys a line of the desktop's bench, or is None.

    `commands` is `evses`, `withdraw`, `set_master_pass_group_id` and `set_connection_timeout` of
    the board's role.
    """

    def __init__(self, app, settings: dict, commands, unique: bytes, reset, bench, trial, tail):
        self._app = app
        self._settings = settings
        self._unique = unique
        cards = Cards(app.vault) if app.vault.store else None
        ports = Ports(self, cards, trial, _parse, tail, bench)
        self.evses = commands.evses
        self.withdraw = commands.withdraw
        self.set_master_pass_group_id = commands.set_master_pass_group_id
        self.set_connection_timeout = commands.set_connection_timeout
        self.restart = reset
        self.server = Server(settings, ports, self._open_auth, PAGE, app.clock, app.log)
        self.console = SerialConsole(self.server)

    def _open_auth(self, on_lost):
        file = StateFile("/conn")
        recoverable = self._settings["pin_recoverable"]
        # The PIN goes to the serial console only: never into the log, whose tail can be read.
        keeper = Keeper(file, os.urandom, self._unique, recoverable, print, self._app.log)
        yield from keeper.open(self._app.clock.now() // 1000)
        return ConnectionAuth(self._settings, keeper, self._app.clock, self._app.log, on_lost)

    def status(self) -> dict:
        """What getStatus tells of the board."""
        status = self._app.health.report()
        status["link"] = "up" if self._app.link.connected else "down"
        return status

    # What happens, for those who watch.

    def token_status(self, token: dict, status: str, name: str) -> None:
        """A token's status changed; `name` is what the log calls it."""
        members = {"status": status, "card": name}
        self.server.push("tokenValidationStatus", members, {"idToken": token["id_token"]})

    def evses_changed(self) -> None:
        """An EVSE reported something, or was told something."""
        self.server.push("evsesChanged", {"evses": self.evses()})

    def errors_changed(self, errors: list) -> None:
        """An error was raised or cleared."""
        self.server.push("errorsChanged", {"errors": errors})

    def tap(self, token: dict) -> bool:
        """A card was tapped. True: it is being learned, and not to be decided on."""
        commands = self.server.commands
        return commands is not None and commands.tap(token)
