"""The reader's task under real MicroPython, its bus on a wire to the simulated chip."""

import os
import queue
import random
import subprocess
import threading

import pytest
from conftest import HEAP
from reader_storm import Storm

from tapauth.core.taps import TOKEN
from tapauth.reader.scanner import BACK, LOST
from tools.desk.bench_link import BenchServer
from tools.paths import BOARDS, IMAGE, ROOT, micropython
from tools.pn532.chip import Chip, Clock
from tools.pn532.faults import FaultyChip

BUSES = ["i2c", "spi", "uart"]


class Firmware:
    """A MicroPython process on the desktop board; its lines of output come with a deadline."""

    def __init__(self, script: str, bench: BenchServer, *arguments: str):
        path = [IMAGE, IMAGE / "lib", BOARDS / "desktop", ".frozen"]
        self.process = subprocess.Popen(
            [
                micropython(),
                "-X",
                f"heapsize={HEAP}",
                str(ROOT / "host_tests" / "on_micropython" / script),
                *arguments,
            ],
            env={
                **os.environ,
                "MICROPYPATH": ":".join(map(str, path)),
                "TAPAUTH_BENCH": bench.address,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip())

    def line(self, seconds: float = 10) -> str:
        return self.lines.get(timeout=seconds)

    def none_for(self, seconds: float) -> None:
        with pytest.raises(queue.Empty):
            raise AssertionError(self.lines.get(timeout=seconds))

    def end(self) -> int:
        return self.process.wait(timeout=10)


@pytest.fixture
def chip():
    return Chip()


@pytest.fixture
def seen():
    return {"armed": [], "fed": 0, "lamp": [], "gone": threading.Event()}


@pytest.fixture
def bench(chip, seen):
    def feed():
        seen["fed"] += 1

    with BenchServer(
        chip,
        on_arm=seen["armed"].append,
        on_feed=feed,
        on_lamp=seen["lamp"].append,
        on_disconnect=seen["gone"].set,
    ) as server:
        yield server


@pytest.mark.parametrize("bus", BUSES)
def test_cards_over_the_wire(bus, chip, bench, seen):
    firmware = Firmware("board_scan.py", bench, bus)
    try:
        for uid in ("deadbeef", "04a1b2c3d4e5f6", "0102030405060708090a"):
            chip.place(uid)
            assert firmware.line() == f"token {uid}"
            chip.lift()
        firmware.none_for(0.5)
        chip.place("0a0b0c0d")
        assert firmware.line() == "token 0a0b0c0d"
        chip.place("04a1b2c3d4e5f7")
        assert firmware.line() == "two cards None"
        firmware.none_for(0.5)
        chip.lift()
        chip.place("08010203")
        assert firmware.line() == "refused random UID"
        chip.lift()

        chip.power(False)
        assert firmware.line().startswith("lost")
        chip.power(True)
        assert firmware.line() == "back None"

        chip.place("0e0d0a0d")
        assert firmware.line() == "token 0e0d0a0d"
        grown = int(firmware.line().removeprefix("heap grown by "))
        longest_us = int(firmware.line().removeprefix("longest step us "))
        assert firmware.line().startswith("errors ")
        print(f"{bus}: longest step without its transfers {longest_us} us; heap grown by {grown}")
        assert firmware.end() == 3, "the exit status of board.reset()"
        assert longest_us < 5000
        assert grown < 4000
    finally:
        firmware.process.kill()
    assert seen["gone"].wait(5)
    assert seen["armed"] == [5000]
    assert seen["fed"] > 100
    assert seen["lamp"][:2] == ["ready", "reading"]


def test_the_next_firmware_is_served_after_one_was_killed(chip, bench, seen):
    for uid in ("deadbeef", "cafe0001"):
        firmware = Firmware("board_scan.py", bench, "spi")
        try:
            chip.place(uid)
            assert firmware.line() == f"token {uid}"
            chip.lift()
        finally:
            firmware.process.kill()
            firmware.process.wait(5)
        assert seen["gone"].wait(5)
        seen["gone"].clear()


def test_the_firmware_ends_when_the_bench_hangs_up(chip, bench):
    firmware = Firmware("board_scan.py", bench, "spi")
    chip.place("deadbeef")
    assert firmware.line() == "token deadbeef"
    bench.close()
    assert firmware.end() == 4


class StormBench:
    """A bench with a moved clock: the firmware moves it, the storm acts when its time has come."""

    def __init__(self, server: BenchServer, clock: Clock, storm: Storm):
        self.clock, self.storm = clock, storm
        self.error: AssertionError | None = None
        self._script = storm.play()
        self._due = 0.0
        server.handlers[ord("M")] = self._move
        server.handlers[ord("E")] = self._event

    def _move(self, _address: int, data: bytes) -> bytes:
        until = self.clock.now() + int.from_bytes(data, "big") + 0.05
        while self._due <= until:
            self.clock.move(self._due - self.clock.now())
            try:
                self._due += next(self._script)
            except AssertionError as error:
                self.error = error
                raise OSError from error
        self.clock.move(until - self.clock.now())
        return int(self.clock.now()).to_bytes(4, "big")

    def _event(self, _address: int, data: bytes) -> None:
        kind, _, uid = data.decode().partition(" ")
        if kind == TOKEN:
            self.storm.tokens[uid] += 1
        else:
            assert kind == (BACK if self.storm.lost else LOST), "told once, and cleared once"
            self.storm.lost = kind == LOST


@pytest.mark.parametrize("bus", BUSES)
def test_a_storm_of_faults_leaves_the_heap_as_it_was(bus):
    """Ten minutes on the bench's clock."""
    clock = Clock()
    chip = FaultyChip(clock.now)
    storm = Storm(chip, random.Random("heap " + bus))
    with BenchServer(chip) as server:
        bench = StormBench(server, clock, storm)
        firmware = Firmware("board_storm.py", server, bus, "600000")
        try:
            line = firmware.line(120)
            if bench.error:
                raise bench.error
            grown = int(line.removeprefix("heap grown by "))
            longest_us = int(firmware.line().removeprefix("longest step us "))
            assert firmware.end() == 0
        finally:
            firmware.process.kill()
    print(
        f"{bus}: {chip.failures} faults in 10 min, {storm.must} taps in the calm, "
        f"heap grown by {grown}, longest step without its transfers {longest_us} us"
    )
    assert chip.failures > 1000 / 6 and storm.must > 20
    assert abs(grown) < 1000
    assert longest_us < 5000
