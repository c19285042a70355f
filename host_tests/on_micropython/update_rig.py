"""A board's flash with slots, for tests of updates. Runs on MicroPython."""

import hashlib
import os
import sys

sys.path.append(".")
sys.path.append("firmware/boot")

import tapauth_boot as boot
import tapauth_slot
import vfs
from flash_sim import formatted

from tools.board import on_board

KEY = bytes(range(32))
OWN = {
    "/config.json": b'{"board_id": "b1"}',
    "/site.key": KEY,
    "/store/list": b"cards" * 3000,
    "/data/certificate": b"c" * 900,
}
OLD_FLAT = {"/tapauth/app.mpy": b"M\x06flat" * 50, "/lib/umqtt/simple.mpy": b"x" * 700}


def read(path):
    with open(path, "rb") as file:
        return file.read()


def boot_part():
    """This checkout's boot part: files by their path on the board."""
    names = [name for name in on_board.BOOT_FILES if not name.startswith("boot_")]
    files = {"/" + name: read("firmware/boot/" + name) for name in names}
    files["/boot_hal.py"] = read("boards/common/boot/boot_hal.py")
    files["/boot_pins.py"] = b"SAFE_MODE = 22\nTIMER = 0\n"
    return files


NEW = boot_part()


def hexed(data):
    return "".join(f"{byte:02x}" for byte in data)


def firmware(build, built=0):
    """The files of a slot: some the same in every build, some not. `built`: when, 0 for unsaid."""
    files = {"-": b"board" * 20, "lib.umqtt": b"umqtt" * 400}
    files["tapauth"] = build.encode() * 1500
    files["tapauth.core"] = b"core" + build.encode() * (300 if build == "old" else 420)
    text = f"build {build}\n" + (f"built {built}\n" if built else "")
    text += f"mpy {sys.implementation._mpy & 255}\n"
    for name in sorted(files):
        digest = hexed(hashlib.sha256(files[name]).digest())
        text += f"file {digest} {len(files[name])} {name}\n"
    manifest = text.encode()
    # HMAC written out, so that the boot part's own is held against another.
    key = boot._mac_key(KEY) + bytes(32)
    inner = hashlib.sha256(bytes([b ^ 0x36 for b in key]) + manifest).digest()
    mac = hashlib.sha256(bytes([b ^ 0x5C for b in key]) + inner).digest()
    return files, manifest + b"mac " + hexed(mac).encode() + b"\n"


def copy(path, data):
    """As `mpremote cp` does it: in place, 256 bytes at a time."""
    with open(path, "wb") as file:
        for at in range(0, len(data), 256):
            file.write(data[at : at + 256])


def write(files):
    on_board.make_folders(files)
    for path, data in files.items():
        copy(path, data)


def fill(slot, build, built=0):
    files, manifest = firmware(build, built)
    write({"/" + slot + "/" + name: data for name, data in files.items()})
    copy("/" + slot + "/manifest", manifest)


def deploy(build):
    """The steps of tools/deploy.py."""
    files, manifest = firmware(build)
    soft_reset()
    slot = on_board.prepare()
    wanted = {name: hexed(hashlib.sha256(data).digest()) for name, data in files.items()}
    there = on_board.clear(slot, wanted)
    if not on_board.exists("/" + slot):
        os.mkdir("/" + slot)
    for name, data in files.items():
        if name not in there:
            copy("/" + slot + "/" + name, data)
    copy("/" + slot + "/manifest", manifest)
    if not on_board.has_boot_part():
        on_board.stage()
        for path, data in NEW.items():
            copy(on_board.STAGED + path, data)
        wanted = {path[1:]: hexed(hashlib.sha256(data).digest()) for path, data in NEW.items()}
        assert on_board.replace_boot_part(wanted) == ""
    assert on_board.activate(slot) == ""


def soft_reset():
    """As each visit at the cable begins: after it no firmware has run."""
    tapauth_slot.running = ""


def start():
    """A start of the board, as far as the application. Returns the build that was started."""
    if on_board.exists("/main.py") and not on_board.has_boot_part():
        return "flat"  # its main.py knows of no slots
    tapauth_slot.running = slot = boot.choose()
    return boot.verify(slot) if slot else "flat" if boot.is_sound("") else ""


def confirmed():
    """What every field board looks like: two builds, the one in b confirmed."""
    write(OWN)
    write(NEW)
    fill("a", "older")
    fill("b", "old")
    boot.write_record("b", boot.CONFIRMED)


def mounted(settings, blocks=96):
    """A new file system, mounted at /. Returns the flash."""
    vfs.umount("/")
    flash = formatted(blocks, settings)
    vfs.mount(vfs.VfsLfs2(flash, **settings), "/")
    as_on_a_board()
    return flash


def as_on_a_board():
    """The boot part is found where a board finds it, and prints nothing."""
    if "/" not in sys.path:
        sys.path.append("/")
    boot.print = lambda *_: None  # type: ignore[attr-defined]
    tapauth_slot.print = lambda *_: None  # type: ignore[attr-defined]
