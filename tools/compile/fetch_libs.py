"""Fetch the third-party libraries that go onto a board, pinned and hash-checked.

    python -m tools.compile.fetch_libs DIR

The PN532 driver and the web server are wheels, so pip installs them. umqtt.simple is an
old-style source archive that pip cannot install; `unearth` finds it on the configured index and
downloads it.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tools.paths import ROOT

UMQTT = "micropython-umqtt.simple==1.3.4"
UMQTT_SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"
UMQTT_MEMBER = "umqtt/simple.py"
MICRODOT_FILES = ("__init__.py", "microdot.py", "websocket.py", "helpers.py")

REQUIREMENTS = ROOT / "tools" / "requirements" / "firmware.txt"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def fetch_wheels(target: Path) -> None:
    """Install Adafruit's driver without its dependencies, as only its base class is used, and of
    microdot the files that the firmware uses.
    """
    print("      adafruit-circuitpython-pn532, microdot", flush=True)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    _run(
        *pip,
        "--no-deps",
        "--no-compile",
        "--require-hashes",
        "--target",
        str(target),
        "-r",
        str(REQUIREMENTS),
    )
    for path in (target / "microdot").iterdir():
        if path.name not in MICRODOT_FILES:
            path.unlink()


def fetch_umqtt(target: Path) -> None:
    """Download umqtt.simple, check its SHA-256, and take the one module out of the archive."""
    print("      " + UMQTT, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        _run(sys.executable, "-m", "unearth", UMQTT, "--download", scratch)
        archive = next(Path(scratch).glob("*.tar.gz"))
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != UMQTT_SHA256:
            raise SystemExit(f"{archive.name}: SHA-256 is {found}, expected {UMQTT_SHA256}")
        with tarfile.open(archive) as tar:
            name = next(n for n in tar.getnames() if n.endswith("/" + UMQTT_MEMBER))
            member = tar.extractfile(name)
            assert member is not None
            destination = target / UMQTT_MEMBER
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.write_bytes(member.read())


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    fetch_wheels(target)
    fetch_umqtt(target)


if __name__ == "__main__":
    main()
