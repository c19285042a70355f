"""Starts the firmware on the desktop as a board would: flash mounted at /, then boot.py, main.py.

Run by tools/charger.py in MicroPython's Unix port. Environment:
TAPAUTH_FLASH  the flash's image file, made when it is not there
TAPAUTH_FILES  a folder whose files are put on the flash first, where they differ

Ends with 0 when main.py returns; 2 when the image cannot be used.
"""

import hashlib
import os
import sys

import vfs

BLOCK = 4096
BLOCKS = 512  # 2 MiB, the file system of an ESP32 with 4 MiB of flash
OWNED = ("/tapauth", "/lib")  # folders whose files are all ours: what is not installed goes


class ImageFlash:
    """A block device over an image file, with the geometry of a serial NOR flash."""

    def __init__(self, path):
        self.new = False
        try:
            self._file = open(path, "r+b")
        except OSError:
            self.new = True
            self._file = open(path, "w+b")
            for _ in range(BLOCKS):
                self._file.write(b"\xff" * BLOCK)

    def readblocks(self, block, buffer, offset=0):
        self._file.seek(block * BLOCK + offset)
        self._file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=0):
        self._file.seek(block * BLOCK + offset)
        self._file.write(buffer)

    def ioctl(self, operation, argument):
        if operation == 3:
            self._file.flush()
        elif operation == 4:
            return BLOCKS
        elif operation == 5:
            return BLOCK
        elif operation == 6:
            self.writeblocks(argument, b"\xff" * BLOCK)
        return 0


def digest(path):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).digest()
    except OSError:
        return None


def walk(folder):
    """Paths of the files below `folder`, relative to it."""
    try:
        entries = list(os.ilistdir(folder))
    except OSError:
        return
    for entry in entries:
        if entry[1] & 0x4000:
            for path in walk(folder + "/" + entry[0]):
                yield entry[0] + "/" + path
        else:
            yield entry[0]


def install(source):
    wanted = set()
    for path in walk(source):
        wanted.add("/" + path)
        if digest("/" + path) == digest(source + "/" + path):
            continue
        folder = ""
        for part in path.split("/")[:-1]:
            folder += "/" + part
            try:
                os.mkdir(folder)
            except OSError:
                pass  # it is there
        with open(source + "/" + path, "rb") as file, open("/" + path, "wb") as copy:
            copy.write(file.read())
    for folder in OWNED:
        for path in walk(folder):
            if folder + "/" + path not in wanted:
                os.remove(folder + "/" + path)


def main():
    files = os.getenv("TAPAUTH_FILES")
    flash = ImageFlash(os.getenv("TAPAUTH_FLASH"))
    vfs.umount("/")
    if flash.new:
        vfs.VfsLfs2.mkfs(flash, progsize=256)
    try:
        vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/")
    except OSError:
        print("the flash image holds no file system: remove it (make clean) and start again")
        sys.exit(2)
    vfs.mount(vfs.VfsPosix(files), "/host")
    install("/host")
    vfs.umount("/host")
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib"]
    __import__("boot")
    __import__("main")


main()
