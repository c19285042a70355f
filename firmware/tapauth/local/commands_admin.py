"""The commands that change something: in memory only while one of them begins. Those that take a
permission away are in withdrawals.py.
"""

from tapauth.cards.codec import STATUSES
from tapauth.compat import const, forget, late
from tapauth.core.shapes import check_id_token, check_master_pass_group_id
from tapauth.local.login.sessions import Refused
from tapauth.local.withdrawals import find, id_token, number, put, store_of

_RESTART_MS = const(500)  # for which a reply can get out before the board restarts
_LEAST_WINDOW_S = const(5)
_MOST_WINDOW_S = const(120)
_WINDOW_S = const(30)
_ELSEWHERE = "set it in EVerest, which decides here"


def _text(request: dict, name: str, most: int) -> str:
    value = request.get(name)
    if not isinstance(value, str) or len(value) > most:
        raise Refused(f"{name}: text of at most {most} characters")
    return value


def _blank(group: str) -> str | None:
    """The fault of a checked group that nobody means: such a group equals no other, and looks as
    if it did.
    """
    return "begins or ends with a blank" if group != group.strip() else None


def _parent(request: dict) -> dict:
    parent = {"value": request["parentId"], "type": "Local"}
    # A tap with such a parent would be refused, whatever the list says of the card.
    error = check_id_token(parent) or _blank(parent["value"])
    if error:
        raise Refused("parentId: " + error)
    return parent


def _evse_ids(request: dict) -> list:
    numbers = request["evseIds"]
    if not isinstance(numbers, list):
        raise Refused("evseIds: a list of numbers")
    return [number({"evseIds": one}, "evseIds", 1, 32) for one in numbers]


def _expiry(request: dict) -> str:
    return _text(request, "expiryTime", 40)


_TERMS = (
    ("parentId", "parent_id_token", _parent),
    ("evseIds", "evse_ids", _evse_ids),
    ("expiryTime", "expiry_time", _expiry),
)


def _info(request: dict, present: dict) -> dict:
    """The ValidationResult that a request gives a card. A term that the request does not name
    stays as `present` has it; null or an empty value takes the term away. Raises Refused.
    """
    status = request.get("authorizationStatus", "Accepted")
    if status not in STATUSES:
        raise Refused("authorizationStatus: one of " + ", ".join(STATUSES))
    info: dict = {"authorization_status": status}
    for name, member, read in _TERMS:
        if name in request:
            if request[name] not in (None, "", []):
                info[member] = read(request)
        elif member in present:
            info[member] = present[member]
    return info


def _enter(commands, token: dict, request: dict, reply: dict):
    """Steps: put a card on the list; the reply tells what the store now says of the card."""
    return put(commands, token, reply, lambda present: _info(request, present))


def _get_card(commands, connection, request: dict, reply: dict) -> None:
    card = find(commands, id_token(request))
    if card and not commands.is_admin(connection):
        # The master-pass group might be it: see commands._get_status.
        card = {name: card[name] for name in card if name != "parent_id_token"}
    reply["card"] = card


def _set_group(commands, connection, request: dict, reply: dict) -> None:
    group: str = request.get("groupId")  # type: ignore
    error = check_master_pass_group_id(group) or _blank(group)
    if error:
        raise Refused("groupId: " + error)
    if not commands.ports.board.set_master_pass_group_id(group):
        raise Refused(_ELSEWHERE)


def _set_timeout(commands, connection, request: dict, reply: dict) -> None:
    seconds = number(request, "connectionTimeout", 10, 300)
    if not commands.ports.board.set_connection_timeout(seconds):
        raise Refused(_ELSEWHERE)


def _learn_card(commands, connection, request: dict, reply: dict) -> None:
    store_of(commands)
    commands.learner.poll()
    if commands.learning_connection() not in (None, connection):
        raise Refused("another connection is learning")
    window = number(request, "window", low=_LEAST_WINDOW_S, high=_MOST_WINDOW_S, default=_WINDOW_S)
    commands.learner.start(connection, window)
    reply["window"] = window


def _confirm_card(commands, connection, request: dict, reply: dict):
    token = commands.learner.tapped(connection)
    if not token:
        raise Refused("no card was tapped")
    yield from _enter(commands, token, request, reply)
    # Only now: a store that was busy can be asked again.
    commands.learner.stop(connection)


def _cancel_learning(commands, connection, request: dict, reply: dict) -> None:
    commands.learner.stop(connection)


def _add_card(commands, connection, request: dict, reply: dict):
    yield from _enter(commands, id_token(request), request, reply)


def _update_cards(commands, connection, request: dict, reply: dict):
    # All else is the list's: a member with a slip in its name is refused there.
    update = {name: request[name] for name in request if name not in ("method", "requestId")}
    status, version = yield from store_of(commands).update(update)
    reply["updateStatus"] = status
    reply["listVersion"] = version


def _editor(commands):
    if not commands.ports.config:
        raise Refused("no configuration file")
    with late("config_edit"):
        from tapauth import config_edit

    forget(config_edit)
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
    charging = [str(evse["evseId"]) for evse in commands.ports.board.evses() if evse["charging"]]
    if charging and request.get("now") is not True:
        raise Refused("EVSE " + ", ".join(charging) + ' charges: "now": true ends that')
    commands.log.info("server", "restart by command")
    commands.restart_at = commands.clock.now() + _RESTART_MS


def _bench(commands, connection, request: dict, reply: dict) -> None:
    if not commands.ports.bench:
        raise Refused("no bench")
    try:
        commands.ports.bench(_text(request, "line", 64))
    except OSError as error:
        raise Refused("the bench did not understand") from error


# By bytes: MicroPython keeps every short text of the code for ever.
COMMANDS = {
    b"setMasterPassGroup": _set_group,
    b"setConnectionTimeout": _set_timeout,
    b"learnCard": _learn_card,
    b"confirmCard": _confirm_card,
    b"cancelLearning": _cancel_learning,
    b"addCard": _add_card,
    b"updateCards": _update_cards,
    b"getCard": _get_card,
    b"getConfig": _get_config,
    b"setConfig": _set_config,
    b"confirmConfig": _confirm_config,
    b"restart": _restart,
    b"bench": _bench,
}
