"""A board's flash with a boot part that is really started from it. Runs on MicroPython.

Three versions of the boot part: "before" is the one of the last release, kept as text in
host_tests/rigs/boot_before; "now" is this checkout's; "newer" is this one with every file changed.
"""

import builtins
import hashlib
import os
import sys

import vfs
from update_rig import KEY, NEW, OWN, boot, copy, hexed, on_board, read, write

TRIALS, CONFIRMED = boot.TRIALS, boot.CONFIRMED
OURS = ("tapauth_boot", "tapauth_slot", "boot_hal", "boot_pins", "boot", "main")

# The application of a slot: it uses all that a firmware may use of the boot part, and ends with
# what it saw.
APP = """
import boot_hal, tapauth_slot
def main():
    boot_hal.keep_alive()
    assert tapauth_slot.MOUNT == "/run" and tapauth_slot.LOG == "/boot.log"
    record = tapauth_slot.read_record()
    raise SystemExit(({!r}, tapauth_slot.running, tapauth_slot.on_trial(), record))
"""


def versions():
    """Files by their name, of each version of the boot part."""
    now = {path[1:]: data for path, data in NEW.items()}
    before = {"boot_pins.py": now["boot_pins.py"]}
    for name in now:
        if name not in before:
            before[name] = read("host_tests/rigs/boot_before/" + name.replace(".py", ".txt"))
    newer = {name: data + b"\n# newer\n" for name, data in now.items()}
    # More than words: a shorter watchdog, another pin, one more trial start.
    for name, old, new in (
        ("tapauth_slot.py", b"WATCHDOG_MS = 8000", b"WATCHDOG_MS = 7000"),
        ("tapauth_slot.py", b"TRIALS = 3", b"TRIALS = 4"),
        ("boot_pins.py", b"22", b"21"),
    ):
        assert old in newer[name]
        newer[name] = newer[name].replace(old, new)
    return {"before": before, "now": now, "newer": newer}


VERSIONS = versions()


class Reset(BaseException):
    """The board restarted itself."""


class Machine:
    """The chip's module `machine`, as far as the boot part goes."""

    class WDT:
        def __init__(self, timeout):
            pass

        def feed(self):
            pass

    class Timer:
        def __init__(self, *_, **__):
            pass

        def deinit(self):
            pass

    class Pin:
        IN = PULL_UP = 0

        def __init__(self, *_):
            pass

        def __call__(self):
            return 1

    @staticmethod
    def reset():
        raise Reset


class Collector:
    """The module `gc`: to collect a large heap as often as a board does takes minutes."""

    @staticmethod
    def threshold(_):
        pass

    @staticmethod
    def collect():
        pass


sys.modules["machine"] = Machine  # type: ignore[assignment]
sys.modules["gc"] = Collector  # type: ignore[assignment]


def forget(names):
    for name in list(sys.modules):
        if name.split(".")[0] in names:
            del sys.modules[name]


def power_on():
    """Run boot.py and main.py as they lie on the flash.

    Returns (build, tapauth_slot.running, whether on trial, the record) as the application saw
    it, or ("", ...) when nothing was started.
    """
    kept = dict(sys.modules)
    path = list(sys.path)
    forget(OURS + ("tapauth",))
    sys.path[:] = ["", ".frozen", "/lib"]
    os.chdir("/")
    to_print = builtins.print
    builtins.print = lambda *_: None
    try:
        __import__("boot")
        __import__("main")
        return ("", "", False, None)
    except SystemExit as end:
        return end.args[0]
    finally:
        builtins.print = to_print
        forget(OURS + ("tapauth",))
        sys.modules.update(kept)
        sys.path[:] = path
        if "run" in os.listdir("/"):
            try:
                vfs.umount("/run")
            except TypeError:
                pass  # it is: only then the file system is told, which no board ever does


def at_the_console(action):
    """Do what tools/deploy.py has a board do, with the modules that the board has there."""
    kept = dict(sys.modules)
    path = list(sys.path)
    forget(OURS)
    sys.path[:] = ["", ".frozen", "/lib"]
    os.chdir("/")
    try:
        return action()
    finally:
        forget(OURS)
        sys.modules.update(kept)
        sys.path[:] = path


def fill(slot, build):
    """A whole, signed slot whose application can be started."""
    app = APP.format(build).encode()
    files = {"-": b"00013 1 x.py\n\nx", "tapauth": b"00017 %04d app.py\n\n" % len(app) + app}
    text = f"build {build}\nmpy {sys.implementation._mpy & 255}\n"
    for name in sorted(files):
        digest = hexed(hashlib.sha256(files[name]).digest())
        text += f"file {digest} {len(files[name])} {name}\n"
    mac = hexed(boot_mac(text.encode()))
    write({"/" + slot + "/" + name: data for name, data in files.items()})
    copy("/" + slot + "/manifest", text.encode() + b"mac " + mac.encode() + b"\n")


def boot_mac(manifest):
    key = boot._mac_key(KEY) + bytes(32)
    inner = hashlib.sha256(bytes([b ^ 0x36 for b in key]) + manifest).digest()
    return hashlib.sha256(bytes([b ^ 0x5C for b in key]) + inner).digest()


def board(version, slot, left, slots="ab"):
    """A board in the field: `slots` are whole, the record says `slot` and `left`."""
    write(OWN)
    write({"/" + name: data for name, data in VERSIONS[version].items()})
    for one in slots:
        fill(one, "in " + one)
    boot.write_record(slot, left)


def flat():
    """A board of the layout before slots."""
    write(OWN)
    write({"/main.py": b"from tapauth import app\napp.main()\n", "/boot.py": b"x = 1\n"})
    write({"/tapauth/app.py": b"def main():\n    raise SystemExit(('flat', '', False, None))\n"})


def replace(version, copies=None):
    """The steps of tools/deploy.py, as far as the `copies`th file. Returns the objection."""
    files = VERSIONS[version]
    there = on_board.boot_files()
    wanted = {name: hexed(hashlib.sha256(data).digest()) for name, data in files.items()}
    wanted = {name: wanted[name] for name in wanted if wanted[name] != there.get(name)}
    if not wanted:
        return ""
    on_board.stage()
    for name in list(wanted)[:copies]:
        copy(on_board.STAGED + "/" + name, files[name])
    if copies is not None:
        return ""
    return at_the_console(lambda: on_board.replace_boot_part(wanted))


def activate(slot):
    return at_the_console(lambda: on_board.activate(slot))


def version_of(names):
    """Which of these versions the boot part on the flash is; "mixed" when it is of several, file
    by file. A file of no version is an error.
    """
    now = {name: read("/" + name) for name in on_board.boot_files()}
    for name, data in now.items():
        assert data in [VERSIONS[one].get(name) for one in names], name + " is of no version"
    return ([one for one in names if now == VERSIONS[one]] + ["mixed"])[0]


RECORDS = (
    (("a", CONFIRMED), "a", CONFIRMED),
    (("b", CONFIRMED), "b", CONFIRMED),
    (("a", 2), "a", 1),
    (("b", 1), "b", 0),
    (("a", 0), "b", CONFIRMED),  # its trial is over
)


def starts_either_slot():
    """With every kind of record, what the record says starts. Both slots are whole."""
    for record, slot, left in RECORDS:
        boot.write_record(*record)
        expected = ("in " + slot, slot, left != CONFIRMED, (slot, left))
        seen = power_on()
        assert seen == expected, (record, seen)
    os.remove("/slot")
    build, slot, trial, (named, _) = power_on()
    # The two of these tests do not say when they were built, so it is a.
    assert (build, slot, trial, named) == ("in a", "a", True, "a")


def own_files():
    for path, data in OWN.items():
        assert read(path) == data, path
