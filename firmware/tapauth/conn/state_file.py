"""What must outlive a reboot, in one small file: JSON with a checksum behind it."""

import binascii
import os
import struct


class StateFile:
    """The file `path`, replaced whole by a new one: a power cut leaves the old or the new."""

    def __init__(self, path: str):
        self._path = path

    def load(self) -> bytes | None:
        """What was saved last; None for nothing yet, b"" when it is damaged."""
        try:
            with open(self._path, "rb") as file:
                data = file.read(2048)
        except OSError as error:
            return None if error.args[0] == 2 else b""  # ENOENT
        body = data[:-4]
        if len(data) > 4 and struct.unpack("<I", data[-4:])[0] == binascii.crc32(body):
            return body
        return b""

    def save(self, data: bytes) -> None:
        """Keep `data`, at most 2000 bytes. Raises OSError."""
        with open(self._path + ".new", "wb") as file:
            file.write(data + struct.pack("<I", binascii.crc32(data)))
        os.rename(self._path + ".new", self._path)
