"""The UART of the RP2040 (ARM's PL011) with a transmit FIFO and interrupts that end.

rp2040py 0.3.6 raises the transmit interrupt again at every access, and MicroPython's driver, which
works by interrupts, never leaves its handler.
"""

from collections import deque

from rp2040py.peripherals.uart import (
    RPUART,
    RXFE,
    RXFF,
    TXFE,
    UARTDR,
    UARTFR,
    UARTRXINTR,
    UARTTXINTR,
)

BUSY, TXFF = 1 << 3, 1 << 5
RECEIVE_TIMEOUT = 1 << 6
DEPTH = 32
RECEIVE_LEVEL, TRANSMIT_LEVEL = 4, 4
"""An eighth of a FIFO, which is what MicroPython sets."""
TIMEOUT_BITS = 32


class Pl011(RPUART):
    """Takes the place of the emulator's UART. `on_byte(value)` gets each byte when it is out."""

    def __init__(self, rp2040, name, irq, dreq):
        super().__init__(rp2040, name, irq, dreq)
        self._interrupt_status = 0
        self._waiting: deque[int] = deque()
        self._shifting: int | None = None
        self._sent = rp2040.clock.create_alarm(self._byte_is_out)
        self._silence = rp2040.clock.create_alarm(self._line_is_silent)

    def reset(self) -> None:
        super().reset()
        self._waiting.clear()
        self._shifting = None
        self._sent.cancel()
        self._silence.cancel()

    def _bits_ns(self, count: int) -> float:
        return count * 16 * (self.baud_divider or 1) * 1e9 / self.rp2040.clk_peri

    @property
    def flags(self):
        """The register UARTFR."""
        busy = self._shifting is not None or bool(self._waiting)
        return (
            RXFF * self.rx_fifo.full
            | RXFE * self.rx_fifo.empty
            | TXFF * (len(self._waiting) >= DEPTH)
            | TXFE * (not self._waiting)
            | BUSY * busy
        )

    def check_interrupts(self) -> None:
        status = self._interrupt_status & ~UARTRXINTR
        if self.rx_fifo.item_count >= RECEIVE_LEVEL:
            status |= UARTRXINTR
        if self.rx_fifo.empty:
            status &= ~RECEIVE_TIMEOUT
        self._interrupt_status = status
        self.rp2040.set_interrupt(self.irq, bool(status & self._interrupt_mask))

    def feed_byte(self, value: int) -> None:
        """A byte came over the line; it is lost when the FIFO is full."""
        if not self.rx_fifo.full:
            self.rx_fifo.push(value)
            self._silence.schedule(self._bits_ns(TIMEOUT_BITS))
            self.check_interrupts()

    def _line_is_silent(self) -> None:
        if not self.rx_fifo.empty:
            self._interrupt_status |= RECEIVE_TIMEOUT
            self.check_interrupts()

    def _shift_next(self) -> None:
        if self._shifting is None and self._waiting:
            self._shifting = self._waiting.popleft()
            self._sent.schedule(self._bits_ns(10))
            if len(self._waiting) == TRANSMIT_LEVEL or not self._waiting:
                self._interrupt_status |= UARTTXINTR
                self.check_interrupts()

    def _byte_is_out(self) -> None:
        value, self._shifting = self._shifting, None
        self._shift_next()
        if self.on_byte is not None:
            self.on_byte(value)

    def read_uint32(self, offset):
        if offset == UARTDR:
            value = 0 if self.rx_fifo.empty else self.rx_fifo.pull()
            if not self.rx_fifo.empty:
                self._silence.schedule(self._bits_ns(TIMEOUT_BITS))
            self.check_interrupts()
            return value
        return self.flags if offset == UARTFR else super().read_uint32(offset)

    def write_uint32(self, offset, value):
        if offset != UARTDR:
            super().write_uint32(offset, value)
        elif len(self._waiting) < DEPTH:
            self._waiting.append(value & 0xFF)
            self._shift_next()


def replace_uarts(mcu) -> None:
    """Give a chip that has not started yet these UARTs."""
    for number, address in enumerate((0x40034, 0x40038)):
        old = mcu.uart[number]
        mcu.uart[number] = Pl011(mcu, old.name, old.irq, old.dreq)
        mcu.peripherals[address] = mcu.uart[number]
