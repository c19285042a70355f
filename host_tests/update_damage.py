"""Damages a slot in every way there is, and sees that it is not started. Runs on MicroPython."""

import os
import sys

from flash_sim import SETTINGS
from update_rig import (
    KEY,
    boot,
    confirmed,
    copy,
    deploy,
    fill,
    firmware,
    hexed,
    mounted,
    on_board,
    start,
    tapauth_slot,
)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def why_not(slot="a"):
    try:
        boot.verify(slot)
    except boot.Unsound as reason:
        return str(reason)
    raise AssertionError("taken as whole")


def signed(text):
    """A manifest with another body, signed with the right key."""
    import hashlib

    key = boot._mac_key(KEY) + bytes(32)
    inner = hashlib.sha256(bytes([b ^ 0x36 for b in key]) + text).digest()
    mac = hashlib.sha256(bytes([b ^ 0x5C for b in key]) + inner).digest()
    return text + b"mac " + hexed(mac).encode() + b"\n"


def refused(what, words, slot="a"):
    text = why_not(slot)
    assert words in text, (what, text)
    assert on_board.activate(slot) == text
    assert boot.read_record() == ("b", boot.CONFIRMED), "a refusal changes nothing"
    print("refused:", what, "-", text)


def main():
    mounted(SETTINGS[sys.argv[1]], 256)
    confirmed()
    fill("a", "new")
    assert boot.verify("a") == "new"
    files, manifest = firmware("new")
    body = manifest[: manifest.index(b"mac ")]

    # Every byte of the manifest counts, and every length.
    for i in range(len(manifest)):
        damaged = bytearray(manifest)
        damaged[i] ^= 1
        copy("/a/manifest", damaged)
        why_not()
    for i in range(0, len(manifest), 7):
        copy("/a/manifest", manifest[:i])
        why_not()
    print("manifests with one damaged byte:", len(manifest))

    # Single bytes of every file.
    copy("/a/manifest", manifest)
    for name, data in files.items():
        for i in (0, len(data) // 2, len(data) - 1):
            copy("/a/" + name, data[:i] + bytes([data[i] ^ 16]) + data[i + 1 :])
            refused(name + " damaged", name + " is not what was signed")
        copy("/a/" + name, data[:-1])
        refused(name + " cut short", name + " is not what was signed")
        os.remove("/a/" + name)
        refused(name + " missing", "incomplete")
        copy("/a/" + name, data)
    assert boot.verify("a") == "new"

    copy("/a/tapauth.py", b"stale")
    refused("a file too many", "not signed")
    os.remove("/a/tapauth.py")
    os.mkdir("/a/tapauth2")
    assert boot.verify("a") == "new"
    copy("/a/tapauth2/x", b"")
    refused("a file too many, in a folder", "not signed")
    os.remove("/a/tapauth2/x")
    os.rmdir("/a/tapauth2")

    copy("/a/manifest", body)
    refused("no signature", "not signed")
    copy("/a/manifest", manifest + b"x")
    refused("something after the signature", "goes on")
    copy("/a/manifest", signed(body.replace(b"mpy 6", b"mpy 5")))
    refused("wrong .mpy version", "another MicroPython")
    copy("/a/manifest", signed(b"machine with Z80\n" + body))
    refused("another board's", "another board")
    copy("/a/manifest", signed(body.replace(b"file ", b"file x")))
    refused("a line that is none", "is not what was signed")
    copy("/a/manifest", signed(body.replace(b" 100 ", b" ten ")))
    refused("a size that is none", "incomplete")
    copy("/a/manifest", b"x" * 300)
    refused("a long line", "not signed")
    os.remove("/a/manifest")
    refused("no manifest", "incomplete")
    copy("/a/manifest", manifest)
    assert boot.verify("a") == "new"

    for key, words in (
        (bytes(32), "not signed for this site"),
        (b"short", "not one"),
        (None, "no site key"),
        (b"x" * 65, "not one"),
    ):
        if key is None:
            os.remove("/site.key")
        else:
            copy("/site.key", key)
        refused(f"site key {key and key[:5]!r}", words)
    copy("/site.key", KEY)

    # The confirmed slot is damaged: the other one has to prove itself.
    copy("/b/tapauth", b"gone")
    assert start() == "new" and boot.read_record() == ("a", 2)
    copy("/a/tapauth", b"gone")
    assert start() == "" and boot.read_record() == ("a", 2)
    deploy("repair")
    assert start() == "repair"

    # A damaged log or record is no reason not to start.
    copy(tapauth_slot.LOG, b"\xff\xfe\n")
    tapauth_slot.note("after damage")
    assert read(tapauth_slot.LOG) == b"after damage\n"
    record = boot.read_record()
    for data in (b"", b"\xff" * 30, b"a", b"a 3 00000000\n", b"c -1 x\n", b"x" * 300):
        copy("/slot", data)
        assert boot.read_record() is None
        assert start() == "repair", data
    boot.write_record(*record)

    # What is printed is in the log already: whoever reads it may interrupt at once.
    seen = []
    tapauth_slot.print = lambda text: seen.append(read(tapauth_slot.LOG))
    tapauth_slot.note("printed")
    del tapauth_slot.print
    assert len(seen) == 1 and seen[0].endswith(b"printed\n")

    # The log keeps its size, and says a thing once however often it happens.
    for i in range(200):
        tapauth_slot.note("line {} {}".format(i, "x" * (i % 50)))
    for _ in range(50):
        tapauth_slot.note("the same")
    lines = read(tapauth_slot.LOG).decode().split("\n")
    assert (
        os.stat(tapauth_slot.LOG)[6] <= 512 and lines[-2] == "the same" and "line 199" in lines[-3]
    )

    # The disk is full: the old firmware starts, and a start that must be counted says so.
    full = open("/data/filler", "wb")
    try:
        while True:
            full.write(b"x" * 4096)
            full.flush()
    except OSError:
        pass
    build = start()
    assert build == "repair", build
    print("full flash: started", build)
    sys.exit(0)


main()
