"""The board's console: USB on the board's side, a pseudo-terminal on ours, for mpremote."""

import asyncio
import os
import pty
import time
import tty
from collections.abc import Callable

DELAY_NS = 10_000
"""From the board's asking for data to the answer."""
KEPT = 65536
STALE_S = 1.0
"""What nobody reads for so long is thrown away, as the operating system does for a real port."""


class UsbConsole:
    """Joins the emulator's USB-CDC to a pseudo-terminal, `path`. `on_output(data)` sees, too, what
    the board prints. Bytes to the board wait until it asks for them: the emulator answers every
    question at once with nothing, and the board then does little else.
    """

    def __init__(self, cdc, on_output: Callable[[bytes], None]):
        self._cdc = cdc
        self._on_output = on_output
        self._to_board = bytearray()
        self._asked = 0
        self._from_board = bytearray()
        self._moved_at = 0.0
        self._writing = False
        usb = cdc.usb
        self._usb = usb
        self._alarm = usb.rp2040.clock.create_alarm(self._deliver)
        self._answer_other, usb.on_endpoint_read = usb.on_endpoint_read, self._board_asks
        self._reset_other, usb.on_reset = usb.on_reset, self._board_resets
        cdc.send_serial_byte = lambda byte: self._send(bytes((byte,)))
        cdc.on_serial_data = self._board_says
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)

    def open(self) -> None:
        """Begin to pass on what is written to the pseudo-terminal."""
        asyncio.get_running_loop().add_reader(self._master, self._we_say)

    def close(self) -> None:
        """Give the pseudo-terminal back."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)
        os.close(self._master)
        os.close(self._slave)

    # -- to the board

    def _we_say(self) -> None:
        try:
            self._send(os.read(self._master, 4096))
        except OSError:
            pass  # nobody is there any more

    def _send(self, data: bytes) -> None:
        self._to_board += data
        if self._asked:
            self._alarm.schedule(DELAY_NS)

    def _board_asks(self, endpoint: int, size: int) -> None:
        if endpoint > 0 and endpoint == self._cdc._out_endpoint:
            self._asked = size
            if self._to_board:
                self._alarm.schedule(DELAY_NS)
        else:
            self._answer_other(endpoint, size)

    def _deliver(self) -> None:
        if not self._asked or not self._to_board:
            return
        size, self._asked = self._asked, 0
        data = self._to_board[:size]
        del self._to_board[:size]
        self._usb.endpoint_read_done(self._cdc._out_endpoint, data, 1)

    def _board_resets(self) -> None:
        self._asked = 0
        self._to_board.clear()
        self._reset_other()

    # -- from the board

    def _board_says(self, data) -> None:
        self._on_output(bytes(data))
        now = time.monotonic()
        if not self._from_board:
            self._moved_at = now
        elif now - self._moved_at > STALE_S or len(self._from_board) > KEPT:
            self._from_board.clear()
        self._from_board += data
        self._flush()

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._from_board:
                count = os.write(self._master, self._from_board)
                del self._from_board[:count]
                self._moved_at = time.monotonic()
        except BlockingIOError:
            if not self._writing:
                loop.add_writer(self._master, self._flush)
                self._writing = True
            return
        except OSError:
            self._from_board.clear()
        if self._writing:
            loop.remove_writer(self._master)
            self._writing = False
