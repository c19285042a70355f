"""Starts a board with every mixture of the files of two versions of the boot part.

    micropython host_tests/on_micropython/boot_mixtures.py OLD NEW

Each mixture starts either slot, with every kind of record. Runs on MicroPython.
"""

import sys

import boot_rig
import vfs
from boot_rig import CONFIRMED, VERSIONS, activate, copy, on_board, power_on
from update_rig import mounted


def console():
    """What the tools ask of a boot part, of whatever files it is mixed."""
    boot_rig.boot.write_record("a", CONFIRMED)
    assert activate("b") == "" and power_on()[0] == "in b"
    assert boot_rig.at_the_console(on_board.prepare) == "b"
    assert boot_rig.boot.read_record() == ("a", CONFIRMED)
    assert boot_rig.at_the_console(on_board.rollback) == ("b", "")
    assert power_on()[:3] == ("in b", "b", False)
    assert boot_rig.at_the_console(lambda: on_board.is_sound("a"))
    found = boot_rig.at_the_console(lambda: on_board.survey(""))
    assert found["record"] == ("b", CONFIRMED) and not found["boot_problem"]


def changed(name, old, new):
    """A version like "now", but for one file."""
    files = dict(VERSIONS["now"])
    assert old in files[name]
    files[name] = files[name].replace(old, new)
    VERSIONS["changed"] = files
    return "changed"


def objections():
    """A boot part that would not start what starts now gets no file in place."""
    boot_rig.board("before", "b", CONFIRMED)
    signature = b"tapauth firmware manifest"
    for name, old, new, words in (
        ("tapauth_boot.py", signature, b"other", "does not take the firmware in slot b"),
        ("tapauth_boot.py", b"def decide(", b"def decide (((", "SyntaxError"),
        ("tapauth_boot.py", b"import os", b"import no_such", "ImportError"),
        ("boot_hal.py", b"from boot_pins", b"from no_such", "ImportError"),
        ("boot_hal.py", b"def pause", b"def other", "AttributeError"),
        ("boot_pins.py", b"TIMER", b"OTHER", "ImportError"),
        ("tapauth_slot.py", b'RECORD = "/slot"', b'RECORD = "/other"', "slot b"),
    ):
        objection = boot_rig.replace(changed(name, old, new))
        assert words in objection, objection
        assert boot_rig.version_of(["before"]) == "before"
        assert not on_board.exists(on_board.STAGED)
        assert power_on()[0] == "in b"
    # Half a file on the way.
    on_board.stage()
    copy(on_board.STAGED + "/main.py", b"import tap")
    try:
        on_board.replace_boot_part({"main.py": "0" * 64})
        raise AssertionError("took half a file")
    except OSError as error:
        assert "main.py did not arrive whole" in str(error)
    on_board.clear_staged()
    # Damaged on the flash, the boot part starts nothing, and any that does is better.
    for name in ("tapauth_boot.py", "tapauth_slot.py"):
        copy("/" + name, b"def damaged(:\n")
        survey = boot_rig.at_the_console(lambda: on_board.survey(""))
        assert survey["boot"] and survey["boot_problem"].startswith("SyntaxError")
        assert boot_rig.replace("now") == ""
        assert boot_rig.version_of(["now"]) == "now" and power_on()[0] == "in b"
    print("objections: all")


def main():
    old, new = VERSIONS[sys.argv[1]], VERSIONS[sys.argv[2]]
    names = [name for name in new if new[name] != old.get(name)]
    mounted({}, 96)
    boot_rig.board(sys.argv[1], "a", CONFIRMED)
    if sys.argv[1:] == ["before", "now"]:
        objections()
        boot_rig.board("before", "a", CONFIRMED)
    for mixture in range(1 << len(names)):
        taken = [name for i, name in enumerate(names) if mixture >> i & 1]
        for name in names:
            copy("/" + name, (new if name in taken else old)[name])
        try:
            boot_rig.starts_either_slot()
            console()
        except Exception:
            print("of the new version:", taken)
            raise
    vfs.umount("/")
    vfs.mount(vfs.VfsPosix(), "/")
    print(f"{1 << len(names)} mixtures of {len(names)} files")


main()
