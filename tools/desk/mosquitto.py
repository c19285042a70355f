"""Make sure that the tests have mosquitto where this machine allows it; say so where it does not.

    python -m tools.desk.mosquitto

Debian's package is installed when this runs as root and apt-get is there. Without it the tests
use the embedded broker alone.
"""

import os
import shutil
import subprocess

_PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


def path() -> str | None:
    """The mosquitto broker's path, or None."""
    return shutil.which("mosquitto", path=_PLACES)


def install() -> None:
    """Install Debian's package. Raises subprocess.SubprocessError or OSError when that fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "install", "--no-install-recommends", "mosquitto"],
    ):
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=300)


def main() -> None:
    if path() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing mosquitto (Debian's package) for the tests against a real broker")
        try:
            install()
        except (OSError, subprocess.SubprocessError) as error:
            print(f"that failed: {error}")
    if path() is None:
        print("mosquitto is not installed: the embedded broker alone serves the tests")


if __name__ == "__main__":
    main()
