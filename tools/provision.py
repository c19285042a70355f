"""Give boards what makes them a site's own: its key, their configuration, certificates.

    python -m tools.provision BOARD PORT[,PORT...] [--answers FILE.json] [--file LOCAL:/BOARD/PATH]

Asks for what it must know, passwords without showing them; nothing secret is ever a command's
argument. The site's key is made in the site's folder (site/, or SITE=) if it is not there, and
the configuration of each board is kept there too. Keep that folder safe: it is not part of git.
"""

import argparse
import getpass
import json
import os
import secrets
import sys
import tempfile
from pathlib import Path

from tapauth import config
from tools.board_port import BoardError, BoardPort
from tools.firmware import limits_of
from tools.fleet import on_each, ports_of
from tools.paths import BOARDS, SITE

# What is asked: key in the configuration, what it is, whether it is secret.
QUESTIONS = (
    ("network.ssid", "WiFi name", False),
    ("network.password", "WiFi password", True),
    ("mqtt.host", "MQTT broker", False),
    ("mqtt.user", "MQTT user, empty for none", False),
    ("mqtt.password", "MQTT password", True),
)


def make_key(folder: Path) -> Path:
    """The file of the site's key, which is made when there is none."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "site.key"
    if not path.exists():
        write_secret(path, secrets.token_bytes(32))
    return path


def write_secret(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, from its first moment on."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    new.replace(path)


def put(settings: dict, key: str, value: str) -> None:
    """Set a key such as mqtt.host; an empty value removes it."""
    *sections, name = key.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
    if value:
        settings[name] = value
    else:
        settings.pop(name, None)


def get(settings: dict, key: str) -> str:
    """The value of a key such as mqtt.host, or ""."""
    value: object = settings
    for name in key.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return str(value)


def ask(settings: dict, network: str, read=input, read_secret=getpass.getpass) -> None:
    """Ask for what belongs to one board; what is there already is offered."""
    for key, what, is_secret in QUESTIONS:
        if key.startswith("network.") and network != "wifi":
            continue
        if key == "mqtt.password" and not get(settings, "mqtt.user"):
            put(settings, key, "")
            continue
        old = get(settings, key)
        if is_secret:
            kept = ", empty keeps the one of last time" if old else ""
            answer = read_secret(f"{what} (not shown{kept}): ")
        else:
            answer = read(f"{what} [{old}]: ").strip()
        if answer:
            put(settings, key, answer)


def settings_for(board: str, name: str) -> dict:
    """Where a board's configuration begins: what it got last time, or its board's defaults."""
    kept = SITE / f"{name}.json"
    source = kept if name and kept.exists() else BOARDS / board / "config.json"
    return json.loads(source.read_text())


def checked(settings: dict) -> str:
    """The configuration as text. Raises SystemExit when the firmware would refuse it."""
    text = json.dumps(settings, indent=2) + "\n"
    try:
        config.parse(text)
    except config.ConfigError as error:
        raise SystemExit(f"the firmware would refuse this configuration: {error}") from error
    return text


def install(port: str, say, limits: dict, text: str, key: Path, files: list[str]) -> None:
    """Put everything on a board. Raises BoardError."""
    board = BoardPort(port)
    survey = board.call("survey('')")
    if not survey["machine"].endswith(limits["machine"]):
        raise BoardError(f"this is another board: {survey['machine']}. Name the right BOARD")
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "config.json"
        write_secret(local, text.encode())
        pairs = [(local, "config.json"), (key, "site.key")]
        for pair in files:
            source, _, target = pair.partition(":")
            if not target.startswith("/"):
                raise BoardError(f"--file {pair}: write LOCAL:/PATH/ON/THE/BOARD")
            pairs.append((Path(source), target.strip("/")))
        for source_path, name in pairs:
            board.call(f"make_folders(['/{name}'])")
            board.copy(source_path, f"/{name}.new")
            board.call(f"put_in_place([{name!r}])")
            say(f"  /{name}")
    board.restart()
    say("provisioned; next: make deploy")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make provision", description=__doc__)
    parser.add_argument("board")
    parser.add_argument("ports")
    parser.add_argument("--answers", type=Path, help="a configuration to use instead of asking")
    parser.add_argument("--file", action="append", default=[], metavar="LOCAL:/PATH")
    arguments = parser.parse_args()
    limits = limits_of(arguments.board)
    key = make_key(SITE)
    failed = 0
    # One after the other: each has a name of its own, and somebody answers.
    for port in ports_of(arguments.ports):
        if arguments.answers:
            settings = json.loads(arguments.answers.read_text())
        else:
            print(f"-- {port} --")
            name = input("name of this board: ").strip()
            settings = settings_for(arguments.board, name)
            settings["board_id"] = name or settings["board_id"]
            ask(settings, limits["network"])
        text = checked(settings)
        write_secret(SITE / f"{settings['board_id']}.json", text.encode())
        failed |= on_each(
            port,
            lambda port, say, text=text: install(port, say, limits, text, key, arguments.file),
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
