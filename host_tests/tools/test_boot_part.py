"""The boot part is replaced by the real mpremote, on MicroPython's Unix port and real littlefs."""

import os
from dataclasses import replace

import pytest
from deploy_rig import OWN, deploy, files_of, flash_image, image, own_files_are_untouched
from pty_board import PtyBoard

from tools.board import on_board
from tools.board.board_port import BoardError, BoardPort
from tools.deploy import show_status
from tools.firmware import Image, build
from tools.paths import ROOT

CUTS = int(os.environ.get("TAPAUTH_DEPLOY_CUTS", "4"))


@pytest.fixture
def flash(tmp_path):
    return flash_image(tmp_path / "flash.img", OWN)


BEFORE = ROOT / "host_tests" / "rigs" / "boot_before"


def before(what: Image) -> Image:
    """An image with the boot part of the last release."""
    boot = {name: (BEFORE / name.replace(".py", ".txt")).read_bytes() for name in what.boot}
    boot["boot_hal.py"] = (BEFORE / "desktop_boot_hal.txt").read_bytes()
    return replace(what, boot=boot)


def boot_part_of(flash) -> dict[str, bytes]:
    """The boot part on a flash, and what a replacement has left there."""
    return {
        name: data
        for name, data in files_of(flash).items()
        if name in on_board.BOOT_FILES or ".new" in name
    }


def test_an_old_boot_part_is_replaced_before_the_slot_is_switched(flash):
    one, two = image("one"), image("two")
    with PtyBoard(flash) as board:
        deploy(board, before(one))
        assert boot_part_of(flash) == before(one).boot
        said: list[str] = []
        show_status(board.port, said.append, now=True)
        assert any("another version than this checkout's" in line for line in said), said
        said = deploy(board, two)
        at = [i for i, line in enumerate(said) if line.startswith("replacing the boot part: ")]
        assert at and at[0] < said.index("checking it on the board"), said
        assert "tapauth_slot.py" in said[at[0]] and "main.py" not in said[at[0]]
        board.wait_for("app two")
        assert boot_part_of(flash) == two.boot
        said = []
        show_status(board.port, said.append, now=True)
        assert not any("another version" in line for line in said), said
        # An older checkout brings its own, also where its firmware runs already.
        said = deploy(board, before(two))
        assert said[0].startswith("replacing the boot part") and "nothing to do" not in said[-1]
        board.output = b""
        board.wait_for("app two")
        assert boot_part_of(flash) == before(two).boot
    own_files_are_untouched(flash)


def test_a_boot_part_that_does_not_take_what_runs_is_not_put_in_place(flash):
    """So it is with an older checkout, when what runs is signed in a way it does not know."""
    one, two = image("one"), image("two")
    other = {**two.boot, "tapauth_boot.py": two.boot["tapauth_boot.py"].replace(b"firm", b"soft")}
    with PtyBoard(flash) as board:
        deploy(board, one)
        said = deploy(board, replace(two, boot=other))
        assert any("keeps its boot part" in line and "slot a" in line for line in said), said
        board.wait_for("app two")
        assert boot_part_of(flash) == two.boot
    own_files_are_untouched(flash)


def test_a_damaged_boot_part_is_replaced(flash):
    half = "f = open('/tapauth_boot.py', 'r+b'); f.write(b'(((('); f.close()"
    with PtyBoard(flash) as board:
        deploy(board, image("one"))
        BoardPort(board.port).run("exec", half)
        board.output = b""
        said = deploy(board, image("two"))
        assert said[0].startswith("the boot part is damaged (SyntaxError"), said
        board.wait_for("app two")
        assert b"app one" not in board.output
    assert boot_part_of(flash) == image("two").boot
    # The slot that was filled is not the one that ran before.
    assert {"a/manifest", "b/manifest"} <= set(files_of(flash))


def test_the_power_goes_while_the_boot_part_is_replaced(flash, tell, monkeypatch):
    """The firmware that ran starts, and the same command then completes the replacement."""
    monkeypatch.setattr(BoardPort, "patience_s", 5.0)
    now = image("one")
    kinds = [now, before(now)]
    with PtyBoard(flash) as board:
        deploy(board, now)
        length = board.received
        deploy(board, kinds[1])
        length = board.received - length
        for i in range(CUTS):
            new = kinds[i % 2]
            board.output = b""
            board.power_cut_after = length * (2 * i + 1) // (2 * CUTS)
            with pytest.raises(BoardError):
                deploy(board, new)
            assert board.power_cut_after is None, "the power did not go"
            board.wait_for("app one")
            assert b"boot: slot a, confirmed" in board.output
            deploy(board, new)
            board.output = b""
            board.wait_for("app one")
            assert boot_part_of(flash) == new.boot
            own_files_are_untouched(flash)
    tell(f"{CUTS} power cuts in {length} bytes that replace the boot part")


def test_a_firmware_that_runs_tells_which_boot_part_it_has(flash):
    whole = build("desktop")
    with PtyBoard(flash) as board:
        for what, is_other in ((before(whole), True), (whole, False)):
            board.output = b""
            deploy(board, what, wait=0)
            board.wait_for("network: up")
            said: list[str] = []
            show_status(board.port, said.append)
            assert "TapAuth" in said[1], said
            found = [line for line in said if "is another version than this checkout's" in line]
            assert bool(found) == is_other, said
