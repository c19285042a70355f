"""The PN532 library's base class without its waiting: every call is one or two bus transfers."""

from adafruit_pn532.adafruit_pn532 import PN532

_ACK = b"\x00\x00\xff\x00\xff\x00"


class Transport(PN532):
    """What all buses share. A bus adds `_wait_ready`, `_read_data` and `_write_data`, which must
    not wait, and may raise OSError for a failed transfer.

    The base's own commands wait for the chip up to a second; they are not for use on a board that
    has other things to do. Its framing is what is used: `_write_frame`, `process_response`.
    """

    def __init__(self, irq=None):
        # Not the base's constructor: it resets with sleeps and waits for the chip's version.
        self.debug = False
        self.low_power = False
        self._irq = irq
        self._reset_pin = None

    def _wakeup(self) -> None:
        self.low_power = False

    def start(self, command: int, params: bytes) -> None:
        """Send a command. Raises OSError."""
        self._write_frame(bytes((0xD4, command)) + params)

    def acknowledged(self) -> bool:
        """Take the chip's ACK; False while it is not there yet.

        Raises RuntimeError when something else came, OSError when the transfer failed.
        """
        if not self._wait_ready(0):
            return False
        if bytes(self._read_data(6)) != _ACK:
            raise RuntimeError("no ACK")
        return True

    def answer(self, command: int, length: int):
        """Take the answer's data, at most `length` bytes; None while it is not there yet.

        Raises RuntimeError or IndexError for a broken frame, OSError for a failed transfer.
        """
        return self.process_response(command, length, 0)

    def abort(self) -> None:
        """End the command that the chip is busy with. Raises OSError."""
        self._write_data(_ACK)
