"""Every board offers what boards/README.md asks for, and its configuration is accepted."""

import ast
import asyncio
import inspect
import json
import re
import sys
import time
from pathlib import Path

import fake_chip
import pytest

from tapauth import config
from tools.build import AS_SOURCE, sources
from tools.charger import HEAP
from tools.compile.program import DOORS, on_board
from tools.deploy import blocks
from tools.firmware import MAPPED_FLASH, board_sources, build
from tools.paths import BOARDS

DOCS = BOARDS.parent / "docs"
NAMES = sorted(path.parent.name for path in BOARDS.glob("*/board.py"))
CHIPS = [name for name in NAMES if name != "desktop"]
_board_part, _boot_part = (BOARDS / "README.md").read_text().split("## What the boot part needs")
HAL = dict(re.findall(r"^\| `(\w+)\((.*?)\)`", _board_part, re.M))
BOOT_HAL = dict(re.findall(r"^\| `(\w+)\((.*?)\)`", _boot_part, re.M))
PINS = {"esp32": 40, "esp32s3": 49, "esp32c3": 22, "olimex-esp32-poe": 40}
# Flash and USB of the chip, or what the board itself uses.
TAKEN = {
    "esp32": {*range(6, 12), 1, 3},
    "olimex-esp32-poe": {*range(6, 12), 1, 3, 12, 17, 18, 19, 21, 22, 23, 25, 26, 27},
    "esp32s3": {19, 20, 43, 44, *range(26, 33)},
    "esp32c3": {18, 19, 20, 21, *range(11, 18)},
    "pico-w": {23, 24, 25, 29},
    "pico2-w": {23, 24, 25, 29},
    "w5100s-evb-pico": set(range(16, 22)),
}


def settings(name):
    return config.parse((BOARDS / name / "config.json").read_text())


def limits(name):
    return json.loads((BOARDS / name / "board.json").read_text())


def test_the_boards_are_there():
    assert len(CHIPS) == 7
    assert len(HAL) == 11 and len(BOOT_HAL) == 5


def _functions(path: Path) -> dict[str, str]:
    """Arguments of a module's functions, by name."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = ", ".join(argument.arg for argument in node.args.args)
    return found


@pytest.mark.parametrize("name", CHIPS)
def test_a_board_offers_the_whole_hal(name):
    board = fake_chip.load(name)
    for function, arguments in HAL.items():
        made = getattr(board, function)
        assert ", ".join(inspect.signature(made).parameters) == arguments
        assert inspect.iscoroutinefunction(made) == (function == "connect_network")


def test_the_desktop_offers_the_whole_hal():
    offered = _functions(BOARDS / "desktop" / "board.py")
    assert {name: offered.get(name) for name in HAL} == HAL


@pytest.mark.parametrize("folder", ("common/boot", "desktop"))
def test_the_boot_part_has_all_it_needs(folder):
    path = BOARDS / folder / "boot_hal.py"
    offered = _functions(path)
    if re.search(r"^from machine import .*\breset\b", path.read_text(), re.M):
        offered["reset"] = ""
    assert {name: offered.get(name) for name in BOOT_HAL} == BOOT_HAL


@pytest.mark.parametrize("name", NAMES)
def test_a_boards_configuration_is_accepted(name):
    assert settings(name)["board_id"] == name


@pytest.mark.parametrize("name", CHIPS)
def test_no_pin_is_used_twice_or_taken(name):
    board = fake_chip.load(name)
    count = len(board._chip._evses)
    assert board.evse_lines(count + 1, settings(name)["lines"]) is None
    buses = 0
    for bus in ("spi", "uart", "i2c"):
        used = {pin.number for pin in fake_chip.Pin.all.values()}
        reader = {**settings(name)["reader"], "bus": bus}
        try:
            made = board.reader_bus(reader)
        except OSError:
            assert reader["bus"] != settings(name)["reader"]["bus"]
            continue
        buses += 1
        pins = set(made.pins) if bus != "spi" else {*made[0].pins, made[1].number}
        lines = [board.evse_lines(i + 1, settings(name)["lines"]) for i in range(count)]
        others = [pin.number for triple in lines for pin in triple]
        others += _lamp(board)
        others.append(limits(name)["safe_mode_pin"])
        if bus == settings(name)["reader"]["bus"]:
            others += [reader[key] for key in ("reset_pin", "irq_pin") if reader[key] >= 0]
        assert len(others) == len(set(others)), others
        assert not pins & set(others), (bus, pins, others)
        everything = pins | set(others) | used
        assert not everything & TAKEN[name], (bus, everything)
        assert max(everything) < PINS.get(name, 29)
    assert buses >= 2


def _lamp(board):
    return [pin.number for pin in board._chip._lamp if pin is not None]


@pytest.mark.parametrize("name", CHIPS)
@pytest.mark.parametrize("low", (False, True))
def test_the_enable_output_is_off_from_its_first_moment(name, low):
    board = fake_chip.load(name)
    _, enable, _ = board.evse_lines(1, {**settings(name)["lines"], "enable_low": low})
    assert enable.history == [(fake_chip.Pin.OUT, 1 if low else 0)]


@pytest.mark.parametrize("name", CHIPS)
def test_the_lamp_drives_each_output(name):
    board = fake_chip.load(name)
    board.lamp("accepted", 0b101)
    for bit, pin in enumerate(board._chip._lamp):
        if pin is not None:
            assert pin.history[-1] == 0b101 >> bit & 1


@pytest.mark.parametrize("name", CHIPS)
def test_spi_sends_bits_in_an_order_that_the_chip_can(name):
    board = fake_chip.load(name)
    try:
        bus, cs, lsb_first = board.reader_bus({"bus": "spi"})
    except OSError:
        return
    rp2 = limits(name)["family"] == "rp2"
    assert lsb_first is not rp2
    assert bus.settings["firstbit"] == ("msb" if rp2 else "lsb")
    assert cs.history[-1] == (fake_chip.Pin.OUT, 1)


@pytest.mark.parametrize("name", CHIPS)
def test_a_held_i2c_bus_is_pulsed_nine_times_at_most(name):
    board = fake_chip.load(name)
    board.reader_bus({"bus": "i2c"})  # the fake SDA stays low
    scl = fake_chip.Pin.all[board._chip._wiring["i2c"][2]]
    assert scl.history.count(0) == 9


@pytest.mark.parametrize("name", CHIPS)
def test_limits_hold_what_tools_need(name):
    it = limits(name)
    assert it["family"] in ("esp32", "rp2") and it["network"] in ("wifi", "lan")
    assert it["image"].endswith(".uf2" if it["family"] == "rp2" else ".bin")
    assert it["micropython"] in it["image"]
    flash = it["flash"]
    assert flash["file_system_bytes"] < flash["bytes"]
    # What an update wants, the cards twice (while a full list is loaded) at 12 bytes, and air.
    assert flash["file_system_bytes"] > 2 * blocks(build(name).slot) + 24 * it["cards"] + 64_000
    assert it["heap_bytes"] >= 96 * 1024


def _imported(source: Path) -> set[str]:
    """Names that may be modules, of what a module imports, now or later."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_slot_holds_what_some_configuration_loads_and_nothing_else(name):
    everything = {**sources(), **board_sources(name)}
    modules = {}
    for path in everything:
        if path not in AS_SOURCE:
            dotted = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            modules[dotted.removeprefix("lib.")] = path
    reached: set[str] = set()
    open_ = ["tapauth.app"]
    while open_:
        module = open_.pop()
        while module:  # the packages that it is in are loaded too
            if module in modules and module not in reached:
                reached.add(module)
                open_ += _imported(everything[modules[module]])
            module = module.rpartition(".")[0]
    assert "board" in reached and set(modules) == reached
    packed = set()
    for pack, data in build(name).slot.items():
        folder = "" if pack == "-" else pack.replace(".", "/") + "/"
        for line in data[: data.index(b"\n\n")].decode().splitlines():
            packed.add(folder + line.split(" ")[2])
    compiled = {path for path in packed if path.endswith(".mpy")}
    doors = {modules[module].replace(".py", ".mpy") for module in DOORS}
    # A board's own modules are one.
    files = {modules[module] for module in reached if not module.startswith("hal.")}
    if limits(name)["family"] != "rp2":
        assert any(path.startswith(MAPPED_FLASH) for path in files)
        files = {path for path in files if not path.startswith(MAPPED_FLASH)}
    assert compiled == doors | {on_board(name.replace(".py", ".mpy")) for name in files}


@pytest.mark.parametrize("name", CHIPS)
def test_the_readme_shows_every_wire(name):
    board = fake_chip.load(name)
    text = (BOARDS / name / "README.md").read_text()
    rows = set(re.findall(r"^\| GPIO(\d+) \|", text, re.M))
    wired = [pin for bus in board._chip._wiring.values() if bus for pin in bus[1:]]
    wired += [pin for triple in board._chip._evses for pin in triple] + _lamp(board)
    reader = settings(name)["reader"]
    wired += [reader[key] for key in ("reset_pin", "irq_pin") if reader[key] >= 0]
    wired.append(limits(name)["safe_mode_pin"])
    assert {str(pin) for pin in wired} == rows
    assert limits(name)["image"] in text


@pytest.mark.parametrize("name", CHIPS)
@pytest.mark.parametrize("epoch", (0, 946_684_800))
def test_the_clock_is_set_by_which_certificates_are_checked(name, epoch, monkeypatch):
    board = fake_chip.load(name)
    chip = sys.modules[type(board._chip).__module__]
    monkeypatch.setattr(chip, "gmtime", lambda seconds: time.gmtime(seconds + epoch))
    board.set_clock(1_900_000_000)
    # RTC.datetime() wants year, month, day, weekday, hour, minute, second, fraction.
    assert fake_chip.RTC.now == (2030, 3, 17, 6, 17, 46, 40, 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_tells_the_board_s_limits(name):
    it, flash = limits(name), limits(name)["flash"]
    text = (BOARDS / name / "README.md").read_text()
    rows = dict(re.findall(r"^\| ([\w -]+) \| (.*) \|$", text.split("## Wiring")[0], re.M))
    assert it["micropython"] in rows["MicroPython"]
    assert f"{flash['file_system_bytes'] // 1024} KB" in rows["flash"]
    geometry = f"blocks of {flash['block_bytes']} bytes, programmed {flash['program_bytes']} at a"
    assert geometry in rows["flash"]
    assert rows["cards"].startswith(f"{it['cards']:,} (`cards.capacity`)")
    assert settings(name)["cards"]["capacity"] == it["cards"]
    assert f"`{settings(name)['reader']['bus']}` in" in rows["reader"]
    if name == "desktop":
        return
    assert it["image"] in rows["MicroPython"] and it["image_page"] in rows["MicroPython"]
    assert rows["flash"].startswith(f"{flash['bytes'] >> 20} MB, ")
    assert rows["heap"] == f"about {it['heap_bytes'] // 1024} KB"
    assert rows["network"] == {"wifi": "WiFi", "lan": "Ethernet"}[it["network"]]
    wires = dict(re.findall(r"^\| GPIO(\d+) \| (.*) \|$", text, re.M))
    assert wires[str(it["safe_mode_pin"])].startswith("safe mode: low")
    chip = fake_chip.load(name)._chip
    for number, triple in enumerate(chip._evses):
        for pin, what in zip(triple, ("plugged, in", "enable, out", "fault, in"), strict=True):
            assert wires[str(pin)].startswith(f"EVSE {number + 1}: {what}")
    for pin, what in zip(chip._lamp, ("green lamp", "red lamp", "buzzer"), strict=True):
        assert pin is None or wires[str(pin.number)] == what + ", out"
    words = {"spi": ("SCK", "MOSI", "MISO", "NSS"), "uart": ("TX", "RX"), "i2c": ("SDA", "SCL")}
    for bus, wiring in chip._wiring.items():
        for pin, what in zip(wiring[1:], words[bus], strict=True) if wiring else ():
            assert f"reader, {bus.upper()}: {what}" in wires[str(pin)]


def test_the_table_of_boards_is_right():
    text = (BOARDS.parent / "docs" / "boards.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (.*?) \| (.*?) \| ([\d,]+) \| \[", text, re.M)
    assert sorted(row[0] for row in rows) == NAMES
    for name, chip, network, cards in rows:
        it = limits(name)
        assert int(cards.replace(",", "")) == it["cards"]
        if name != "desktop":
            assert network == {"wifi": "WiFi", "lan": "Ethernet"}[it["network"]]
            assert chip.endswith(f", {it['flash']['bytes'] >> 20} MB")
            assert it["machine"].endswith(chip.split(",")[0].replace("-", ""))


async def no_pause(_ms):
    pass


def connect(name, changes=()):
    board = fake_chip.load(name)
    section = {**settings(name)["network"], "ssid": "net", "password": "secret", **dict(changes)}
    return board, board.connect_network(section)


@pytest.mark.parametrize("name", CHIPS)
def test_the_network_comes_up_without_holding_the_loop(name, monkeypatch):
    monkeypatch.setattr(asyncio, "sleep_ms", no_pause, raising=False)
    board, going = connect(name)
    fake_chip.Nic.after = 20
    assert not board.network_up()
    asyncio.run(going)
    assert board.network_up()


@pytest.mark.parametrize("name", CHIPS)
def test_a_network_that_stays_away_is_an_error_after_15_seconds(name, monkeypatch):
    pauses = []

    async def note(ms):
        pauses.append(ms)

    monkeypatch.setattr(asyncio, "sleep_ms", note, raising=False)
    _, going = connect(name)
    fake_chip.Nic.after = 10_000
    with pytest.raises(OSError, match="DHCP"):
        asyncio.run(going)
    assert sum(pauses) == 15_000


@pytest.mark.parametrize("name", [name for name in CHIPS if limits(name)["network"] == "wifi"])
def test_wifi_says_what_is_wrong(name, monkeypatch):
    monkeypatch.setattr(asyncio, "sleep_ms", no_pause, raising=False)
    for code, words in ((-3, "password"), (-2, "no access point")):
        _, going = connect(name)
        fake_chip.Nic.after, fake_chip.Nic.code = 10_000, code
        with pytest.raises(OSError, match=words):
            asyncio.run(going)
        assert fake_chip.Nic.calls[-1][0] == "disconnect"
    _, going = connect(name, {"ssid": ""})
    with pytest.raises(OSError, match="network.ssid"):
        asyncio.run(going)


@pytest.mark.parametrize("name", CHIPS)
def test_a_fixed_address_is_set(name, monkeypatch):
    monkeypatch.setattr(asyncio, "sleep_ms", no_pause, raising=False)
    _, going = connect(name, {"address": "10.0.0.5", "name_server": "10.0.0.1"})
    asyncio.run(going)
    calls = {call[0]: call[2] for call in fake_chip.Nic.calls}
    assert calls["ipconfig"] == {"addr4": ("10.0.0.5", "255.255.255.0"), "gw4": "0.0.0.0"}
    assert calls["dns"] == {"dns": "10.0.0.1"}


@pytest.mark.parametrize("name", CHIPS)
def test_an_interface_that_does_not_start_at_first_is_started_again(name, monkeypatch):
    board = fake_chip.load(name)
    wanted = dict(settings(name)["network"], ssid="s", address="10.0.0.5", name_server="10.0.0.1")
    failures = [1]

    def active(self, on):
        if failures.pop():
            failures.append(0)
            raise OSError(5)
        self.calls.append(("active", (on,), {}))

    monkeypatch.setattr(fake_chip.Nic, "active", active, raising=False)
    with pytest.raises(OSError):
        asyncio.run(board.connect_network(wanted))
    failures[:] = [0]
    asyncio.run(board.connect_network(wanted))
    made = [call[0] for call in fake_chip.Nic.calls]
    assert "active" in made and "ipconfig" in made and "dns" in made
    failures[:] = []  # once it is started it is left alone
    asyncio.run(board.connect_network(wanted))


def _rows(section: str) -> dict[str, list[str]]:
    """The rows of the first table in a section of docs/boards.md, by their first cell."""
    text = (DOCS / "boards.md").read_text().split(f"# {section}\n")[1].split("\n#")[0]
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:2] == "| "]
    return {row[0]: row[1:] for row in cells}


@pytest.mark.parametrize("name", NAMES)
def test_the_heap_of_a_board_has_a_source(name):
    heap, source = _rows("Python's heap")[f"`{name}`"]
    assert heap == f"{limits(name)['heap_bytes']:,} B"
    named = ("measured: ", "estimated, not measured: ", "twice `", "as `esp32`", "what `tools/")
    assert source.startswith(named), source


def test_the_desktop_s_heap_is_the_charger_s():
    assert limits("desktop")["heap_bytes"] == int(HEAP.removesuffix("k")) * 1024


def test_what_an_esp32_without_psram_runs_follows_from_what_was_measured():
    budget = (DOCS / "memory.md").read_text().split("## The budget")[1].split("\n## ")[0]
    used = {
        ours: int(re.search(rf"^\| {theirs} \| ([\d,]+) B", budget, re.M)[1].replace(",", ""))
        for ours, theirs in (
            ("MQTT without TLS", "idle, MQTT up"),
            ("MQTT over TLS", "idle, TLS to the broker"),
        )
    }
    rows = _rows("An ESP32 without PSRAM")
    for what, bytes_used in used.items():
        for verdict, chip in zip(rows[what], ("esp32", "esp32c3"), strict=True):
            fits = bytes_used < limits(chip)["heap_bytes"]
            assert verdict == ("fits" if fits else "does not fit"), (what, chip, bytes_used)
    # The console takes more than MQTT alone, and with TLS more than TLS alone.
    more = {"MQTT without TLS": "the console, without TLS", "MQTT over TLS": "TLS and the console"}
    for what in more:
        for one, other in zip(rows[what], rows[more[what]], strict=True):
            assert one == "fits" or other == "does not fit"
