"""The card tool: tables in any writing, images, a charger's flash, a board at a serial port."""

import json
import re

import pytest
from serial_board import SerialBoard, blank_image, firmware_image

from tools.cardlist.card_rows import BadCard, card, normal_value
from tools.cardlist.store_target import ImageTarget
from tools.cards import main, open_image
from tools.charger import provision
from tools.desk.flash_image import FlashImage

TABLE = """uid,status,parent_id,evse_ids,expiry
04:a1:b2:c3:d4:e5:f6,,FLEET,2;1,2027-06-30
9c 3a 55 01,Blocked,,,
0x04-A1-B2-C3-D4-E5-F6,,,,
08112233,,,,
9c3a55,,,,
9C3A5502,accepted,,,2026-01-01T00:00:00+01:00
9C3A5503,Fine,,,
"""


@pytest.fixture
def made(tmp_path, capsys):
    """A key and an image of 300 cards."""
    key, image, table = tmp_path / "key", tmp_path / "cards.img", tmp_path / "many.csv"
    table.write_text("uid,parent_id\n" + "".join(f"04{i:012x},P{i % 3}\n" for i in range(300)))
    main(["new-key", str(key)])
    main(["build", str(table), "--key", str(key), "--list-version", "4", "-o", str(image)])
    capsys.readouterr()
    return key, image, table


@pytest.mark.parametrize(
    "text", ["9c3a5501", "9C:3A:55:01", "9c 3a 55 01", " 9C-3A-55-01", "0x9c3a5501", "9c.3a.55.01"]
)
def test_a_uid_in_any_common_writing_becomes_one(text):
    assert normal_value(text, "ISO14443") == "9C3A5501"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9c3a550",
        "9c3a5501ff",
        "\uff19c3a5501",
        "0x0x9c3a5501",
        "9c\t3a5501",
        "9c3a5501;",
        "1.2E+12",
        "08aabbcc",
        "00000000",
        "ff:ff:ff:ff",
        "zz",
    ],
)
def test_what_is_no_uid_of_a_card_is_refused(text):
    with pytest.raises(BadCard):
        normal_value(text, "ISO14443")


def test_a_date_lasts_to_its_end():
    _, info = card({"uid": "9c3a5501", "expiry": "2027-06-30"})
    assert info["expiry_time"] == "2027-07-01T00:00:00Z"


def test_a_card_for_no_evse_is_not_put_on_the_list_for_all():
    with pytest.raises(BadCard, match="empty list"):
        card({"uid": "9c3a5501", "evse_ids": []})
    assert "evse_ids" not in card({"uid": "9c3a5501", "evse_ids": ""})[1]


@pytest.mark.parametrize(
    "evse_ids",
    [[1.9], [1.0], [True], [False], ["1.9"], ["1_0"], ["\u0663"], [[1]], [None], [""], 1.9, True]
    + [[2, True], {"1": 2}, "1_0", "1;", "one", [-1], [0], [33], "33", 0],
)
def test_a_card_is_put_on_no_evse_that_its_table_does_not_name(evse_ids):
    with pytest.raises(BadCard, match="evse_ids"):
        card({"uid": "9c3a5501", "evse_ids": evse_ids})


@pytest.mark.parametrize("evse_ids", [[2, 1], ["1", " 2 "], "1;2", "1, 2", "2;1;2"])
def test_evses_in_any_sound_writing(evse_ids):
    assert card({"uid": "9c3a5501", "evse_ids": evse_ids})[1]["evse_ids"] == [1, 2]


@pytest.mark.parametrize(
    "name", ["uid", "type", "status", "parent_id", "parent_type", "evse_ids", "expiry"]
)
def test_a_null_is_not_taken_for_accepted_everywhere_and_for_ever(name):
    with pytest.raises(BadCard, match=f"{name} is null"):
        card({"uid": "9c3a5501", "status": "Blocked", name: None})


def test_a_row_of_a_table_may_end_early(tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("uid,status,parent_id,evse_ids,expiry\n9c3a5501,Blocked\n9c3a5502\n")
    main(["build", str(table), "--dry-run"])
    assert "2 cards, 0 bad rows" in capsys.readouterr().out


def test_a_dry_run_names_bad_rows_and_duplicates(tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text(TABLE)
    main(["build", str(table), "--dry-run", "--skip-bad"])
    said = capsys.readouterr().out
    assert "line 4: the same card as line 2" in said
    assert "line 5: a random UID" in said and "line 6: the UID has 3 bytes" in said
    assert "line 8: status is not one of Accepted, " in said
    assert "3 cards, 3 bad rows, 1 duplicates" in said
    assert "3 rows in another spelling" in said
    assert "9C3A" not in said.upper()  # a report names lines, not cards
    with pytest.raises(SystemExit, match="nothing written"):
        main(["build", str(table)])
    assert list(tmp_path.iterdir()) == [table]


def test_json_rows_are_named_by_line_too(tmp_path, capsys):
    table = tmp_path / "t.json"
    rows = [{"uid": "9c3a5501", "evse_ids": [2]}, {"uid": "9c3a5502", "name": "x"}, 5]
    table.write_text(json.dumps(rows, indent=1))
    main(["build", str(table), "--dry-run", "--skip-bad"])
    said = capsys.readouterr().out
    assert "line 8: unknown column 'name'" in said and "line 12: not an object" in said
    table.write_text('[{"uid": "9c3a5501"},\n {"uid" "x"}]')
    with pytest.raises(SystemExit, match="line 2"):
        main(["build", str(table), "--dry-run"])
    table.write_text("{}")
    with pytest.raises(SystemExit, match="not an array"):
        main(["build", str(table), "--dry-run"])


@pytest.mark.parametrize(
    "head, what",
    [
        ("uid,name,status", "'name' is no column"),
        ("uid;state;", "'state' is no column"),
        ("uid,status,", "'' is no column"),
        ("uid,status,UID", "'uid' is there twice"),
        ("uid,status,Status ", "'status' is there twice"),
    ],
)
def test_a_column_that_is_none_is_one_error_and_no_empty_list(head, what, tmp_path, capsys):
    table, image = tmp_path / "t.csv", tmp_path / "x.img"
    mark = ";" if ";" in head else ","
    table.write_text("\n".join([head] + [mark.join(["9c3a5501", "", ""])] * 50))
    key = tmp_path / "key"
    main(["new-key", str(key)])
    capsys.readouterr()
    with pytest.raises(SystemExit, match=what):
        main(["build", str(table), "--skip-bad", "--key", str(key), "--list-version", "1"])
    assert capsys.readouterr().out == "" and not image.exists()


def test_an_empty_list_needs_a_word_of_its_own(made, tmp_path, capsys):
    key, image, _ = made
    table, empty = tmp_path / "t.csv", tmp_path / "empty.img"
    written = ["--key", str(key), "--list-version", "9", "-o", str(empty)]
    for text, skip in (("uid\n", []), ("uid\nzz\n08112233\n", ["--skip-bad"])):
        table.write_text(text)
        with pytest.raises(SystemExit, match="no card to put on the list.*--empty"):
            main(["build", str(table), *skip, *written])
        assert not empty.exists()
    main(["build", str(table), "--skip-bad", "--empty", *written])
    flash = tmp_path / "flash.img"
    blank_image(flash)
    where = ["--flash", str(flash)]
    main(["set-key", str(key), *where])
    main(["install", str(image), *where])
    with pytest.raises(SystemExit, match="the list is empty.*--empty"):
        main(["install", str(empty), *where])
    capsys.readouterr()
    main(["status", *where])
    assert "list: 300" in capsys.readouterr().out
    main(["install", str(empty), "--empty", *where])
    main(["status", *where])
    assert "list: 0" in capsys.readouterr().out


def test_a_damaged_copy_of_the_site_key_is_not_the_end(made, tmp_path, capsys):
    key, image, _ = made
    flash = tmp_path / "flash.img"
    blank_image(flash)
    where = ["--flash", str(flash)]
    main(["set-key", str(key), *where])
    main(["install", str(image), *where])

    def damage(path):
        target = FlashImage(flash)
        with target.files.open(path, "wb") as file:
            file.write(b"damaged")
        target.save()

    for path in ("/site.key", "/site.key2"):
        damage(path)
        capsys.readouterr()
        main(["status", *where])
        assert "list: 300" in capsys.readouterr().out
        main(["set-key", str(key), *where])
    damage("/site.key")
    damage("/site.key2")
    with pytest.raises(SystemExit, match="the site key is damaged"):
        main(["status", *where])
    # Not taken for a new board either, which would get another key and other cards.
    before = flash.read_bytes()
    with pytest.raises(SystemExit, match="the site key is damaged"):
        provision(flash, tmp_path / "many.csv")
    assert flash.read_bytes() == before


def test_an_image_is_described_checked_and_exported(made, tmp_path, capsys):
    key, image, table = made
    main(["describe", str(image), "--key", str(key)])
    said = capsys.readouterr().out
    assert "sound" in said and "300 cards listed" in said and "made with this site key" in said
    main(["export", str(image)])
    blind = capsys.readouterr().out
    assert blind.count("\n") == 301 and "040000000000" not in blind
    main(["export", str(image), "--table", str(table), "--key", str(key)])
    assert "0400000000012B,ISO14443,Accepted,P2," in capsys.readouterr().out
    data = bytearray(image.read_bytes())
    data[900] ^= 4
    image.write_bytes(data)
    with pytest.raises(SystemExit, match="damaged"):
        main(["describe", str(image)])
    other = tmp_path / "other"
    main(["new-key", str(other)])
    with pytest.raises(SystemExit):
        main(["new-key", str(other)])


def test_a_chargers_flash(made, tmp_path, capsys):
    key, image, _ = made
    flash = tmp_path / "flash.img"
    blank_image(flash)
    where = ["--flash", str(flash)]
    with pytest.raises(SystemExit, match="no site key"):
        main(["status", *where])
    main(["set-key", str(key), *where])
    walk_through(image, where, capsys)
    other = tmp_path / "other"
    main(["new-key", str(other)])
    main(["set-key", str(other), *where])
    with pytest.raises(SystemExit, match="another site key"):
        main(["add", "9c3a5501", *where])
    with pytest.raises(SystemExit, match="another site key"):
        main(["install", str(image), *where])


def test_a_board_at_a_serial_port(made, tmp_path, capsys, monkeypatch):
    key, image, _ = made
    flash = tmp_path / "flash.img"
    firmware_image(flash)
    with SerialBoard(flash) as board:
        where = ["--port", board.port, "--resume"]
        main(["set-key", str(key), *where])
        walk_through(image, where, capsys)
        with pytest.raises(SystemExit, match="not complete"):
            short = tmp_path / "short.img"
            short.write_bytes(image.read_bytes()[:-256])
            whole = open_image(str(image))
            monkeypatch.setattr("tools.cards.open_image", lambda path: whole)
            main(["install", str(short), *where])


def walk_through(image, where, capsys):
    """What a technician does, and what is said."""

    def said(*words):
        capsys.readouterr()
        main([*words, *where])
        return capsys.readouterr().out

    assert "list: 0" in said("status")
    said("add", "9c:3a:55:01", "--parent-id", "FLEET", "--evse-ids", "1;2")
    said("install", str(image))
    assert "list: 300" in said("status")
    assert said("find", "9c3a5501") == "unknown\n"
    assert said("add", "9c:3a:55:01", "--status", "blocked") == "on the list\n"
    assert "Blocked" in said("find", "9c 3a 55 01")
    assert "Accepted" in said("find", "04 00 00 00 00 00 05")
    assert said("remove", "9C3A5501") == "removed\n"
    assert said("remove", "9C3A5501") == "was not there\n"
    update_list(image.parent / "changes.csv", where, said)
    assert said("clear-cache") == "what was learned is forgotten\n"
    assert said("master-pass") == "no master pass group\n"
    assert said("master-pass", "MASTERS") == "master pass group: MASTERS\n"
    assert said("master-pass") == "master pass group: MASTERS\n"
    assert said("master-pass", "") == "no master pass group\n"
    assert "list: 300" in said("status")


def update_list(table, where, said):
    """A table of changes, as a technician gives it to a board that has 300 cards of version 4."""
    table.write_text(
        "uid,status,parent_id,evse_ids\n"
        "04:00:00:00:00:00:05,blocked,,\n"
        "04 00 00 00 00 00 06,removed,,\n"
        "9c3a5504,,FLEET,2\n"
    )
    update = ("update", str(table), "--version")
    for words, told in (
        (("3",), "has list version 4, so one above 4"),
        (("5", "--from", "3"), "has list version 4, so one made from 4, not from 3"),
        (("0",), "a list version is 1 to 2147483647"),
    ):
        with pytest.raises(SystemExit, match=told):
            said(*update, *words)
    assert "Accepted" in said("find", "04000000000006")
    assert said(*update, "5", "--from", "4") == "list version 5: 2 cards put, 1 removed\n"
    assert "Blocked" in said("find", "04000000000005")
    assert said("find", "04000000000006") == "unknown\n"
    assert "evse_ids: [2]" in said("find", "9c3a5504")
    assert "version: 5" in said("status") and "list: 300" in said("status")
    with pytest.raises(SystemExit, match="has list version 5 already"):
        said(*update, "5")
    # As the walk goes on from 300 cards.
    rows = [{"uid": "9c3a5504", "status": "Removed"}, {"uid": "04000000000006", "parent_id": "P0"}]
    table.with_suffix(".json").write_text(json.dumps(rows))
    words = ("update", str(table.with_suffix(".json")), "--version", "6")
    assert said(*words) == "list version 6: 1 cards put, 1 removed\n"


@pytest.mark.parametrize(
    "rows, told",
    [
        ("04a1b2c3d4e5f6,gone,", "line 2: status is not one of Accepted, .*Timeout, Removed"),
        ("04a1b2c3d4e5f6,removed,FLEET", "line 2: parent_id of a card that is removed"),
        ("04a1b2c3d4e5f6,,\n04:A1:B2:C3:D4:E5:F6,removed,", "line 3: the same card as line 2"),
        ("04a1,removed,", "line 2: the UID has 2 bytes"),
        ("08112233,,", "line 2: a random UID"),
    ],
)
def test_a_table_of_changes_with_a_bad_row_changes_nothing(made, rows, told, tmp_path, capsys):
    key, image, _ = made
    flash, table = tmp_path / "flash.img", tmp_path / "changes.csv"
    blank_image(flash)
    where = ["--flash", str(flash)]
    main(["set-key", str(key), *where])
    main(["install", str(image), *where])
    before = flash.read_bytes()
    table.write_text("uid,status,parent_id\n" + rows)
    with pytest.raises(SystemExit, match="nothing is changed: 1 bad rows"):
        main(["update", str(table), "--version", "8", *where])
    said = capsys.readouterr().out
    assert re.search(told, said) and "a1b2c3" not in said.lower()
    table.write_text("uid\n" + "".join(f"04{i:012x}\n" for i in range(101)))
    with pytest.raises(SystemExit, match="101 cards, an update takes 100.*full list"):
        main(["update", str(table), "--version", "8", *where])
    assert flash.read_bytes() == before


def test_a_hundred_changes_go_to_a_board_in_one_update(made, tmp_path, capsys):
    key, image, _ = made
    flash, table = tmp_path / "flash.img", tmp_path / "changes.csv"
    firmware_image(flash)
    table.write_text(
        "uid,parent_id,evse_ids,expiry\n"
        + "".join(f"05{i:012x},FLEET-{i % 7},1;2;3,2027-06-30\n" for i in range(100))
    )
    with SerialBoard(flash) as board:
        where = ["--port", board.port, "--resume"]
        main(["set-key", str(key), *where])
        main(["install", str(image), *where])
        capsys.readouterr()
        main(["update", str(table), "--version", "8", *where])
        assert capsys.readouterr().out == "list version 8: 100 cards put, 0 removed\n"
        main(["status", *where])
        assert "list: 400" in capsys.readouterr().out


def test_what_a_board_has_learned_is_forgotten_and_its_list_stays(made, tmp_path, capsys):
    key, image, _ = made
    flash = tmp_path / "flash.img"
    blank_image(flash)
    where = ["--flash", str(flash)]
    main(["set-key", str(key), *where])
    main(["install", str(image), *where])
    learned = {"value": "9C3A5501", "type": "ISO14443"}
    answer = {"authorization_status": "Accepted", "tariff_messages": []}
    target = ImageTarget(flash, 10_000)
    assert target.ask(f"finish(store.learn({learned!r}, {answer!r}, None))")
    main(["find", "9c3a5501", *where])
    assert "Accepted" in capsys.readouterr().out
    main(["clear-cache", *where])
    capsys.readouterr()
    main(["find", "9c3a5501", *where])
    assert capsys.readouterr().out == "unknown\n"
    main(["status", *where])
    said = capsys.readouterr().out
    assert "list: 300" in said and "cache: 0" in said
