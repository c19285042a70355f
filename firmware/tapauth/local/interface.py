"""Joins the local interface to the rest of the firmware; loaded only where it is configured.

This module stays in memory; local/wiring.py is there while somebody is connected.
"""

from tapauth.compat import const, forget, late, sleep_ms
from tapauth.local.door import Door

_TICK_MS = const(100)
_TLS_FIRST_MS = const(15_000)


def _parts():
    """Steps: each loads one module of those behind the door, what it needs before itself."""
    with late("hmac"):
        from tapauth.crypto import hmac

    yield hmac
    with late("sessions"):
        from tapauth.local.login import sessions

    yield sessions
    with late("auth"):
        from tapauth.local.login import auth

    yield auth
    with late("small_file"):
        from tapauth import small_file

    yield small_file
    with late("kept"):
        from tapauth.local.login import kept

    yield kept
    with late("websocket"):
        from tapauth.local import websocket

    yield websocket
    with late("pipe"):
        from tapauth.local import pipe

    yield pipe
    with late("learn"):
        from tapauth.local import learn

    yield learn
    with late("withdrawals"):
        from tapauth.local import withdrawals

    yield withdrawals
    with late("commands"):
        from tapauth.local import commands

    yield commands
    with late("server"):
        from tapauth.local import server

    yield server


class LocalInterface:
    """The local interface of an App. `commands` has `evses`, `withdraw`, `in_force`,
    `set_master_pass_group_id` and `set_connection_timeout` of the board's role; `rpc` is the cloud
    auth service, or None; `board` the board's module (boards/README.md).
    """

    def __init__(self, app, commands, rpc, board):
        self.app = app
        self.commands = commands
        self.rpc = rpc
        self.board = board
        self.settings = settings = app.settings["server"]
        self._has_tls = app.settings["mqtt"]["tls"]["enabled"]
        name = app.settings["network"]["hostname"]
        if name:
            settings["names"] += f" {name} {name}.local"
        self.door = Door(settings, parts=_parts, make=self._make, clock=app.clock, log=app.log)

    def _make(self, kept, counts):
        with late("wiring"):
            from tapauth.local import wiring

        forget(wiring)
        return wiring.make(self, kept, counts)

    async def _let_tls_go_first(self, beat) -> None:
        """Wait for TLS to the broker, but not for long: its buffers are 21 KB in two pieces, and
        stay. Above all the names that are met here they would break up the largest piece.
        """
        waited = 0 if self._has_tls else _TLS_FIRST_MS
        while waited < _TLS_FIRST_MS and not self.app.link.connected:
            beat()
            await sleep_ms(_TICK_MS)
            waited += _TICK_MS

    async def run(self, beat) -> None:
        """The task: serve for ever. Raises OSError when the port cannot be had, MemoryError."""
        beat()
        await self._let_tls_go_first(beat)
        # Now, and not when the first one comes: PINs are made, and it shows whether it fits.
        await self.door.open()
        with late("names"):
            from tapauth.local import names

        forget(names)
        for _ in names.meet():
            beat()
            await sleep_ms(0)
        del names
        await self.door.run(beat)

    # News, for those who watch.

    def _tell(self, make, what=None, status: str = "") -> None:
        """Send an event that `make` gives. No failure of that may harm a tap."""
        if self.door.server:
            try:
                event, members, for_admins = make(self, what, status)
                self.door.server.push(event, members, for_admins)
            except MemoryError:
                self.door.counts["server_events_dropped"] += 1

    def token_status(self, token: dict, status: str) -> None:
        """Tell that a token's status changed."""
        self._tell(_token_status, token, status)

    def evses_changed(self) -> None:
        """Tell that an EVSE reported something, or was told something."""
        self._tell(_evses_changed)

    def errors_changed(self, errors: list) -> None:
        """Tell that an error was raised or cleared."""
        self._tell(_errors_changed, errors)

    def tap(self, token: dict) -> bool:
        """Take a tap. True: the card is being learned, and the tap not to be decided on."""
        try:
            return self.door.server is not None and self.door.server.commands.tap(token)
        except MemoryError:
            return False


# The events. Functions of their own: a closure would need memory before anybody could catch that.


def _token_status(local: LocalInterface, token: dict, status: str) -> tuple:
    members = {"status": status, "card": local.app.log.name(token)}
    return "tokenValidationStatus", members, {"idToken": token["id_token"]}


def _evses_changed(local: LocalInterface, _what, _status: str) -> tuple:
    return "evsesChanged", {"evses": local.commands.evses()}, None


def _errors_changed(_local: LocalInterface, errors: list, _status: str) -> tuple:
    return "errorsChanged", {"errors": errors}, None
