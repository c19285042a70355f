"""A littlefs flash image (as of the desktop charger) as the file system that a store uses."""

import os
from pathlib import Path
from typing import TextIO

import littlefs
from littlefs.context import UserContext

BLOCK = 4096


def _as_errno(function):
    """The function with its errors as a file system of MicroPython raises them."""

    def call(*arguments):
        try:
            return function(*arguments)
        except FileNotFoundError:
            raise OSError(2, "no such file") from None
        except littlefs.LittleFSError as error:
            raise OSError(-error.code, str(error)) from None

    return call


class LfsFiles:
    """The store's port (tapauth.cards.files) onto littlefs over `flash`.

    `prog` and `cache` are the bytes of the port that mounts it: 32 and 128 on ESP32, 256 and 1024
    on RP2; they may differ from mount to mount. Raises OSError when there is no file system.
    """

    def __init__(self, flash: UserContext, prog: int = 256, cache: int = 1024):
        self.lfs = littlefs.LittleFS(
            context=flash,
            mount=False,
            block_size=BLOCK,
            block_count=len(flash.buffer) // BLOCK,
            read_size=32,
            prog_size=prog,
            cache_size=cache,
            lookahead_size=32,
            block_cycles=100,
        )
        self.format, self.mount = _as_errno(self.lfs.format), _as_errno(self.lfs.mount)
        self.open, self.remove = _as_errno(self.lfs.open), _as_errno(self.lfs.remove)
        self.rename, self.mkdir = _as_errno(self.lfs.rename), _as_errno(self.lfs.mkdir)

    def urandom(self, count: int) -> bytes:
        return os.urandom(count)

    def write(self, files: dict[str, bytes]) -> None:
        """Write files by their path, and the folders that they are in."""
        for name, data in files.items():
            folder = name.rpartition("/")[0]
            if folder:
                self.lfs.makedirs(folder, exist_ok=True)
            with self.open(name, "wb") as file:
                file.write(data)


def write_image(
    path: Path, files: dict[str, bytes], blocks: int, removed: dict[str, bytes] | None = None
) -> None:
    """Write an image file of so many blocks, with these files by their path, and nothing else but
    what those have left that were `removed` before.
    """
    flash = UserContext(buffsize=blocks * BLOCK)
    lfs = LfsFiles(flash)
    lfs.format()
    lfs.mount()
    lfs.write(removed or {})
    for name in removed or {}:
        lfs.remove(name)
    lfs.write(files)
    path.write_bytes(bytes(flash.buffer))


def lock_file(path: Path, refusal: str) -> TextIO:
    """Keep others off what this file stands for. Raises SystemExit when one of them is there."""
    import fcntl  # not on Windows, where boards are looked after all the same

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise SystemExit(refusal) from error
    return lock


def lock_image(path: Path) -> TextIO:
    """The right to a charger's flash image: of the charger that runs on it, or of a tool.

    Raises SystemExit when somebody else has it.
    """
    return lock_file(
        path.with_suffix(".lock"),
        f"{path} is in use by a running charger or another tool: end that first, or use the "
        "charger's console page",
    )


class FlashImage:
    """An image file opened for work; nothing is written back before save()."""

    def __init__(self, path: Path):
        self._path = path
        try:
            data = bytearray(path.read_bytes())
        except OSError as error:
            raise SystemExit(f"{path}: {error.strerror}") from error
        if not data or len(data) % BLOCK:
            raise SystemExit(f"{path} is not a flash image of {BLOCK}-byte blocks")
        self._flash = UserContext(buffer=data)
        self.files = LfsFiles(self._flash)
        try:
            self.files.mount()
        except OSError as error:
            raise SystemExit(f"{path} holds no littlefs file system: {error}") from error

    def save(self) -> None:
        """Replace the image file."""
        new = self._path.with_name(self._path.name + ".new")
        new.write_bytes(bytes(self._flash.buffer))
        os.replace(new, self._path)
