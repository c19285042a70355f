"""Starts the firmware on the desktop as a board would: flash mounted at /, then boot.py, main.py.

Run by tools/charger.py in MicroPython's Unix port, with the flash's image file as its argument.
Ends with 0 when main.py returns.
"""

import os
import sys

import vfs


def mount() -> None:
    """Mount the flash at /."""
    from image_flash import ImageFlash

    flash = ImageFlash(sys.argv[1])
    try:
        vfs.umount("/")
    except OSError:
        pass  # so far it came before
    vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/")


# A chip has its file system before it hears a Ctrl-C. One that comes here is kept for later:
# whoever sent it would find the files of this machine at the console.
interrupted = False
while True:
    try:
        mount()
        break
    except KeyboardInterrupt:
        interrupted = True
os.chdir("/")
sys.path[:] = ["", ".frozen", "/lib"]
if interrupted:
    raise KeyboardInterrupt
__import__("boot")
__import__("main")
