"""Bring boards to this checkout's firmware, or look after what runs on them.

    python -m tools.deploy BOARD PORT[,PORT...]     build, copy, verify, restart, wait
    python -m tools.deploy --status PORT[,PORT...]
    python -m tools.deploy --rollback PORT[,PORT...]
    python -m tools.deploy --logs PORT[,PORT...]

A deployment fills the slot that does not run, copying only what differs, and may be repeated
whatever stopped it. docs/updates.md tells what happens on the board. Deployment and roll-back wait
while a car charges, unless --now; status asks the firmware and stops nothing.
"""

import argparse
import hashlib
import json
import secrets
import sys
import tempfile
from pathlib import Path

from tools.board.board_port import (
    OLDEST,
    BoardError,
    BoardPort,
    Console,
    ask_status,
    stop,
    wait_for_no_transaction,
)
from tools.board.each_port import on_each, ports_of
from tools.firmware import MPY_VERSION, Image, board_names, boot_part, build, limits_of, sign
from tools.paths import SITE

BLOCK = 4096


def site_key(folder: Path = SITE) -> bytes:
    """The site's key. Raises SystemExit when there is none."""
    try:
        return (folder / "site.key").read_bytes()
    except OSError:
        raise SystemExit(
            f"there is no site key in {folder}: `make provision` makes one; or name the folder "
            "of yours: SITE=/path/to/it"
        ) from None


def check(survey: dict, image: Image, key_proof: str) -> None:
    """Whether this firmware may go onto the surveyed board. Raises BoardError."""
    limits = image.limits
    version = tuple(int(part) for part in survey["micropython"].split(".")[:2])
    if not survey["machine"].endswith(limits["machine"]):
        raise BoardError(
            f"this is not a {image.board} but: {survey['machine']}. Name the right BOARD"
        )
    if version < OLDEST or survey["mpy"] != MPY_VERSION:
        raise BoardError(
            f"the board has MicroPython {survey['micropython']}, the firmware is for "
            f"{limits['micropython']}: make flash BOARD={image.board} IMAGE={limits['image']}"
        )
    if not survey["key"] or not survey["config"]:
        why = survey["key_problem"] or "there is no configuration"
        raise BoardError(
            f"the board is not provisioned ({why}): make provision BOARD={image.board} PORT="
        )
    if survey["key"] != key_proof:
        raise BoardError(
            "the board belongs to another site (its site key differs): name that site's folder "
            "with SITE=, or provision the board anew"
        )


def blocks(files: dict[str, bytes]) -> int:
    """Bytes that files take on the board's flash, with their folder and some air."""
    return sum(-(-len(data) // BLOCK) for data in files.values()) * BLOCK + 4 * BLOCK


def digests(files: dict[str, bytes]) -> dict[str, str]:
    """SHA-256 of files in hex, by name."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def boot_identity(found: dict[str, str]) -> str:
    """What tells one boot part from another, made of the SHA-256 of its files, as the firmware
    makes it too (firmware/tapauth/board_status.py).
    """
    text = "".join(f"{name} {found[name]}\n" for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Deployment:
    """One board's way to an image. `say(text)` tells how it goes; `wait` is for how many seconds
    the new firmware's confirmation is waited for; `now`: what charges is no reason to wait.
    """

    def __init__(self, image: Image, port: str, say, key: bytes, wait: float, now: bool = False):
        self._image = image
        self._board = BoardPort(port)
        self._say = say
        self._key = key
        self._wait = wait
        self._now = now
        self._port = port

    def run(self) -> None:
        """Do it, when nothing charges. Raises BoardError."""
        wait_for_no_transaction(self._port, self._say, self._now)
        board = self._board
        nonce = secrets.token_hex(8)
        with board.visit():
            survey = board.call(f"survey({nonce!r})")
            check(survey, self._image, hashlib.sha256(nonce.encode() + self._key).hexdigest())
            if survey["left_over"]:
                board.call("clear_staged()")
            if survey["boot_problem"]:
                self._say(f"the boot part is damaged ({survey['boot_problem']})")
                self._replace_boot_part(survey)
                survey = board.call(f"survey({nonce!r})")
            slot = self._update(survey)
        board.restart()
        if slot and self._wait:
            self._watch(slot, survey["confirm_s"])

    def _update(self, survey: dict) -> str:
        """Make the image what starts next. Returns its slot, "" if it runs already."""
        image, board = self._image, self._board
        record = survey["record"]
        if record and survey["builds"].get(record[0]) == image.build and record[1] == -1:
            if board.call(f"is_sound({record[0]!r})"):
                replaced = self._replace_boot_part(survey)
                end = "" if replaced else "; nothing to do"
                self._say(f"build {image.build} runs already, confirmed{end}")
                return ""
            self._say(f"build {image.build} runs already, but is damaged on the flash")
        if record and record[1] == -1 and survey["flat"]:
            self._say("removing the files from before there were slots")
            board.call("remove_flat()")
        slot = board.call("prepare()")
        room = survey["free"] + survey["sizes"].get(slot, 0)
        needed = 2 * blocks(image.slot)
        if room < needed:
            raise BoardError(
                f"too little space: {room} bytes are free beside the running firmware, an update "
                f"wants {needed}. Remove what is not needed from the board, or cards from its list"
            )
        self._fill(slot)
        # Here, as the slot that starts when this is cut is confirmed, or the only one, there is
        # room, and the new firmware may need it.
        self._replace_boot_part(survey)
        self._say("checking it on the board")
        refusal = board.call(f"activate({slot!r})")
        if refusal:
            raise BoardError(f"the board refuses the new firmware ({refusal}): deploy again")
        self._say(f"restarting into slot {slot}, build {image.build}")
        return slot

    def _fill(self, slot: str) -> None:
        packs = self._image.slot
        wanted = digests(packs)
        there = self._board.call(f"clear({slot!r}, json.loads({json.dumps(wanted)!r}))")
        todo = [name for name in packs if name not in there]
        size = sum(len(packs[name]) for name in todo)
        self._say(f"slot {slot}: {len(todo)} of {len(packs)} packs to copy, {size} bytes")
        self._board.call(f"make_folders(['/{slot}/x'])")
        done = 0
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "pack"
            for i, name in enumerate(todo):
                local.write_bytes(packs[name])
                self._board.copy(local, f"/{slot}/{name}")
                done += len(packs[name])
                self._say(f"  {i + 1}/{len(todo)} {name}, {100 * done // size} %")
            local.write_bytes(sign(self._image.manifest, self._key))
            self._board.copy(local, f"/{slot}/manifest")

    def _replace_boot_part(self, survey: dict) -> bool:
        """Put in place what differs of the boot part. Returns whether anything was."""
        board = self._board
        wanted = digests(self._image.boot)
        there = survey["boot_files"]
        todo = {name: wanted[name] for name in wanted if wanted[name] != there.get(name)}
        if not todo:
            return False
        how = "replacing" if survey["boot"] else "installing"
        self._say(f"{how} the boot part: {', '.join(todo)}")
        files = {name: self._image.boot[name] for name in todo}
        room = board.call("stage()")
        if room < blocks(files):
            board.call("clear_staged()")
            raise BoardError(
                f"too little space: {room} bytes are free, and the boot part wants "
                f"{blocks(files)} beside the one that is there. Remove what is not needed"
            )
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "file"
            for name, data in files.items():
                local.write_bytes(data)
                board.copy(local, f"/boot.new/{name}")
        objection = board.call(f"replace_boot_part(json.loads({json.dumps(todo)!r}))")
        if not objection:
            return True
        if not survey["boot"] or survey["boot_problem"]:
            raise BoardError(f"the board refuses the boot part ({objection}): deploy again")
        self._say(f"the board keeps its boot part, of another version ({objection})")
        return False

    def _watch(self, slot: str, confirm_s: int) -> None:
        seconds = max(self._wait, confirm_s + 60.0)
        self._say(f"waiting for the board to find itself healthy, {confirm_s} s at least")
        with Console(self._port) as console:
            for line in console.lines(seconds):
                if line.startswith("boot: ") or " E " in line:
                    self._say("  " + line)
                if line == f"boot: slot {slot} confirmed":
                    self._say(f"build {self._image.build} is confirmed")
                    return
                if line.startswith(f"boot: slot {slot} failed") or (
                    line.startswith("boot: slot ") and line.endswith(", confirmed")
                ):
                    raise BoardError(
                        "the new firmware failed three times and the old one runs again: "
                        "`make status` shows why"
                    )
        if stop.is_set():
            raise BoardError(
                "stopped; the board goes on by itself: `make status` shows where it is"
            )
        raise BoardError(
            f"not confirmed within {seconds:.0f} s. The board goes on by itself: healthy, it is "
            "confirmed; not healthy, the old firmware comes back. `make status` shows where it is"
        )


def show_status(port: str, say, now: bool = False) -> None:
    """Say what a board runs. A firmware that runs is asked, and goes on; where none runs, or
    `now`, the board is looked at, and restarted.
    """
    status = None if now else ask_status(port)
    if status:
        _show_running(status, say)
    else:
        _show_stopped(port, say)


def _show_running(status: dict, say) -> None:
    charging = ", ".join(str(number) for number in status["charging"])
    say(status["on"])
    say(f"{status['board_id']}: TapAuth {status['version']} runs for {status['uptime_s']} s")
    say(f"broker: connection {status['link']}")
    say(f"charging: EVSE {charging}" if charging else "charging: none")
    pinned = status.get("pinned")
    if pinned and "off" in pinned:
        say(f"code in flash is not used: {pinned['off']}")
    elif pinned:
        say(
            f"code in flash: {pinned['functions']} functions, {pinned['bytes']} bytes of RAM saved"
        )
    _show_flash(status, status["log"], say)
    if "boot_part" in status:  # the firmware may be of a release that does not say
        _show_boot_part(status["boot_part"], say)


def _show_stopped(port: str, say) -> None:
    board = BoardPort(port)
    with board.visit():
        survey = board.call("survey('')")
        log = board.call("log()")
    board.restart()
    say(f"{survey['machine']}, MicroPython {survey['micropython']}")
    say("the firmware was not running; the board was restarted")
    say(f"provisioned: {'yes' if survey['config'] and survey['key'] else 'no'}")
    _show_flash(survey, log.splitlines(), say)
    if survey["boot"]:
        _show_boot_part(boot_identity(survey["boot_files"]), say)


def _show_boot_part(identity: str, say) -> None:
    """Say whether a board's boot part is this checkout's, of whichever board."""
    ours = [boot_identity(digests(boot_part(name, limits_of(name)))) for name in board_names()]
    if identity not in ours:
        say(
            f"the boot part ({identity}) is another version than this checkout's; a deployment "
            "replaces it"
        )


def _show_flash(found: dict, log: list, say) -> None:
    """Say what is in the slots: `found` is of a survey, or of a firmware's own status."""
    if not found["record"]:
        is_old = found.get("flat")
        say("no slot is chosen: " + ("files of an old layout" if is_old else "deploy one"))
    else:
        slot, left = found["record"]
        state = "confirmed" if left == -1 else f"on trial, {left} starts left"
        say(f"slot {slot}: build {found['builds'].get(slot) or '-'}, {state}")
        other = "b" if slot == "a" else "a"
        say(f"slot {other}: build {found['builds'].get(other) or '-'}")
    say(f"{found['free']} bytes of flash are free")
    for line in log:
        say("boot log: " + line)


def roll_back(port: str, say, now: bool = False) -> None:
    """Start the other slot's firmware, when nothing charges."""
    wait_for_no_transaction(port, say, now)
    board = BoardPort(port)
    with board.visit():
        survey = board.call("survey('')")
        if not survey["boot"]:
            raise BoardError("this board has no slots yet: make deploy")
        slot, refusal = board.call("rollback()")
        if refusal:
            raise BoardError(f"there is nothing to go back to ({refusal}); what ran runs on")
        _, left = board.call("survey('')")["record"]
    board.restart()
    say(f"slot {slot} runs again" + (", on trial: it failed before" if left > 0 else ""))


def show_logs(port: str, say) -> None:
    """Say what a board prints, until interrupted."""
    with Console(port) as console:
        console.open()
        for line in console.lines():
            if line:
                say(line)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.deploy", description=__doc__)
    parser.add_argument("board", nargs="?", help="a folder of boards/")
    parser.add_argument("ports")
    kind = parser.add_mutually_exclusive_group()
    for name in ("status", "rollback", "logs"):
        kind.add_argument("--" + name, dest="kind", action="store_const", const=name)
    parser.add_argument(
        "--wait", type=float, default=180, help="seconds to wait for the confirmation; 0 does not"
    )
    parser.add_argument(
        "--now", action="store_true", help="stop the firmware even while a car charges there"
    )
    parser.add_argument(
        "--no-lines", action="store_true", help="a firmware whose tracebacks have no lines"
    )
    arguments = parser.parse_args()
    now = arguments.now
    jobs = {
        "status": lambda port, say: show_status(port, say, now),
        "rollback": lambda port, say: roll_back(port, say, now),
        "logs": show_logs,
    }
    if arguments.kind:
        return on_each(arguments.ports, jobs[arguments.kind])
    if not arguments.board:
        raise SystemExit("name the board: make deploy BOARD=pico-w PORT=/dev/ttyACM0")
    limits_of(arguments.board)
    ports_of(arguments.ports)
    key = site_key()
    image = build(arguments.board, not arguments.no_lines)
    return on_each(
        arguments.ports,
        lambda port, say: Deployment(image, port, say, key, arguments.wait, now).run(),
    )


if __name__ == "__main__":
    sys.exit(main())
