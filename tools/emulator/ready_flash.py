"""A flash file with a firmware on it, made here: a board starts from it as from a deployment's.

A deployment through the console of an emulated board takes minutes (host_tests/emulated/ has it);
what is about something else begins here.
"""

from pathlib import Path
from zlib import crc32

from tools.cardlist.store_target import ImageTarget
from tools.desk.flash_image import write_image
from tools.firmware import Image, sign

BLOCKS = 212
"""Of the file system of a Pico W under MicroPython's own image."""


def make_flash(
    path: Path,
    image: Image,
    files: dict[str, bytes],
    *,
    site_key: bytes,
    cards: bytes = b"",
    slots: str = "a",
    record: str = "a -1",
    removed: dict[str, bytes] | None = None,
) -> None:
    """Write a flash file: the boot part, `image` in each of `slots`, the boot part's `record` (the
    slot that starts, and the trial starts that are left: -1 for confirmed), `files` by their path
    on the board, and the cards of a list file. Files that were `removed` were there before.
    """
    found = {
        **{"/" + name: data for name, data in image.boot.items()},
        "/site.key": site_key,
        "/slot": f"{record} {crc32(record.encode()):08x}\n".encode(),
        **files,
    }
    for slot in slots:
        for name, data in image.slot.items():
            found[f"/{slot}/{name}"] = data
        found[f"/{slot}/manifest"] = sign(image.manifest, site_key)
    write_image(path, found, BLOCKS, removed)
    if cards:
        ImageTarget(path, image.limits["cards"]).install(cards)
