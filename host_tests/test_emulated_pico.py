"""Updates on the chip's real MicroPython, in an emulator, with its real watchdog and timers.

Needs a Python with rp2040py (TAPAUTH_EMULATOR=/path/to/its/python) and a Pico W's image
(UF2=/path/to/it): docs/testing.md. Takes some minutes.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from test_deploy import CONFIG, GOOD, HANG, compiled

from tools.board_port import BoardError, BoardPort
from tools.deploy import Deployment, roll_back, show_status
from tools.firmware import Image, boot_part, limits_of, make_manifest, make_packs
from tools.paths import ROOT
from tools.provision import install, make_key

EMULATOR = os.environ.get("TAPAUTH_EMULATOR", "")
UF2 = os.environ.get("UF2", "")
pytestmark = pytest.mark.skipif(
    not (EMULATOR and UF2), reason="TAPAUTH_EMULATOR and UF2 do not name an emulator and an image"
)


def image(name: str, at_import: str = "") -> Image:
    """A small firmware with a real Pico W's board.py behind it."""
    lines = "\n ".join(GOOD.splitlines())
    app = f"NAME = {name!r}\n{at_import}\ndef main():\n {lines}\n"
    modules = {"tapauth/__init__.mpy": compiled(""), "tapauth/app.mpy": compiled(app)}
    limits = limits_of("pico-w")
    slot = make_packs(modules)
    build, manifest = make_manifest("pico-w", limits, slot)
    return Image("pico-w", limits, build, manifest, slot, boot_part("pico-w", limits))


@pytest.fixture
def port(tmp_path):
    link = tmp_path / "port"
    board = subprocess.Popen(
        [EMULATOR, "tools/emulated_pico.py", UF2, str(tmp_path / "flash"), str(link)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert board.stdout and board.stdout.readline() == "ready\n"
        yield str(link)
    finally:
        board.send_signal(signal.SIGTERM)
        board.wait(30)


def test_a_pico_is_provisioned_updated_and_falls_back(port, tmp_path, monkeypatch):
    monkeypatch.setattr(BoardPort, "patience_s", 300.0)
    said: list[str] = []
    key: Path = make_key(tmp_path / "site")
    files = {"/site.key": key.read_bytes(), "/config.json": json.dumps(CONFIG).encode()}
    install(port, said.append, limits_of("pico-w"), files)
    for name in ("one", "two"):
        Deployment(image(name), port, said.append, key.read_bytes(), 240).run()
    # A firmware that hangs: the chip's own watchdog ends it, three times.
    with pytest.raises(BoardError, match="failed three times"):
        Deployment(image("bad", HANG), port, said.append, key.read_bytes(), 240).run()
    roll: list[str] = []
    show_status(port, roll.append)
    assert any("slot a failed: back to b" in line for line in roll), roll
    with pytest.raises(BoardError, match="nothing to go back to"):
        BoardPort(port).call("os.remove('/a/manifest')")
        roll_back(port, said.append)
