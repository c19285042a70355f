"""A differential list, and clearing the cache, over the local interface on real MicroPython."""

import pytest

from tools.rigs.local_board import LocalBoard, list_file

CARD = "04a1b2c3d4e5f6"
OTHER = "9c3a5501"


@pytest.fixture
def board():
    with LocalBoard() as board:
        yield board


def entry(card: str, status: str = "Accepted", **terms) -> dict:
    return {"idToken": card, "authorizationStatus": status, **terms}


def tapped(client, card: str) -> str:
    """What a tap comes to: Accepted, or Rejected."""
    client.ask("bench", line="tap " + card)
    assert client.event("tokenValidationStatus")["status"] == "Processing"
    return client.event("tokenValidationStatus")["status"]


def test_an_admin_updates_the_list_by_its_differences(board):
    with board.admin() as client:
        cards = [entry(CARD, parentId="FLEET-7", evseIds=[1]), entry(OTHER, "Blocked")]
        reply = client.ask("updateCards", listVersion=3, cards=cards)
        assert (
            reply["result"] and reply["updateStatus"] == "Accepted" and reply["listVersion"] == 3
        )
        card = client.ask("getCard", idToken=CARD)["card"]
        assert card["parent_id_token"]["value"] == "FLEET-7" and card["evse_ids"] == [1]
        assert tapped(client, OTHER) == "Rejected"
        # Twice, older, or made for another version: nothing changes; the reply tells the one held.
        removed = [entry(CARD, "Removed")]
        for versions in (
            {"listVersion": 3},
            {"listVersion": 2},
            {"listVersion": 5, "fromVersion": 4},
        ):
            reply = client.ask("updateCards", cards=removed, **versions)
            assert reply["result"] and reply["updateStatus"] == "VersionMismatch", versions
            assert reply["listVersion"] == 3
        assert client.ask("getCard", idToken=CARD)["card"] == card
        reply = client.ask("updateCards", listVersion=4, fromVersion=3, cards=removed)
        assert reply["updateStatus"] == "Accepted" and reply["listVersion"] == 4
        assert client.ask("getCard", idToken=CARD)["card"] is None
        assert client.ask("getStatus")["cards"]["version"] == 4


def test_an_update_is_taken_whole_or_not_at_all(board):
    with board.admin() as client:
        good = entry(CARD)
        for bad in (
            {"cards": [good]},
            {"listVersion": 0, "cards": [good]},
            {"listVersion": True, "cards": [good]},
            {"listVersion": 5},
            {"listVersion": 5, "cards": {}},
            {"listVersion": 5, "cards": [good, 7]},
            {"listVersion": 5, "cards": [good, entry("xyz")]},
            {"listVersion": 5, "cards": [good, entry(OTHER, "Perhaps")]},
            {"listVersion": 5, "cards": [good, {"idToken": OTHER}]},
            {"listVersion": 5, "cards": [good, entry(OTHER, evseIds=[0])]},
            {"listVersion": 5, "cards": [good, entry(OTHER, expiryTime="tomorrow")]},
            {"listVersion": 5, "cards": [good, entry(OTHER, expiry="2030-01-01T00:00:00Z")]},
            {"listVersion": 5, "cards": [good, entry("04:A1:B2:C3:D4:E5:F6", "Blocked")]},
            {"listVersion": 5, "fromVersion": -1, "cards": [good]},
            # Taken for a list of any version, it would be put upon the wrong one.
            {"listVersion": 5, "fromversion": 4, "cards": [good]},
        ):
            reply = client.ask("updateCards", **bad)
            assert reply["result"] is False and reply["error"], bad
            assert "updateStatus" not in reply
        assert client.ask("getCard", idToken=CARD)["card"] is None
        assert client.ask("getStatus")["cards"]["version"] == 0


def test_only_an_admin_changes_the_list_or_the_cache(board):
    with board.client() as client:
        assert client.login(board.pins["user"])["result"]
        for method in ("updateCards", "clearCache"):
            reply = client.ask(method, listVersion=5, cards=[entry(CARD)])
            assert reply["result"] is False and reply["error"] == "admin only"
        assert client.ask("getCard", idToken=CARD)["card"] is None


def test_clearing_the_cache_leaves_the_list(board):
    with board.admin() as client:
        token = client.ask("getTokenForHttpServer")["token"]
        assert board.http("POST", "/cards?token=" + token, list_file(20))[0] == 200
        assert client.ask("clearCache")["result"]
        status = client.ask("getStatus")["cards"]
        assert status["list"] == 20 and status["version"] == 7
