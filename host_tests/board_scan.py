"""Run by test_reader_wire.py under MicroPython: the reader's task on the desktop board.

Prints each event, and at the end the longest step with and without its bus transfers.
"""

import asyncio
import gc

from tapauth.compat import Clock, ticks_diff, ticks_us
from tapauth.config import parse
from tapauth.core.taps import TOKEN
from tapauth.reader.service import open_reader, run

import board


class TimedBus:
    """Passes transfers on and adds up the time they take."""

    def __init__(self, bus):
        self.bus = bus
        self.spent_us = 0

    def writeto(self, address, data):
        begin = ticks_us()
        try:
            return self.bus.writeto(address, data)
        finally:
            self.spent_us += ticks_diff(ticks_us(), begin)

    def readfrom_into(self, address, buffer):
        begin = ticks_us()
        try:
            self.bus.readfrom_into(address, buffer)
        finally:
            self.spent_us += ticks_diff(ticks_us(), begin)


class TimedScanner:
    """A scanner whose steps are timed, its transfers taken off."""

    def __init__(self, scanner, bus):
        self.scanner, self.bus = scanner, bus
        self.longest_us = 0

    def step(self, now):
        spent = self.bus.spent_us
        begin = ticks_us()
        delay = self.scanner.step(now)
        own = ticks_diff(ticks_us(), begin) - (self.bus.spent_us - spent)
        self.longest_us = max(self.longest_us, own)
        return delay


class Board:
    def __init__(self, config):
        self.bus = TimedBus(board.reader_bus(config))

    def reader_bus(self, config):
        return self.bus

    reset_pin = staticmethod(board.reset_pin)
    irq_pin = staticmethod(board.irq_pin)


async def main():
    done = asyncio.Event()
    watchdog = board.watchdog(5000)

    def note(event, value, now):
        if event == TOKEN:
            value = value["id_token"]["value"]
            board.lamp("reading")
            if value == "0e0d0a0d":
                done.set()
        print(event, value)

    text = '{"board_id": "wire", "mqtt": {"host": "-"}, "reader": {"reset_pin": 1}}'
    config = parse(text)["reader"]
    here = Board(config)
    scanner, _ = open_reader(here, config, note)
    timed = TimedScanner(scanner, here.bus)
    gc.collect()
    before = gc.mem_alloc()
    task = asyncio.create_task(run(timed, Clock(), watchdog.feed))
    await done.wait()
    task.cancel()
    gc.collect()
    print("heap grown by", gc.mem_alloc() - before)
    print("longest step us", timed.longest_us)
    print("errors", scanner.bus_errors)
    board.reset()


asyncio.run(main())
