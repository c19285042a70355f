"""The last lines of the log, for somebody who comes after the fact."""


class Tail:
    """A ring of `size` bytes. A call takes a line and hands it on to `write`."""

    def __init__(self, write=print, size: int = 2048):
        self._write = write
        self._ring = bytearray(size)
        self._at = 0
        self._full = False

    def __call__(self, line: str) -> None:
        self._write(line)
        size = len(self._ring)
        data = line.encode()[: size // 8] + b"\n"
        room = size - self._at
        self._ring[self._at : self._at + min(room, len(data))] = data[:room]
        if len(data) >= room:
            self._ring[: len(data) - room] = data[room:]
            self._full = True
        self._at = (self._at + len(data)) % size

    def lines(self) -> list:
        """The lines that are whole, as text, the oldest first."""
        data = bytes(self._ring[: self._at])
        if self._full:
            data = bytes(self._ring[self._at :]) + data
            data = data[data.find(b"\n") + 1 :]
        lines = []
        for line in data.split(b"\n")[:-1]:
            try:
                lines.append(line.decode())
            except UnicodeError:  # cut within a character
                lines.append("?")
        return lines
