"""A differential list with anything wrong in it: refused whole, and the reply says where."""

from store_kit import token
from update_kit import UID, ask, card, new_door, update

WRONG = (
    None,
    [],
    "text",
    {},
    {"cards": []},
    {"listVersion": 7},
    update("7", []),
    update(7.5, []),
    update(True, []),
    update(0, []),
    update(-1, []),
    update(1 << 31, []),
    update(7, {}),
    update(7, None),
    update(7, [], fromVersion=None),
    update(7, [], fromVersion=-1),
    update(7, [], updateType="Differential"),
    update(7, [card()] * 2),
    update(7, [card(), card(idToken="04:" + UID[2:].lower(), authorizationStatus="Removed")]),
    update(7, [[]]),
    update(7, ["04A1B2C3"]),
    update(7, [{"authorizationStatus": "Accepted"}]),
    update(7, [{"idToken": UID}]),
    update(7, [card(idToken=5)]),
    update(7, [card(idToken=None)]),
    update(7, [card(idToken={"value": UID})]),
    update(7, [card(idToken={"value": UID, "type": "Card"})]),
    update(7, [card(idToken={"value": UID, "type": "NoAuthorization"})]),
    update(7, [card(idToken="08112233")]),
    update(7, [card(idToken="04A1B2")]),
    update(7, [card(idToken="")]),
    update(7, [card(idToken="0" * 99)]),
    update(7, [card(authorizationStatus="accepted")]),
    update(7, [card(authorizationStatus="Fine")]),
    update(7, [card(authorizationStatus=None)]),
    update(7, [card(authorizationStatus=["Accepted"])]),
    update(7, [card(authorizationStatus="Removed", evseIds=[1])]),
    update(7, [card(parentId="")]),
    update(7, [card(parentId=None)]),
    update(7, [card(parentId=" FLEET")]),
    update(7, [card(parentId="F" * 37)]),
    update(7, [card(parentId="Fl\u00e9et")]),
    update(7, [card(parentId={"value": "FLEET"})]),
    update(7, [card(evseIds=[])]),
    update(7, [card(evseIds=None)]),
    update(7, [card(evseIds=1)]),
    update(7, [card(evseIds=[0])]),
    update(7, [card(evseIds=[33])]),
    update(7, [card(evseIds=[True])]),
    update(7, [card(evseIds=["1"])]),
    update(7, [card(expiryTime="tomorrow")]),
    update(7, [card(expiryTime=1)]),
    update(7, [card(expiryTime=None)]),
    update(7, [card(expiryTime="")]),
    update(7, [card(expiryTme="2027-01-01T00:00:00Z")]),
)


def test_a_request_that_is_wrong_anywhere_is_refused_whole_and_says_where():
    door, vault, broker = new_door("wrong")
    for count, payload in enumerate(WRONG):
        if isinstance(payload, dict) and isinstance(payload.get("cards"), list):
            payload["cards"] = [card(idToken=token(9))] + payload["cards"]
        reply = ask(door, vault, broker, payload)
        assert reply["status"] == "Failed" and reply["listVersion"] == 0, payload
        assert UID not in reply["reason"] and UID.lower() not in reply["reason"], payload
        assert door.refused == count + 1
    assert broker.replies[-1]["reason"].startswith("card 2: ")
    assert (vault.store.listed, vault.store.version) == (0, 0)
