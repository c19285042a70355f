"""A board of the previous release, with its modules in /tapauth and /lib, gets slots.

Real firmware, a real store of cards, real littlefs, real mpremote: whatever is not firmware is the
same afterwards, byte for byte, and the store can be read.
"""

import io
import json
import os
import shutil

import pytest
from deploy_rig import CONFIG, KEY, deploy, flash_image, image
from pty_board import PtyBoard

from tapauth import __version__
from tools.board.first_pin import state_with
from tools.cardlist.card_image import Builder
from tools.cardlist.store_target import ImageTarget
from tools.cards import main as cards
from tools.deploy import Deployment
from tools.desk.flash_image import BLOCK, LfsFiles, UserContext
from tools.firmware import build
from tools.paths import BOARDS, IMAGE

CARDS = 300
# What a deployment brings, and what it takes away.
FIRMWARE = ("tapauth/", "lib/", "a/", "b/", "boot.log", "slot", "boot.py", "main.py")
FIRMWARE += ("site.key2", "tapauth_boot.py", "tapauth_slot.py", "boot_hal.py", "digitalio.mpy")


def uid(number: int) -> str:
    return f"04{number:012x}"


@pytest.fixture
def old_board(tmp_path):
    """The flash of a board of the previous release that has been in use."""
    files = {
        "site.key": KEY,
        "config.json": json.dumps(CONFIG).encode(),
        "conn": state_with("correct horse"),
        "certificates/broker-ca": os.urandom(900),
        "data/empty": b"",
        "data/deep/er/and/deeper": bytes(range(256)) * 90,
        "data/one block": os.urandom(BLOCK),
        "data/tapauth/app.mpy": b"not ours",
        "data/slot": b"not ours either",
        "upload.new": os.urandom(100),
        "board.py": (BOARDS / "desktop" / "board.py").read_bytes(),
    }
    build("desktop")
    for path in IMAGE.rglob("*"):
        if path.is_file():
            files[str(path.relative_to(IMAGE))] = path.read_bytes()
    flash = flash_image(tmp_path / "flash.img", files)
    builder = Builder(KEY)
    for number in range(CARDS):
        token = {"value": uid(number), "type": "ISO14443"}
        builder.add(token, {"authorization_status": "Accepted"})
    data = io.BytesIO()
    builder.write(data, 1, 77)
    ImageTarget(flash, 10_000).install(data.getvalue())
    cards(["add", "9c3a5501", "--parent-id", "FLEET", "--flash", str(flash)])
    return flash


def everything(path) -> dict[str, bytes | None]:
    """Every file and, as None, every folder of a flash."""
    lfs = LfsFiles(UserContext(buffer=bytearray(path.read_bytes())))
    lfs.mount()
    found: dict[str, bytes | None] = {}
    for folder, folders, names in lfs.lfs.walk("/"):
        at = folder.strip("/") + "/" if folder != "/" else ""
        found.update({at + name + "/": None for name in folders})
        for name in names:
            with lfs.open(at + name, "rb") as file:
                found[at + name] = file.read()
    return found


def own(path) -> dict[str, bytes | None]:
    """What is not firmware."""
    return {name: data for name, data in everything(path).items() if not name.startswith(FIRMWARE)}


def test_nothing_but_firmware_changes(old_board, tmp_path, capsys):
    before = own(old_board)
    assert len(before) > 15 and before["data/"] is None
    assert sum(len(data) for data in before.values() if data) > 30_000
    now = tmp_path / "now.img"
    shutil.copy(old_board, now)
    with PtyBoard(now) as board:
        board.wait_for(f"TapAuth {__version__} on b1")
        board.wait_for(f"{CARDS + 1} cards")
        deploy(board, image("one"))
        board.wait_for("app one")
        assert own(now) == before
        assert "tapauth/app.mpy" in everything(now), "to fall back on"
        deploy(board, image("two"))
        board.wait_for("app two")
        assert own(now) == before
        left = {name for name in everything(now) if name.startswith(("tapauth/", "lib/", "dig"))}
        assert not left
        # The real firmware from its slot, on the store of the one before.
        board.output = b""
        Deployment(build("desktop"), board.port, print, KEY, 0, now=True).run()
        board.wait_for("boot: slot a, on trial")
        board.wait_for(f"{CARDS + 1} cards")
        where = ["--port", board.port, "--resume"]
        capsys.readouterr()
        cards(["find", uid(CARDS - 1), *where])
        assert "Accepted" in capsys.readouterr().out
        assert own(now) == before
        cards(["add", "9c3a5502", *where])
        cards(["find", "9c3a5502", *where])
        assert "Accepted" in capsys.readouterr().out


def test_a_board_without_firmware_says_so_to_the_cards_tool(tmp_path):
    with (
        PtyBoard(flash_image(tmp_path / "flash.img", {"site.key": KEY})) as board,
        pytest.raises(SystemExit, match="no firmware yet: make deploy"),
    ):
        cards(["status", "--port", board.port, "--resume"])
