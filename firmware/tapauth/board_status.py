"""The answer to `status` on the serial console; loaded for that, and forgotten again."""

import os
from binascii import hexlify
from hashlib import sha256

import tapauth_slot

from tapauth import __version__
from tapauth.compat import implementation

BOOT_FILES = (
    "boot.py",
    "boot_hal.py",
    "boot_pins.py",
    "main.py",
    "tapauth_boot.py",
    "tapauth_slot.py",
)


def _build(slot: str) -> str:
    """The build id in a slot's manifest; "" when it has none."""
    try:
        with open("/" + slot + "/manifest") as file:
            return file.readline(200).strip().split(" ")[-1]
    except (OSError, ValueError):
        return ""


def _boot_log() -> list:
    try:
        with open(tapauth_slot.LOG) as file:
            return file.read(1000).split("\n")[:-1]
    except (OSError, ValueError):
        return []


def _boot_part() -> str:
    """What tells one boot part from another: made of its files as tools/deploy.py makes it."""
    whole = sha256()
    for name in BOOT_FILES:
        one = sha256()
        try:
            with open("/" + name, "rb") as file:
                while True:
                    piece = file.read(256)
                    if not piece:
                        break
                    one.update(piece)
        except OSError:
            continue
        whole.update(name.encode() + b" " + hexlify(one.digest()) + b"\n")
    return hexlify(whole.digest())[:12].decode()


def pinned(pins):
    """What a Pins has pinned since the start, or why it has not; None where nothing ever is."""
    if not pins:
        return None
    if pins.why_not:
        return {"off": pins.why_not}
    counts = pins.counts
    return {
        "functions": counts.functions,
        "constants": counts.constants,
        "bytes": counts.bytes,
        "failures": pins.failures,
    }


def report(app) -> dict:
    """Of an App that runs. `free` is in bytes of flash, `record` the slot that starts next and
    the trial starts it has left (-1: confirmed), or None; `pinned` as above.
    """
    flash = os.statvfs("/")
    return {
        "board_id": app.settings["board_id"],
        "version": __version__,
        "on": implementation(),
        "uptime_s": app.clock.now() // 1000,
        "charging": app.charging(),
        "link": "up" if app.link.connected else "down",
        "slot": tapauth_slot.running,
        "record": tapauth_slot.read_record(),
        "builds": {slot: _build(slot) for slot in ("a", "b")},
        "boot_part": _boot_part(),
        "pinned": pinned(app.pins),
        "free": flash[0] * flash[3],
        "log": _boot_log(),
    }
