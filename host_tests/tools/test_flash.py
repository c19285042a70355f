"""Flashing MicroPython: the real esptool against a chip's bootloader, and the drive of an RP2."""

import os
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import serial
from esp_rom import EspRom

from tools import flash
from tools.board.board_port import BoardError, explain
from tools.firmware import limits_of
from tools.paths import ROOT


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


def esp_image(chip: int) -> bytes:
    """An image with a head that esptool believes, and a body that can be packed."""
    return bytes([flash.ESP_MAGIC, 1, 2, 0x20]) + bytes(8) + bytes([chip]) + b"MicroPython" * 9999


@pytest.mark.parametrize("board", ("esp32", "olimex-esp32-poe", "esp32s3", "esp32c3"))
def test_the_real_esptool_erases_and_writes_an_esp32(board, tmp_path):
    limits = limits_of(board)
    data = esp_image(flash.ESP_CHIPS[flash.chip_of(limits)])
    path = tmp_path / "image.bin"
    path.write_bytes(data)
    said: list[str] = []
    with EspRom(flash.ESP_CHIPS[flash.chip_of(limits)]) as chip:
        flash.esptool(limits, path, chip.port, said.append)
        offset = limits["flash"]["image_offset"]
        assert chip.steps == ["erase", f"write at {offset:#x}", "check"]
        assert chip.flash[offset : offset + len(data)] == data
        assert set(chip.flash[:offset] + chip.flash[offset + len(data) :]) <= {0, 0xFF}
        assert 0 not in chip.flash[:offset] and chip.flash[-1] == 0xFF
    assert "verified" in said[-1]


def test_esptool_s_errors_say_what_to_do(tmp_path):
    path = tmp_path / "image.bin"
    path.write_bytes(esp_image(0))
    limits = limits_of("esp32")
    with pytest.raises(BoardError, match="there is no /dev/ttyNONE: plug the board in"):
        flash.esptool(limits, path, "/dev/ttyNONE", print)
    with EspRom(9) as chip:
        with pytest.raises(BoardError, match="another chip .*ESP32-S3.*; nothing was written"):
            flash.esptool(limits, path, chip.port, print)
        assert not chip.steps
    with EspRom(0) as chip:
        with (
            serial.Serial(chip.port, exclusive=True),
            pytest.raises(BoardError, match="in use: close the other program"),
        ):
            flash.esptool(limits, path, chip.port, print)
        assert not chip.steps
    with EspRom(0) as chip:
        chip.is_mute = True
        with pytest.raises(BoardError, match="No serial data received. Hold BOOT"):
            flash.esptool(limits, path, chip.port, print)


def test_a_wrong_image_stops_the_command_before_anything(tmp_path):
    path = tmp_path / "image.bin"
    path.write_bytes(esp_image(9))
    with EspRom(0) as chip:
        command = [sys.executable, "-m", "tools.flash", "esp32", str(path), chip.port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1 and "the image is none for ESP32. This board" in done.stderr
        path.write_bytes(esp_image(0))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and len(chip.steps) == 3, done.stdout + done.stderr
    done = subprocess.run([*command[:4], "", ""], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Download ESP32_GENERIC-" in done.stderr
    command[3:] = ["desktop", ""]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "comes with `make run`" in done.stderr


def drive_of(folder: Path, board_id: str) -> Path:
    drive = folder / "media" / "me" / board_id
    drive.mkdir(parents=True)
    info = f"UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: {board_id}\n"
    (drive / "INFO_UF2.TXT").write_text(info)
    return drive


def test_a_uf2_goes_to_the_drive_of_the_right_board(tmp_path, monkeypatch):
    monkeypatch.setattr(flash, "DRIVES", (f"{tmp_path}/media/*/*",))
    image = tmp_path / "image.uf2"
    image.write_bytes(uf2(0xE48BFF56))
    limits = limits_of("pico-w")
    with pytest.raises(BoardError, match="hold BOOTSEL"):
        flash.copy_uf2(limits, image, "", print, seconds=0)
    other = drive_of(tmp_path, "RP2350")
    with pytest.raises(BoardError, match=r"one drive of a RPI-RP2 is wanted, .*RP2350.*; nothing"):
        flash.copy_uf2(limits, image, "", print, seconds=0)
    assert len(list(other.iterdir())) == 1
    drive = drive_of(tmp_path, "RPI-RP2")
    with pytest.raises(BoardError, match="did not take the image"):
        flash.copy_uf2(limits, image, "", print, seconds=0)
    (drive / "image.uf2").unlink()
    taken = []

    def bootloader():
        while not taken:
            copy = drive / "image.uf2"
            if copy.exists() and copy.stat().st_size == 512:
                taken.append(copy.read_bytes())
        shutil.rmtree(drive)

    threading.Thread(target=bootloader, daemon=True).start()
    said: list[str] = []
    flash.copy_uf2(limits, image, "", said.append, seconds=10)
    assert taken == [uf2(0xE48BFF56)] and "restarts" in said[-1]


def test_a_port_that_is_not_ours_says_how_to_become_allowed(monkeypatch):
    text = "mpremote: failed to access /dev/null (it may be in use by another program)"
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may always
    assert "usermod -aG root $USER" in explain("/dev/null", text)
