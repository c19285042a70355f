"""Enough of the modules `machine` and `network` to load a board.py on CPython and see what it
does with its pins. The emulated Pico W alone shows what the chips themselves do.
"""

import importlib.util
import sys
import types

from tools.paths import BOARDS


class Pin:
    IN, OUT, OPEN_DRAIN, PULL_UP = "in", "out", "od", "up"
    all: dict = {}

    def __new__(cls, number, *_, **__):
        assert isinstance(number, int) and number >= 0
        if number not in cls.all:
            cls.all[number] = super().__new__(cls)
            cls.all[number].history = []
        return cls.all[number]

    def __init__(self, number, *setup, **more):
        self.number = number
        if setup or more:
            self.init(*setup, **more)

    def init(self, mode=None, pull=None, value=None):
        self.mode = mode
        self.history.append((mode, value))

    def __call__(self, level=None):
        if level is None:
            return 0
        self.history.append(level)
        return None


class Bus:
    MSB, LSB = "msb", "lsb"

    def __init__(self, number, *arguments, **more):
        self.number = number
        self.pins = {value.number for value in more.values() if isinstance(value, Pin)}
        self.settings = {key: value for key, value in more.items() if not isinstance(value, Pin)}


class RTC:
    now: tuple = ()

    def datetime(self, now):
        RTC.now = now


class Nic:
    """A network interface that is up after `after` looks; `code` is what status() says."""

    IF_STA, PM_NONE = 0, 0
    after = 0
    code = 1000
    calls: list = []

    def __init__(self, *arguments, **more):
        self.calls.append(("open", arguments, more))

    def isconnected(self):
        Nic.after -= 1
        return Nic.after < 0

    def status(self):
        return self.code

    def __getattr__(self, name):
        return lambda *arguments, **more: self.calls.append((name, arguments, more))


def load(name: str):
    """The module `board` of boards/<name>, fresh; Pin.all and Nic.calls begin anew."""
    Pin.all = {}
    Nic.calls.clear()
    Nic.after = 0
    Nic.code = 1000
    machine = types.ModuleType("machine")
    vars(machine).update(Pin=Pin, I2C=Bus, SPI=Bus, UART=Bus, RTC=RTC)
    vars(machine)["WDT"] = lambda timeout: ("watchdog", timeout)
    vars(machine)["unique_id"] = lambda: b"\x01\x02"
    vars(machine)["reset"] = lambda: None
    network = types.ModuleType("network")
    vars(network).update(
        WLAN=Nic, LAN=Nic, WIZNET5K=Nic, PHY_LAN8720=1, STAT_WRONG_PASSWORD=-3, STAT_NO_AP_FOUND=-2
    )
    vars(network)["hostname"] = lambda text: Nic.calls.append(("hostname", (text,), {}))
    vars(network)["ipconfig"] = lambda **more: Nic.calls.append(("dns", (), more))
    before = {key: sys.modules.get(key) for key in ("machine", "network")}
    path = list(sys.path)
    sys.modules.update(machine=machine, network=network)
    sys.path.insert(0, str(BOARDS / "common"))
    for key in ("hal", "hal.chip", "hal.nic"):
        sys.modules.pop(key, None)
    try:
        import time

        time.sleep_us = lambda us: None  # type: ignore[attr-defined]
        spec = importlib.util.spec_from_file_location("board_" + name, BOARDS / name / "board.py")
        assert spec and spec.loader
        board = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(board)
    finally:
        sys.path[:] = path
        for key, module in before.items():
            if module is None:
                del sys.modules[key]
            else:
                sys.modules[key] = module
    return board
