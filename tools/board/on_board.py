"""What tools/deploy.py runs on a board: sent over the console, and imported by tests.

Runs on MicroPython, whatever firmware the board holds or none; tapauth/crypto/sitekey.py is sent
before it, as source. Nothing here may assume the boot part, or which version of it is there.
What is neither of a slot nor of the boot part is not touched, but for a copy of the site key that
is damaged or missing.
"""

import hashlib
import json
import os
import sys

from tapauth.crypto.sitekey import COPY, key_check, key_file, mend_key, site_key

BOOT_FILES = (
    "boot_pins.py",
    "boot_hal.py",
    "tapauth_slot.py",
    "tapauth_boot.py",
    "boot.py",
    "main.py",
)
"""The boot part, in the order in which it is put in place: what is imported before what imports
it, and main.py last, as a board whose main.py is ours has the rest too."""

STAGED = "/boot.new"
"""Where files of another boot part wait until all of them are whole. Not beside those in place: a
tool of before takes a /main.py.new for a board without a boot part, and would fill slot a."""


def has_run():
    """The slot whose firmware has run here since the last reset, soft ones too; "" for none.

    Its timers and callbacks outlive an interrupt, and their code may be used where it lies on the
    flash. So while this is not "", no slot is written, nor a file of the boot part.
    """
    return getattr(sys.modules.get("tapauth_slot"), "running", "")


def digest(path):
    """SHA-256 of a file in hex."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            piece = file.read(1024)
            if not piece:
                return "".join(f"{byte:02x}" for byte in hasher.digest())
            hasher.update(piece)


def entries(folder):
    """What a folder holds, as of os.ilistdir; nothing when it is not there."""
    try:
        return list(os.ilistdir(folder))  # type: ignore[attr-defined]
    except OSError:
        return []


def walk(folder):
    """Paths of all files below a folder."""
    found = []
    for entry in entries(folder):
        path = folder + "/" + entry[0]
        if entry[1] & 0x4000:
            found += walk(path)
        else:
            found.append(path)
    return found


def exists(path):
    try:
        os.stat(path)
        return True
    except OSError:
        return False


def keep_alive():
    """Keep the watchdog, which nobody can switch off, from ending the visit; for 15 minutes."""
    try:
        import boot_hal

        boot_hal.keep_alive()
    except Exception:  # not there, or damaged
        try:
            from machine import WDT, Timer

            watchdog = WDT(timeout=8000)
            timer = 0 if sys.platform == "esp32" else -1
            Timer(timer, period=2000, callback=lambda _: watchdog.feed())
        except (ImportError, ValueError, OSError):
            pass  # a board without


def free():
    """Free bytes of the flash."""
    state = os.statvfs("/")
    return state[0] * state[3]


def has_boot_part():
    """Whether the boot part is there: its main.py is put in place last."""
    try:
        with open("/main.py") as file:
            is_ours = "tapauth_slot" in file.read(1000)
    except OSError:
        return False
    return is_ours and exists("/tapauth_boot.py") and exists("/boot_hal.py")


def boot_files():
    """The files of the boot part that are there, whatever version: SHA-256 in hex by name."""
    return {name: digest("/" + name) for name in BOOT_FILES if exists("/" + name)}


def left_over():
    """Paths of what a replacement of the boot part that was cut has left."""
    return walk(STAGED) + [
        "/" + name + ".new" for name in BOOT_FILES if exists("/" + name + ".new")
    ]


def survey(nonce):
    """What a deployment must know of the board, as a dict."""
    implementation = sys.implementation
    answer = {
        "machine": implementation._machine,
        "micropython": ".".join([str(part) for part in implementation.version[:3]]),
        "mpy": getattr(implementation, "_mpy", 0) & 255,
        "free": free(),
        "boot": has_boot_part(),
        "boot_files": boot_files(),
        "boot_problem": "",
        "left_over": exists(STAGED) or bool(left_over()),
        "flat": exists("/tapauth"),
        "key": "",
        "key_problem": "",
        "unique": "",
        "board_id": "",
        "config": exists("/config.json"),
        "record": None,
        "builds": {},
        "sizes": {},
        "confirm_s": 120,
    }
    try:
        key = hashlib.sha256(nonce.encode() + site_key()).digest()
        answer["key"] = "".join(f"{byte:02x}" for byte in key)
    except ValueError as error:
        answer["key_problem"] = str(error)
    try:
        import machine

        answer["unique"] = "".join(f"{byte:02x}" for byte in machine.unique_id())
    except (ImportError, AttributeError):
        answer["unique"] = os.getenv("TAPAUTH_UNIQUE_ID") or ""  # the desktop
    try:
        with open("/config.json") as file:
            config = json.load(file)
        answer["board_id"] = config["board_id"]
        answer["confirm_s"] = int(config["update"]["confirm_s"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    for slot in "ab":
        answer["sizes"][slot] = sum([os.stat(path)[6] for path in walk("/" + slot)])
        try:
            with open("/" + slot + "/manifest") as file:
                answer["builds"][slot] = file.readline(200).strip().split(" ")[-1]
        except OSError:
            pass
    if answer["boot"]:
        try:
            import tapauth_boot

            answer["record"] = tapauth_boot.read_record()
        except MemoryError:
            raise
        except Exception as error:
            answer["boot_problem"] = f"{type(error).__name__}: {error}"
    return answer


def log():
    """The boot part's log."""
    try:
        with open("/boot.log") as file:
            return file.read()
    except OSError:
        return ""


def prepare():
    """The slot to fill: one whose loss leaves the board a firmware that works."""
    if not has_boot_part():
        return "a"
    import tapauth_boot

    slot = tapauth_boot.prepare()
    kept = tapauth_boot.other(slot)
    # The boot part does not look whether what it keeps is still whole.
    if not tapauth_boot.is_sound(kept) and tapauth_boot.is_sound(slot):
        tapauth_boot.write_record(slot, tapauth_boot.TRIALS)
        return kept
    return slot


def is_sound(slot):
    """Whether a slot is whole on the flash, whatever of it runs from memory."""
    import tapauth_boot

    return tapauth_boot.is_sound(slot)


def clear(slot, wanted):
    """Keep of a slot what is wanted ({path in it: SHA-256}); the manifest goes first.

    Returns the paths that are there already.
    """
    root = "/" + slot
    if exists(root + "/manifest"):
        os.remove(root + "/manifest")
    there = []
    for path in walk(root):
        name = path[len(root) + 1 :]
        if name in wanted and digest(path) == wanted[name]:
            there.append(name)
        else:
            os.remove(path)
    return there


def make_folders(paths):
    """Make the folders of these files."""
    for path in paths:
        parts = path.split("/")[1:-1]
        for i in range(len(parts)):
            folder = "/" + "/".join(parts[: i + 1])
            if not exists(folder):
                os.mkdir(folder)


def put_in_place(names):
    """Give files that were copied as NAME.new their names, in this order."""
    for name in names:
        os.rename("/" + name + ".new", "/" + name)


def clear_staged():
    """Remove what a replacement of the boot part has left."""
    try:
        # After a cut in the middle of a move littlefs lists one file less, until it is written to.
        os.rmdir(STAGED)
    except OSError:
        pass  # not empty, or not there
    for path in left_over():
        os.remove(path)
    if exists(STAGED):
        os.rmdir(STAGED)


def stage():
    """Make room for the files of another boot part. Returns the free bytes of the flash."""
    clear_staged()
    os.mkdir(STAGED)
    return free()


def chosen(folder):
    """The slot that starts next, "" for none, with the boot part's files in `folder` in the place
    of those that are there. Changes nothing; whatever they raise is raised.
    """
    kept = {}
    for name in ("boot_pins", "boot_hal", "tapauth_slot", "tapauth_boot"):
        if name in sys.modules:
            kept[name] = sys.modules.pop(name)
    sys.path.insert(0, folder)
    try:
        import boot_hal
        import tapauth_boot

        for name in ("keep_alive", "safe_mode", "start_watchdog", "pause", "reset"):
            getattr(boot_hal, name)
        return tapauth_boot.decide(tapauth_boot.read_record(), tapauth_boot.is_sound)[0]
    finally:
        sys.path.remove(folder)
        for name in ("boot_pins", "boot_hal", "tapauth_slot", "tapauth_boot"):
            if name in sys.modules:
                del sys.modules[name]
        # The one that feeds the watchdog. Of the others, what is asked next is what is there.
        if "boot_hal" in kept:
            sys.modules["boot_hal"] = kept["boot_hal"]


def objection(wanted):
    """Why the staged files must not get their places, "" when they may.

    They are tried where they are, with what of the boot part is not replaced: they must start
    the slot that would start without them. Raises OSError when one did not arrive whole.
    """
    for name in wanted:
        if digest(STAGED + "/" + name) != wanted[name]:
            raise OSError(name + " did not arrive whole")
    slot = ""
    if has_boot_part():
        try:
            slot = chosen("/")
        except MemoryError:
            raise
        except Exception:
            pass  # damaged: any that works is better
    try:
        if chosen(STAGED) != slot and slot:
            return "this checkout's does not take the firmware in slot " + slot
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def replace_boot_part(wanted):
    """Put the staged files ({name: SHA-256}) in place. Returns "", or why nothing was changed."""
    problem = objection(wanted)
    if not problem:
        for name in BOOT_FILES:
            if name in wanted:
                os.rename(STAGED + "/" + name, "/" + name)
    clear_staged()
    return problem


def remove(names):
    """Remove files of the root, those that are there."""
    for name in names:
        if exists("/" + name):
            os.remove("/" + name)


def mend(is_proven):
    """Make both copies of the site key whole, if it is the right one.

    That is proven by a manifest that was signed with it, or by the check of the second copy.
    """
    try:
        key = site_key(proven=is_proven)
        if is_proven or key_file(COPY)[32:] == key_check(key):
            mend_key(key)
    except (OSError, ValueError):
        pass  # a full flash, or no key: what uses it says so


def activate(slot):
    """Start a slot on trial from the next start on. Returns "", or why not."""
    import tapauth_boot

    try:
        mend(False)
        tapauth_boot.activate(slot)
        mend(True)
        return ""
    except tapauth_boot.Unsound as reason:
        return str(reason)


def rollback():
    """(slot, "") of the one that starts next, or ("", why not).

    One that failed its trial starts on trial again: confirmed, nothing would end its crashes.
    """
    import tapauth_boot

    record = tapauth_boot.read_record()
    try:
        if record and record[1] == tapauth_boot.CONFIRMED:
            slot = tapauth_boot.other(record[0])
            if "slot " + slot + " failed: back to" in log():
                tapauth_boot.activate(slot)
                return slot, ""
        return tapauth_boot.rollback(), ""
    except tapauth_boot.Unsound as reason:
        return "", str(reason)


def remove_flat():
    """Remove what lies in / from the time before there were slots."""
    for folder in ("/tapauth", "/lib"):
        for path in walk(folder):
            os.remove(path)
        remove_empty(folder)
    remove(["digitalio.mpy"])


def remove_empty(folder):
    for entry in entries(folder):
        remove_empty(folder + "/" + entry[0])
    if exists(folder):
        os.rmdir(folder)
