"""The PN532 library's base class without its waiting: every call is one or two bus transfers.

The chip and the host speak in frames (NXP UM0701-02, 6.2.1): 00 00 FF, a length and its checksum,
data, a checksum, 00. A command is answered by an ACK, a frame without data, within milliseconds,
and by an answer when the chip has done it. Sent by the host, the ACK ends a command.

    host  start()      -> D4, the command, its parameters
    chip  take_ack()   <- 00 00 FF 00 FF 00
    chip  answer()     <- D5, the command + 1, data

A Transport is one of three buses: each says whether a frame waits (`_wait_ready`), reads it
(`_read_data`) and sends one (`_write_data`). The library makes and checks the frames; on I2C and
SPI it also finds them, on the UART they are put together first (pn532_hsu.py). Nothing here
remembers what is under way: that is the scanner's, which calls in this order, and abort() when it
gives up. Where the bus and the chip disagree - a line that nobody drives, a frame cut short, the
answer of an earlier command - a call raises, and the scanner starts the chip anew.
"""

from adafruit_pn532.adafruit_pn532 import PN532

from tapauth.compat import const

_ACK = b"\x00\x00\xff\x00\xff\x00"
_TO_CHIP = const(0xD4)
READY = const(1)
"""The chip's status byte on I2C and SPI: a frame waits."""


class Transport(PN532):
    """The part that all buses share. A bus adds `_wait_ready`, `_read_data` and `_write_data`,
    which must not wait, and may raise OSError for a failed transfer.

    `open_bus()` sets the board's bus up and returns it; `irq` is a machine.Pin input or None.

    The base's own commands wait for the chip up to a second; they are not for use on a board that
    has other things to do. Only the base's framing is used: `_write_frame`, `process_response`.
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
        self._write_frame(bytes((_TO_CHIP, command)) + params)

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
