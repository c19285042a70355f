"""The emulated board's own process; runs in the Python that has rp2040py.

    python -m tools.emulator.pico '{"image": ..., "flash": ..., "wifi": true, ...}'

It takes a line of JSON for each thing that happens to the board, and prints one for each thing
that the board does; tools/emulator/board.py is the other end and tells what they are. `flash` is
a file that keeps the board's own files from run to run; it is written at the end, and on demand.
Ends when the input does, or with SIGTERM.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from rp2040py.boards import BOARDS, BoardSpec, resolve_layout
from rp2040py.device import MicroPythonDevice
from rp2040py.external.cyw43 import Cyw43439
from rp2040py.gpio_pin import GPIOPinState

from tools.emulator.network import Loopback, confine, follow_power
from tools.emulator.pacing import Pacing
from tools.emulator.pl011 import replace_uarts
from tools.emulator.reader import Reader
from tools.emulator.repairs import repair
from tools.emulator.trace import Trace
from tools.emulator.usb_console import UsbConsole

BOOT_S = 120.0
FLASH_BYTES = 2 * 1024 * 1024


class Pico:
    """A Pico W with a reader and a network."""

    def __init__(self, settings: dict):
        self._flash = Path(settings["flash"])
        layout = resolve_layout(BOARDS["pico_w"], "micropython")
        radio = Cyw43439() if settings["wifi"] else None
        parts = (lambda: radio,) if radio else ()
        spec = BoardSpec(extras=parts, layout=layout, image=settings["image"])
        kept = self._flash if self._flash.exists() else None
        self._device = device = MicroPythonDevice(board=spec, filesystem=kept)
        # A new line, sent to the firmware in the name of nobody.
        device._post_boot_handshake = lambda: None
        self._mcu = device.mcu
        repair(device.mcu)
        replace_uarts(device.mcu)
        self._loopback = Loopback({int(k): v for k, v in settings["ports"].items()})
        self._way_in = None
        if radio:
            ways = {int(k): v for k, v in settings["ways_in"].items()}
            self._way_in = confine(device.mcu, radio, self._loopback, ways)
            follow_power(device.mcu, radio)
        self._console = UsbConsole(device.cdc, self._printed)
        self._pacing = Pacing(device.simulator, device.mcu.clock, settings["speed"])
        self._trace = Trace(device.mcu, self.say, radio) if settings["trace"] else None
        self._reader = None
        if settings["reader"]:
            self._reader = Reader(device.mcu, settings["reader"], self._reader_waits)
        self._input = b""
        for pin in settings["watch"]:
            self._watch(pin)

    def say(self, event: str, **members) -> None:
        """Print an event, with the board's seconds."""
        told = {"event": event, "seconds": self._mcu.clock.nanos / 1e9, **members}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()

    def _reader_waits(self, frame: bytes) -> None:
        if self._trace:
            self.say("reader", frame=frame.hex())

    def _watch(self, number: int) -> None:
        def changed(new, old):
            high = GPIOPinState.HIGH
            if (new == high) != (old == high):
                self.say("pin", pin=number, level=int(new == high))

        self._mcu.gpio[number].add_listener(changed)

    def _printed(self, data: bytes) -> None:
        self.say("printed", text=data.decode("latin-1"))

    def do(self, command: dict) -> None:
        """Carry out one command."""
        what = command["do"]
        if what == "place" and self._reader:
            self._reader.chip.place(command["uid"])
            self.say("placed")
        elif what == "lift" and self._reader:
            self._reader.chip.lift()
        elif what == "drive":
            pin = self._mcu.gpio[command["pin"]]
            if command["level"] is None:
                pin.release_input()
            else:
                pin.set_input_value(bool(command["level"]))
        elif what == "reset":
            self._device.hard_reset()
        elif what == "save":
            self.save()
        elif what == "dump":
            self.dump(command["path"])
        elif what == "sample" and self._trace:
            if command["interval_us"]:
                self._trace.start(command["interval_us"])
            else:
                self._trace.stop()
        elif what == "state":
            self.say(
                "state",
                lost_s=self._pacing.lost_s,
                refused=self._loopback.refused,
                reader_boots=self._reader.chip.boots if self._reader else 0,
            )

    def dump(self, path: str) -> None:
        """Write the board's memory to a file: its SRAM, and behind it its whole flash."""
        Path(path).write_bytes(bytes(self._mcu.sram) + bytes(self._mcu.flash[:FLASH_BYTES]))
        self.say("dumped")

    def save(self) -> None:
        """Keep the board's files; whole or not at all."""
        new = self._flash.with_name(self._flash.name + ".new")
        self._device.dump_flash_image(new)
        os.replace(new, self._flash)
        self.say("saved")

    async def run(self) -> None:
        """Run until the input ends."""
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end.set)
        await self._device.astart(BOOT_S)
        self._console.open()
        loop.add_reader(sys.stdin, self._commands, end)
        ways = await self._way_in.open() if self._way_in else {}
        self.say("ready", port=self._console.path, ways_in=ways)
        crash = asyncio.create_task(self._crashed())
        await asyncio.wait({asyncio.create_task(end.wait()), crash}, return_when="FIRST_COMPLETED")
        self.save()
        if self._way_in:
            self._way_in.close()
        self._console.close()
        self._device.simulator.stop()

    async def _crashed(self) -> None:
        simulator = self._device.simulator
        while simulator.engine_room_error is None:
            await asyncio.sleep(0.5)
        print("the emulator failed:", simulator.engine_room_error, file=sys.stderr)

    def _commands(self, end: asyncio.Event) -> None:
        data = os.read(sys.stdin.fileno(), 65536)
        if not data:
            asyncio.get_running_loop().remove_reader(sys.stdin)
            end.set()
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self.do(json.loads(line))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    asyncio.run(Pico(json.loads(sys.argv[1])).run())
