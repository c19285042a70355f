"""Mounts the flash image at / and leaves the console to mpremote. Runs on MicroPython."""

import os
import sys

import vfs
from image_flash import ImageFlash

flash = ImageFlash(sys.argv[1])
vfs.umount("/")
vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/")
os.chdir("/")
sys.path[:] = ["", ".frozen", "/lib"]
