"""The firmware's link and supervisor with a probe around them, for MicroPython.

    TAPAUTH_PROBE='{"mqtt": {...}, "events": N, "period_ms": P}' micropython link_probe.py

Queues N numbered events on probe/event, one each P ms (N of 0: for ever), publishes a beat on
probe/beat beside each, and checks what comes on probe/in/#: a payload is its own CRC-32 in eight
hex digits and then the text. Prints `LINE ...` for what happens; after a message on probe/in/rest
there are no more events, and `LINE resting N` when all N are acknowledged; one on probe/in/stop
ends it with `RESULT {...}`.
"""

import asyncio
import binascii
import json
import os
import random
import time

from tapauth import config
from tapauth.compat import Clock, sleep_ms, ticks_diff, ticks_us
from tapauth.link.mqtt import Link
from tapauth.log import Log
from tapauth.supervisor import Supervisor

_STEP_MS = 2
_LAST_WORDS_MS = 5000


class Probe:
    def __init__(self, options: dict):
        wanted = options["mqtt"]
        text = json.dumps({"board_id": "probe", "mqtt": {"host": wanted["host"]}})
        settings = config.parse(text)["mqtt"]
        # Past the checks: shorter times than a configuration may ask for.
        settings.update(wanted)
        self.options = options
        self.clock = Clock()
        log = Log(self.clock, b"", write=lambda line: print("LINE", line))
        self.supervisor = Supervisor(self.clock, log)
        self.link = Link(settings, self.clock, log, self.message, self.up, "probe/status")
        self.link.subscribe("probe/in/#")
        self.intact = 0
        self.broken = 0
        self.queued = 0
        self.late_us = 0
        self.busy_us = [0, 0]
        self.enqueue_us = [0] * 300
        self.resting = False
        self.stopping = asyncio.Event()
        for name in ("link", "events", "cards"):
            run = self.link.run if name == "link" else getattr(self, name)
            self.supervisor.add(name, run, 15_000)

    def up(self) -> None:
        print("LINE up", self.link.sessions)

    def message(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == "probe/in/stop":
            self.stopping.set()
        elif topic == "probe/in/rest":
            self.resting = True
        elif topic != "probe/in/x":
            # amqtt sends retained messages of other topics along.
            print("LINE other", topic)
        elif int(payload[:8], 16) == binascii.crc32(payload[8:]):
            self.intact += 1
        else:
            self.broken += 1
            print("LINE broken", len(payload))

    async def events(self, beat) -> None:
        while True:
            beat()
            if self.options["events"] and self.queued >= self.options["events"]:
                self.resting = True
            if self.resting:
                await sleep_ms(100)
                if not len(self.link.outbox):
                    print("LINE resting", self.queued)
                continue
            event = {"n": self.queued, "at": time.time_ns() // 1_000_000, "pad": "x" * 60}
            text = json.dumps(event)
            started = ticks_us()
            self.link.enqueue("probe/event", text)
            self.enqueue_us[self.queued % len(self.enqueue_us)] = ticks_diff(ticks_us(), started)
            self.queued += 1
            self.link.publish("probe/beat", str(self.clock.now()))
            await sleep_ms(self.options["period_ms"])

    async def cards(self, beat) -> None:
        """Stands for the reader's task: how late its turns come is what a card holder waits.

        `late_us` is wall time; `busy_us` is the processor time that this process alone took
        meanwhile, which other work on the machine does not lengthen: the two longest, because
        bringing in memory that the system had put away can make one.
        """
        while True:
            beat()
            started = ticks_us()
            used = time.clock()  # type: ignore[attr-defined]
            await sleep_ms(_STEP_MS)
            used = time.clock() - used  # type: ignore[attr-defined]
            self.busy_us = sorted(self.busy_us + [int(used * 1_000_000)])[1:]
            self.late_us = max(self.late_us, ticks_diff(ticks_us(), started) - _STEP_MS * 1000)

    async def run(self) -> None:
        asyncio.create_task(self.supervisor.run())
        await self.stopping.wait()
        until = self.clock.now() + _LAST_WORDS_MS
        while len(self.link.outbox) and self.clock.now() < until:
            await sleep_ms(20)
        result = self.link.counters()
        result["intact"] = self.intact
        result["broken"] = self.broken
        result["queued"] = self.queued
        result["waiting"] = len(self.link.outbox)
        result["late_us"] = self.late_us
        result["second_busy_us"], result["busy_us"] = self.busy_us
        times = self.enqueue_us  # no copy: beside TLS there may be no room for one in one piece
        del times[self.queued :]
        times.sort()
        result["enqueue_us"] = {"median": times[len(times) // 2], "worst": times[-1]}
        result["restarts"] = sum([task.restarts for task in self.supervisor.tasks])
        print("RESULT", json.dumps(result))


random.seed(ticks_us())
asyncio.run(Probe(json.loads(os.getenv("TAPAUTH_PROBE") or "{}")).run())
