"""Where things are in a checkout, and which MicroPython runs the firmware on this machine."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRMWARE = ROOT / "firmware"
BOARDS = ROOT / "boards"
BUILD = ROOT / "build"
LIBS = BUILD / "lib"
"""Third-party libraries in source form, as fetched (tools/compile/fetch_libs.py)."""
IMAGE = BUILD / "firmware"
"""What goes onto a board: boot.py, main.py, .mpy files (tools/build.py)."""
LOGIC = BUILD / "logic"
"""The logic tests as MicroPython runs them (tools/build.py)."""

SITE = Path(os.environ.get("SITE") or ROOT / "site")
"""What is secret and belongs to the site: its key above all. Never part of the project."""


def micropython() -> str:
    """Path of the MicroPython binary: $MICROPYTHON, or the one installed beside this Python.

    Raises SystemExit with advice when there is none for this machine.
    """
    named = os.environ.get("MICROPYTHON")
    if named:
        if not os.access(named, os.X_OK):
            raise SystemExit(f"MICROPYTHON={named} is not an executable file")
        return named
    beside = Path(sys.executable).parent / "micropython"
    if beside.exists():
        return str(beside)
    raise SystemExit(
        "no MicroPython for this machine: the packaged one serves Linux x86-64 and macOS arm64.\n"
        "Build its Unix port (1.24+) and name it: make run MICROPYTHON=/path/to/micropython"
    )
