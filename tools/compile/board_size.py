"""How big the firmware is on each board: its slot on flash, and what an idle board has loaded."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tools.build import build as build_common
from tools.compile.program import on_board
from tools.desk.broker import EmbeddedBroker
from tools.desk.flash_image import BLOCK, LfsFiles, UserContext
from tools.firmware import Image, build, sign
from tools.paths import BOARDS, ROOT, micropython

CARD_BYTES = 12
"""What a card takes on flash (docs/store-format.md)."""
# Program and cache sizes with which the ports mount their flash.
GEOMETRY = {"esp32": (32, 128), "rp2": (256, 1024), "desktop": (256, 1024)}


@dataclass
class BoardSize:
    """Bytes, of one board."""

    slot: int
    """The packs and the manifest."""
    flash: int
    """What a slot takes of the file system."""
    free: int
    """What the file system has for slots, beside the boot part and a full list of cards."""
    idle: int
    """.mpy that is loaded by the board's own configuration when it is idle."""

    @property
    def slots(self) -> int:
        """How many slots fit; an update needs two."""
        return self.free // self.flash


def _on_flash(limits: dict, groups: list[dict[str, bytes]]) -> list[int]:
    """Bytes that groups of files take on the board's littlefs, one after the other."""
    blocks = limits["flash"]["file_system_bytes"] // BLOCK
    files = LfsFiles(UserContext(buffsize=blocks * BLOCK), *GEOMETRY[limits["family"]])
    files.format()
    files.mount()
    taken = []
    for group in groups:
        before = files.lfs.used_block_count
        files.write(group)
        taken.append((files.lfs.used_block_count - before) * BLOCK)
    return taken


def _module_sizes(image: Image) -> dict[str, int]:
    """Bytes of each module in an image, by its path on the board."""
    sizes = {}
    for pack, data in image.slot.items():
        folder = "" if pack == "-" else pack.replace(".", "/") + "/"
        for line in data[: data.index(b"\n\n")].decode().splitlines():
            _, size, name = line.split(" ")
            sizes[folder + name] = int(size)
    return sizes


def loaded_when_idle(board: str, port: int) -> set[str]:
    """Paths of the modules that a board has loaded by its configuration when it is idle.

    `port` is that of a broker on this machine.
    """
    script = str(ROOT / "tools" / "on_micropython" / "idle_modules.py")
    config = str(BOARDS / board / "config.json")
    command = [micropython(), "-X", "heapsize=2m", script, str(ROOT), config, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    for line in done.stdout.splitlines():
        if line.startswith("LOADED "):
            return {path for path in json.loads(line[7:]) if path.endswith(".mpy")}
    raise SystemExit(f"{board} does not start:\n{done.stdout}{done.stderr}")


def measure(boards: list[str]) -> dict[str, BoardSize]:
    """The sizes of these boards."""
    build_common()
    found = {}
    with EmbeddedBroker() as broker, ThreadPoolExecutor(len(boards)) as pool:
        # They spend their time on being idle.
        idle = {board: pool.submit(loaded_when_idle, board, broker.port) for board in boards}
        for board in boards:
            image = build(board)
            slot = {f"a/{name}": data for name, data in image.slot.items()}
            slot["a/manifest"] = sign(image.manifest, bytes(32))
            boot, flash = _on_flash(image.limits, [image.boot, slot])
            free = image.limits["flash"]["file_system_bytes"] - boot
            free -= CARD_BYTES * image.limits["cards"]
            sizes = _module_sizes(image)
            names = {"board.mpy", *map(on_board, idle[board].result())}
            loaded = sum(sizes[name] for name in names)
            found[board] = BoardSize(sum(map(len, slot.values())), flash, free, loaded)
    return found
