"""A differential list as it comes in: checked once, whole, before anything of it is done.

In memory only while a list is read. What is not named here is refused: a member with a slip in
its name would be an expiry that never comes.
"""

from tapauth.cards.codec import MAX_VERSION, STATUSES, check_listed
from tapauth.cards.store import MAX_UPDATE
from tapauth.compat import const
from tapauth.core.shapes import check_id_token, normal
from tapauth.core.timestamps import parse_rfc3339

REMOVED = "Removed"
"""What stands in the place of a status for a card that goes."""
_MOST_TIME = const(40)  # characters
_UPDATE = ("listVersion", "fromVersion", "cards")
_CARD = ("idToken", "authorizationStatus", "parentId", "evseIds", "expiryTime")


def _check_members(found, known: tuple) -> None:
    if type(found) is not dict:
        raise ValueError("not an object")
    for name in found:
        if name not in known:
            raise ValueError("a member that is none of: " + ", ".join(known))


def _version(request: dict, name: str, least: int) -> int:
    version = request.get(name)
    if type(version) is not int or not least <= version <= MAX_VERSION:
        raise ValueError(f"{name}: {least} to {MAX_VERSION}")
    return version


def _id_token(given, name: str, usual: str) -> dict:
    """{"value", "type"}, or the value alone, of the `usual` type."""
    if type(given) is str:
        given = {"value": given, "type": usual}
    error = check_id_token(given)
    if error or given["type"] == "NoAuthorization":
        raise ValueError(name + ": " + (error or "no type of a card"))
    return {"value": given["value"], "type": given["type"]}


def _parent(given) -> dict:
    parent = _id_token(given, "parentId", "Local")
    value = parent["value"]
    if not value or value != value.strip():
        raise ValueError("parentId: empty, or begins or ends with a blank")
    return parent


def _evse_ids(given) -> list:
    # Empty is refused: in EVerest's answers it permits no EVSE, in the store all.
    if type(given) is not list or not given:
        raise ValueError("evseIds: a list of numbers; leave it out for every EVSE")
    for evse_id in given:
        if type(evse_id) is not int or not 1 <= evse_id <= 32:
            raise ValueError("evseIds: numbers of 1 to 32")
    return given


def _expiry(given) -> str:
    if type(given) is not str or len(given) > _MOST_TIME or parse_rfc3339(given) is None:
        raise ValueError("expiryTime: not an RFC 3339 date-time")
    return given


def _change(card) -> tuple:
    """(id token, info as Store.put takes it, or None) of one card. Raises ValueError."""
    _check_members(card, _CARD)
    token = _id_token(card.get("idToken"), "idToken", "ISO14443")
    status = card.get("authorizationStatus")
    if status == REMOVED:
        if len(card) > 2:
            raise ValueError("a card that is removed has nothing else")
        return token, None
    if type(status) is not str or status not in STATUSES:
        raise ValueError(f"authorizationStatus: {REMOVED}, or one of " + ", ".join(STATUSES))
    check_listed(token)
    info: dict = {"authorization_status": status}
    if "parentId" in card:
        info["parent_id_token"] = _parent(card["parentId"])
    if "evseIds" in card:
        info["evse_ids"] = _evse_ids(card["evseIds"])
    if "expiryTime" in card:
        info["expiry_time"] = _expiry(card["expiryTime"])
    return token, info


def read_update(request) -> tuple:
    """(version, changes, base) for Vault.update, of a request by docs/mqtt.md.

    `request`: {"listVersion", "cards"} and, where wanted, "fromVersion"; it is taken apart on the
    way. Raises ValueError: the text says what is wrong, by the card's place, without its value.
    """
    _check_members(request, _UPDATE)
    version = _version(request, "listVersion", 1)
    base = _version(request, "fromVersion", 0) if "fromVersion" in request else None
    cards = request.get("cards")
    if type(cards) is not list or len(cards) > MAX_UPDATE:
        raise ValueError(f"cards: a list of at most {MAX_UPDATE}")
    seen = set()
    last = None
    for at in range(len(cards)):
        try:
            token, info = _change(cards[at])
            name = token["type"] + normal(token)
            if name in seen:
                raise ValueError("a card that is there before")
        except ValueError as error:
            raise ValueError(f"card {at + 1}: {error}")
        seen.add(name)
        # Never are both forms of all cards in memory, and cards side by side share what they have
        # in common: of most updates that is all.
        if info != last:
            last = info
        cards[at] = (token, last)
    return version, cards, base
