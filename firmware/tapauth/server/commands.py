"""The commands of the local interface, beside those of connection auth.

A command is a method of the request, as in the auth document: a user reads, an admin changes.
What stands behind them comes as ports, objects with the methods named here.
"""

from tapauth.compat import const, unload
from tapauth.conn.auth import Refused, reply_to
from tapauth.conn.sessions import ADMIN, USER
from tapauth.server.learn import Learner

_MAX_ID = const(36)
_TYPES = ("ISO14443", "ISO15693", "MacAddress", "eMAID", "KeyCode", "Central", "Local")
_LEAST_WINDOW_S = const(5)
_MOST_WINDOW_S = const(120)
_WINDOW_S = const(30)
RESTART_MS = const(500)
"""How long a reply has to get out before the board restarts."""


class Ports:
    """What a board offers to the commands; None for what it has not.

    `board`:  status() -> dict, evses() -> list of dicts, withdraw(request) -> result text,
              set_master_pass_group_id(text) -> bool, set_connection_timeout(seconds) -> bool,
              restart()
    `cards`:  put(id_token, info) and delete(id_token), generators as those of store.Store;
              find(id_token) -> ValidationResult or None; status() -> dict;
              load() -> store.load.Load or like it; export() -> (bytes in all, generator)
    `config`: trial.Trial, and `parse(text)`, which raises ValueError
    `tail`:   tail.Tail
    `bench`:  a function of a line such as "plug 1"; raises OSError when it makes no sense
    """

    board = None
    cards = None
    config = None
    parse = None
    tail = None
    bench = None


def _text(request: dict, name: str, most: int) -> str:
    value = request.get(name)
    if not isinstance(value, str) or len(value) > most:
        raise Refused(f"{name}: text of at most {most} characters")
    return value


def _number(request: dict, name: str, low: int, high: int, default=None) -> int:
    value = request.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Refused(f"{name}: {low} to {high}")
    return value


def _id_token(request: dict) -> dict:
    """The member idToken: {"value", "type"}, or the value alone, a card's."""
    given = request.get("idToken")
    if isinstance(given, str):
        given = {"value": given, "type": "ISO14443"}
    if not isinstance(given, dict):
        raise Refused("idToken is missing")
    value, kind = given.get("value"), given.get("type")
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_ID or kind not in _TYPES:
        raise Refused("idToken is invalid")
    return {"value": value, "type": kind}


def _info(request: dict) -> dict:
    """The ValidationResult that a request gives a card."""
    info: dict = {"authorization_status": request.get("authorizationStatus", "Accepted")}
    if request.get("parentId"):
        info["parent_id_token"] = {"value": _text(request, "parentId", _MAX_ID), "type": "Local"}
    if request.get("evseIds"):
        numbers = request["evseIds"]
        if not isinstance(numbers, list):
            raise Refused("evseIds: a list of numbers")
        info["evse_ids"] = [_number({"evseIds": one}, "evseIds", 1, 32) for one in numbers[:9]]
    if request.get("expiryTime"):
        info["expiry_time"] = _text(request, "expiryTime", 40)
    return info


class Commands:
    """`auth` is a ConnectionAuth, `ports` a Ports, `clock.now()` gives milliseconds,
    `tell(connection, event, members)` sends an event to one connection. handle() is the way in.
    """

    def __init__(self, auth, ports, clock, log, tell):
        self.learner = Learner(clock, tell)
        self.restart_at = 0
        """When the board is to restart, in milliseconds; 0: not at all."""
        self._auth = auth
        self._ports = ports
        self._clock = clock
        self._log = log
        self._methods = {
            "getStatus": (USER, self._get_status),
            "getEvses": (USER, self._get_evses),
            "getLog": (USER, self._get_log),
            "getCard": (USER, self._get_card),
            "withdrawAuthorization": (ADMIN, self._withdraw),
            "setMasterPassGroup": (ADMIN, self._set_group),
            "setConnectionTimeout": (ADMIN, self._set_timeout),
            "learnCard": (ADMIN, self._learn_card),
            "confirmCard": (ADMIN, self._confirm_card),
            "cancelLearning": (ADMIN, self._cancel_learning),
            "addCard": (ADMIN, self._add_card),
            "blockCard": (ADMIN, self._block_card),
            "removeCard": (ADMIN, self._remove_card),
            "getConfig": (ADMIN, self._get_config),
            "setConfig": (ADMIN, self._set_config),
            "confirmConfig": (ADMIN, self._confirm_config),
            "restart": (ADMIN, self._restart),
            "bench": (ADMIN, self._bench),
        }

    def handle(self, connection, request: dict):
        """Answer a request. A generator, as that of ConnectionAuth.handle. Returns the reply."""
        reply = yield from self._auth.handle(connection, request)
        if reply is not None:
            return reply
        reply = reply_to(request)
        method = request.get("method")
        known = self._methods.get(method) if isinstance(method, str) else None
        try:
            role = self._auth.role(connection)
            if not role:
                raise Refused("not authorized")
            if not known:
                raise Refused("no such method")
            if role < known[0]:
                raise Refused("admin only")
            steps = known[1](connection, request, reply)
            if steps is not None:
                yield from steps
            reply["result"] = True
        except Refused as error:
            reply["error"] = error.args[0]
            reply["result"] = False
        except Exception as error:
            self._log.warning("server", "{}: {}", method, error)
            # Of all that can be raised here only a check's own text is for the eyes of others.
            text = str(error) if isinstance(error, ValueError) else type(error).__name__
            reply["error"] = text or type(error).__name__
            reply["result"] = False
        return reply

    def tap(self, token: dict) -> bool:
        """A card was tapped. True: it is being learned, so it is not to be decided on."""
        connection = self.learner.active and self._learning_connection()
        return bool(connection) and self.learner.tap(token)

    def _learning_connection(self):
        # Only an admin may go on learning.
        connection = self.learner.connection
        if self._auth.role(connection) == ADMIN:
            return connection
        self.learner.stop(connection)
        return None

    # What a user may read.

    def _get_status(self, connection, request: dict, reply: dict) -> None:
        reply["status"] = self._ports.board.status()
        if self._ports.cards:
            reply["cards"] = self._ports.cards.status()
        config = self._ports.config
        reply["configuration"] = "in force"
        if config:
            if config.pending:
                reply["configuration"] = "waits for a restart"
            elif config.on:
                reply["configuration"] = "on trial"
        reply["bench"] = self._ports.bench is not None

    def _get_evses(self, connection, request: dict, reply: dict) -> None:
        reply["evses"] = self._ports.board.evses()

    def _get_log(self, connection, request: dict, reply: dict) -> None:
        reply["lines"] = self._ports.tail.lines()

    def _get_card(self, connection, request: dict, reply: dict) -> None:
        reply["card"] = self._store().find(_id_token(request))

    # What an admin may do.

    def _withdraw(self, connection, request: dict, reply: dict) -> None:
        wanted: dict = {}
        if "evseId" in request:
            wanted["evse_id"] = _number(request, "evseId", 1, 32)
        if "idToken" in request:
            wanted["id_token"] = _id_token(request)
        reply["withdrawalResult"] = self._ports.board.withdraw(wanted)

    def _set_group(self, connection, request: dict, reply: dict) -> None:
        group = _text(request, "groupId", _MAX_ID)
        if not self._ports.board.set_master_pass_group_id(group):
            raise Refused("groupId: not suitable")

    def _set_timeout(self, connection, request: dict, reply: dict) -> None:
        seconds = _number(request, "connectionTimeout", 10, 300)
        if not self._ports.board.set_connection_timeout(seconds):
            raise Refused("connectionTimeout: not suitable")

    def _store(self):
        if not self._ports.cards:
            raise Refused("no card store")
        return self._ports.cards

    def _learn_card(self, connection, request: dict, reply: dict) -> None:
        self._store()
        self.learner.poll()
        if self.learner.active and not self.learner.owns(connection):
            raise Refused("another connection is learning")
        window = _number(request, "window", _LEAST_WINDOW_S, _MOST_WINDOW_S, _WINDOW_S)
        self.learner.start(connection, window)
        reply["window"] = window

    def _confirm_card(self, connection, request: dict, reply: dict):
        info = _info(request)
        id_token = self.learner.take(connection)
        if not id_token:
            raise Refused("no card was tapped")
        reply["idToken"] = id_token
        yield from self._store().put(id_token, info)

    def _cancel_learning(self, connection, request: dict, reply: dict) -> None:
        self.learner.stop(connection)

    def _add_card(self, connection, request: dict, reply: dict):
        yield from self._store().put(_id_token(request), _info(request))

    def _block_card(self, connection, request: dict, reply: dict):
        id_token = _id_token(request)
        yield from self._store().put(id_token, {"authorization_status": "Blocked"})

    def _remove_card(self, connection, request: dict, reply: dict):
        reply["removed"] = yield from self._store().delete(_id_token(request))

    def _editor(self):
        if not self._ports.config:
            raise Refused("no configuration file")
        from tapauth.server import config_edit

        unload("tapauth.server.config_edit")
        return config_edit

    def _get_config(self, connection, request: dict, reply: dict) -> None:
        reply["config"] = self._editor().shown(self._ports.config.read())

    def _set_config(self, connection, request: dict, reply: dict) -> None:
        editor = self._editor()
        config = self._ports.config
        changes = request.get("config")
        if not isinstance(changes, dict):
            raise Refused("config: an object")
        if config.on:
            raise Refused("confirm the configuration that is on trial first")
        config.apply(editor.changed(config.read(), changes, self._ports.parse))
        self._log.info("server", "a new configuration waits for a restart")

    def _confirm_config(self, connection, request: dict, reply: dict) -> None:
        if not self._ports.config or not self._ports.config.confirm():
            raise Refused("no configuration is on trial")
        self._log.info("server", "the new configuration is confirmed")

    def _restart(self, connection, request: dict, reply: dict) -> None:
        self._log.info("server", "restart by command")
        self.restart_at = self._clock.now() + RESTART_MS

    def _bench(self, connection, request: dict, reply: dict) -> None:
        if not self._ports.bench:
            raise Refused("no bench")
        try:
            self._ports.bench(_text(request, "line", 64))
        except OSError as error:
            raise Refused("the bench did not understand") from error
