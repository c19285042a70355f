"""The store in the running firmware: what waits to be written, and what becomes of it."""

from scarcity import without_memory_for
from store_kit import NOW, again, token
from vault_kit import ACCEPTED, BLOCKED, learn, new_vault, run, status, turns

from tapauth.cards.codec import NO_DAY
from tapauth.cards.store import finish


def test_answers_that_come_during_an_upload_are_learned_after_it():
    vault, _ = new_vault("upload")
    load = vault.store.load()
    for i in range(11):
        learn(vault, i)
    assert vault.counters()["skipped"] == 3  # no more than eight wait
    run(vault, turns(100))
    assert vault.store.cached == 0 and vault.skipped == 3
    load.abort()
    run(vault, lambda: vault.store.cached == 8)
    assert vault.skipped == 3
    assert [status(vault, i) for i in range(11)] == ["Accepted"] * 8 + [None] * 3


def test_an_answer_that_could_not_be_learned_is_counted():
    vault, _ = new_vault("skipped")
    vault.store.fs.full = True
    learn(vault, 1)
    run(vault, lambda: vault.skipped == 1)
    vault.store.fs.full = False
    learn(vault, 1)
    run(vault, lambda: vault.store.cached == 1)
    assert vault.skipped == 1


def test_a_card_about_which_the_store_knows_something_is_not_unknown():
    vault, parts = new_vault("unknown")
    assert vault.is_unknown(token(1))
    learn(vault, 1, BLOCKED)
    run(vault, lambda: vault.store.cached == 1)
    assert not vault.is_unknown(token(1)) and vault.is_unknown(token(2))
    learn(vault, 2, dict(ACCEPTED, expiry_time="2026-09-21T00:00:00Z"))
    run(vault, lambda: vault.store.cached == 2 and not vault.store.busy)
    assert status(vault, 2) == "Expired" and not vault.is_unknown(token(2))
    parts.now = None
    assert status(vault, 2) == "NotAtThisTime" and not vault.is_unknown(token(2))
    finish(vault.store.put(token(3), BLOCKED))
    assert not vault.is_unknown(token(3))
    vault.store.say(OSError("damaged"))
    assert not vault.is_unknown(token(4)), "who knows"
    vault.store = None
    assert not vault.is_unknown(token(4))


def test_a_contract_is_not_accepted_by_the_certificate_that_it_once_came_with():
    vault, _ = new_vault("certificate")
    contract = {"id_token": token(1, "eMAID"), "certificate": "PEM"}
    vault.learn(contract, ACCEPTED)
    vault.learn({"id_token": token(1, "eMAID"), "iso15118CertificateHashData": []}, ACCEPTED)
    vault.learn(dict(contract, id_token=token(2, "eMAID")), BLOCKED)
    learn(vault, 3)
    run(vault, lambda: vault.store.cached == 2)
    assert vault.look_up(token(1, "eMAID")) == (None, False)
    assert vault.look_up(token(2, "eMAID"))[0]["authorization_status"] == "Blocked"
    # Nor by what was learned without one, or by older firmware.
    learn(vault, 4)
    run(vault, lambda: vault.store.cached == 3 and not vault.store.busy)
    assert vault.validate({"id_token": token(4)})[1]
    for name in ("certificate", "iso15118CertificateHashData"):
        result, settled = vault.validate({"id_token": token(4), name: "x"})
        assert (result["authorization_status"], settled) == ("Unknown", False)
    finish(vault.store.put(token(4), ACCEPTED))
    assert vault.validate({"id_token": token(4), "certificate": "x"})[1], "the list decides"


def test_a_newer_answer_that_comes_while_the_former_is_learned_is_learned_too():
    vault, _ = new_vault("while")
    learn(vault, 1)

    def under_way():
        if vault.store.busy:
            learn(vault, 1, BLOCKED)
            return True
        return False

    run(vault, under_way, lambda: status(vault, 1) == "Blocked" and not vault.store.busy)
    assert vault.skipped == 0


def test_the_newer_answer_for_a_card_is_the_one_that_is_learned():
    vault, _ = new_vault("newer")
    load = vault.store.load()
    for i in range(8):
        learn(vault, i)
    learn(vault, 3, BLOCKED)  # though no other could wait
    vault.learn({"id_token": {"value": token(4)["value"].lower(), "type": "ISO14443"}}, BLOCKED)
    load.abort()
    run(vault, lambda: vault.store.cached == 8)
    assert (status(vault, 3), status(vault, 4), status(vault, 5)) == (
        "Blocked",
        "Blocked",
        "Accepted",
    )
    assert vault.skipped == 0


def test_an_answer_that_waits_does_not_bring_back_a_card_that_was_removed():
    vault, _ = new_vault("removed")
    finish(vault.store.put(token(1), ACCEPTED))
    for i in (1, 2, 3):
        learn(vault, i)
    assert finish(vault.delete(token(1)))
    assert not finish(vault.delete(token(2)))
    run(vault, lambda: vault.store.cached == 1, turns(100))
    assert [status(vault, i) for i in (1, 2, 3)] == [None, None, "Accepted"]


def test_a_setting_holds_at_once_and_is_written_by_the_task():
    vault, parts = new_vault("setting")
    assert vault.setting("connection_timeout", 60) == 60
    vault.keep("connection_timeout", 30)
    vault.keep("connection_timeout", 40)
    vault.keep("master_pass_group_id", "")
    assert vault.setting("connection_timeout", 60) == 40
    assert vault.setting("master_pass_group_id", "CONFIGURED") == ""
    assert vault.store.connection_timeout is None  # who keeps it does not wait for flash
    run(vault, lambda: vault.store.master_pass_group_id == "" and vault.store.connection_timeout)
    store = again(vault.store)
    assert (store.connection_timeout, store.master_pass_group_id) == (40, "")
    assert not parts.active


def test_a_setting_is_written_while_a_list_comes_and_while_the_store_is_merged():
    vault, _ = new_vault("meanwhile")
    load = vault.store.load()
    vault.keep("connection_timeout", 40)
    run(vault, lambda: vault.store.connection_timeout == 40)
    load.abort()
    for i in range(650):
        finish(vault.store.put(token(i), ACCEPTED))
    written = []
    vault.store.tidy = lambda now: keeping(vault, written)
    run(vault, lambda: len(written) == 3)
    assert written == [41, 42, 43]


def keeping(vault, written):
    """A long change, during which settings are kept."""
    for seconds in (41, 42, 43):
        vault.keep("connection_timeout", seconds)
        yield
        yield
        written.append(vault.store.connection_timeout)
    while True:
        yield


def test_a_setting_that_cannot_be_written_is_told_and_tried_again():
    vault, parts = new_vault("retry")
    vault.store.fs.full = True
    vault.keep("connection_timeout", 40)
    vault.keep("master_pass_group_id", "M")
    run(vault, lambda: "Setting not kept" in parts.active, turns(200))
    assert vault.setting("connection_timeout", 60) == 40
    vault.save()  # a restart would be now
    assert "Setting not kept" in parts.active
    vault.store.fs.full = False
    run(vault, lambda: not parts.active)
    store = again(vault.store)
    assert (store.connection_timeout, store.master_pass_group_id) == (40, "M")


def test_what_could_not_be_written_for_want_of_memory_is_told_and_tried_again():
    vault, parts = new_vault("memory")
    vault.store.fs.full, vault.store.fs.error = True, MemoryError()
    vault.keep("connection_timeout", 40)
    learn(vault, 1)
    run(vault, lambda: "Setting not kept" in parts.active, turns(100))
    vault.save()  # a restart would be now
    vault.store.fs.full = False
    run(vault, lambda: not parts.active, lambda: vault.store.cached == 1)
    assert vault.skipped == 0
    assert again(vault.store).connection_timeout == 40


def test_an_acceptance_that_ends_waits_for_memory_and_for_a_newer_answer():
    vault, _ = new_vault("ends")
    learn(vault, 1)
    learn(vault, 2)
    run(vault, lambda: vault.store.cached == 2)
    vault.store.fs.full, vault.store.fs.error = True, MemoryError()
    learn(vault, 1, BLOCKED)
    run(vault, turns(30))
    learn(vault, 1)
    learn(vault, 1, BLOCKED)
    learn(vault, 2, BLOCKED)
    run(vault, turns(200))
    vault.store.fs.full = False
    run(vault, lambda: status(vault, 1) == status(vault, 2) == "Blocked")
    assert vault.skipped == 0


def test_a_look_through_the_store_that_cannot_be_loaded_keeps_nothing_from_being_done():
    vault, parts = new_vault("unlooked")
    with without_memory_for("tapauth.cards.opening"):
        vault.keep("connection_timeout", 40)
        run(vault, lambda: vault.store.connection_timeout == 40, turns(10))
        learn(vault, 1)
        run(vault, lambda: vault.store.cached == 1)
    assert not parts.active


def test_a_restart_by_command_waits_for_the_settings():
    vault, _ = new_vault("restart")
    vault.keep("connection_timeout", 40)
    vault.keep("master_pass_group_id", "M")
    vault.save()
    store = again(vault.store)
    assert (store.connection_timeout, store.master_pass_group_id) == (40, "M")


def test_a_setting_that_no_file_can_hold_ends_nothing():
    vault, _ = new_vault("unsuitable")
    vault.keep("connection_timeout", 9)
    vault.keep("master_pass_group_id", "M")
    run(vault, lambda: vault.store.master_pass_group_id == "M", turns(20))
    assert vault.setting("connection_timeout", 60) == 60


def test_the_newest_day_outlives_a_restart():
    vault, parts = new_vault("day")
    assert vault.store.today == NO_DAY
    parts.now = None
    run(vault, turns(1000))
    assert vault.store.today == NO_DAY
    parts.now = NOW
    run(vault, lambda: vault.store.noted == NOW // 86_400)
    assert vault.store.today == NOW // 86_400
    vault.store = again(vault.store)
    assert vault.store.today == NOW // 86_400
