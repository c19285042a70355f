"""`make emu`: the firmware on an emulated Pico W.

    python -m tools.emulator [--demo] [--bus i2c|spi|uart] [--broker-port PORT] [--server]

MicroPython's own image for that board starts in an emulator, with the simulated card reader on
the bus that you name, a WiFi that reaches nothing but this machine's loopback, and a serial
console that mpremote and the project's own tools can use. A new board is provisioned and deployed
first. With a terminal it takes commands (type `help`); without one, or with --demo, it plays the
scenario of `make run` and checks it.
"""

import argparse
import os
import sys
import time

from tools.board.board_port import BoardError, BoardPort
from tools.desk import console, scenario
from tools.emulator.board import BOARD, BUSES, EmulatorError
from tools.emulator.charger import FOLDER, EmulatedCharger
from tools.emulator.install import UNAVAILABLE, Unavailable, image, install_emulator
from tools.firmware import limits_of

HELP = """\
  tap UID      hold a card to the reader until `lift`: 8, 14 or 20 hex digits
  lift         take all cards away
  plug N       plug a car in at EVSE N; the board starts and stops it by its enable line
  unplug N     the car is unplugged
  help         this text
  quit         stop everything (Ctrl-D too); the board's flash is kept
The cards are in boards/desktop/cards.csv."""
SLOWNESS = 15.0
"""How many times slower than the chip the board may be."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make emu", description=__doc__)
    parser.add_argument("--demo", action="store_true", help="play the bundled scenario and check")
    parser.add_argument("--bus", choices=BUSES, default=BUSES[0], help="the reader's")
    parser.add_argument("--broker-port", type=int, help="a broker here; default: an embedded one")
    parser.add_argument("--server", action="store_true", help="with the local interface")
    arguments = parser.parse_args()
    try:
        install_emulator()
        uf2 = image()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    BoardPort.patience_s = 300.0
    screen = console.Screen()
    charger = EmulatedCharger(
        uf2,
        arguments.bus,
        screen.say,
        arguments.broker_port,
        on_message=screen.message,
        on_board_line=screen.board,
        server=arguments.server,
    )
    screen.say(f"{limits_of(BOARD)['product']} with {uf2.name}, the reader on {arguments.bus}")
    screen.say(f"MQTT broker 127.0.0.1:{charger.broker_port}")
    screen.say(
        f"serial console {os.path.relpath(charger.board.port)}, flash "
        f"{os.path.relpath(charger.flash)} (remove {os.path.relpath(FOLDER)} for a new board)"
    )
    screen.say("everything takes some ten times longer than on the chip")
    try:
        with charger:
            started = time.monotonic()
            charger.wait_until_up()
            charger.set_time()
            screen.say(f"the board is up after {time.monotonic() - started:.0f} s")
            if arguments.server:
                address = f"http://127.0.0.1:{charger.server_port}/"
                screen.say(f"console page {address}  PIN {charger.give_pin()}")
            if arguments.demo or not sys.stdin.isatty():
                return scenario.play(charger, screen, SLOWNESS)
            return console.converse(charger, screen, HELP)
    except (BoardError, EmulatorError, RuntimeError) as error:
        screen.say(str(error))
        return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
