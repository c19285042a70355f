"""Checking a PIN or a password: how long it takes, and how long other tasks wait meanwhile.

Runs in MicroPython, on this machine's processor: a board's is slower, and calibrates itself.
"""

import json

from tapauth.compat import ticks_diff, ticks_us
from tapauth.local.login.kdf import calibrate, derive

COUNT = 10_000


def row(case, metric, value, unit):
    print(
        json.dumps({"suite": "kdf", "case": case, "metric": metric, "value": value, "unit": unit})
    )


def main():
    longest = 0
    began = stepped = ticks_us()
    for _ in derive(b"correct horse battery", b"0123456789abcdef", COUNT):
        now = ticks_us()
        longest = max(longest, ticks_diff(now, stepped))
        stepped = now
    took = ticks_diff(ticks_us(), began)
    row("PBKDF2-HMAC-SHA256", "iteration", took / COUNT, "us")
    row("PBKDF2-HMAC-SHA256", "longest_step", longest, "us")
    steps = calibrate()
    try:
        while True:
            next(steps)
    except StopIteration as end:
        row("password", "iterations_calibrated", end.value, "iterations")


main()
