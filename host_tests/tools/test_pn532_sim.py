"""The simulated chip itself, frame by frame, against frames of the user manual."""

import pytest

from tools.pn532.buses import MIRROR, I2CPort, Nack, SPIPort, UARTPort
from tools.pn532.chip import ACK, NACK, SYNTAX_ERROR, Chip, Clock, frame


class Bench:
    def __init__(self):
        self.clock = Clock()
        self.chip = Chip(self.clock.now)
        self.port = I2CPort(self.chip)

    def read(self) -> bytes:
        """One waiting frame as the bus shows it, without its trailing filler."""
        data = self.port.readfrom(0x24, 64)
        assert data[0] == 1, "no frame waits"
        length = 6 if data[1:7] == ACK else data[4] + 7
        return data[1 : 1 + length]

    def ask(self, *command: int, wait: float = 20) -> bytes:
        self.port.writeto(0x24, frame(bytes((0xD4, *command))))
        self.clock.move(1)
        assert self.read() == ACK
        self.clock.move(wait)
        return self.read()


@pytest.fixture
def bench():
    return Bench()


def test_firmware_version_as_in_the_manual(bench):
    request = bytes.fromhex("0000ff02fed4022a00")
    assert frame(b"\xd4\x02") == request
    assert bench.ask(0x02) == bytes.fromhex("0000ff06fad50332010607e800")


def test_busy_then_ready_and_a_status_read_takes_nothing(bench):
    bench.port.writeto(0x24, frame(b"\xd4\x02"))
    assert bench.port.readfrom(0x24, 1) == b"\x00"
    bench.clock.move(1)
    assert [bench.port.readfrom(0x24, 1) for _ in range(3)] == [b"\x01"] * 3
    assert bench.port.readfrom(0x24, 7) == b"\x01" + ACK
    assert bench.port.readfrom(0x24, 1) == b"\x00"
    bench.clock.move(1)
    assert bench.read()[5:7] == b"\xd5\x03"


@pytest.mark.parametrize(
    "damage",
    [
        bytes.fromhex("0000ff02ffd4022a00"),
        bytes.fromhex("0000ff02fed4022b00"),
        bytes.fromhex("0000ff02fed402"),
        bytes.fromhex("000000"),
        frame(b"\xd5\x02"),
    ],
    ids=["length checksum", "data checksum", "cut", "no start", "direction"],
)
def test_a_broken_frame_is_ignored(bench, damage):
    bench.port.writeto(0x24, damage)
    bench.clock.move(100)
    assert bench.port.readfrom(0x24, 1) == b"\x00"
    assert not bench.chip.commands


def test_an_unknown_command_is_a_syntax_error(bench):
    assert bench.ask(0xC2) == SYNTAX_ERROR


def test_nack_repeats_the_last_answer(bench):
    answer = bench.ask(0x02)
    bench.port.writeto(0x24, NACK)
    bench.clock.move(1)
    assert bench.read() == answer


def test_list_data_of_cards_with_4_7_and_10_bytes(bench):
    bench.ask(0x12, 0x04)
    cards = {
        "deadbeef": "01 0004 08 04 deadbeef",
        "04a1b2c3d4e5f6": "01 0044 00 07 04a1b2c3d4e5f6",
        "0102030405060708090a": "01 0084 00 0a 0102030405060708090a",
    }
    for uid, data in cards.items():
        bench.chip.place(uid)
        bench.clock.move(10)
        assert bench.ask(0x4A, 1, 0) == frame(b"\xd5\x4b\x01" + bytes.fromhex(data))
        bench.chip.lift(uid)


def test_an_ats_follows_when_rats_is_automatic(bench):
    bench.chip.place("deadbeef", ats=b"\x75\x77\x81\x02")
    bench.clock.move(10)
    assert bench.ask(0x4A, 1, 0)[-8:-2] == b"\xef\x05\x75\x77\x81\x02"


def test_two_cards_are_listed_when_two_are_asked_for(bench):
    bench.chip.place("deadbeef")
    bench.chip.place("04a1b2c3d4e5f6")
    bench.clock.move(10)
    both = bench.ask(0x4A, 2, 0)
    assert both[7] == 2 and len(both) == 8 + (5 + 4) + (5 + 7) + 2
    bench.ask(0x52, 0)
    assert bench.ask(0x4A, 1, 0)[7] == 1


def test_a_listed_card_lets_one_request_pass_unless_the_field_dropped(bench):
    bench.ask(0x32, 5, 0xFF, 1, 0)
    bench.chip.place("deadbeef")
    bench.clock.move(10)
    assert bench.ask(0x4A, 1, 0)[7] == 1
    assert bench.ask(0x4A, 1, 0)[7] == 0
    assert bench.ask(0x4A, 1, 0)[7] == 1
    bench.ask(0x32, 1, 0)
    assert bench.ask(0x4A, 1, 0)[7] == 1


def test_search_ends_after_its_retries_or_never(bench):
    bench.ask(0x32, 5, 0xFF, 1, 3)
    assert bench.ask(0x4A, 1, 0, wait=30) == frame(b"\xd5\x4b\x00")
    bench.ask(0x32, 5, 0xFF, 1, 0xFF)
    bench.port.writeto(0x24, frame(b"\xd4\x4a\x01\x00"))
    bench.clock.move(1)
    assert bench.read() == ACK
    bench.clock.move(3_600_000)
    assert bench.chip.irq_line() == 1
    bench.chip.place("deadbeef")
    bench.clock.move(12)
    assert bench.chip.irq_line() == 0
    assert bench.read()[7] == 1


def test_the_hosts_ack_ends_a_search(bench):
    bench.port.writeto(0x24, frame(b"\xd4\x4a\x01\x00"))
    bench.port.writeto(0x24, ACK)
    bench.chip.place("deadbeef")
    bench.clock.move(1000)
    assert bench.port.readfrom(0x24, 1) == b"\x00"
    assert bench.ask(0x02)[6] == 0x03


def test_no_acknowledge_without_power_in_reset_and_at_another_address(bench):
    with pytest.raises(Nack):
        bench.port.readfrom(0x25, 1)
    bench.chip.reset_line(0)
    bench.clock.move(100)
    with pytest.raises(OSError):
        bench.port.writeto(0x24, ACK)
    bench.chip.reset_line(1)
    bench.clock.move(100)
    bench.port.writeto(0x24, ACK)
    bench.chip.power(False)
    with pytest.raises(OSError):
        bench.port.readfrom(0x24, 1)


def test_a_restart_forgets_the_set_up(bench):
    bench.ask(0x32, 5, 0xFF, 1, 3)
    assert bench.chip.retries == 3
    bench.chip.power(False)
    bench.chip.power(True)
    assert bench.chip.retries == 0xFF
    assert bench.port.chip.commands


def test_power_down_sleeps_until_addressed(bench):
    assert bench.ask(0x16, 0xB0)[7] == 0
    with pytest.raises(Nack):
        bench.port.writeto(0x24, frame(b"\xd4\x02"))
    assert bench.ask(0x02)[6] == 0x03


class LowLevel:
    """A chip on SPI or UART."""

    def __init__(self, port, **about):
        self.clock = Clock()
        self.chip = Chip(self.clock.now)
        self.port = port(self.chip, **about)

    def select(self, *out: int, read: int = 0) -> bytes:
        """One selection: bytes out, then bytes in, as they are on the wire."""
        self.port.cs(0)
        self.port.exchange(bytes(out))
        back = self.port.exchange(bytes(read))
        self.port.cs(1)
        return back

    def wake(self) -> None:
        self.port.cs(0)
        self.clock.move(2)
        self.port.cs(1)


def test_spi_writes_reads_the_status_and_reads_frames():
    it = LowLevel(SPIPort, lsb_first=True)
    it.wake()
    it.select(0x01, *frame(b"\xd4\x02"))
    assert it.select(0x02, read=1) == b"\x00"
    it.clock.move(1)
    assert [it.select(0x02, read=1) for _ in range(3)] == [b"\x01"] * 3
    assert it.select(0x03, read=8) == ACK + b"\x00\x00"
    it.clock.move(1)
    assert it.select(0x03, read=13) == bytes.fromhex("0000ff06fad50332010607e800")


def test_spi_of_a_host_that_sends_the_other_end_first_shows_mirrored_bytes():
    it = LowLevel(SPIPort)
    it.wake()
    it.select(0x01, *frame(b"\xd4\x02"))
    assert not it.chip.commands, "not mirrored, so not understood"
    mirrored = frame(b"\xd4\x02").translate(MIRROR)
    it.select(0x80, *mirrored)
    it.clock.move(1)
    assert it.select(0x40, read=1) == b"\x80"
    assert it.select(0xC0, read=6).translate(MIRROR) == ACK


def test_spi_reads_ff_until_the_chip_is_woken_and_without_power():
    it = LowLevel(SPIPort, lsb_first=True)
    for _ in range(3):
        assert it.select(0x02, read=1) == b"\xff"
        it.clock.move(2)
    it.wake()
    assert it.select(0x02, read=1) == b"\x00"
    it.chip.power(False)
    assert it.select(0x02, read=1) == b"\xff"


def test_uart_sends_frames_unasked_byte_by_byte_after_a_wake_up():
    it = LowLevel(UARTPort)
    it.port.write(frame(b"\xd4\x02"))
    it.clock.move(10)
    assert it.port.any() == 0 and it.port.readinto(bytearray(9)) is None, "it sleeps"
    it.port.write(b"\x55\x55" + bytes(14))
    it.clock.move(3)
    it.port.write(frame(b"\xd4\x02"))
    seen = []
    for _ in range(100):
        it.clock.move(0.05)
        seen.append(it.port.any())
    assert seen[0] == 0 and seen[-1] == 6 + 13
    assert all(b - a <= 1 for a, b in zip(seen, seen[1:], strict=False))
    buffer = bytearray(19)
    assert it.port.readinto(memoryview(buffer)[:6]) == 6 and buffer[:6] == ACK
    assert it.port.readinto(memoryview(buffer)[6:]) == 13
    assert buffer[6:] == bytes.fromhex("0000ff06fad50332010607e800")
