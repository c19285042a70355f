"""Provisioning and flashing: what is asked, what lands where, and which images are refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from certificates import Authority
from deploy_rig import files_of, flash_image
from pty_board import PtyBoard
from technician import Technician

from tapauth import config
from tapauth.crypto import sitekey
from tapauth.link.tls import decoded
from tapauth.local.login import kept
from tools import provision
from tools.board.board_port import BoardError, BoardPort
from tools.board.first_pin import state_with
from tools.charger import DesktopCharger
from tools.firmware import limits_of
from tools.paths import ROOT
from tools.rigs.local_board import Client

SECRET = "correct horse"


PIN = "blue42"


def interview(settings, network, said, secret):
    """Run one; every answer must have been asked for."""
    said, secret = list(said), list(secret)
    it = provision.Interview(
        settings, network, lambda prompt: said.pop(0), lambda prompt: secret.pop(0)
    )
    it.run()
    assert not said and not secret
    return it.files


def test_passwords_are_asked_without_showing_them():
    settings = {"board_id": "x", "mqtt": {"host": "old"}}
    interview(settings, "wifi", ["net", "", "no", "me", "no"], [SECRET, "broker pass"])
    assert settings["network"] == {"ssid": "net", "password": SECRET}
    assert settings["mqtt"] == {"host": "old", "user": "me", "password": "broker pass"}
    # The second time everything is offered again, and no user means no password.
    again = json.loads(json.dumps(settings))
    assert interview(again, "wifi", ["", "", "", "", ""], ["", ""]) == {}
    assert again == settings


def test_a_wired_board_is_not_asked_for_wifi():
    settings = {"board_id": "x", "mqtt": {"host": "old"}}
    interview(settings, "lan", ["broker", "", "", ""], [])
    assert settings == {"board_id": "x", "mqtt": {"host": "broker"}}


def test_tls_gets_what_the_configuration_wants(tmp_path, capsys):
    authority = Authority(tmp_path, "ca")
    certificate, key = authority.issue("client")
    _, other_key = authority.issue("other", use_rsa=True)
    page, page_key = authority.issue("page", kind="der", use_rsa=True)
    (tmp_path / "locked.pem").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    settings = {"board_id": "x", "mqtt": {"host": "b"}}
    said = ["", "yes", "", key, "/no/such", authority.pem, certificate, other_key, certificate]
    said += [str(tmp_path / "locked.pem"), certificate, key, "10.0.0.9", ""]
    said += ["y", page, page_key, "443"]
    files = interview(settings, "lan", said, [""])
    out = capsys.readouterr().out
    assert "a file is needed" in out and "holds no certificate" in out and "No such file" in out
    assert "is not the private key" in out and "openssl pkey" in out
    parsed = config.parse(json.dumps(settings))
    assert parsed["mqtt"]["port"] == 8883 and parsed["server"]["port"] == 443
    # By the broker's clock its own certificate cannot be checked.
    assert parsed["clock"] == {"source": "ntp", "ntp_host": "10.0.0.9"}
    tls = parsed["mqtt"]["tls"]
    assert files[tls["ca_file"]] == Path(authority.pem).read_bytes()
    named = [tls["cert_file"], tls["key_file"]]
    named += [parsed["server"]["tls_cert"], parsed["server"]["tls_key"]]
    assert sorted(files) == sorted([tls["ca_file"], *named])
    for name, path in zip(named, (certificate, key, page, page_key), strict=True):
        assert files[name] == decoded(path)[-1], "DER, which every board can read"
    # Again: everything is there, so nothing is sent.
    again = json.loads(json.dumps(settings))
    assert interview(again, "lan", ["", "", "", "", "", "", "", ""], [""]) == {}
    assert again == settings
    interview(again, "lan", ["", "no", "", "no"], [])
    assert "tls" not in again["mqtt"]


def test_a_first_pin_is_asked_for_until_it_will_do(capsys):
    for secret, kind in ((PIN, kept.PIN), (SECRET, kept.PASSWORD)):
        settings = {"board_id": "x", "mqtt": {"host": "b"}}
        tried = ["short", "a b,cd", "x" * 129, "1*" + "a" * 16 + "*1*" + "A" * 64]
        tried += [secret, "not the same", secret, secret]
        files = interview(settings, "lan", ["", "", "", "yes", "", ""], tried)
        assert settings["server"] == {"enabled": True}
        state = json.loads(files["/conn"][:-4])
        assert state["admin"][0] == kind and state["admin"][2] == ""
        assert state["user"][0] == kept.PIN, "not open to everybody"
        assert secret.encode() not in files["/conn"]
    out = capsys.readouterr().out
    assert "6 characters or more" in out and "letters and digits" in out
    assert "look like a token" in out and "not the same" in out


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
    key = (tmp_path / "site" / "site.key").read_bytes()
    assert now["site.key"] == key and now["site.key2"] == key + sitekey.key_check(key)
    assert now["certificates/ca.pem"] == b"certificate" and now["data/x"] == b"kept"
    kept = tmp_path / "site" / "c7.json"
    assert json.loads(kept.read_text()) == given and kept.stat().st_mode & 0o777 == 0o600
    assert not [name for name in now if name.endswith(".new")]
    out = capsys.readouterr()
    assert SECRET not in out.out + out.err


def test_a_board_of_another_site_is_not_taken_over_by_mistake(tmp_path):
    image = flash_image(
        tmp_path / "flash.img", {"site.key": b"another's key..!" * 2, "x": b"kept"}
    )
    before = files_of(image)
    files = {"/site.key": bytes(32), "/config.json": b"{}"}
    with PtyBoard(image) as board:
        with pytest.raises(BoardError, match="another site .* --take-over"):
            provision.install(board.port, print, limits_of("desktop"), files)
        assert files_of(image) == before
        provision.install(board.port, print, limits_of("desktop"), files, take_over=True)
        keys = {path[1:]: data for path, data in sitekey.key_copies(bytes(32))}
        assert files_of(image) == {**keys, "config.json": b"{}", "x": b"kept"}
        provision.install(board.port, print, limits_of("desktop"), files)


def test_a_board_with_a_damaged_key_is_nobodys_and_a_damaged_copy_is_mended(tmp_path):
    key = bytes(range(32))
    (_, copy), _ = sitekey.key_copies(key)
    cases = (
        {"site.key": b"x" + key[1:], "site.key2": copy},
        {"site.key": key, "site.key2": copy[:-1]},
        {"site.key": key[:-1], "site.key2": copy[:-1] + b"x"},
        {"site.key": b"", "site.key2": b""},
    )
    for number, damaged in enumerate(cases):
        image = flash_image(tmp_path / f"flash{number}.img", damaged)
        with PtyBoard(image) as board:
            survey = BoardPort(board.port).call("survey('')")
            assert (survey["key"] == "") == (number > 1)
            assert survey["key_problem"] == ("the site key is damaged" if number == 2 else "") or (
                number == 3 and survey["key_problem"] == "there is no site key"
            )
            if number < 2:
                with pytest.raises(BoardError, match="another site"):
                    files = {"/site.key": bytes(32), "/config.json": b"{}"}
                    provision.install(board.port, print, limits_of("desktop"), files)
            files = {"/site.key": key, "/config.json": b"{}"}
            provision.install(board.port, print, limits_of("desktop"), files)
            now = files_of(image)
            assert now["site.key"] == key and now["site.key2"] == copy


def provision_as(name, board, folder, *more):
    answers = folder / "answers.json"
    answers.write_text(json.dumps({"board_id": name, "mqtt": {"host": f"for {name}"}}))
    command = [sys.executable, "-m", "tools.provision", "desktop", board.port]
    done = subprocess.run(
        [*command, "--answers", str(answers), *more],
        cwd=ROOT,
        env={**os.environ, "SITE": str(folder / "site")},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_two_boards_do_not_get_one_name_without_a_word(tmp_path):
    site = tmp_path / "site"
    images = [flash_image(tmp_path / f"{name}.img", {}) for name in "ab"]
    with (
        PtyBoard(images[0], {"TAPAUTH_UNIQUE_ID": "0a"}) as one,
        PtyBoard(images[1], {"TAPAUTH_UNIQUE_ID": "0b"}) as two,
    ):
        for _ in range(2):  # the same board again is fine
            assert provision_as("c7", one, tmp_path)[0] == 0
        kept = (site / "c7.json").read_bytes()
        code, said = provision_as("c7", two, tmp_path)
        assert code == 1 and "the name c7 is that of another board" in said and "--replace" in said
        assert files_of(images[1]) == {} and (site / "c7.json").read_bytes() == kept
        assert provision_as("c8", two, tmp_path)[0] == 0
        # Another name, and the old one is free.
        assert provision_as("c9", one, tmp_path)[0] == 0
        assert provision_as("c7", two, tmp_path)[0] == 0
        assert provision_as("c8", one, tmp_path)[0] == 0
        # One that was replaced.
        assert provision_as("c7", one, tmp_path, "--replace")[0] == 0
        assert provision_as("c7", two, tmp_path)[0] == 1


def test_a_name_of_a_site_from_before_names_were_kept_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(provision, "SITE", tmp_path)
    (tmp_path / "c7.json").write_text("{}")
    for unique in ("0a", ""):
        with pytest.raises(BoardError, match="a board \\(which one was not kept"):
            provision.claim("c7", unique, "", False)
    with pytest.raises(BoardError):
        provision.claim("c7", "0a", "c8", False)
    provision.claim("c7", "0a", "c7", False)  # the board itself says so
    with pytest.raises(BoardError, match="another board"):
        provision.claim("c7", "0b", "c7", False)
    # Names that are kept in one file are no less two.
    provision.claim("x/y", "0b", "", False)
    with pytest.raises(BoardError, match="another board"):
        provision.claim("x_y", "0b", "", False)
    (tmp_path / "c7.board").write_text("damaged")
    with pytest.raises(BoardError, match="is damaged"):
        provision.claim("c7", "0a", "c7", False)
    provision.claim("c7", "0a", "c7", True)
    provision.claim("c7", "0a", "", False)


def test_a_full_board_says_so(tmp_path):
    most = 508 * 4096  # of 512 blocks, some of which the file system needs
    image = flash_image(tmp_path / "flash.img", {"filler": bytes(most - 30_000)})
    files = {"/site.key": bytes(32), "/large": bytes(60_000)}
    with (
        PtyBoard(image) as board,
        pytest.raises(BoardError, match="flash is full: remove what is not needed"),
    ):
        provision.install(board.port, print, limits_of("desktop"), files)
    assert sorted(files_of(image)) == ["filler", "site.key", "site.key2"]


def test_the_first_pin_opens_the_board_and_is_nowhere_to_be_read(tmp_path):
    """Typed at a terminal, sent by the real mpremote, checked by the firmware on MicroPython."""
    trials = {"config.try": b"{}", "config.prev": b"{}", "config.new": b"{}"}
    image = flash_image(tmp_path / "flash.img", {"conn": b"damaged", **trials})
    site = tmp_path / "site"
    with PtyBoard(image) as board:
        command = [sys.executable, "-m", "tools.provision", "desktop", board.port]
        technician = Technician(*command, environment={"SITE": str(site)})
        for prompt, text in (
            ("name of this board: ", "c7"),
            ("MQTT broker [127.0.0.1]: ", ""),
            ("TLS to the broker", ""),
            ("MQTT user", "me"),
            ("MQTT password", SECRET),
            ("local interface", "yes"),
            ("certificate of the console page", ""),
            ("port [80]", ""),
            ("first PIN of admin", PIN),
            ("again", PIN),
        ):
            technician.answer(prompt, text)
        assert technician.finish() == 0, technician.screen
    assert "user is closed" in technician.screen
    assert PIN not in technician.screen and SECRET not in technician.screen
    assert PIN.encode() not in image.read_bytes()
    assert not any(PIN.encode() in path.read_bytes() for path in site.iterdir())
    now = files_of(image)
    assert sorted(now) == ["config.json", "conn", "site.key", "site.key2"], (
        "no trial of an old one"
    )
    assert now["site.key"] == (site / "site.key").read_bytes()

    local = {"address": "127.0.0.1"}
    lines: list[str] = []
    with DesktopCharger(
        flash=image, overrides={"server": local}, server=True, on_board_line=lines.append
    ) as charger:
        charger.wait_for(lambda: any("http on port" in line for line in lines), 20)
        client = Client(charger.config["server"]["port"])
        assert client.login("blue43")["resultCode"] == 8
        assert client.login(PIN.upper())["previleges"] == 2
        assert client.ask("getAuthInfo")["adminAuth"] == {"security": "pin"}
        assert client.ask("auth", type="unsecured")["resultCode"] == 4
        client.close()


def test_a_first_password_is_derived_anew_by_the_board(tmp_path):
    image = flash_image(tmp_path / "flash.img", {"conn": state_with(SECRET)})
    lines: list[str] = []
    with DesktopCharger(flash=image, server=True, on_board_line=lines.append) as charger:
        charger.wait_for(lambda: any("http on port" in line for line in lines), 20)
        client = Client(charger.config["server"]["port"])
        assert client.login(SECRET.upper())["resultCode"] == 8
        assert client.login(SECRET)["previleges"] == 2
        client.close()
        kept = json.loads(files_of(image)["conn"][:-4])
        assert int(kept["admin"][1].split("$")[1]) > 1000
        client = Client(charger.config["server"]["port"])
        assert client.login(SECRET)["previleges"] == 2
        client.close()
