"""Put MicroPython itself on a board, from the image that you downloaded for it.

    python -m tools.flash BOARD IMAGE PORT[,PORT...]

ESP32: erases the flash, files included, and writes the image with esptool. RP2: brings the board
into its bootloader over PORT where MicroPython runs already (else hold BOOTSEL while you plug it
in, and give no PORT), and copies the image to the drive that then appears; files stay.
"""

import argparse
import contextlib
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

from tools.board.board_port import (
    BoardError,
    BoardPort,
    SilentError,
    explain,
    wait_for_no_transaction,
)
from tools.board.each_port import on_each
from tools.firmware import limits_of

# Chip id of an ESP image, at byte 12 of its header, by what `machine` ends in.
ESP_CHIPS = {"ESP32": 0, "ESP32C3": 5, "ESP32S3": 9}
ESP_MAGIC = 0xE9
UF2_MAGIC = 0x0A324655
UF2_FAMILIES = {"RP2040": 0xE48BFF56, "RP2350": 0xE48BFF59}
# What the bootloader's drive calls its board.
UF2_DRIVES = {"RP2040": "RPI-RP2", "RP2350": "RP2350"}
INFO = "INFO_UF2.TXT"
DRIVES = ("/media/*/*", "/run/media/*/*", "/media/*", "/mnt/*", "/Volumes/*")
DRIVE_SECONDS = 60.0
DESKTOP = "the desktop's MicroPython is no image, and comes with `make run`"


def chip_of(limits: dict) -> str:
    """The chip's name, such as RP2040."""
    return limits["machine"].rpartition(" ")[2]


def check_image(data: bytes, limits: dict) -> None:
    """Whether an image is one for this board's chip. Raises SystemExit."""
    chip = chip_of(limits)
    where = f"This board wants {limits['image']} from {limits['image_page']}"
    if limits["family"] == "rp2":
        right = len(data) >= 512 and struct.unpack_from("<I", data)[0] == UF2_MAGIC
        families = {struct.unpack_from("<I", data, at + 28)[0] for at in range(0, len(data), 512)}
        if not right or UF2_FAMILIES[chip] not in families:
            raise SystemExit(f"the image is no UF2 file for {chip}. {where}")
    elif limits["family"] == "esp32":
        if len(data) < 16 or data[0] != ESP_MAGIC or data[12] != ESP_CHIPS[chip]:
            raise SystemExit(f"the image is none for {chip}. {where}")
    else:
        raise SystemExit(DESKTOP)


def explain_esptool(port: str, text: str) -> str:
    """What esptool said, in words that help."""
    found = re.search(r"(?:A fatal error occurred|Error): (.*)", text)
    what = found[1] if found else (text.strip().splitlines() or ["failed without a word"])[-1]
    if "Could not open" in what:
        return explain(port, "could not open port" if not Path(port).exists() else "in use")
    if re.search(r"This chip is|chip ID|wrong --chip|not .* wrong", what):
        return f"this is another chip ({what}). Name the right BOARD; nothing was written"
    return (
        f"esptool: {what} Hold BOOT, press and release RESET, release BOOT, and try again; close "
        "whatever else uses the port"
    )


def wait_for_idle(port: str, say, now: bool) -> None:
    """Wait while a firmware there says that a car charges. A chip that holds none says nothing.

    Raises BoardError.
    """
    with contextlib.suppress(SilentError):
        wait_for_no_transaction(port, say, now, patience=(3.0,))


def esptool(limits: dict, image: Path, port: str, say) -> None:
    """Erase and write an ESP32, in one go. Raises BoardError."""
    chip = chip_of(limits).lower()
    offset = f"{limits['flash']['image_offset']:#x}"
    call = [sys.executable, "-m", "esptool", "--chip", chip, "--port", port, "--baud", "460800"]
    say("erasing and writing (a minute)")
    # Two runs would reset the chip in between, out of the bootloader that somebody led it into.
    done = subprocess.run(
        [*call, "write-flash", "--erase-all", offset, str(image)],
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise BoardError(explain_esptool(port, done.stdout + done.stderr))
    say("done and verified; next: make provision")


def find_drives() -> dict[Path, str]:
    """Where drives of bootloaders are mounted, and what each calls its board."""
    found = {}
    for pattern in DRIVES:
        for path in Path("/").glob(pattern[1:]):
            with contextlib.suppress(OSError):
                name = re.search(r"^Board-ID: *(\S+)", (path / INFO).read_text(), re.M)
                found[path] = name[1] if name else "nameless"
    return found


def copy_uf2(limits: dict, image: Path, port: str, say, seconds: float = DRIVE_SECONDS) -> None:
    """Copy an image to an RP2's drive, and see that the board takes it. Raises BoardError."""
    wanted = UF2_DRIVES[chip_of(limits)]
    if port and not find_drives():
        say("asking the board for its bootloader")
        BoardPort(port).run("bootloader")
    deadline = time.monotonic() + seconds
    while not (drives := find_drives()):
        if time.monotonic() > deadline:
            raise BoardError(
                "no drive of a bootloader appeared: unplug the board, hold BOOTSEL while you plug "
                "it in, mount the drive RPI-RP2 or RP2350 if your system does not, and try again "
                "without PORT"
            )
        time.sleep(0.5)
    right = [path for path, name in drives.items() if name == wanted]
    if len(right) != 1:
        seen = ", ".join(f"{path} ({name})" for path, name in drives.items())
        raise BoardError(
            f"one drive of a {wanted} is wanted, but there is {seen}: unplug the others, or name "
            "the right BOARD; nothing was written"
        )
    drive = right[0]
    say(f"copying to {drive}")
    try:
        with open(drive / image.name, "wb") as copy:
            copy.write(image.read_bytes())
            copy.flush()
            with contextlib.suppress(OSError):
                os.fsync(copy.fileno())  # the drive may go with the last block
    except OSError as error:
        if drive.exists():
            raise BoardError(
                f"{drive}: {error.strerror}. Unplug the board, hold BOOTSEL while you plug it in, "
                "and try again"
            ) from error
    # A board that has a whole image for it restarts, and its drive goes.
    deadline = time.monotonic() + seconds
    while (drive / INFO).exists():
        if time.monotonic() > deadline:
            raise BoardError(
                "the board did not take the image: download it anew, unplug the board, hold "
                "BOOTSEL while you plug it in, and try again"
            )
        time.sleep(0.2)
    say("done, the board restarts; next: make provision")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make flash", description=__doc__)
    parser.add_argument("board")
    parser.add_argument("image")
    parser.add_argument("ports", nargs="?", default="")
    parser.add_argument("--now", action="store_true", help="even while a car charges there")
    arguments = parser.parse_args()
    limits = limits_of(arguments.board)
    if limits["family"] == "desktop":
        raise SystemExit(DESKTOP)
    download = (
        f"Download {limits['image']} from {limits['image_page']} and name it: IMAGE=/path/to/it"
    )
    if not arguments.image:
        raise SystemExit(download)
    image = Path(arguments.image)
    try:
        data = image.read_bytes()
    except OSError as error:
        raise SystemExit(f"IMAGE={image}: {error.strerror}. {download}") from error
    check_image(data, limits)
    if limits["family"] == "esp32":

        def work(port: str, say) -> None:
            wait_for_idle(port, say, arguments.now)
            esptool(limits, image, port, say)

        return on_each(arguments.ports, work)
    # One after the other: each copy needs the only drive.
    for port in arguments.ports.replace(",", " ").split() or [""]:
        try:
            if port:
                wait_for_idle(port, print, arguments.now)
            copy_uf2(limits, image, port, print)
        except BoardError as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
