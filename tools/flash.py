"""Put MicroPython itself on a board, from the image that you downloaded for it.

    python -m tools.flash BOARD IMAGE PORT[,PORT...]

ESP32: erases the flash, files included, and writes the image with esptool. RP2: brings the board
into its bootloader over PORT where MicroPython runs already (else hold BOOTSEL while you plug it
in, and give no PORT), and copies the image to the drive that then appears; files stay.
"""

import argparse
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

from tools.board_port import BoardError, BoardPort
from tools.firmware import limits_of
from tools.fleet import on_each

# Chip id of an ESP image, at byte 12 of its header, by what `machine` ends in.
ESP_CHIPS = {"ESP32": 0, "ESP32C3": 5, "ESP32S3": 9}
ESP_MAGIC = 0xE9
UF2_MAGIC = 0x0A324655
UF2_FAMILIES = {"RP2040": 0xE48BFF56, "RP2350": 0xE48BFF59}
DRIVES = ("/media/*/*", "/run/media/*/*", "/media/*", "/mnt/*", "/Volumes/*")
DRIVE_SECONDS = 60.0


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
        raise SystemExit("this board has no MicroPython image: it is the desktop's")


def esptool(limits: dict, image: Path, port: str, say) -> None:
    """Erase and write an ESP32. Raises BoardError."""
    chip = chip_of(limits).lower()
    call = [sys.executable, "-m", "esptool", "--chip", chip, "--port", port, "--baud", "460800"]
    offset = f"{limits['flash']['image_offset']:#x}"
    for what, step in (
        ("erasing", ["erase-flash"]),
        ("writing", ["write-flash", offset, str(image)]),
    ):
        say(f"{what} (half a minute)")
        done = subprocess.run([*call, *step], capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr + done.stdout).strip().splitlines()[-1:]
            raise BoardError(
                f"esptool: {' '.join(last)}. Hold BOOT, press and release RESET, release BOOT, "
                "and try again; close whatever else uses the port"
            )
    say("done; next: make provision")


def find_drive() -> Path | None:
    """Where the bootloader's drive is mounted."""
    for pattern in DRIVES:
        for path in Path("/").glob(pattern[1:]):
            if (path / "INFO_UF2.TXT").exists():
                return path
    return None


def copy_uf2(image: Path, port: str, say, seconds: float = DRIVE_SECONDS) -> None:
    """Copy an image to an RP2's drive. Raises BoardError."""
    if port and not find_drive():
        say("asking the board for its bootloader")
        BoardPort(port).run("bootloader")
    deadline = time.monotonic() + seconds
    while not (drive := find_drive()):
        if time.monotonic() > deadline:
            raise BoardError(
                "no drive of a bootloader appeared: unplug the board, hold BOOTSEL while you plug "
                "it in, mount the drive RPI-RP2 or RP2350 if your system does not, and try again "
                "without PORT"
            )
        time.sleep(0.5)
    say(f"copying to {drive}")
    shutil.copy(image, drive)
    say("done, the board restarts; next: make provision")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make flash", description=__doc__)
    parser.add_argument("board")
    parser.add_argument("image", type=Path)
    parser.add_argument("ports", nargs="?", default="")
    arguments = parser.parse_args()
    limits = limits_of(arguments.board)
    try:
        data = arguments.image.read_bytes()
    except OSError as error:
        raise SystemExit(
            f"IMAGE={arguments.image}: {error.strerror}. Download {limits['image']} from "
            f"{limits['image_page']} and name it"
        ) from error
    check_image(data, limits)
    if limits["family"] == "esp32":
        return on_each(
            arguments.ports, lambda port, say: esptool(limits, arguments.image, port, say)
        )
    # One after the other: each copy needs the only drive.
    for port in arguments.ports.replace(",", " ").split() or [""]:
        try:
            copy_uf2(arguments.image, port, print)
        except BoardError as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
