"""Pinning on an emulated Pico W: what is used from flash lies in the running slot, and whatever
does not fit is not pinned, while the firmware runs on. The modules are the real ones of a Pico W,
the application is a small one that obeys lines of its console.
"""

import json
import re
import threading
import time

import pytest
from deploy_rig import KEY, compiled
from pinned_memory import TYPES, pinned
from serial import Serial

from tools.compile.mpy import bytecode
from tools.emulator.board import BOARD, EmulatedPico
from tools.emulator.install import image as micropython_image
from tools.emulator.ready_flash import make_flash
from tools.firmware import Image, boot_part, limits_of, make_manifest, make_packs
from tools.paths import FIRMWARE, IMAGE

WAIT_S = 150
# `work` imports and uses; TRY goes before begin().
APP = """
import boot_hal, json, sys, tapauth_slot
NAME = {name!r}
def work():
    from tapauth.core import authorizer, settings
    from tapauth.cards import vault
    from tapauth.link import mqtt
    from tapauth.everest import consumer
    return authorizer.Authorizer(settings.AuthSettings(connection_timeout=60), [1, 1], 1)
def types():
    def generator():
        yield
    one = [id(type(types)), id(type(generator)), id(type(generator()))]
    return dict(zip(("function", "generator", "generator instance"), one))
def live():
    # The functions of all modules, and those in their classes.
    found = []
    for module in list(sys.modules.values()):
        for value in list(module.__dict__.values()):
            inside = list(value.__dict__.values()) if type(value) is type else []
            for one in [value] + inside:
                if type(one) in (type(live), type(waits)):
                    found.append(id(one))
    return sorted(set(found))
def waits():
    yield
def trace(function):
    try:
        function()
    except Exception as error:
        sys.print_exception(error)
def main():
    boot_hal.keep_alive()
    from tapauth.pinning import begin
    space = dict(begin=begin, types=types, live=live, json=json, trace=trace)
    before()
    space["pins"] = pins = begin.begin()
    from tapauth.compat import loader
    load = space["load"] = loader(pins, pins.counts)
    space["core"] = load(work)
    during(space)
    from tapauth.board_status import pinned
    print("PINNED", json.dumps(pinned(pins)))
    print("RECORD", json.dumps(tapauth_slot.read_record()))
    tapauth_slot.confirm()
    while True:
        line = sys.stdin.readline().strip()
        if not line:
            continue
        try:
            exec(line, space)
            print("DONE", line)
        except Exception as error:
            sys.print_exception(error)
            print("FAILED", line)
def before():
 {before}
def during(space):
 {during}
"""


def modules() -> dict[str, bytes]:
    """Those of the whole firmware, under the names of the sources."""
    return {
        str(path.relative_to(IMAGE)): path.read_bytes()
        for path in sorted(IMAGE.rglob("*.mpy"))
        if "local" not in path.parts and "rpc" not in path.parts  # a smaller flash is faster
    }


@pytest.fixture(scope="module")
def parts() -> dict[str, bytes]:
    return modules()


def image(parts: dict[str, bytes], name: str, before: str = "pass", during: str = "pass", **more):
    """A firmware of the real modules with an application of its own."""
    limits = limits_of(BOARD)
    app = compiled(APP.format(name=name, before=before, during=during))
    slot = make_packs({**parts, "tapauth/app.mpy": app, **more})
    identity, manifest = make_manifest(BOARD, limits, slot)
    return Image(BOARD, limits, identity, manifest, slot, boot_part(BOARD, limits))


class Board:
    """An emulated board that runs such a firmware, without a radio. A context."""

    def __init__(self, folder, image: Image, config: dict | None = None, **how):
        self.image = image
        self.lines: list[str] = []
        self._news = threading.Condition()
        files = {"/config.json": json.dumps(config or {}).encode()}
        make_flash(folder / "flash", image, files, site_key=KEY, **how)
        self.pico = EmulatedPico(
            micropython_image(),
            folder / "flash",
            folder / "tty",
            wifi=False,
            speed=4.0,
            on_line=self._line,
        )

    def __enter__(self):
        self.pico.__enter__()
        self._console = Serial(self.pico.port, timeout=0)
        return self

    def __exit__(self, *_):
        self._console.close()
        self.pico.__exit__()

    def _line(self, text: str) -> None:
        print("  |", text[:200], flush=True)
        with self._news:
            self.lines.append(text)
            self._news.notify_all()

    def printed(self, start: str, since: int = 0) -> str:
        """Wait for a line that begins so, and return the rest of it."""
        deadline = time.monotonic() + WAIT_S
        with self._news:
            while True:
                for line in self.lines[since:]:
                    assert not line.startswith("FAILED"), self.lines[-20:]
                    if line.startswith(start):
                        return line.removeprefix(start).strip()
                left = deadline - time.monotonic()
                assert left > 0, self.lines[-20:]
                self._news.wait(left)

    def status(self, since: int = 0) -> dict:
        """What the firmware says is pinned."""
        return json.loads(self.printed("PINNED", since))

    def do(self, line: str) -> None:
        """Have the application carry out a line of Python."""
        since = len(self.lines)
        self._console.write(line.encode() + b"\n")
        self.printed("DONE", since)

    def told(self, name: str, expression: str):
        """The value of an expression on the board, by JSON."""
        since = len(self.lines)
        self.do(f"print({name!r}, json.dumps({expression}))")
        return json.loads(self.printed(name, since))

    def pinned(self) -> set[int]:
        """The addresses of the functions that use flash, by a look at the memory from outside. Of
        those which are not in use any more, some are still found.
        """
        assert self.told("TYPES", "types()") == TYPES
        found = pinned(self.pico.memory(), "a", self.image.slot)
        assert not found.wrong, found.wrong[:10]
        return set(found.functions)


def test_what_is_pinned_lies_in_the_running_slot_whatever_else_is_on_the_flash(tmp_path, parts):
    """Both slots are filled alike, and a copy of each pack was removed before. Then the other slot
    is rewritten, and the flash filled.
    """
    one = image(parts, "one")
    copies = {"/" + name: data for name, data in one.slot.items()}
    with Board(tmp_path, one, slots="ab", removed=copies) as board:
        status = board.status()
        assert status["functions"] > 250 and status["failures"] == 0, status
        live = board.told("LIVE", "live()")
        before = board.pinned().intersection(live)
        print(f"{len(live)} functions, {len(before)} of them pinned")
        assert len(before) > 250
        board.do("import os, gc")
        board.do("[os.remove('/b/' + e[0]) for e in os.ilistdir('/b')] and gc.collect()")
        fill = "f = open('/b/%d' % {0}, 'wb'); [f.write(bytes([{0}]) * 4096) for _ in range(20)]"
        for number in range(1, 4):
            board.do(fill.format(number) + "; f.close()")
        board.do("n = os.statvfs('/')[3] - 2; f = open('/full', 'wb')")
        board.do("[f.write(b'x' * 4096) for _ in range(n)]; f.close()")
        board.do("print(core.__class__.__name__)")
        assert board.pinned().intersection(live) == before


def test_a_traceback_through_code_in_flash_names_the_lines_of_the_sources(tmp_path, parts):
    with Board(tmp_path, image(parts, "trace")) as board:
        assert board.status()["functions"] > 250
        board.do("from tapauth.core import authorizer, settings")
        since = len(board.lines)
        wrong = "settings.AuthSettings(connection_timeout=0)"
        board.do(f"for _ in range(50): trace(lambda: authorizer.Authorizer({wrong}, [1], 1))")
        shown = [line.strip() for line in board.lines[since:]]
        assert shown.count("ValueError: connection_timeout: must be an integer of 1..300") == 50
        found = [re.match(r'File "tapauth.(core.\w+)", line (\d+)', line) for line in shown]
        places = {(match[1], int(match[2])) for match in found if match}
        assert {module for module, _ in places} >= {"core.authorizer", "core.settings_check"}
        for module, number in places:
            source = FIRMWARE / "tapauth" / (module.replace(".", "/") + ".py")
            line = source.read_text().splitlines()[number - 1]
            assert "raise ValueError" in line or "check(" in line, (module, number, line)


BEGIN = "from tapauth.pinning import begin"
# As a MicroPython whose functions have their bytecode one word further on.
OTHER_STRUCTURE = """
 import machine, sys
 real = machine.mem32
 def __getattr__(self, name):
  return getattr(machine, name)
 class Words:
  def __getitem__(self, at):
   return real[at + 4] if real[at] == id(type(main)) else real[at]
  def __setitem__(self, at, value):
   real[at] = value
 class Fake:
  pass
 Fake.mem32, Fake.mem8, Fake.WDT = Words(), machine.mem8, machine.WDT
 sys.modules["machine"] = Fake
"""
# A module that changes its own file while it is imported: a byte of its first function's bytecode.
ALTERED = """
import binascii, json, rp2
def victim():
    return "the first one, which is altered"
def other():
    return "the other one"
def alter():
    with open("/config.json") as file:
        wanted = binascii.unhexlify(json.load(file)["bytecode"])
    flash = rp2.Flash()
    block = bytearray(4096)
    for number in range(flash.ioctl(4, 0)):
        flash.readblocks(number, block)
        at = bytes(block).find(wanted)
        if at >= 0:
            block[at + len(wanted) - 1] ^= 1
            flash.writeblocks(number, block)
            print("ALTERED", number)
alter()
"""


def test_another_micropython_pins_nothing(tmp_path, parts):
    with Board(tmp_path, image(parts, "other", BEGIN + "; begin.TESTED = ()")) as board:
        assert "untried" in board.status()["off"]
        assert not board.pinned()


def test_a_configuration_that_forbids_it(tmp_path, parts):
    with Board(tmp_path, image(parts, "no"), {"pinning": False}) as board:
        assert "configured off" in board.status()["off"]
        assert not board.pinned()


def test_another_structure_pins_nothing(tmp_path, parts):
    with Board(tmp_path, image(parts, "structure", OTHER_STRUCTURE)) as board:
        assert "other structures" in board.status()["off"]
        assert not board.pinned()


def test_a_pinned_start_that_fails_is_followed_by_one_without(tmp_path, parts):
    """It is not counted against the trial; a command lets the next start pin again."""
    fails = "if not pinned_off(): raise RuntimeError('lost to pinning')"
    off = "\n\ndef pinned_off():\n import os\n return 'pinning.off' in os.listdir('/')\n"
    app = image(parts, "crash", "pass", fails + off)
    with Board(tmp_path, app, record="a 3") as board:
        status = board.status()
        assert "failed" in status["off"], status
        starts = [line for line in board.lines if line.startswith("boot: slot a, ")]
        assert starts == ["boot: slot a, on trial, 2 left", "boot: slot a, on trial, 1 left"]
        assert any("RuntimeError" in line for line in board.lines)
        assert json.loads(board.printed("RECORD")) == ["a", 2]
        board.do("print('ALLOW', begin.allow())")
        assert board.printed("ALLOW") == "at the next start"


def test_a_file_that_is_not_what_was_loaded_is_not_used(tmp_path, parts):
    code = compiled(ALTERED)
    (_, _), (at, size), *_ = bytecode(code)
    imported = "space['load'](lambda: __import__('tapauth.altered'))"
    firmware = image(parts, "altered", during=imported, **{"tapauth/altered.mpy": code})
    with Board(tmp_path, firmware, {"bytecode": code[at:][:size].hex()}) as board:
        board.status()
        assert sum(line.startswith("ALTERED") for line in board.lines) == 1
        board.do("from tapauth import altered")
        victim, other = board.told("TWO", "[id(altered.victim), id(altered.other)]")
        assert board.told("SAID", "altered.victim()") == "the first one, which is altered"
        found = board.pinned()
        assert victim not in found and other in found
