"""The PN532 library's base class without its waiting: every call is one or two bus transfers."""

from adafruit_pn532.adafruit_pn532 import PN532

_ACK = b"\x00\x00\xff\x00\xff\x00"


class Transport(PN532):
    """What all buses share. A bus adds `_wait_ready`, `_read_data` and `_write_data`, which must
    not wait, and may raise OSError for a failed transfer.

    `open_bus()` sets the board's bus up and returns it; `irq` is a machine.Pin input or None.

    The base's own commands wait for the chip up to a second; they are not for use on a board that
    has other things to do. Its framing is what is used: `_write_frame`, `process_response`.
    """

    noise = 0
    """Bytes that belonged to no frame and were skipped."""

    def __init__(self, open_bus, irq=None):
        # Not the base's constructor: it resets with sleeps and waits for the chip's version.
        self.debug = False
        self._irq = irq
        self._open_bus = open_bus
        self.cheap_looks = irq is not None
        """Whether `idle()` costs no transfer."""

    def open(self) -> None:
        """Set the bus up, at first and after failures: the board frees a bus that is held."""
        self._bus = self._open_bus()

    def wake(self) -> int:
        """Begin to wake a chip that sleeps. Returns the milliseconds until it hears."""
        return 0

    def idle(self) -> bool:
        """The IRQ line says that no frame waits; False where it is not wired."""
        return self._irq is not None and self._irq() == 1

    def start(self, command: int, params: bytes) -> None:
        """Send a command. Raises OSError."""
        self._write_frame(bytes((0xD4, command)) + params)

    def take_ack(self) -> bool:
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
