"""Starts the firmware on the desktop as a board would: flash mounted at /, then boot.py, main.py.

Run by tools/charger.py in MicroPython's Unix port, with the flash's image file as its argument.
Ends with 0 when main.py returns. A second argument `raw` stands for a soft reset at the raw
prompt, after which a board runs boot.py only.
"""

import os
import sys

import vfs
from image_flash import ImageFlash

flash = ImageFlash(sys.argv[1])
vfs.umount("/")
vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/")
os.chdir("/")
sys.path[:] = ["", ".frozen", "/lib"]
__import__("boot")
if sys.argv[2:] != ["raw"]:
    __import__("main")
