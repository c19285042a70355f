"""A serial NOR flash whose contents are a file of the desktop."""

BLOCK = 4096
BLOCKS = 512  # 2 MiB, the file system of an ESP32 with 4 MiB of flash

_ERASED = b"\xff" * 256


class ImageFlash:
    """A block device over an image file, with the geometry of a serial NOR flash."""

    def __init__(self, path):
        self.new = False
        try:
            self._file = open(path, "r+b")
        except OSError:
            self.new = True
            self._file = open(path, "w+b")
            for block in range(BLOCKS):
                self._erase(block)

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
            self._erase(argument)
        return 0

    def _erase(self, block):
        # In pieces: a block of memory for this alone would be no board's.
        for offset in range(0, BLOCK, len(_ERASED)):
            self.writeblocks(block, _ERASED, offset)
