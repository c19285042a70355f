"""Chooses which of the slots /a and /b starts: the part of the firmware that is never updated.

A slot is whole when its manifest bears this board's signature and its files are exactly those
of the manifest. They are packs, one for each folder of modules: single modules would take three
times as much of a file system with blocks of 4 KB. The record /slot names the slot that starts:
confirmed, or on trial with so many starts left. Nothing here uses a file of a slot before the
slot is known to be whole. docs/updates.md tells the whole story.
"""

import gc
import os
import sys
from binascii import crc32, hexlify
from hashlib import sha256

RECORD = "/slot"
KEY = "/site.key"
LOG = "/boot.log"
TRIALS = 3
CONFIRMED = -1
WATCHDOG_MS = 8000
MOUNT = "/run"
_LOG_BYTES = 480  # littlefs keeps so small a file inside its directory, without a block of its own

running = ""
"""The slot that was started, "" for none."""
build = ""
"""The build id of the running slot."""


class Unsound(Exception):
    """A slot must not be started; the text says why."""


def other(slot: str) -> str:
    """The other slot."""
    return "b" if slot == "a" else "a"


# The record: "a 3 crc32\n", replaced by renaming, so that it is the old one or the new one.


def read_record():
    """(slot, trial starts left or CONFIRMED), or None when there is none that can be trusted."""
    try:
        with open(RECORD) as file:
            slot, left, check = file.read(64).split(" ")
        if int(check, 16) == crc32((slot + " " + left).encode()) and slot in ("a", "b"):
            return slot, int(left)
    except (OSError, ValueError):
        pass
    return None


def write_record(slot: str, left: int) -> None:
    """Replace the record in one step."""
    text = slot + " " + str(left)
    with open(RECORD + ".new", "w") as file:
        file.write(f"{text} {crc32(text.encode()):08x}\n")
    os.rename(RECORD + ".new", RECORD)


def decide(record, sound):
    """(slot to start or "", the record before it starts), from the record and sound(slot).

    The slot "" is what lies in / itself, from the time before there were slots. A slot on trial
    pays each start in advance; when its starts are used up the other comes back.
    """
    if record is None:
        # Lost: which slot was good is not known, so the first that is whole has to prove itself.
        for slot in ("a", "b"):
            if sound(slot):
                return slot, (slot, TRIALS - 1)
        return "", None
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


def _check_signature(path: str) -> None:
    try:
        with open(KEY, "rb") as file:
            key = file.read(65)
    except OSError:
        raise Unsound("this board has no site key") from None
    if not 16 <= len(key) <= 64:
        raise Unsound("this board's site key is not one")
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
        raise Unsound("the manifest was not signed for this site")


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
                else:
                    _check_header(name, value)
        # One file more could be imported instead of another.
        if _count_files(root) != files:
            raise Unsound("there are files that were not signed")
    except (OSError, ValueError) as error:
        raise Unsound(f"incomplete ({error})") from None
    return build


def is_sound(slot: str) -> bool:
    """Whether a slot is whole; says so when it is not."""
    global build
    if not slot:
        return _exists("/tapauth")
    try:
        build = verify(slot)
        return True
    except Unsound as reason:
        print(f"boot: slot {slot}: {reason}")
        return False


class Packs:
    """The modules of a slot as a file system to import from.

    The pack `tapauth.core` holds the modules of the folder tapauth/core, the pack `-` those of
    the root. It begins with a line `offset size name` for each, and an empty line.
    """

    def __init__(self, root: str):
        self._root = root + "/"
        self._names = [entry[0] for entry in os.ilistdir(root)]  # type: ignore[attr-defined]

    def mount(self, _readonly, _mkfs):
        pass

    umount = mount

    def _find(self, path: str):
        """(pack, offset, size) of a module. Raises OSError when there is none."""
        folder, _, wanted = path.strip("/").rpartition("/")
        pack = folder.replace("/", ".") or "-"
        if pack in self._names:
            with open(self._root + pack, "rb") as file:
                while True:
                    line = file.readline().decode().strip()
                    if not line:
                        break
                    offset, size, name = line.split(" ")
                    if name == wanted:
                        return pack, int(offset), int(size)
        raise OSError(2)

    def stat(self, path: str):
        """As os.stat(): mode and size."""
        name = path.strip("/").replace("/", ".")
        for pack in self._names:
            if not name or pack == name or pack.startswith(name + "."):
                return (0x4000, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        return (0x8000, 0, 0, 0, 0, 0, self._find(path)[2], 0, 0, 0)

    def open(self, path: str, _mode: str):
        """The pack, open at the module, which itself says where it ends."""
        pack, offset, _ = self._find(path)
        file = open(self._root + pack, "rb")
        file.seek(offset)
        return file


# What tools/deploy.py and a technician call, over the console.


def activate(slot: str) -> None:
    """Start `slot` on trial from the next start on. Raises Unsound."""
    verify(slot)
    write_record(slot, TRIALS)


def prepare() -> str:
    """The slot that may be overwritten now. The other one is started until activate()."""
    record = read_record()
    if record is None:
        return "a"
    slot, left = record
    if left != CONFIRMED and is_sound(other(slot)):
        write_record(other(slot), CONFIRMED)
        return slot
    return other(slot)


def rollback() -> str:
    """Start the other slot from the next start on, as confirmed. Raises Unsound."""
    record = read_record()
    slot = other(record[0] if record else "b")
    verify(slot)
    write_record(slot, CONFIRMED)
    return slot


def confirm() -> bool:
    """The running slot is healthy: keep it. False when it already was confirmed."""
    if not running or read_record() == (running, CONFIRMED):
        return False
    write_record(running, CONFIRMED)
    print(f"boot: slot {running} confirmed")
    return True


def on_trial() -> bool:
    """Whether the running slot has yet to be confirmed."""
    return running != "" and read_record() != (running, CONFIRMED)


# The start.


def _note(text: str) -> None:
    """Keep a line in the log file, which stays small: the oldest go."""
    print("boot: " + text)
    try:
        try:
            with open(LOG) as file:
                lines = file.read(_LOG_BYTES).split("\n")[:-1]
        except OSError:
            lines = []
        if lines and lines[-1] == text:
            return  # a crash that repeats must not wear out the flash
        lines.append(text[:160])
        while len("\n".join(lines)) >= _LOG_BYTES:
            lines.pop(0)
        with open(LOG + ".new", "w") as file:
            file.write("\n".join(lines) + "\n")
        os.rename(LOG + ".new", LOG)
    except OSError:
        pass  # a full flash must not keep the board from starting


def _where(error) -> str:
    """What was raised and where, without its text, which may hold a secret."""
    from io import StringIO

    text = StringIO()
    sys.print_exception(error, text)  # type: ignore[attr-defined]
    calls = [line.strip() for line in text.getvalue().split("\n") if line.startswith("  File")]
    return type(error).__name__ + (" in " + calls[-1] if calls else "")


def choose() -> str:
    """Decide which slot starts, and write it down. "" for none."""
    record = read_record()
    slot, new = decide(record, is_sound)
    if new and new != record:
        try:
            write_record(*new)
        except OSError:
            # The flash is full: a start that cannot be counted must not be one on trial.
            if new[1] != CONFIRMED and is_sound(other(slot)):
                slot = other(slot)
        if record is None:
            _note(f"the record was lost: slot {slot} on trial")
        elif slot != record[0] and slot:
            _note(f"slot {record[0]} failed: back to {slot}")
    gc.collect()
    return slot


def _start(slot: str) -> str:
    """Run the application. Returns why it ended, "" when it returned by itself."""
    global running
    if slot:
        # Neither / nor /lib: a module left there would be taken instead of the slot's.
        sys.path[:] = [MOUNT, MOUNT + "/lib", ".frozen"]
        import vfs

        vfs.mount(Packs("/" + slot), MOUNT)
        running = slot
    try:
        from tapauth import app

        # A frozen copy of the firmware, for instance, must not be taken for this one.
        if slot and not app.__file__.startswith(MOUNT + "/"):
            raise Unsound
        app.main()
        return ""
    except Exception as error:
        sys.print_exception(error)  # type: ignore[attr-defined]
        return _where(error)


def main() -> None:
    """Start the firmware; returns to the console when a technician interrupts it."""
    try:
        import boot_hal
    except ImportError:
        _start("")  # no slots yet: the layout before there were any
        return
    if boot_hal.safe_mode():
        print("boot: safe mode, nothing is started; the board restarts in 15 minutes")
        return
    try:
        watchdog = boot_hal.start_watchdog(WATCHDOG_MS)
        slot = choose()
        watchdog.feed()
        record = read_record()
        trial = bool(slot) and record[1] != CONFIRMED
        if slot:
            how = f"on trial, {record[1]} left" if trial else "confirmed"
            print(f"boot: slot {slot}, {how}")
        elif not is_sound(""):
            print("boot: nothing to start: deploy a firmware; the board restarts in 15 minutes")
            boot_hal.keep_alive()
            return
        end = _start(slot)
        if end or trial:
            _note("slot {}: {}".format(slot or "-", end or "ended"))
            boot_hal.pause(2)  # a moment for a technician's Ctrl-C
            boot_hal.reset()
        print("boot: the application ended; the board restarts in 15 minutes")
    except KeyboardInterrupt:
        print("boot: interrupted; the board restarts in 15 minutes")
    boot_hal.keep_alive()


def _exists(path: str) -> bool:
    try:
        os.stat(path)
        return True
    except OSError:
        return False
