"""The commands that take a permission away, and what the others share with them.

These are in memory as long as somebody is connected, and not loaded when one of them is sent: a
withdrawal that fails for want of memory is an accept.
"""

from tapauth.core.shapes import check_id_token, normal
from tapauth.local.login.sessions import Refused


def number(request: dict, name: str, low: int, high: int, default=None) -> int:
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
    error = check_id_token(given)
    if error or given["type"] == "NoAuthorization":
        raise Refused("idToken: " + (error or "no type of a card"))
    return {"value": given["value"], "type": given["type"]}


def store_of(commands):
    if not commands.ports.cards:
        raise Refused("no card store")
    return commands.ports.cards


def find(commands, token: dict):
    """The answer to a tap of this card: the UID is as a reader makes one, however it was typed."""
    return store_of(commands).find({"value": normal(token), "type": token["type"]})


def put(commands, token: dict, reply: dict, info):
    """Steps: put a card on the list, as `info(present)` wants it; `present` is what the store says
    of the card, {} for nothing. The reply tells what it says then.
    """
    store = store_of(commands)
    # Nothing comes in between: put() has the store to itself from its first step on.
    present = find(commands, token) or store.find(token) or {}
    yield from store.put(token, info(present))
    reply["idToken"] = token
    reply["card"] = find(commands, token)


def _withdraw(commands, connection, request: dict, reply: dict) -> None:
    wanted: dict = {}
    if "evseId" in request:
        wanted["evse_id"] = number(request, "evseId", 1, 32)
    if "idToken" in request:
        wanted["id_token"] = id_token(request)
    reply["withdrawalResult"] = commands.ports.board.withdraw(wanted)


def _blocked(present: dict) -> dict:
    # A card keeps its terms: it has them again when it is accepted again.
    info = {name: present[name] for name in _TERMS if name in present}
    info["authorization_status"] = "Blocked"
    return info


def _block_card(commands, connection, request: dict, reply: dict):
    return put(commands, id_token(request), reply, _blocked)


def _remove_card(commands, connection, request: dict, reply: dict):
    token = id_token(request)
    reply["removed"] = yield from store_of(commands).delete(token)
    reply["card"] = find(commands, token)


def _clear_cache(commands, connection, request: dict, reply: dict) -> None:
    store_of(commands).clear_cache()


_TERMS = ("parent_id_token", "evse_ids", "expiry_time")
# By bytes: MicroPython keeps every short text of the code for ever.
WITHDRAWING = {
    b"withdrawAuthorization": _withdraw,
    b"blockCard": _block_card,
    b"removeCard": _remove_card,
    b"clearCache": _clear_cache,
}
