"""A connection to the server, both streams of it."""

import asyncio


class Visitor:
    """Comes from `address`, sends `data` in pieces of 100 bytes at most, and keeps what it gets.
    One that has no data says no word, for ever.
    """

    def __init__(self, address: str = "192.0.2.1", data: bytes | None = None):
        self.address = address
        self.data = data
        self.got = b""
        self.closed = False

    def get_extra_info(self, name):
        return (self.address, 5)

    async def read(self, count):
        if self.data is None:
            await asyncio.Event().wait()
        count = min(count, 100)
        data, self.data = self.data[:count], self.data[count:]
        return data

    def write(self, data):
        self.got += data

    async def drain(self):
        pass

    def close(self):
        self.closed = True

    async def wait_closed(self):
        pass
