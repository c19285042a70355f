"""The commands of the local interface, beside those of connection auth.

A command is a method of the request, as in the auth document: a user reads, an admin changes.
The rest of the firmware stands behind the commands as ports: objects with the methods of Ports.
"""

from tapauth.compat import forget, late
from tapauth.local.learn import Learner
from tapauth.local.login.auth import reply_to
from tapauth.local.login.sessions import ADMIN, Refused
from tapauth.local.withdrawals import WITHDRAWING


class Ports:
    """The things that a board offers to the commands; None stands for a thing that is not there.

    `board`:  status() -> dict, evses() -> list of dicts, withdraw(request) -> result text,
              set_master_pass_group_id(text) -> bool, set_connection_timeout(seconds) -> bool,
              in_force() -> dict of these two as set last, empty where they are set elsewhere;
              restart()
    `cards`:  put(id_token, info) and delete(id_token), generators as those of store.Store;
              find(id_token) -> ValidationResult or None; status() -> dict;
              load() -> list_in.Load or like it; export() -> (bytes in all, generator);
              update(differential list), a generator -> (status, version); clear_cache()
    `config`: a function that makes a ConfigTrial; `parse(text)`, which raises ValueError
    `tail`:   tail.Tail
    `bench`:  a function of a line such as "plug 1"; raises OSError when it makes no sense
    `rpc`:    the cloud auth service and the function that makes a RpcPeer of it, as a tuple
    """

    def __init__(self, board=None, cards=None, config=None, parse=None, tail=None, bench=None):
        self.rpc = None
        self.board = board
        self.cards = cards
        self.config = config
        self.parse = parse
        self.tail = tail
        self.bench = bench


class Commands:
    """`auth` is a ConnectionAuth, `ports` a Ports, `clock.now()` gives milliseconds,
    `tell(connection, event, members)` sends an event to one connection. handle() is the way in.
    """

    def __init__(self, auth, ports, clock, log, tell):
        self.learner = Learner(clock, tell)
        self.restart_at = 0
        """When the board is to restart, in milliseconds; 0: not at all."""
        self._auth = auth
        self.ports = ports
        self.clock = clock
        self.log = log

    def handle(self, connection, request: dict):
        """Steps: answer a request, as ConnectionAuth.handle does. Returns the reply."""
        reply = yield from self._auth.handle(connection, request)
        if reply is not None:
            return reply
        reply = reply_to(request)
        method = request.get("method")
        try:
            role = self._auth.role(connection)
            if not role:
                raise Refused("not authorized")
            steps = self._find(method, role)(self, connection, request, reply)
            if steps is not None:
                yield from steps
            reply["result"] = True
        except Refused as error:
            reply["error"] = error.args[0]
            reply["result"] = False
        except Exception as error:
            self.log.warning("server", "{}: {}", method, error)
            # Of all that can be raised here only a check's own text is for the eyes of others.
            text = str(error) if isinstance(error, ValueError) else type(error).__name__
            reply["error"] = text or type(error).__name__
            reply["result"] = False
        return reply

    def _find(self, method, role: int):
        """The function that carries out a method for this role. Raises Refused."""
        if not isinstance(method, str):
            raise Refused("no such method")
        name = method.encode()
        if name in _READING:
            return _READING[name]
        found = WITHDRAWING.get(name)
        if not found:
            with late("commands_admin"):
                from tapauth.local import commands_admin

            # A command keeps what it needs of the module for as long as the command runs.
            forget(commands_admin)
            found = commands_admin.COMMANDS.get(name)
        if not found:
            raise Refused("no such method")
        if role < ADMIN and method != "getCard":
            raise Refused("admin only")
        return found

    def is_admin(self, connection) -> bool:
        """Whether a connection is an admin's."""
        return self._auth.role(connection) == ADMIN

    def tap(self, token: dict) -> bool:
        """Take a tap. True: the card is being learned, so the tap is not to be decided on. Raises
        MemoryError.
        """
        return self.learning_connection() is not None and self.learner.tap(token)

    def learning_connection(self):
        """The connection that learns, or None: only an admin may go on."""
        connection = self.learner.connection
        if connection is None or self.is_admin(connection):
            return connection
        self.learner.stop(connection)
        return None


def _get_status(commands, connection, request: dict, reply: dict) -> None:
    board = commands.ports.board
    reply["status"] = board.status()
    if commands.is_admin(connection):
        # The id of the group is half of a card that stops everything: not for everybody.
        settings = board.in_force()
        if settings:
            reply["groupId"] = settings["master_pass_group_id"]
            reply["connectionTimeout"] = settings["connection_timeout"]
    if commands.ports.cards:
        reply["cards"] = commands.ports.cards.status()
    reply["configuration"] = "in force"
    if commands.ports.config:
        config = commands.ports.config()
        if config.pending:
            reply["configuration"] = "waits for a restart"
        elif config.on:
            reply["configuration"] = "on trial"
    reply["bench"] = commands.ports.bench is not None


def _get_evses(commands, connection, request: dict, reply: dict) -> None:
    reply["evses"] = commands.ports.board.evses()


def _get_log(commands, connection, request: dict, reply: dict) -> None:
    reply["lines"] = commands.ports.tail.lines()


# By bytes: MicroPython keeps every short text of the code for ever.
_READING = {b"getStatus": _get_status, b"getEvses": _get_evses, b"getLog": _get_log}
