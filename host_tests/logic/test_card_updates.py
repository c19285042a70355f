"""A differential list over MQTT: what the door takes, what it refuses, and what it answers."""

import json

from scarcity import without_memory_for
from store_kit import Short, again, status_of, token
from update_kit import UID, ask, card, new_door, update
from vault_kit import ACCEPTED, BLOCKED, learn, run, turns

from tapauth.cards import card_updates, changes_in
from tapauth.cards import vault as vault_module
from tapauth.cards.store import MAX_UPDATE, finish

ALL = [
    {"idToken": token(1)["value"], "authorizationStatus": "Accepted"},
    {
        "idToken": token(2),
        "authorizationStatus": "Accepted",
        "parentId": "FLEET",
        "evseIds": [2, 1],
        "expiryTime": "2027-01-01T00:00:00Z",
    },
    {"idToken": token(3)["value"], "authorizationStatus": "Removed"},
]


def test_an_update_adds_changes_and_deletes_and_the_reply_has_the_version():
    door, vault, broker = new_door("whole")
    finish(vault.store.put(token(2), BLOCKED))
    finish(vault.store.put(token(3), ACCEPTED))
    assert ask(door, vault, broker, update(7, ALL)) == {"status": "Accepted", "listVersion": 7}
    store = again(vault.store)
    assert [status_of(store, token(i)) for i in (1, 2, 3)] == ["Accepted", "Accepted", None]
    assert store.lookup(token(2), 0)[0] == {
        "authorization_status": "Accepted",
        "tariff_messages": [],
        "parent_id_token": {"value": "FLEET", "type": "Local"},
        "evse_ids": [1, 2],
        "expiry_time": "2027-01-01T00:00:00Z",
    }
    assert (store.version, store.listed, door.refused) == (7, 2, 0)


def test_an_update_that_comes_twice_is_applied_once():
    door, vault, broker = new_door("twice")
    assert ask(door, vault, broker, update(7, ALL))["status"] == "Accepted"
    finish(vault.store.delete(token(1)))  # by somebody else meanwhile
    assert ask(door, vault, broker, update(7, ALL)) == {
        "status": "VersionMismatch",
        "listVersion": 7,
    }
    assert status_of(vault.store, token(1)) is None
    # Also when the second comes while the first is being written.
    text = json.dumps({"headers": {"replyTo": "answers"}, "payload": update(8, ALL)}).encode()
    assert door.message("base/cards/update", text)

    def under_way():
        return vault.store.busy and door.message("base/cards/update", text)

    run(vault, under_way, lambda: len(broker.replies) == 4)
    assert [reply["status"] for reply in broker.replies[2:]] == ["Accepted", "VersionMismatch"]


def test_versions_only_grow_and_from_the_one_that_was_changed():
    door, vault, broker = new_door("versions")
    assert ask(door, vault, broker, update(5, []))["status"] == "Accepted"
    for version, more in ((5, {}), (4, {}), (9, {"fromVersion": 4}), (9, {"fromVersion": 6})):
        reply = ask(door, vault, broker, update(version, ALL, **more))
        assert reply == {"status": "VersionMismatch", "listVersion": 5}, version
    assert vault.store.listed == 0
    reply = ask(door, vault, broker, update(9, ALL, fromVersion=5))
    assert reply == {"status": "Accepted", "listVersion": 9}


def test_no_more_cards_than_the_store_sorts_in_memory():
    door, vault, broker = new_door("many")
    many = [card(idToken=token(i)["value"]) for i in range(MAX_UPDATE + 1)]
    assert "at most" in ask(door, vault, broker, update(7, many))["reason"]
    many.pop()
    text = json.dumps({"headers": {"replyTo": "answers"}, "payload": update(7, many)}).encode()
    assert len(text) < 8192, "what a link takes by default"
    many.clear()  # a board has not both
    assert door.message("base/cards/update", text)
    text = b""
    run(vault, lambda: len(broker.replies) == 2)
    assert broker.replies[-1] == {"status": "Accepted", "listVersion": 7}
    assert vault.store.listed == MAX_UPDATE


def test_what_is_no_request_or_wants_no_reply_gets_none():
    door, vault, broker = new_door("silent")
    assert not door.message("base/cards/other", b"{}") and not door.message("base/card", b"{}")
    for payload in (b"", b"\xff", b"[]", b'{"headers": {"replyTo": 5}}', b'{"payload": {}}'):
        assert door.message("base/cards/update", payload)
    assert door.refused == 5
    for version, headers in ((1, {}), (2, {"replyTo": "forbidden"})):
        text = json.dumps({"headers": headers, "payload": update(version, ALL)})
        assert door.message("base/cards/update", text.encode())
        run(vault, lambda: vault.store.version > 0, turns(20))
        assert vault.store.version == version
    assert not broker.replies


def test_a_full_flash_or_no_memory_changes_nothing_and_is_told():
    door, vault, broker = new_door("full")
    finish(vault.store.put(token(3), ACCEPTED))
    for error, told in ((OSError(28), "flash: "), (MemoryError(), "no memory")):
        vault.store.fs.full, vault.store.fs.error = True, error
        for cards in (ALL, ALL[:1]):  # into the delta, and into the journal
            reply = ask(door, vault, broker, update(7, cards))
            assert reply["status"] == "Failed" and reply["reason"].startswith(told), reply
            assert reply["listVersion"] == 0
            assert [status_of(vault.store, token(i)) for i in (1, 3)] == [None, "Accepted"]
    vault.store.fs.full = False
    assert ask(door, vault, broker, update(7, ALL))["status"] == "Accepted"
    store = again(vault.store)
    assert (store.version, store.listed, store.damage) == (7, 2, "")


def test_without_memory_to_spare_a_request_is_refused():
    door, vault, broker = new_door("scarce")
    own = card_updates.is_scarce
    card_updates.is_scarce = lambda: True
    try:
        reply = ask(door, vault, broker, update(7, ALL))
    finally:
        card_updates.is_scarce = own
    assert reply == {"status": "Failed", "reason": "no memory", "listVersion": 0}
    assert vault.store.version == 0


def test_a_list_over_the_capacity_and_a_store_that_cannot_be_used_say_so():
    door, vault, broker = new_door("capacity")
    vault.store.capacity = 1
    reply = ask(door, vault, broker, update(7, ALL))
    assert reply == {"status": "Failed", "reason": "the list is full", "listVersion": 0}
    vault.store.say(OSError("a page"))
    assert ask(door, vault, broker, update(7, ALL))["reason"] == "a page"
    vault.store = None
    assert ask(door, vault, broker, update(7, ALL))["status"] == "Failed"
    assert ask(door, vault, broker, None, "base/cards/clear_cache")["status"] == "Failed"


def test_an_update_waits_for_a_full_list_and_only_one_waits():
    door, vault, broker = new_door("waits")
    load = vault.store.load()
    text = json.dumps({"headers": {"replyTo": "answers"}, "payload": update(7, ALL)}).encode()
    door.message("base/cards/update", text)
    run(vault, turns(50))
    assert not broker.replies
    door.message("base/cards/update", text)
    assert broker.replies[-1]["status"] == "Failed" and "waits" in broker.replies[-1]["reason"]
    load.abort()
    run(vault, lambda: len(broker.replies) == 2)
    assert broker.replies[-1] == {"status": "Accepted", "listVersion": 7}
    assert door.refused == 0


def test_what_waits_to_be_learned_does_not_bring_back_a_card_that_is_removed():
    door, vault, broker = new_door("answers")
    for i in (3, 4):
        learn(vault, i)
    assert ask(door, vault, broker, update(7, ALL))["status"] == "Accepted"
    run(vault, lambda: vault.store.cached == 1, turns(50))
    assert status_of(vault.store, token(3)) is None
    assert status_of(vault.store, token(4)) == "Accepted"


def test_an_update_that_is_on_flash_has_not_failed_for_want_of_memory():
    door, vault, broker = new_door("answers_memory")
    learn(vault, 3)

    def no_memory(key, id_token):
        raise MemoryError

    own, vault_module.digest = vault_module.digest, no_memory
    try:
        reply = ask(door, vault, broker, update(7, ALL))
    finally:
        vault_module.digest = own
    assert reply == {"status": "Accepted", "listVersion": 7}
    run(vault, turns(50))
    assert status_of(vault.store, token(3)) is None and vault.skipped == 1


def test_an_update_without_its_witness_is_told_as_there_when_it_has_one():
    door, vault, broker = new_door("unwitnessed")
    finish(vault.store.put(token(3), ACCEPTED))
    learn(vault, 3, BLOCKED)
    own, vault.store.fs = vault.store.fs, Short(".witness wb", OSError(28))
    for _ in range(2):  # it is there, and a damaged directory could go back unseen
        reply = ask(door, vault, broker, update(7, ALL[2:]))
        assert (reply["status"], reply["listVersion"]) == ("Failed", 7), reply
    vault.store.fs = own
    reply = ask(door, vault, broker, update(7, ALL[2:]))
    assert reply == {"status": "VersionMismatch", "listVersion": 7}
    assert not vault.store.owes_witness
    run(vault, turns(50))
    assert status_of(again(vault.store), token(3)) is None


def test_what_was_learned_and_what_waits_to_be_is_forgotten_by_a_word():
    door, vault, broker = new_door("clear")
    finish(vault.store.put(token(1), ACCEPTED))
    learn(vault, 2)
    run(vault, lambda: vault.store.cached == 1 and not vault.store.busy)
    learn(vault, 3)
    reply = ask(door, vault, broker, None, "base/cards/clear_cache")
    assert reply == {"status": "Accepted", "listVersion": 0}
    run(vault, turns(50))
    store = again(vault.store)
    assert [status_of(store, token(i)) for i in (1, 2, 3)] == ["Accepted", None, None]
    assert store.cached == 0


def test_forgetting_what_was_learned_fails_whole_on_a_full_flash():
    door, vault, broker = new_door("clear_full")
    learn(vault, 2)
    run(vault, lambda: vault.store.cached == 1 and not vault.store.busy)
    vault.store.fs.full = True
    reply = ask(door, vault, broker, None, "base/cards/clear_cache")
    assert reply["status"] == "Failed" and reply["reason"].startswith("flash: ")
    assert status_of(vault.store, token(2)) == "Accepted"


def test_what_takes_cards_off_needs_no_code_that_is_loaded_for_it():
    door, vault, broker = new_door("no memory")
    for i in range(36):
        finish(vault.store.put(token(i), ACCEPTED))
    assert not vault.store.journal.has_room(1), "whatever else comes has the journal sorted first"
    run(vault, turns(100))  # it has looked through the store
    gone = [{"idToken": token(i)["value"], "authorizationStatus": "Removed"} for i in (1, 2)]
    gone += [{"idToken": token(3)["value"], "authorizationStatus": "Blocked"}]
    own = card_updates.is_scarce
    card_updates.is_scarce = lambda: True
    try:
        with without_memory_for("") as scarce:
            assert ask(door, vault, broker, update(7, gone))["status"] == "Accepted"
        assert not scarce.asked
        reply = ask(door, vault, broker, update(8, ALL[:1]))
        assert (reply["status"], reply["reason"]) == ("Failed", "no memory")
    finally:
        card_updates.is_scarce = own
    assert [status_of(vault.store, token(i)) for i in (1, 2, 3)] == [None, None, "Blocked"]


def test_a_change_of_the_list_replaces_all_that_a_card_had():
    _, changes, base = changes_in.read_update(update(7, [card()]))
    assert (changes, base) == ([({"value": UID, "type": "ISO14443"}, ACCEPTED_ONLY)], None)


ACCEPTED_ONLY = {"authorization_status": "Accepted"}
