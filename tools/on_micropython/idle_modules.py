"""Runs the firmware with a board's configuration and prints which of its modules are loaded when
it has connected and is idle, as a JSON list of paths.

    micropython idle_modules.py CHECKOUT CONFIG PORT

CHECKOUT has the built firmware, CONFIG is a configuration, PORT that of a broker on this machine.
The board has no reader here and lines that nothing happens on. Runs on MicroPython's Unix port, on
a flash of its own that is gone afterwards.
"""

# mypy: ignore-errors

import json
import os
import sys
import time

import vfs

IMAGE = "/host/build/firmware"
IDLE_S = 3  # connected long before, and past the first reports


class Flash:
    """A block device in memory."""

    def __init__(self, blocks):
        self._blocks = [bytearray(b"\xff" * 4096) for _ in range(blocks)]

    def readblocks(self, block, buffer, offset=0):
        buffer[:] = memoryview(self._blocks[block])[offset : offset + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        self._blocks[block][offset : offset + len(buffer)] = buffer

    def ioctl(self, operation, argument):
        if operation == 4:
            return len(self._blocks)
        if operation == 5:
            return 4096
        if operation == 6:
            self._blocks[argument][:] = b"\xff" * 4096
        return 0


class Watchdog:
    """Fed as long as the firmware lives: a way to look at it."""

    def __init__(self):
        self._end = time.time() + IDLE_S

    def feed(self):
        if time.time() >= self._end:
            paths = [getattr(module, "__file__", "") for module in sys.modules.values()]
            inside = [path[len(IMAGE) + 1 :] for path in paths if path.startswith(IMAGE)]
            print("LOADED", json.dumps(inside))
            sys.exit(0)


class Board:
    """What boards/README.md asks for, with nothing behind it."""

    def reader_bus(self, config):
        raise OSError(19)

    def reset_pin(self, config):
        return None

    irq_pin = reset_pin

    def watchdog(self, timeout_ms):
        return Watchdog()

    def lamp(self, pattern, outputs):
        pass

    def evse_lines(self, evse_id, config):
        return (lambda *_: 1), (lambda *_: 0), (lambda *_: 0)  # nothing plugged in, no fault

    def unique_id(self):
        return b"idle"

    def set_clock(self, unix_seconds):
        pass

    def reset(self):
        sys.exit(1)

    async def connect_network(self, config):
        pass

    def network_up(self):
        return True


def main():
    with open(sys.argv[2]) as file:
        config = json.load(file)
    config["mqtt"].update({"host": "127.0.0.1", "port": int(sys.argv[3])})
    checkout = sys.argv[1]
    flash = Flash(64)
    vfs.umount("/")
    vfs.VfsLfs2.mkfs(flash)
    vfs.mount(vfs.VfsLfs2(flash), "/")
    vfs.mount(vfs.VfsPosix(checkout), "/host")
    os.chdir("/")
    with open("/site.key", "wb") as file:
        file.write(bytes(32))
    with open("/config.json", "w") as file:
        json.dump(config, file)
    sys.path[:] = [IMAGE, IMAGE + "/lib", ".frozen"]
    sys.modules["board"] = Board()
    from tapauth import app

    app.main()
    print("nothing was started")
    sys.exit(1)


main()
