"""Run by test_reader_wire.py under MicroPython: the scanner in a storm, on the bench's clock.

    micropython board_storm.py BUS MILLISECONDS

The bench moves its clock by the time that each step wants to wait, so ten minutes take seconds.
Further opcodes for that: M (milliseconds, 4 bytes; reply: the clock's milliseconds, 4 bytes) and
E (an event as text). Prints how the heap grew after the first quarter,
and the longest step without its transfers.
"""

import gc
import struct
import sys

from tapauth.config import parse
from tapauth.core.taps import TOKEN
from tapauth.reader.task import open_reader

import board
from board_stopwatch import Stopwatch

ask = board._link.ask


def note(event, value, now):
    if event == TOKEN:
        event += " " + value["id_token"]["value"]
    ask("E", 0, event.encode())


def used():
    gc.collect()
    return gc.mem_alloc()


text = '{"board_id": "wire", "mqtt": {"host": "-"}, "reader": {"bus": "BUS", "reset_pin": 1}}'
scanner, _ = open_reader(board, parse(text.replace("BUS", sys.argv[1]))["reader"], note)
stopwatch = Stopwatch(scanner)
end = int(sys.argv[2])
reply = bytearray(4)
now = before = 0
while now < end:
    delay = stopwatch.step(now)
    ask("M", 0, struct.pack(">I", delay), reply)
    now = struct.unpack(">I", reply)[0]
    if not before and now > end // 4:
        before = used()
print("heap grown by", used() - before)
print("longest step us", stopwatch.longest_us)
