"""Chooses which of the slots /a and /b starts. docs/updates.md tells the whole story."""

# Theory of operation. There are two firmwares on the flash, and a record /slot that names the one
# which starts: confirmed, or on trial with so many starts left.
#
# - A slot is whole when its manifest bears this board's signature and its files are exactly those
#   of the manifest. Nothing here uses a file of a slot before the slot is known to be whole. The
#   files are packs, one for each folder of modules: single modules would take three times as much
#   of a file system with blocks of 4 KB.
# - On trial, a slot pays each start before it: the record says one less, then its code runs. With
#   none left, the other slot comes back, confirmed. Only the firmware itself confirms a trial.
# - In a conflict: whole wins over named, named over built later, and a start that cannot be
#   counted goes to the slot that needs no counting. Files in / itself, from before there were
#   slots, come last; where there is nothing at all, the board waits at its console.
# - decide() is all of that without the flash. choose() acts on it, at each start; activate() and
#   rollback() are called by the tools, over the console.
# - prepare() gives out the slot to write, to the tools and to a firmware that runs. It is never
#   the one that runs: that code may be used where it lies on the flash. tapauth_slot.running says
#   which that is, until a reset; the tools make a soft one before they call. The record would not
#   do: on trial, after rollback() and when it was lost it is no proof of what runs.
#
# The files of the boot part are replaced one by one (tools/board/on_board.py), so the power may go
# between any two: every mixture of this version's files and the last one's must start either slot.
# What they want of each other is therefore a contract, in docs/updates.md. A name in it is neither
# dropped nor given another meaning, and no file needs a new name of another one.

import os
import sys
from binascii import hexlify
from hashlib import sha256

import tapauth_slot
from tapauth_slot import CONFIRMED, TRIALS, Unsound, note, read_record, write_record

KEY = "/site.key"  # and KEY + "2"

built: dict = {}
"""When the firmware of a slot that was found whole was built: by slot, in seconds since 1970."""


def other(slot: str) -> str:
    """The other slot."""
    return "b" if slot == "a" else "a"


def decide(record, sound):
    """(slot to start or "", the record before it starts), from the record and sound(slot).

    The slot "" is what lies in / itself, from the time before there were slots. A slot on trial
    pays each start in advance; when its starts are used up the other comes back.
    """
    if record is None:
        # Lost: which slot was good is not known, so the newer one has to prove itself.
        whole = [slot for slot in ("a", "b") if sound(slot)]
        if not whole:
            return "", None
        slot = whole[-1] if built.get(whole[-1], 0) > built.get(whole[0], 0) else whole[0]
        return slot, (slot, TRIALS - 1)
    slot, left = record
    if left == CONFIRMED:
        if sound(slot):
            return slot, record
        if sound(other(slot)):
            return other(slot), (other(slot), TRIALS - 1)
        return "", record
    if left > 0 and sound(slot):
        return slot, (slot, left - 1)
    if sound(other(slot)):
        return other(slot), (other(slot), CONFIRMED)
    # There is no other: the layout before there were slots, or a slot that failed, but is whole.
    return (slot, record) if sound(slot) and not sound("") else ("", record)


# The manifest.


def _mac(key: bytes, path: str, end: int) -> bytes:
    """HMAC-SHA256 over the first `end` bytes of a file, with a key of 64 bytes at most."""
    key = key + bytes(64 - len(key))
    inner = sha256(bytes([byte ^ 0x36 for byte in key]))
    with open(path, "rb") as file:
        while end > 0:
            piece = file.read(min(end, 512))
            if not piece:
                break
            inner.update(piece)
            end -= len(piece)
    return sha256(bytes([byte ^ 0x5C for byte in key]) + inner.digest()).digest()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(65)
    except OSError:
        return b""


def _key_check(key: bytes) -> bytes:
    return sha256(b"tapauth site key" + key).digest()


def _site_key() -> bytes:
    """The site's key, of its two copies (tapauth/crypto/sitekey.py). Raises Unsound."""
    own, copy = _read(KEY), _read(KEY + "2")
    key = copy[:32]
    if len(copy) != 64 or _key_check(key) != copy[32:]:
        key = own  # a manifest that was signed with it proves it
    if len(key) != 32:
        text = "this board's site key is damaged, or not one"
        raise Unsound(text if own or copy else "this board has no site key")
    return key


def _check_signature(path: str) -> None:
    key = _site_key()
    end = 0
    given = b""
    with open(path, "rb") as file:
        while not given:
            line = file.readline(200)
            if not line.endswith(b"\n"):
                raise Unsound("the manifest is not signed")
            if line.startswith(b"mac "):
                given = line[4:-1]
            end += len(line)
        if file.read(1):
            raise Unsound("the manifest goes on after its signature")
    end -= len("mac \n") + len(given)
    wanted = hexlify(_mac(_mac_key(key), path, end))
    difference = len(wanted) ^ len(given)
    for one, two in zip(wanted, given):  # noqa: B905  (MicroPython has no `strict`)
        difference |= one ^ two
    if difference:
        raise Unsound("the manifest was not signed for this site, or the site key is damaged")


def _mac_key(key: bytes) -> bytes:
    # The site key serves other purposes too, so each has a key of its own made from it.
    return sha256(b"tapauth firmware manifest" + key).digest()


def _digest(path: str):
    """(size, SHA-256 in hex) of a file. Raises OSError."""
    hasher = sha256()
    size = 0
    buffer = bytearray(1024)
    view = memoryview(buffer)
    with open(path, "rb") as file:
        while True:
            count = file.readinto(buffer)
            if not count:
                return size, hexlify(hasher.digest()).decode()
            hasher.update(view[:count])
            size += count


def _count_files(folder: str) -> int:
    count = 0
    for entry in os.ilistdir(folder):  # type: ignore[attr-defined]
        count += _count_files(folder + "/" + entry[0]) if entry[1] & 0x4000 else 1
    return count


def _check_header(name: str, value: str) -> None:
    implementation = sys.implementation
    if name == "mpy" and int(value) != implementation._mpy & 255:
        raise Unsound(f"built for another MicroPython (.mpy version {value})")
    if name == "machine" and not implementation._machine.endswith(value):
        raise Unsound(f"built for another board ({value})")


def verify(slot: str) -> str:
    """The build id of a slot that is whole. Raises Unsound."""
    root = "/" + slot
    path = root + "/manifest"
    build = ""
    time = 0
    files = 1
    try:
        _check_signature(path)
        with open(path) as manifest:
            for line in manifest:
                name, _, value = line.rstrip("\n").partition(" ")
                if name == "file":
                    files += 1
                    digest, size, file_path = value.split(" ")
                    if (int(size), digest) != _digest(root + "/" + file_path):
                        raise Unsound(file_path + " is not what was signed")
                elif name == "build":
                    build = value
                elif name == "built":
                    time = int(value)
                else:
                    _check_header(name, value)
        # One file more could be imported instead of another.
        if _count_files(root) != files:
            raise Unsound("there are files that were not signed")
    except (OSError, ValueError) as error:
        raise Unsound(f"incomplete ({error})") from None
    built[slot] = time
    return build


def is_sound(slot: str) -> bool:
    """Whether a slot is whole; says so when it is not."""
    try:
        if slot:
            verify(slot)
        else:
            os.stat("/tapauth")
        return True
    except OSError:
        return False
    except Unsound as reason:
        print(f"boot: slot {slot}: {reason}")
        return False


# What tools/deploy.py and a technician call, over the console.


def activate(slot: str) -> None:
    """Start `slot` on trial from the next start on. Raises Unsound."""
    verify(slot)
    write_record(slot, TRIALS)


def _record():
    """The record; a lost one as the next start makes it, None without a whole slot."""
    return read_record() or decide(None, is_sound)[1]


def prepare() -> str:
    """The slot that may be overwritten now. The other one is started until activate().

    While a firmware runs it is never that one's; raises Unsound unless that one is confirmed and
    whole. Where none has run since the last reset, soft ones too, the record may be changed.
    """
    running = tapauth_slot.running
    if running:
        if tapauth_slot.on_trial():
            raise Unsound(f"slot {running} runs and is not confirmed")
        verify(running)
        return other(running)
    record = _record()
    if record is None:
        return "a"
    slot, left = record
    if left != CONFIRMED and is_sound(other(slot)):
        write_record(other(slot), CONFIRMED)
        return slot
    return other(slot)


def rollback() -> str:
    """Start the other slot from the next start on, as confirmed. Raises Unsound."""
    record = _record()
    slot = other(record[0] if record else "b")
    verify(slot)
    write_record(slot, CONFIRMED)
    return slot


# The start.


def choose() -> str:
    """Decide which slot starts, and write it down. "" for none."""
    record = read_record()
    slot, new = decide(record, is_sound)
    if new and new != record:
        why = ""
        try:
            write_record(*new)
        except OSError:
            # A start that cannot be counted must not be one on trial: the starts are used up.
            why = "the flash is full, "
            if new[1] != CONFIRMED:
                slot, _ = decide((slot, 0), is_sound)
        if record is None:
            note(f"the record was lost: {why}slot {slot} on trial")
        elif slot != record[0] and slot:
            note(f"slot {record[0]} failed: {why}back to {slot}")
    return slot
