"""The commands that change something: in memory only while one of them begins."""

from tapauth.compat import const, unload
from tapauth.conn.auth import Refused
from tapauth.server.commands import table

_RESTART_MS = const(500)  # for which a reply can get out before the board restarts
_MAX_ID = const(36)
_TYPES = ("ISO14443", "ISO15693", "MacAddress", "eMAID", "KeyCode", "Central", "Local")
_LEAST_WINDOW_S = const(5)
_MOST_WINDOW_S = const(120)
_WINDOW_S = const(30)


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


def id_token(request: dict) -> dict:
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
        info["evse_ids"] = [_number({"evseIds": one}, "evseIds", 1, 32) for one in numbers]
    if request.get("expiryTime"):
        info["expiry_time"] = _text(request, "expiryTime", 40)
    return info


def _get_card(commands, connection, request: dict, reply: dict) -> None:
    reply["card"] = _store(commands).find(id_token(request))


def _withdraw(commands, connection, request: dict, reply: dict) -> None:
    wanted: dict = {}
    if "evseId" in request:
        wanted["evse_id"] = _number(request, "evseId", 1, 32)
    if "idToken" in request:
        wanted["id_token"] = id_token(request)
    reply["withdrawalResult"] = commands.ports.board.withdraw(wanted)


def _set_group(commands, connection, request: dict, reply: dict) -> None:
    group = _text(request, "groupId", _MAX_ID)
    if not commands.ports.board.set_master_pass_group_id(group):
        raise Refused("groupId: not suitable")


def _set_timeout(commands, connection, request: dict, reply: dict) -> None:
    seconds = _number(request, "connectionTimeout", 10, 300)
    if not commands.ports.board.set_connection_timeout(seconds):
        raise Refused("connectionTimeout: not suitable")


def _store(commands):
    if not commands.ports.cards:
        raise Refused("no card store")
    return commands.ports.cards


def _learn_card(commands, connection, request: dict, reply: dict) -> None:
    _store(commands)
    commands.learner.poll()
    if commands.learning_connection() not in (None, connection):
        raise Refused("another connection is learning")
    window = _number(request, "window", _LEAST_WINDOW_S, _MOST_WINDOW_S, _WINDOW_S)
    commands.learner.start(connection, window)
    reply["window"] = window


def _confirm_card(commands, connection, request: dict, reply: dict):
    info = _info(request)
    token = commands.learner.tapped(connection)
    if not token:
        raise Refused("no card was tapped")
    reply["idToken"] = token
    yield from _store(commands).put(token, info)
    # Only now: a store that was busy can be asked again.
    commands.learner.stop(connection)


def _cancel_learning(commands, connection, request: dict, reply: dict) -> None:
    commands.learner.stop(connection)


def _add_card(commands, connection, request: dict, reply: dict):
    yield from _store(commands).put(id_token(request), _info(request))


def _block_card(commands, connection, request: dict, reply: dict):
    token = id_token(request)
    yield from _store(commands).put(token, {"authorization_status": "Blocked"})


def _remove_card(commands, connection, request: dict, reply: dict):
    reply["removed"] = yield from _store(commands).delete(id_token(request))


def _editor(commands):
    if not commands.ports.config:
        raise Refused("no configuration file")
    from tapauth.server import config_edit

    unload("tapauth.server.config_edit")
    return config_edit


def _get_config(commands, connection, request: dict, reply: dict) -> None:
    reply["config"] = _editor(commands).shown(commands.ports.config().read())


def _set_config(commands, connection, request: dict, reply: dict) -> None:
    editor = _editor(commands)
    config = commands.ports.config()
    changes = request.get("config")
    if not isinstance(changes, dict):
        raise Refused("config: an object")
    if config.on:
        raise Refused("confirm the configuration that is on trial first")
    config.apply(editor.changed(config.read(), changes, commands.ports.parse))
    commands.log.info("server", "a new configuration waits for a restart")


def _confirm_config(commands, connection, request: dict, reply: dict) -> None:
    if not commands.ports.config or not commands.ports.config().confirm():
        raise Refused("no configuration is on trial")
    commands.log.info("server", "the new configuration is confirmed")


def _restart(commands, connection, request: dict, reply: dict) -> None:
    commands.log.info("server", "restart by command")
    commands.restart_at = commands.clock.now() + _RESTART_MS


def _bench(commands, connection, request: dict, reply: dict) -> None:
    if not commands.ports.bench:
        raise Refused("no bench")
    try:
        commands.ports.bench(_text(request, "line", 64))
    except OSError as error:
        raise Refused("the bench did not understand") from error


_NAMES = (
    "withdrawAuthorization setMasterPassGroup setConnectionTimeout learnCard confirmCard "
    "cancelLearning addCard blockCard removeCard getConfig setConfig confirmConfig "
    "restart bench getCard"
)
_FUNCTIONS = (
    _withdraw,
    _set_group,
    _set_timeout,
    _learn_card,
    _confirm_card,
    _cancel_learning,
    _add_card,
    _block_card,
    _remove_card,
    _get_config,
    _set_config,
    _confirm_config,
    _restart,
    _bench,
    _get_card,
)
COMMANDS = table(_NAMES, _FUNCTIONS)
