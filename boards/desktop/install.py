"""Puts files on the desktop charger's flash, as a technician would with mpremote.

Run by tools/charger.py in MicroPython's Unix port, before start.py. Arguments: the flash's image
file, which is made when it is not there, and a folder whose files are put on it where they differ.
Ends with 2 when the image cannot be used.
"""

import hashlib
import os
import sys

import vfs
from image_flash import ImageFlash

OWNED = ("/tapauth", "/lib")  # folders whose files are all ours: what is not installed goes


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
    for path in wanted:
        # A source of an older release would be taken before what is compiled.
        source = path.replace(".mpy", ".py")
        if source not in wanted and digest(source):
            os.remove(source)


def main():
    flash = ImageFlash(sys.argv[1])
    vfs.umount("/")
    if flash.new:
        vfs.VfsLfs2.mkfs(flash, progsize=256)
    try:
        vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/")
    except OSError:
        print("the flash image holds no file system: remove it (make clean) and start again")
        sys.exit(2)
    vfs.mount(vfs.VfsPosix(sys.argv[2]), "/host")
    install("/host")
    vfs.umount("/host")
    vfs.umount("/")


main()
