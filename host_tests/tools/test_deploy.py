"""Deployments by the real mpremote onto MicroPython's Unix port behind a pty, on real littlefs."""

import contextlib
import gzip
import hashlib
import json
import os
import pty
import subprocess
import sys
import threading
import tty
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import serial
from deploy_rig import (
    ASKS,
    CONFIG,
    CRASH,
    GOOD,
    HANG,
    KEY,
    NEVER,
    OWN,
    WATCH_WRITES,
    answers,
    deploy,
    files_of,
    flash_image,
    image,
    own_files_are_untouched,
)
from pty_board import PtyBoard
from websockets.sync.client import connect

from tapauth import __version__
from tools.board.board_port import BoardError, BoardPort
from tools.board.each_port import on_each, ports_of
from tools.charger import HEAP_WITH_SERVER
from tools.deploy import Deployment, roll_back, show_logs, show_status
from tools.desk.broker import free_port
from tools.firmware import (
    Image,
    board_names,
    build,
    built_at,
    limits_of,
    make_manifest,
    sign,
)
from tools.paths import FIRMWARE, ROOT
from tools.size import CEILINGS

CUTS = int(os.environ.get("TAPAUTH_DEPLOY_CUTS", "4"))
"""At how many points a deployment is cut; more take longer."""


@pytest.fixture
def flash(tmp_path):
    return flash_image(tmp_path / "flash.img", OWN)


def test_from_the_layout_before_slots_to_the_second_update(tmp_path):
    """Also: what is the same is not copied again, and the board's own files stay."""
    flat = {
        "main.py": b"from tapauth import app\napp.main()\n",
        "boot.py": b"",
        "tapauth/__init__.py": b"",
        "tapauth/app.py": b"import time\ndef main():\n print('flat app')\n time.sleep(999)\n",
        "lib/stale.py": b"x = 1",
    }
    flash = flash_image(tmp_path / "flash.img", {**OWN, **flat})
    with PtyBoard(flash) as board:
        board.wait_for("flat app")
        said = deploy(board, image("one"))
        assert any(line.startswith("installing the boot part") for line in said)
        board.wait_for("app one")
        own_files_are_untouched(flash)
        assert "tapauth/app.py" in files_of(flash)
        said = deploy(board, image("two"))
        assert any("removing the files from before" in line for line in said)
        board.wait_for("app two")
        said = deploy(board, image("three"))
        # Slot a has "one": only the pack with the name differs.
        assert any("1 of 4 packs to copy" in line for line in said), said
        board.wait_for("app three")
        board.output = b""  # before what makes it start: a busy machine comes late to this
        said = deploy(board, image("three"))
        assert any("nothing to do" in line for line in said)
        board.wait_for("app three")
    own_files_are_untouched(flash)
    now = files_of(flash)
    assert not [name for name in now if name.startswith(("tapauth/", "lib/"))]


HANGING = image("bad", at_import=HANG)


@pytest.mark.parametrize(
    "bad",
    (
        image("bad", at_import=CRASH),
        HANGING,
        image("bad", body=CRASH),
        image("bad", body=NEVER),
        image("bad", body="pass"),
    ),
    ids=("crashes at import", "hangs at import", "crashes", "never confirms", "ends"),
)
def test_a_bad_firmware_runs_three_times_and_the_old_one_comes_back(flash, bad):
    with PtyBoard(flash) as board:
        deploy(board, image("good"))
        starts = board.starts
        with pytest.raises(BoardError, match="failed three times and the old one runs again"):
            deploy(board, bad, wait=240)
        board.output = b""
        said: list[str] = []
        show_status(board.port, said.append, now=True)
        board.wait_for("app good")
        # The restart into it, its second and third start, the fallback; then the status.
        assert 4 <= board.starts - starts <= 5
        assert board.watchdog.starved_count == (3 if bad is HANGING else 0)
    text = "\n".join(said)
    assert "slot a: build" in text and "confirmed" in text and "failed: back to a" in text
    assert "secret" not in text
    own_files_are_untouched(flash)


def test_back_to_the_version_before_and_forth(flash):
    with PtyBoard(flash) as board:
        deploy(board, image("one"))
        with pytest.raises(BoardError, match="nothing to go back to"):
            roll_back(board.port, print, now=True)
        deploy(board, image("two"))
        for name in ("one", "two"):
            board.output = b""
            roll_back(board.port, print, now=True)
            board.wait_for("app " + name)


def test_a_firmware_that_runs_but_is_damaged_on_the_flash_is_copied_again(flash):
    flip = "f = open('/b/tapauth', 'r+b'); f.seek(-1, 2); f.write(b'?'); f.close()"
    with PtyBoard(flash) as board:
        deploy(board, image("one"))
        deploy(board, image("two"))
        assert "nothing to do" in deploy(board, image("two"))[-1]
        BoardPort(board.port).run("exec", flip)
        board.output = b""
        said = "\n".join(deploy(board, image("two")))
        assert "slot b: 1 of " in said and "build " in said
        board.wait_for("app two")
    assert files_of(flash)["b/tapauth"] == image("two").slot["tapauth"]


def test_the_power_goes_while_a_deployment_runs(flash, tell, monkeypatch):
    """Wherever that is, the old firmware starts, and the same deployment then goes through."""
    monkeypatch.setattr(BoardPort, "patience_s", 5.0)
    resumed = []
    with PtyBoard(flash) as board:
        deploy(board, image("old"))
        before = board.received
        deploy(board, image("new", filler=3))
        whole = board.received - before
        old = "new"
        for i in range(CUTS):
            new = f"version {i}"
            board.output = b""
            board.power_cut_after = whole * (2 * i + 1) // (2 * CUTS)
            with pytest.raises(BoardError):
                deploy(board, image(new, filler=4 + i), wait=0)
            assert board.power_cut_after is None, "the power did not go"
            board.wait_for("app ")
            assert f"app {old}".encode() in board.output
            own_files_are_untouched(flash)
            said = deploy(board, image(new, filler=4 + i))
            todo, _, total = said[0].partition(": ")[2].split(" ")[:3]
            resumed.append(int(total) - int(todo))
            board.wait_for("app " + new)
            old = new
    # The later ones found packs that were already there.
    assert resumed[-1] > resumed[0], resumed
    tell(f"{CUTS} power cuts in {whole} bytes from mpremote; packs found again: {resumed}")


def test_the_cable_is_pulled_while_a_deployment_runs(flash, tell, monkeypatch):
    """The board is left at its console in the middle of something; the old firmware is whole."""
    monkeypatch.setattr(BoardPort, "patience_s", 4.0)
    with PtyBoard(flash) as board:
        deploy(board, image("old"))
        before = board.received
        deploy(board, image("new", filler=3))
        whole = board.received - before
        old = "new"
        for i in range(CUTS):
            new = f"version {i}"
            board.cable_pulled_after = whole * (2 * i + 1) // (2 * CUTS)
            with pytest.raises(BoardError, match="does not answer"):
                deploy(board, image(new, filler=4 + i), wait=0)
            assert board.cable_pulled_after < 0, "the cable was not pulled"
            if i % 2:
                board.output = b""
                board.kill()  # in the end the watchdog does that
                board.wait_for("app " + old)
            board.cable_pulled_after = None
            deploy(board, image(new, filler=4 + i))
            board.wait_for("app " + new)
            own_files_are_untouched(flash)
            old = new
    tell(f"the cable pulled at {CUTS} points in {whole} bytes from mpremote")


# Like GOOD, but it stays on trial.
ON_TRIAL = "import boot_hal, time\nboot_hal.keep_alive()\nprint('app', NAME)\ntime.sleep(999)"


def watched(name: str, body: str = GOOD) -> Image:
    return image(name, body, at_import=WATCH_WRITES)


def roll_back_but_stay(board) -> None:
    assert BoardPort(board.port).call("rollback()") == ["a", ""]


@pytest.mark.parametrize(
    "body, change, written",
    (
        (GOOD, None, "a"),
        (ON_TRIAL, None, "b"),
        (GOOD, roll_back_but_stay, "b"),
        # Both are as old as each other, so the next start would take a, on trial.
        ("import os\nos.remove('/slot')\n" + ON_TRIAL, None, "a"),
    ),
    ids=("confirmed", "on trial", "rolled back", "record lost"),
)
def test_no_slot_is_written_where_a_firmware_has_run(flash, body, change, written):
    """Not even the one that ran: what is left of it may still call its code on the flash."""
    with PtyBoard(flash) as board:
        deploy(board, watched("one"))
        deploy(board, watched("two", body), wait=0)
        board.wait_for("app two")
        if body is GOOD:
            board.wait_for("boot: slot b confirmed")
        board.output = b""
        if change:
            change(board)
        before = board.soft_resets
        said = deploy(board, watched("three"))
        assert said[0].startswith(f"slot {written}: "), said
        board.wait_for("app three")
        assert b"WRITTEN" not in board.output, board.output
        assert board.soft_resets == before + (change is not roll_back_but_stay)
        # It would have been seen.
        board.type("\x03")
        board.wait_for("boot: interrupted")
        board.type("open('/main.new', 'w').close()\r")
        board.wait_for("WRITTEN BESIDE three /main.new")
    own_files_are_untouched(flash)


def test_a_board_that_restarts_between_two_commands_is_left_alone(flash):
    """Its firmware runs again then, and the next command would stop it and write beside it."""
    with PtyBoard(flash) as board:
        deploy(board, watched("one"))
        deploy(board, watched("two"))
        before = files_of(flash)
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            if text.startswith("  2/"):
                board.output = b""
                board.kill()
                board.wait_for("app two")

        def run() -> None:
            Deployment(image("new", filler=4), board.port, say, KEY, 30, now=True).run()

        starts = board.starts
        with pytest.raises(BoardError, match="the same command again goes on from there"):
            run()
        assert said[-1].startswith("  2/"), said
        assert b"WRITTEN" not in board.output, board.output
        # The visit has ended, and its firmware runs.
        board.output = b""
        board.wait_for("app two")
        assert board.starts == starts + 2
        there = files_of(flash)
        assert [
            name for name in before if name.startswith("b/") and before[name] != there[name]
        ] == []
        said = deploy(board, image("new", filler=4))
        assert "3 of 6 packs to copy" in said[0], said
        board.wait_for("app new")
    own_files_are_untouched(flash)


def test_a_firmware_that_runs_may_write_the_other_slot_once_it_is_confirmed(flash):
    with PtyBoard(flash) as board:
        deploy(board, image("one"))
        for name, slot, other in (("two", "b", "a"), ("three", "b", "a")):
            board.output = b""
            deploy(board, image(name, ASKS), wait=0)
            board.wait_for("app " + name)
            printed = board.output.decode(errors="replace").splitlines()
            assert [line for line in printed if line.startswith("may write")] == answers(
                slot, other
            )
    own_files_are_untouched(flash)


def test_no_tool_goes_to_a_board_past_the_door():
    """The others write cards and what they measure: no slot, and nothing of the boot part."""
    others = {"cardlist/store_target.py", "bench/objects.py"}
    others.add("emulator/board.py")  # an example in its docstring
    tools = ROOT / "tools"
    found = [path for path in tools.rglob("*.py") if '"mpremote"' in path.read_text()]
    names = {path.relative_to(tools).as_posix() for path in found}
    assert names == {"board/board_port.py"} | others


def test_a_manifest_says_when_its_sources_were_committed(tmp_path, monkeypatch):
    files = {"-": b"x"}
    limits = limits_of("desktop")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    identity, manifest = make_manifest("desktop", limits, files)
    assert manifest.startswith(f"build {identity}\nbuilt 1700000000\n".encode())
    # When is no part of the build id: the same files are the same build.
    assert make_manifest("desktop", limits, files, 5)[0] == identity
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    if (ROOT / ".git").exists():
        asked = ["git", "log", "-1", "--format=%ct"]
        committed = int(subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout)
        assert built_at() == committed
    # No repository: the newest source, which in an archive of one has the commit's time.
    monkeypatch.setattr("tools.build.ROOT", tmp_path)
    newest = max(path.stat().st_mtime for path in FIRMWARE.rglob("*.py"))
    assert built_at() >= int(newest)


def test_two_boards_at_once(tmp_path, flash, capsys):
    other = flash_image(tmp_path / "other.img", {**OWN, "site.key": b"another's key..!" * 2})
    with PtyBoard(flash) as one, PtyBoard(other) as two:
        code = on_each(
            f"{one.port},{two.port}",
            lambda port, say: Deployment(image("x"), port, say, KEY, 30, now=True).run(),
        )
        one.wait_for("app x")
        # An error that no board has told is no success either.
        assert on_each(one.port, lambda port, say: {}["a bug"]) == 1
    out = capsys.readouterr()
    assert code == 1 and "KeyError" in out.out and "1 of 2 boards went well" in out.err
    assert f"{two.port}: FAILED: the board belongs to another site" in out.out
    assert f"{one.port}: build" in out.out


def refusal(board, what: Image, key: bytes = KEY) -> str:
    with pytest.raises(BoardError) as error:
        deploy(board, what, key=key)
    return str(error.value)


def test_refusals_come_before_anything_is_changed(tmp_path, flash, monkeypatch):
    with PtyBoard(flash_image(tmp_path / "new.img", {})) as board:
        assert "make provision BOARD=desktop" in refusal(board, image("x"))
    with PtyBoard(flash) as board:
        before = files_of(flash)
        other = image("x")
        other.limits = {**other.limits, "machine": "Raspberry Pi Pico W with RP2040"}
        assert "this is not a desktop but: linux" in refusal(board, other)
        assert "another site" in refusal(board, image("x"), key=b"k" * 32)
        huge = image("x")
        huge.slot = {**huge.slot, "huge": bytes(1_100_000)}
        assert "too little space" in refusal(board, huge)
        with monkeypatch.context() as patch:
            patch.setattr("tools.deploy.OLDEST", (99, 0))
            assert "make flash BOARD=desktop IMAGE=" in refusal(board, image("x"))
        assert files_of(flash) == before
        # Signed for this site, but not what the manifest says.
        damaged = image("x")
        damaged.slot["tapauth"] = damaged.slot["tapauth"] + b"\0"
        assert "refuses the new firmware (tapauth is not what was signed)" in refusal(
            board, damaged
        )
        # After any of them the board is not left with its firmware stopped.
        deploy(board, image("good"))
        starts = board.starts
        board.output = b""
        assert "another site" in refusal(board, image("x"), key=b"k" * 32)
        board.wait_for("app good")
        assert board.starts == starts + 1
    own_files_are_untouched(flash)


def test_bytes_that_are_no_text_do_not_end_it(flash):
    """A TLS connection that is collected while a tool talks to a board says farewell there."""
    noise = (
        "import builtins, sys\nto_print = builtins.print\ndef noisy(*words):\n"
        " sys.stdout.buffer.write(b'\\x15\\x03\\xac\\xb3\\x7f')\n to_print(*words)\n"
        "builtins.print = noisy"
    )
    with PtyBoard(flash) as board:
        deploy(board, image("noisy", at_import=noise), wait=0)
        board.wait_for("app noisy")
        deploy(board, image("good"))
        board.wait_for("app good")
    own_files_are_untouched(flash)


def test_a_board_that_is_still_starting_is_called_again(flash, monkeypatch):
    """Nobody hears mpremote's Ctrl-C then."""
    monkeypatch.setattr(BoardPort, "knock_s", 3.0)
    with PtyBoard(flash) as board:
        deploy(board, image("one"))
        starts = board.starts
        board.off_s = 3.0
        port = BoardPort(board.port)
        port.restart()
        assert port.call("1 + 1") == 2
        assert board.starts == starts + 1


def test_ports_that_do_not_serve(tmp_path, flash, monkeypatch):
    with pytest.raises(BoardError, match="plug the board in"):
        BoardPort("/dev/ttyNOSUCH").call("1")
    with pytest.raises(BoardError, match="there is no build/no/tty: plug the board in"):
        BoardPort("build/no/tty").call("1")
    with pytest.raises(BoardError, match="plug the board in"):
        show_logs("/dev/ttyNOSUCH", print)
    with PtyBoard(flash) as board, serial.Serial(board.port, exclusive=True):
        with pytest.raises(BoardError, match="close the other program"):
            BoardPort(board.port).call("1")
        with pytest.raises(BoardError, match="close the other program"):
            show_logs(board.port, print)
    with pytest.raises(SystemExit, match="PORT="):
        ports_of(" ")
    assert ports_of("b,a b, a") == ["b", "a"], "one visitor for each board"
    with PtyBoard(flash) as board, pytest.raises(BoardError, match="has too little memory left"):
        BoardPort(board.port).run("exec", "raise MemoryError")
    with PtyBoard(flash) as board, monkeypatch.context() as patch:
        patch.setattr("tools.board.board_port.OLDEST", (99, 0))
        with pytest.raises(BoardError, match=r"has MicroPython 1\.\d+, and 99.0 .*make flash"):
            BoardPort(board.port).call("what_an_old_one_does_not_know")
    monkeypatch.setattr(BoardPort, "knock_s", 1.0)
    master, slave = pty.openpty()
    with pytest.raises(BoardError, match="safe-mode pin"):
        BoardPort(os.ttyname(slave)).run("exec", "1")


def test_a_port_that_goes_away_in_the_middle_is_not_taken_for_a_silent_board():
    """Nobody shall flash a board anew because its plug came out."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    port = BoardPort(os.ttyname(slave))
    port._answers = True  # it was there for the commands before
    os.close(slave)

    def unplug() -> None:
        heard = b""
        while b"\x01" not in heard:
            with contextlib.suppress(OSError):  # not opened yet
                heard += os.read(master, 100)
        os.close(master)

    threading.Thread(target=unplug, daemon=True).start()
    with pytest.raises(BoardError, match="Input/output error.*: unplug it, plug it in"):
        port.run("exec", "1")


def test_safe_mode_starts_nothing(flash):
    with PtyBoard(flash) as board:
        deploy(board, image("one"))
    with PtyBoard(flash, {"TAPAUTH_SAFE_MODE": "1"}) as board:
        board.wait_for("safe mode, nothing is started")
        assert BoardPort(board.port).call("1 + 1") == 2
        assert b"app one" not in board.output


def test_the_real_firmware_starts_from_its_slot(flash):
    """Without a bench there is no reader, so it must not be confirmed."""
    with PtyBoard(flash) as board:
        deploy(board, build("desktop"), wait=0)
        board.wait_for(f"TapAuth {__version__} on b1")
        board.wait_for("network: up")
        board.wait_for("boot: slot a, on trial, 2 left")
        BoardPort(board.port).call("1")
        board.wait_for("boot: interrupted")
    assert files_of(flash)["slot"].startswith(b"a 2 ")


def test_the_console_page_is_served_from_a_slot(tmp_path):
    port = free_port()
    local = {"enabled": True, "address": "127.0.0.1", "port": port}
    own = {**OWN, "config.json": json.dumps({**CONFIG, "server": local}).encode()}
    page = (FIRMWARE / "tapauth" / "local" / "console.html").read_bytes()
    flash = flash_image(tmp_path / "flash.img", own)
    with PtyBoard(flash, heap=HEAP_WITH_SERVER) as board:
        deploy(board, build("desktop"), wait=0)
        board.wait_for(f"http on port {port}")
        for _ in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as reply:
                assert gzip.decompress(reply.read()) == page
        # A PIN that is typed on the serial console opens it.
        board.type("pin from the console\r\n")
        board.wait_for("until the restart")
        with connect(f"ws://127.0.0.1:{port}/api", proxy=None) as socket:
            query = {"method": "auth", "type": "secured", "credentials": "from the console"}
            socket.send(json.dumps(query))
            assert json.loads(socket.recv(10))["previleges"] == 2
    assert not [name for name in files_of(flash) if "console" in name]


def test_the_command_line(flash):
    call = [sys.executable, "-m", "tools.deploy"]
    done = subprocess.run([*call, "nonsense", "/dev/x"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no such board" in done.stderr or "no site key" in done.stderr
    with PtyBoard(flash) as board:
        done = subprocess.run(
            [*call, "--status", board.port], cwd=ROOT, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert "provisioned: yes" in done.stdout and "no slot is chosen" in done.stdout


def test_two_may_build_for_the_same_board_at_once():
    with ThreadPoolExecutor(3) as pool:
        builds = {image.build for image in pool.map(build, ["desktop"] * 6)}
    assert len(builds) == 1


BUILD_AFRESH = """
import sys
from pathlib import Path
from tools import build
from tools.firmware import build as build_board
build.TEXTS = Path(sys.argv[1])
print(build_board(sys.argv[2]).manifest.decode())
"""


def test_builds_are_reproducible_and_say_what_they_are(tmp_path):
    ceilings = json.loads(CEILINGS.read_text())["boards"]
    command = [sys.executable, "-c", BUILD_AFRESH, tmp_path, "pico-w"]
    afresh = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert afresh.stdout.strip() == build("pico-w").manifest.decode().strip()
    assert list(tmp_path.iterdir())  # it did begin with nothing
    for name in board_names():
        first, second = build(name), build(name)
        assert first.manifest == second.manifest and first.build == second.build
        for line in sign(first.manifest, KEY).decode().splitlines():
            kind, _, value = line.partition(" ")
            if kind == "file":
                digest, size, pack = value.split(" ")
                data = first.slot[pack]
                assert len(data) == int(size)
                assert hashlib.sha256(data).hexdigest() == digest
        heads = [data.split(b"\n\n")[0].decode().splitlines() for data in first.slot.values()]
        modules = [line.split(" ")[2] for head in heads for line in head]
        assert "board.mpy" in modules and "app.mpy" in modules
        assert ("pinner.mpy" in modules) == (limits_of(name)["family"] == "rp2")
        assert sum(map(len, first.slot.values())) <= ceilings[name]["slot"]


def test_back_to_a_firmware_that_failed_is_a_trial(flash):
    with PtyBoard(flash) as board:
        deploy(board, image("good"))
        with pytest.raises(BoardError, match="failed three times"):
            deploy(board, image("bad", body=CRASH), wait=60)
        board.output = b""
        said: list[str] = []
        roll_back(board.port, said.append, now=True)
        board.wait_for("boot: slot b failed: back to a", 40)
        board.wait_for("boot: slot a, confirmed")
        assert b"boot: slot b, on trial, 2 left" in board.output
    assert "on trial" in said[-1]
    own_files_are_untouched(flash)
