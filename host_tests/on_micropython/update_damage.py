"""Damages a slot in every way there is, and sees that it is not started. Runs on MicroPython."""

import os
import sys

import vfs
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
    soft_reset,
    start,
    tapauth_slot,
)

from tapauth.cards.vault import Vault
from tapauth.crypto import sitekey


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


def key_of(proven=False):
    """The key as all but the boot part find it, or None."""
    try:
        return sitekey.site_key(open, proven)
    except ValueError:
        return None


def damage_the_key():
    """One copy damaged in any way: the other serves. Both: none does, and none is made up."""
    (path2, whole2), (path, whole) = sitekey.key_copies(KEY)
    other = sitekey.key_copies(b"another site's key of 32 bytes..")
    count = 0
    for data, data2, expected in (
        (whole, None, KEY),  # a board from before there were two
        (whole, b"", KEY),
        (whole, whole2[:40], KEY),
        (whole, whole2[:-1] + b"x", KEY),
        (whole, b"x" + whole2[1:], KEY),
        (None, whole2, KEY),
        (b"", whole2, KEY),
        (whole[:31], whole2, KEY),
        (b"x" + whole[1:], whole2, KEY),
        (whole, whole2, KEY),
        # A cut while the key is changed: the second copy is written first, and counts.
        (whole, other[0][1], other[1][1]),
        (None, None, None),
        (b"", b"", None),
        (whole[:31], None, None),
        (whole + b"x", None, None),
        (None, whole2[:-1], None),
        (None, whole2[:-1] + b"x", None),
        (b"x" + whole[1:], whole2[:-1] + b"x", None),
        (b"x" + whole[1:], b"y" + whole2[1:], None),
    ):
        for name, content in ((path, data), (path2, data2)):
            if on_board.exists(name):
                os.remove(name)
            if content is not None:
                copy(name, content)
        assert key_of() == expected, (data, data2)
        if expected == KEY:
            assert boot.verify("a") == "new"
            on_board.mend(True)
            assert read(path) == whole and read(path2) == whole2
        else:
            why_not()
            if expected is None:
                before = [on_board.exists(name) and read(name) for name in (path, path2)]
                on_board.mend(False)
                assert before == [on_board.exists(name) and read(name) for name in (path, path2)]
        count += 1
    # Nothing of the second copy is right: a manifest proves the first, and it is mended.
    copy(path, whole)
    copy(path2, b"\xff" * 64)
    assert key_of() is None and key_of(proven=True) == KEY
    on_board.mend(False)
    assert read(path2) == b"\xff" * 64
    assert boot.verify("a") == "new"
    on_board.mend(True)
    assert read(path2) == whole2
    # Folders in their place.
    for name in (path, path2):
        copy(path, whole)
        copy(path2, whole2)
        os.remove(name)
        os.mkdir(name)
        assert boot.verify("a") == "new" and key_of() == KEY
        on_board.mend(True)  # does not mind
        os.rmdir(name)
    copy(path, whole)
    boot.write_record("b", boot.CONFIRMED)
    print("states of the site key:", count)


class Recorder:
    """The log and the active errors of a board, as far as they are text."""

    def __init__(self):
        self.texts = []

    def set(self, active, kind, sub_type, origin, message):
        if active:
            self.texts.append(message)

    def info(self, part, text, *values):
        self.texts.append(text.format(*values))

    warning = error = info


def vault_says(data, data2):
    """(whether cards are known, what is said) of the firmware with these copies of the key."""
    for (path, _), content in zip(sitekey.key_copies(KEY), (data2, data)):  # noqa: B905
        if on_board.exists(path):
            os.remove(path)
        if content is not None:
            copy(path, content)
    heard = Recorder()
    vault = Vault({"capacity": 100, "cache_days": 30}, False, None, heard, heard)
    known = vault.store is not None
    if known:
        vault.store.close()
    return known, "\n".join(heard.texts)


def start_the_firmware_with_damaged_keys():
    """It mends a copy, knows no card without a key, and never makes up one."""
    # What the firmware loads late is not on the board's flash.
    top = "/" + sitekey.__file__.split("/")[1]
    vfs.mount(vfs.VfsPosix(top), top)
    (path2, whole2), (path, whole) = sitekey.key_copies(KEY)
    for data, data2 in ((whole, None), (whole, b"x"), (b"x" * 32, whole2), (None, whole2)):
        known, said = vault_says(data, data2)
        assert known and "a copy of the site key was damaged or missing" in said, said
        assert read(path) == whole and read(path2) == whole2
    known, said = vault_says(whole, whole2)
    assert known and "copy" not in said
    for data, data2, words in (
        (b"x" * 32, whole2[:-1] + b"x", "the site key is damaged"),
        (whole, b"\xff" * 64, "the site key is damaged"),
        (whole[:5], None, "the site key is damaged"),
        (None, None, "there is no site key"),
    ):
        known, said = vault_says(data, data2)
        assert not known and words in said and "provision the board again" in said, said
        for name, content in ((path, data), (path2, data2)):
            assert (read(name) if on_board.exists(name) else None) == content
    # Started from a slot, the first copy is right.
    tapauth_slot.running = "a"
    known, said = vault_says(whole, b"\xff" * 64)
    assert known and "a copy of the site key was damaged" in said and read(path2) == whole2
    tapauth_slot.running = ""
    # No room for the second copy: it serves all the same.
    os.mkdir(path2 + ".new")
    known, said = vault_says(whole, None)
    assert known and "cannot be mended" in said
    os.rmdir(path2 + ".new")
    vfs.umount(top)


def lose_the_record():
    """The newer firmware starts, on trial; one that does not say when it was built is older."""
    for built_a, built_b, expected in ((5, 9, "b"), (9, 5, "a"), (0, 5, "b"), (5, 0, "a")):
        fill("a", "in a", built_a)
        fill("b", "in b", built_b)
        for damage in (None, b"", b"a -1 00000000\n"):
            if damage is None:
                os.remove("/slot")
            else:
                copy("/slot", damage)
            assert start() == "in " + expected
            assert boot.read_record() == (expected, boot.TRIALS - 1)
        # It does not start for ever if it is the bad one.
        for _ in range(boot.TRIALS):
            start()
        assert boot.read_record() == (boot.other(expected), boot.CONFIRMED)
    # Damaged, the newer one does not count.
    copy("/b/manifest", b"damaged")
    os.remove("/slot")
    assert start() == "in a"
    # A deployment does not fill the only slot that is whole.
    os.remove("/slot")
    soft_reset()
    assert on_board.prepare() == "b"


def refuse_writes():
    """No start can be counted: what is on trial is not started as long as there is another."""
    fill("a", "old", 5)
    fill("b", "new", 9)
    for left in (3, 1, 0):
        boot.write_record("b", left)
        os.mkdir("/slot.new")
        for _ in range(5):
            assert start() == "old"
        assert boot.read_record() == ("b", left)
        os.rmdir("/slot.new")
    # Also when the record is lost, and with a folder in its place.
    os.remove("/slot")
    os.mkdir("/slot.new")
    assert start() == "old"
    os.rmdir("/slot.new")
    os.mkdir("/slot")
    assert start() == "old"
    os.rmdir("/slot")
    # The confirmed one needs no record to be written.
    boot.write_record("b", boot.CONFIRMED)
    os.mkdir("/slot.new")
    assert start() == "new"
    # The one in / from before there were slots is another firmware too.
    os.rmdir("/slot.new")
    boot.write_record("b", 2)
    copy("/a/manifest", b"damaged")
    os.mkdir("/tapauth")
    os.mkdir("/slot.new")
    assert start() == "flat"
    os.rmdir("/tapauth")
    # And where there is none at all, a signed firmware that failed is better than nothing.
    assert start() == "new"
    os.rmdir("/slot.new")


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
    mac = manifest[len(body) + 4 : -1]
    for given in [mac[:size] for size in range(64)] + [mac + b"0", mac + mac, b"0" * 64]:
        copy("/a/manifest", body + b"mac " + given + b"\n")
        why_not()
    refused("another signature", "not signed for this site")
    copy("/a/manifest", body + b"mac " + mac[:63] + b"\n")
    refused("a signature cut short", "not signed for this site")
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
        assert not on_board.exists("/site.key2"), "what may be damaged gets no copy"
    copy("/site.key", KEY)
    damage_the_key()
    # A deployment mends what it can prove.
    second = sitekey.key_copies(KEY)[0][1]
    copy("/site.key", b"damaged")
    copy("/site.key2", second)
    assert on_board.activate("a") == "" and read("/site.key") == KEY
    os.remove("/site.key2")
    assert on_board.activate("a") == "" and read("/site.key2") == second
    start_the_firmware_with_damaged_keys()
    copy("/site.key", KEY)
    lose_the_record()
    refuse_writes()
    confirmed()
    fill("a", "new")

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

    # A printed line is in the log already: its reader may interrupt at once.
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
