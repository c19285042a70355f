"""Run by test_reader_wire.py under MicroPython: the reader's task on the desktop board.

    micropython board_scan.py BUS

Prints each event, and at the end the longest step without its bus transfers.
"""

import asyncio
import gc
import sys

from tapauth.compat import Clock
from tapauth.config import parse
from tapauth.core.taps import TOKEN
from tapauth.feedback import READING, Feedback
from tapauth.feedback import run as run_feedback
from tapauth.reader.task import open_reader, run

import board
from board_stopwatch import Stopwatch


async def main():
    done = asyncio.Event()
    watchdog = board.watchdog(5000)
    feedback = Feedback(board.lamp)

    def note(event, value, now):
        if event == TOKEN:
            value = value["id_token"]["value"]
            feedback.show(READING, now)
            if value == "0e0d0a0d":
                done.set()
        print(event, value)

    text = '{"board_id": "wire", "mqtt": {"host": "-"}, "reader": {"bus": "BUS", "reset_pin": 1}}'
    config = parse(text.replace("BUS", sys.argv[1]))["reader"]
    scanner, _ = open_reader(board, config, note)
    stopwatch = Stopwatch(scanner)
    gc.collect()
    before = gc.mem_alloc()
    clock = Clock()
    tasks = (
        asyncio.create_task(run(stopwatch, clock, watchdog.feed)),
        asyncio.create_task(run_feedback(feedback, clock, watchdog.feed)),
    )
    await done.wait()
    for task in tasks:
        task.cancel()
    gc.collect()
    print("heap grown by", gc.mem_alloc() - before)
    print("longest step us", stopwatch.longest_us)
    print("errors", scanner.bus_errors)
    board.reset()


asyncio.run(main())
