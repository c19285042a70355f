"""Provisioning and flashing: what is asked, what lands where, and which images are refused."""

import json
import struct

import pytest
from pty_board import PtyBoard
from test_deploy import files_of, flash_image

from tools import flash, provision
from tools.board_port import BoardError
from tools.firmware import limits_of

SECRET = "correct horse"


def answers(*given):
    left = list(given)
    return lambda prompt: left.pop(0)


def test_passwords_are_asked_without_showing_them():
    settings = {"board_id": "x", "mqtt": {"host": "old"}}
    provision.ask(settings, "wifi", answers("net", "", "me"), answers(SECRET, "broker pass"))
    assert settings["network"] == {"ssid": "net", "password": SECRET}
    assert settings["mqtt"] == {"host": "old", "user": "me", "password": "broker pass"}
    # The second time everything is offered again, and no user means no password.
    again = json.loads(json.dumps(settings))
    provision.ask(again, "wifi", answers("", "", ""), answers("", ""))
    assert again == settings


def test_a_wired_board_is_not_asked_for_wifi():
    settings = {"board_id": "x", "mqtt": {"host": "old"}}
    provision.ask(settings, "lan", answers("broker", ""), answers())
    assert settings == {"board_id": "x", "mqtt": {"host": "broker"}}


def test_a_configuration_that_would_be_refused_does_not_go_out():
    with pytest.raises(SystemExit, match="mqtt.host: is required"):
        provision.checked({"board_id": "x"})


def test_the_site_key_is_made_once_and_for_its_owner_only(tmp_path):
    path = provision.make_key(tmp_path / "site")
    key = path.read_bytes()
    assert len(key) == 32 and path.stat().st_mode & 0o777 == 0o600
    assert provision.make_key(tmp_path / "site").read_bytes() == key


def test_a_board_is_provisioned_and_keeps_what_it_has(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(provision, "SITE", tmp_path / "site")
    image = flash_image(tmp_path / "flash.img", {"data/x": b"kept", "config.json": b"old"})
    given = {"board_id": "c7", "mqtt": {"host": "10.0.0.1", "user": "u", "password": SECRET}}
    (tmp_path / "answers.json").write_text(json.dumps(given))
    (tmp_path / "ca.pem").write_text("certificate")
    with PtyBoard(image) as board:
        monkeypatch.setattr(
            "sys.argv",
            [
                "provision",
                "desktop",
                board.port,
                "--answers",
                str(tmp_path / "answers.json"),
                "--file",
                f"{tmp_path / 'ca.pem'}:/certificates/ca.pem",
            ],
        )
        assert provision.main() == 0
    now = files_of(image)
    assert json.loads(now["config.json"]) == given
    assert now["site.key"] == (tmp_path / "site" / "site.key").read_bytes()
    assert now["certificates/ca.pem"] == b"certificate" and now["data/x"] == b"kept"
    kept = tmp_path / "site" / "c7.json"
    assert json.loads(kept.read_text()) == given and kept.stat().st_mode & 0o777 == 0o600
    assert not [name for name in now if name.endswith(".new")]
    out = capsys.readouterr()
    assert SECRET not in out.out + out.err


def uf2(family: int) -> bytes:
    head = struct.pack("<8I", flash.UF2_MAGIC, 0x9E5D5157, 0x2000, 0, 256, 0, 1, family)
    return head + bytes(512 - len(head))


def esp(chip: int) -> bytes:
    return bytes([flash.ESP_MAGIC]) + bytes(11) + bytes([chip]) + bytes(100)


def test_an_image_for_another_chip_is_refused():
    flash.check_image(uf2(0xE48BFF56), limits_of("pico-w"))
    flash.check_image(uf2(0xE48BFF59), limits_of("pico2-w"))
    flash.check_image(esp(0), limits_of("olimex-esp32-poe"))
    flash.check_image(esp(9), limits_of("esp32s3"))
    for data, board in (
        (uf2(0xE48BFF59), "pico-w"),
        (esp(0), "pico-w"),
        (b"", "pico-w"),
        (b"<html>" * 200, "w5100s-evb-pico"),
        (esp(5), "esp32"),
        (uf2(0xE48BFF56), "esp32c3"),
        (b"", "esp32"),
    ):
        with pytest.raises(SystemExit, match=r"This board wants .* from https://micropython.org"):
            flash.check_image(data, limits_of(board))


def test_a_uf2_goes_to_the_drive(tmp_path, monkeypatch):
    monkeypatch.setattr(flash, "find_drive", lambda: None)
    (tmp_path / "image.uf2").write_bytes(uf2(0xE48BFF56))
    with pytest.raises(BoardError, match="hold BOOTSEL"):
        flash.copy_uf2(tmp_path / "image.uf2", "", print, seconds=0)
    drive = tmp_path / "RPI-RP2"
    drive.mkdir()
    monkeypatch.setattr(flash, "find_drive", lambda: drive)
    flash.copy_uf2(tmp_path / "image.uf2", "", print)
    assert (drive / "image.uf2").read_bytes() == uf2(0xE48BFF56)
