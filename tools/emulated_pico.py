"""A Pico W that runs MicroPython's own image in the emulator rp2040py, its USB console on a pty.

    python tools/emulated_pico.py IMAGE.uf2 FLASH PORT

FLASH keeps the board's files from run to run; PORT becomes a link to the pty. Runs in any Python
with rp2040py 0.3.6 (MIT), which this project does not install: `pip install rp2040py==0.3.6`. The
image is the one that you download for a real board. The board has no WiFi here and no reader.
Ends, and keeps the flash, at SIGTERM.
"""

import asyncio
import os
import random
import signal
import sys
import time

from rp2040py.boards import BOARDS, BoardSpec, resolve_layout
from rp2040py.cli.pty_repl import PtyInteractiveRepl
from rp2040py.device import MicroPythonDevice
from rp2040py.peripherals.peripheral import BasePeripheral

ROSC = 0x40060


class Oscillator(BasePeripheral):
    """The ring oscillator with its random bit, which the emulator lacks: os.urandom needs it."""

    def read_uint32(self, offset):
        if offset == 0x1C:
            return random.getrandbits(1)
        return 0x80001000 if offset == 0x18 else 0xAA0

    def write_uint32(self, offset, value):
        pass


def hold_back(cdc) -> None:
    """Let an empty USB endpoint wait, as a host does; the emulator answers it with nothing, again
    and again, and the board then does little else.
    """
    usb = cdc.usb
    answer = usb.on_endpoint_read
    waiting: list[int] = []

    def deliver():
        if not waiting or not cdc.tx_fifo.item_count:
            return
        size = min(waiting.pop(), cdc.tx_fifo.item_count)
        data = bytearray(cdc.tx_fifo.pull() for _ in range(size))
        usb.endpoint_read_done(cdc._out_endpoint, data, 1)

    alarm = usb.rp2040.clock.create_alarm(deliver)

    def on_read(endpoint, size):
        if endpoint > 0 and endpoint == cdc._out_endpoint:
            waiting[:] = [size]
            if cdc.tx_fifo.item_count:
                alarm.schedule(10_000)
        else:
            answer(endpoint, size)

    def send(data):
        cdc.tx_fifo.push(data)
        if waiting:
            alarm.schedule(10_000)

    reset = usb.on_reset

    def on_reset():
        waiting.clear()
        reset()

    usb.on_endpoint_read = on_read
    cdc.send_serial_byte = send
    usb.on_reset = on_reset


def disarm_at_reset(watchdog) -> None:
    """A chip that was reset has its watchdog off; the emulator leaves it on."""
    trigger = watchdog.on_watchdog_trigger

    def triggered():
        watchdog._enable = watchdog.timer.enable = watchdog.alarm.enable = False
        trigger()

    watchdog.on_watchdog_trigger = triggered


def pace(simulator, clock, slice_ns: int = 2_000_000) -> None:
    """Never let the board's time run ahead of ours: its 15 minutes would be over in seconds."""
    begin = {"wall": 0.0, "board": 0.0}
    ended: list[bool] = []

    def ahead() -> float:
        passed = time.monotonic() - begin["wall"]
        return (clock.nanos - begin["board"]) / 1e9 - passed

    def look():
        alarm.schedule(slice_ns)
        if ahead() > 0:
            simulator.stopped = True  # ends this batch

    alarm = clock.create_alarm(look)

    async def execute():
        begin.update(wall=time.monotonic(), board=clock.nanos)
        alarm.schedule(slice_ns)
        while not ended:
            simulator.stopped = False
            simulator._execute_batch()
            early = ahead()
            if early < -0.25:  # slower than the chip: what is lost is not caught up
                begin.update(wall=time.monotonic(), board=clock.nanos)
            await asyncio.sleep(max(0.0, early))
        simulator.stopped = True

    def stop():
        ended.append(True)
        simulator.stopped = True

    simulator.execute = execute
    simulator.stop = stop


async def run(image: str, flash: str, port: str) -> None:
    layout = resolve_layout(BOARDS["pico_w"], "micropython")
    spec = BoardSpec(extras=(), layout=layout, image=image)
    board = MicroPythonDevice(board=spec, filesystem=flash if os.path.exists(flash) else None)
    hold_back(board.cdc)
    board.mcu.peripherals[ROSC] = Oscillator(board.mcu, "ROSC")
    disarm_at_reset(board.mcu.watchdog)
    pace(board.simulator, board.mcu.clock)
    console = PtyInteractiveRepl(board.cdc, board.simulator, on_quit=lambda code: None)
    await board.astart(60)
    await console.start()
    if os.path.lexists(port):
        os.unlink(port)
    os.symlink(console.slave_path, port)
    print("ready", flush=True)
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    board.dump_flash_image(flash)
    await console.stop()
    board.simulator.stop()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    asyncio.run(run(*sys.argv[1:]))
