"""Updates on the chip's real MicroPython, in an emulator, with its real watchdog and timers."""

import json
import time
from pathlib import Path

import pytest
from deploy_rig import ASKS, CONFIG, GOOD, HANG, WATCH_WRITES, answers, compiled

from tools.board.board_port import BoardError, BoardPort
from tools.deploy import Deployment, roll_back, show_status
from tools.emulator.board import EmulatedPico
from tools.emulator.install import image as micropython_image
from tools.firmware import Image, boot_part, limits_of, make_manifest, make_packs
from tools.provision import install, make_key

SPEED = 4.0
"""The board mostly waits here, for its watchdog above all."""


def image(name: str, at_import: str = WATCH_WRITES, body: str = GOOD) -> Image:
    """A small firmware with a real Pico W's board.py behind it."""
    lines = "\n ".join(body.splitlines())
    app = f"NAME = {name!r}\n{at_import}\ndef main():\n {lines}\n"
    modules = {"tapauth/__init__.mpy": compiled(""), "tapauth/app.mpy": compiled(app)}
    limits = limits_of("pico-w")
    slot = make_packs(modules)
    build, manifest = make_manifest("pico-w", limits, slot)
    return Image("pico-w", limits, build, manifest, slot, boot_part("pico-w", limits))


def test_a_pico_is_provisioned_updated_and_falls_back(tmp_path, monkeypatch):
    """Nor is a slot written where a firmware has run; the one that runs is not given out."""
    monkeypatch.setattr(BoardPort, "patience_s", 300.0)
    said: list[str] = []
    printed: list[str] = []
    key: Path = make_key(tmp_path / "site")
    files = {"/site.key": key.read_bytes(), "/config.json": json.dumps(CONFIG).encode()}
    with EmulatedPico(
        micropython_image(),
        tmp_path / "flash",
        tmp_path / "tty",
        wifi=False,
        speed=SPEED,
        on_line=printed.append,
    ) as board:
        install(board.port, said.append, limits_of("pico-w"), files)

        def deploy(what: Image) -> None:
            Deployment(what, board.port, said.append, key.read_bytes(), 240, now=True).run()

        deploy(image("one"))
        deploy(image("two", body=ASKS))
        deadline = time.monotonic() + 120
        while "app two" not in printed:
            assert time.monotonic() < deadline, printed
            time.sleep(0.2)
        # A firmware that hangs: the chip's own watchdog ends it, three times. It gets the slot of
        # the one before, which had rolled back and was not restarted.
        with pytest.raises(BoardError, match="failed three times"):
            deploy(image("bad", HANG))
        assert [line for line in printed if line.startswith("may write")] == answers("b", "a")
        assert not any(line.startswith("WRITTEN") for line in printed), printed
        roll: list[str] = []
        show_status(board.port, roll.append, now=True)
        assert any("slot b failed: back to a" in line for line in roll), roll
        with pytest.raises(BoardError, match="nothing to go back to"):
            BoardPort(board.port).call("os.remove('/b/manifest')")
            roll_back(board.port, said.append, now=True)
