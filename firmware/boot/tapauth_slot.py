"""Starts what the boot part chose, and stays with the application while it runs.

The choice is tapauth_boot.py's, which is forgotten then: its memory is the application's. It
tells how the two work, and why the names here are a contract (docs/updates.md).
"""

import gc
import os
import sys
from binascii import crc32

RECORD = "/slot"
LOG = "/boot.log"
TRIALS = 3
CONFIRMED = -1
MOUNT = "/run"
WATCHDOG_MS = 8000
_LOG_BYTES = 480  # littlefs keeps so small a file inside its directory, without a block of its own

running = ""
"""The slot that was started, "" for none."""


class Unsound(Exception):
    """A slot must not be started; the text says why."""


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


class Packs:
    """The modules and pages of a slot as a file system to import from.

    The pack `tapauth.core` holds the modules of the folder tapauth/core, the pack `-` those of
    the root. It begins with a line `offset size name` for each, and an empty line.
    """

    def __init__(self, root: str):
        self._root = root + "/"
        self._names = [entry[0] for entry in os.ilistdir(root)]  # type: ignore[attr-defined]
        # One import asks several times, and the next one often for the same pack.
        self._pack = ""
        self._head = ""

    def mount(self, _readonly, _mkfs):
        pass

    umount = mount

    def _find(self, path: str):
        """(pack, offset, size) of a module. Raises OSError when there is none."""
        folder, _, wanted = path.strip("/").rpartition("/")
        pack = folder.replace("/", ".") or "-"
        if pack not in self._names:
            raise OSError(2)
        if pack != self._pack:
            self._head = self._read_head(pack)
            self._pack = pack
        end = self._head.find(" " + wanted + "\n")
        if end < 0:
            raise OSError(2)
        offset, size = self._head[self._head.rfind("\n", 0, end) + 1 : end].split(" ")
        return pack, int(offset), int(size)

    def _read_head(self, pack: str) -> str:
        head = ""
        with open(self._root + pack, "rb") as file:
            while True:
                line = file.readline().decode()
                if len(line) < 2:
                    return head
                head += line

    def stat(self, path: str):
        """As os.stat(): mode and size."""
        name = path.strip("/").replace("/", ".")
        for pack in self._names:
            if not name or pack == name or pack.startswith(name + "."):
                return (0x4000, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        return (0x8000, 0, 0, 0, 0, 0, self._find(path)[2], 0, 0, 0)

    def open(self, path: str, _mode: str):
        """The pack, open at the file. A module itself says where it ends, for others stat()."""
        pack, offset, _ = self._find(path)
        file = open(self._root + pack, "rb")
        file.seek(offset)
        return file


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


def note(text: str) -> None:
    """Keep a line in the log file, which stays small, the oldest go; and print it."""
    _write_log(text)
    # Last: whoever waits for it may interrupt at once.
    print("boot: " + text)


def _write_log(text: str) -> None:
    try:
        try:
            with open(LOG) as file:
                lines = file.read(_LOG_BYTES).split("\n")[:-1]
        except (OSError, ValueError):  # none yet, or damaged
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
        import tapauth_boot

        slot = tapauth_boot.choose()
        flat = tapauth_boot.is_sound("")
        # The choice's memory is free now, before the application wants it in one piece.
        del tapauth_boot, sys.modules["tapauth_boot"]
        gc.collect()
        watchdog.feed()
        record = read_record()
        trial = bool(slot) and record != (slot, CONFIRMED)
        if slot:
            how = "confirmed"
            if trial:
                # On a full flash the record may be another's, or none.
                left = record[1] if record and record[0] == slot else "not counted, none"
                how = f"on trial, {left} left"
            print(f"boot: slot {slot}, {how}")
        elif not flat:
            print("boot: nothing to start: deploy a firmware; the board restarts in 15 minutes")
            boot_hal.keep_alive()
            return
        end = _start(slot)
        if end or trial:
            note("slot {}: {}".format(slot or "-", end or "ended"))
            watchdog.feed()
            boot_hal.pause(2)  # a moment for a technician's Ctrl-C
            boot_hal.reset()
        how = "the application ended"
    except KeyboardInterrupt:
        how = "interrupted"
    while True:
        try:
            boot_hal.keep_alive()
            # The technician's tools need the memory, and modules of the root.
            sys.path[:] = ["", ".frozen", "/lib"]
            for name in list(sys.modules):
                if name not in ("boot_hal", "tapauth_slot"):
                    del sys.modules[name]
            gc.collect()
            print(f"boot: {how}; the board restarts in 15 minutes")
            return
        except KeyboardInterrupt:
            pass  # tools send more than one
