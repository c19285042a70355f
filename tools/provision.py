"""Give boards what makes them a site's own: its key, their configuration, certificates, first PIN.

    python -m tools.provision BOARD PORT[,PORT...] [--answers FILE.json] [--pin]
                              [--file LOCAL:/BOARD/PATH] [--take-over] [--replace] [--now]

Asks for what it must know, secrets without showing them; nothing secret is ever a command's
argument. The site's key is made in the site's folder (site/, or SITE=) if it is not there, and
the configuration of each board is kept there too. Keep that folder safe: it is not part of git.
A PIN is kept nowhere; the board gets what it can check it with. Which board has which name is
kept as well: a name that another one has is refused, unless this one takes its place (--replace).
"""

import argparse
import contextlib
import getpass
import hashlib
import json
import os
import secrets
import sys
import tempfile
from pathlib import Path

from tapauth import config
from tapauth.crypto import sitekey
from tools.board import tls_files
from tools.board.board_port import BoardError, BoardPort, wait_for_no_transaction
from tools.board.each_port import on_each, ports_of
from tools.board.first_pin import STATE, kind_of, state_with
from tools.firmware import limits_of
from tools.paths import BOARDS, SITE

# What is asked: key in the configuration, what it is, whether it is secret.
QUESTIONS = (
    ("network.ssid", "WiFi name", False),
    ("network.password", "WiFi password", True),
    ("mqtt.host", "MQTT broker", False),
    ("mqtt.user", "MQTT user, empty for none", False),
    ("mqtt.password", "MQTT password", True),
)
# Where certificates lie on the board.
FOLDER = "/certificates/"
# What a configuration leaves behind that is on trial; it would come back in place of a new one.
TRIALS = ("config.new", "config.prev", "config.try")


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


def put(settings: dict, key: str, value: object) -> None:
    """Set a key such as mqtt.host; an empty value removes it."""
    *sections, name = key.split(".")
    for section in sections:
        settings = settings.setdefault(section, {}) if value else settings.get(section, {})
    if value:
        settings[name] = value
    else:
        settings.pop(name, None)


def get(settings: dict, key: str) -> str:
    """The value of a key such as mqtt.host as text, or ""."""
    value: object = settings
    for name in key.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return str(value)


class Interview:
    """Asks for what belongs to one board; what is there already is offered.

    `files` becomes what goes onto the board beside the configuration, by path there.
    """

    def __init__(self, settings: dict, network: str, read=input, read_secret=getpass.getpass):
        self.settings = settings
        self.files: dict[str, bytes] = {}
        self._network = network
        self._read = read
        self._read_secret = read_secret

    def run(self) -> None:
        """Ask everything."""
        for key, what, is_secret in QUESTIONS:
            if key.startswith("network.") and self._network != "wifi":
                continue
            if key == "mqtt.password" and not get(self.settings, "mqtt.user"):
                put(self.settings, key, "")
                continue
            self._ask(key, what, is_secret)
            if key == "mqtt.host":
                self._ask_tls()
        self._ask_server()

    def _ask(self, key: str, what: str, is_secret: bool) -> None:
        old = get(self.settings, key)
        if is_secret:
            kept = ", empty keeps the one of last time" if old else ""
            answer = self._read_secret(f"{what} (not shown{kept}): ")
        else:
            answer = self._read(f"{what} [{old}]: ").strip()
        if answer:
            put(self.settings, key, answer)

    def _wants(self, key: str, what: str) -> bool:
        """Ask for yes or no, and set the key to it."""
        was = get(self.settings, key) == "True"
        answer = self._read(f"{what} (yes or no) [{'yes' if was else 'no'}]: ").strip().lower()
        wanted = answer.startswith("y") if answer else was
        put(self.settings, key, wanted)
        return wanted

    def _ask_file(self, what: str, old: str) -> str:
        kept = f", empty keeps {old}" if old else ""
        return os.path.expanduser(self._read(f"{what} (a file here{kept}): ").strip())

    def _ask_pair(self, what: str, certificate: str, key: str, name: str) -> None:
        """Ask for a certificate and its key, for two keys of the configuration."""
        while path := self._ask_file(what + ", empty for none", get(self.settings, certificate)):
            try:
                made = tls_files.pair(path, self._ask_file("its private key", ""))
            except ValueError as error:
                print(error)
                continue
            for setting, end, data in zip((certificate, key), (".crt", ".key"), made, strict=True):
                self.files[FOLDER + name + end] = data
                put(self.settings, setting, FOLDER + name + end)
            return

    def _ask_tls(self) -> None:
        if not self._wants("mqtt.tls.enabled", "TLS to the broker"):
            self.settings["mqtt"].pop("tls", None)
            return
        what = "certificate of the authority that signed the broker's"
        old = get(self.settings, "mqtt.tls.ca_file")
        while (path := self._ask_file(what, old)) or not old:
            try:
                self.files[FOLDER + "broker-ca"] = tls_files.authority(path)
                put(self.settings, "mqtt.tls.ca_file", FOLDER + "broker-ca")
                break
            except ValueError as error:
                print(error)
        what = "certificate of the board itself"
        self._ask_pair(what, "mqtt.tls.cert_file", "mqtt.tls.key_file", "client")
        clock = self.settings.setdefault("clock", {})
        if clock.get("source", "mqtt") == "mqtt":
            # From a broker that is reached by TLS the time comes too late to check certificates.
            clock["source"] = "ntp"
            self._ask("clock.ntp_host", "NTP server", False)

    def _ask_server(self) -> None:
        if not self._wants("server.enabled", "local interface: console page and commands"):
            return
        what = "certificate of the console page"
        self._ask_pair(what, "server.tls_cert", "server.tls_key", "server")
        port = self._read(f"port [{get(self.settings, 'server.port') or 80}]: ").strip()
        if port:
            put(self.settings, "server.port", int(port) if port.isdigit() else port)
        self.ask_pin()

    def ask_pin(self) -> None:
        """Ask for the first PIN, until there is a good one or none."""
        while True:
            secret = self._read_secret(
                "first PIN of admin, 6 or 7 letters and digits, or a password of 8 characters or "
                "more\n(not shown; empty: the board keeps its own, or makes one): "
            )
            if not secret:
                return
            try:
                kind_of(secret)
            except ValueError as error:
                print(error)
                continue
            if self._read_secret("again: ") == secret:
                self.files["/" + STATE] = state_with(secret)
                return
            print("these were not the same")


def kept_as(name: str, end: str = ".json") -> Path:
    """Where the configuration of the board of this name is kept; `.board`: whose the name is."""
    return SITE / (name.replace("/", "_") + end)


def claim(name: str, unique: str, own_name: str, replace: bool) -> None:
    """Write down that the board of this unique id has this name. Raises BoardError.

    `own_name` is the one in its configuration so far. A name that is another's is refused unless
    `replace`: two boards would take each other's connection and each other's commands.
    """
    path = kept_as(name, ".board")
    this = {"board_id": name, "unique_id": unique}
    try:
        is_free = json.loads(path.read_text()) in (this, {})
        other = "another board"
    except OSError:
        # Not written down, as in a site from before that was done.
        is_free = own_name == name or not kept_as(name).exists()
        other = "a board (which one was not kept)"
    except ValueError:
        is_free, other = False, f"a board ({path} is damaged)"
    if not is_free and not replace:
        raise BoardError(
            f"the name {name} is that of {other} of this site: give this one another name. If it "
            "takes that one's place, add --replace: .venv/bin/python -m tools.provision --replace"
        )
    write_secret(path, json.dumps(this).encode())
    for old in SITE.glob("*.board"):
        # The board had another name, which is free now.
        with contextlib.suppress(ValueError, KeyError):
            if old != path and unique and json.loads(old.read_text())["unique_id"] == unique:
                write_secret(old, b"{}")


def settings_for(board: str, name: str) -> dict:
    """Where a board's configuration begins: what it got last time, or its board's defaults."""
    kept = kept_as(name)
    source = kept if name and kept.exists() else BOARDS / board / "config.json"
    return json.loads(source.read_text())


def read_answers(path: Path) -> dict:
    """A configuration from a file. Raises SystemExit."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise SystemExit(f"--answers {path}: {error.strerror}") from error
    except ValueError as error:
        raise SystemExit(f"--answers {path} is not JSON: {error}") from error


def checked(settings: dict) -> str:
    """The configuration as text. Raises SystemExit when the firmware would refuse it."""
    text = json.dumps(settings, indent=2) + "\n"
    try:
        config.parse(text)
    except config.ConfigError as error:
        raise SystemExit(f"the firmware would refuse this configuration: {error}") from error
    return text


def named_files(pairs: list[str]) -> dict[str, bytes]:
    """What --file LOCAL:/PATH names, by path on the board. Raises SystemExit."""
    found = {}
    for pair in pairs:
        source, _, target = pair.rpartition(":")
        if not source or not target.startswith("/"):
            raise SystemExit(f"--file {pair}: write LOCAL:/PATH/ON/THE/BOARD")
        try:
            found[target] = Path(source).read_bytes()
        except OSError as error:
            raise SystemExit(f"--file {pair}: {error.strerror}") from error
    return found


def install(
    port: str,
    say,
    limits: dict,
    files: dict[str, bytes],
    take_over=False,
    approve=None,
    now=False,
) -> None:
    """Put files on a board, each whole or not at all. Raises BoardError.

    A board of another site is refused, unless `take_over`. `approve(survey)` is asked before
    anything is changed, with what is known of the board; it raises BoardError. It waits while a
    car charges there, unless `now`.
    """
    wait_for_no_transaction(port, say, now)
    board = BoardPort(port)
    nonce = secrets.token_hex(8)
    with board.visit(), tempfile.TemporaryDirectory() as folder:
        survey = board.call(f"survey({nonce!r})")
        if not survey["machine"].endswith(limits["machine"]):
            raise BoardError(f"this is another board: {survey['machine']}. Name the right BOARD")
        own = hashlib.sha256(nonce.encode() + files["/site.key"]).hexdigest()
        if survey["key"] not in ("", own) and not take_over:
            raise BoardError(
                "the board belongs to another site (its site key differs): name that site's "
                "folder with SITE=. To make it yours, which its cards and its firmware do not "
                f"survive: .venv/bin/python -m tools.provision --take-over BOARD {port}"
            )
        if approve:
            approve(survey)
        local = Path(folder) / "file"
        # Both copies of the key first, so that a cut leaves nothing that belongs to no site.
        for path, data in {**dict(sitekey.key_copies(files["/site.key"])), **files}.items():
            write_secret(local, data)
            board.call(f"make_folders([{path!r}])")
            try:
                board.copy(local, path + ".new")
            except BoardError:
                board.call(f"remove([{path[1:] + '.new'!r}])")
                raise
            if path == "/config.json":
                board.call(f"remove({TRIALS!r})")
            board.call(f"put_in_place([{path[1:]!r}])")
            say("  " + path)
    board.restart()
    if "/" + STATE in files:
        say("the role user is closed until admin gives it a PIN")
    say("provisioned; next: make deploy")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make provision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("board")
    parser.add_argument("ports")
    parser.add_argument("--answers", type=Path, help="a configuration to use instead of asking")
    parser.add_argument("--pin", action="store_true", help="with --answers: ask for the first PIN")
    parser.add_argument("--take-over", action="store_true", help="also a board of another site")
    parser.add_argument(
        "--now", action="store_true", help="stop the firmware even while a car charges there"
    )
    parser.add_argument(
        "--replace", action="store_true", help="also with the name of another board"
    )
    parser.add_argument("--file", action="append", default=[], metavar="LOCAL:/PATH")
    arguments = parser.parse_args()
    limits = limits_of(arguments.board)
    given = named_files(arguments.file)
    try:
        return provision_all(arguments, limits, given)
    except (EOFError, KeyboardInterrupt):
        raise SystemExit("\nstopped: this board was not provisioned") from None


def provision_all(arguments, limits: dict, given: dict[str, bytes]) -> int:
    """Ask for and install what belongs to each board. Returns the exit code."""
    failed = 0
    # One after the other: each has a name of its own, and somebody answers.
    for port in ports_of(arguments.ports):
        if arguments.answers:
            interview = Interview(read_answers(arguments.answers), limits["network"])
            if arguments.pin:
                interview.ask_pin()
        else:
            print(f"-- {port} --")
            name = input("name of this board: ").strip()
            interview = Interview(settings_for(arguments.board, name), limits["network"])
            interview.settings["board_id"] = name or interview.settings["board_id"]
            interview.run()
        settings = interview.settings
        text = checked(settings)
        key = make_key(SITE)
        files = {"/site.key": key.read_bytes(), **given, **interview.files}
        files["/config.json"] = text.encode()

        def approve(survey: dict, name=settings["board_id"], text=text) -> None:
            claim(name, survey["unique"], survey["board_id"], arguments.replace)
            write_secret(kept_as(name), text.encode())

        failed |= on_each(
            port,
            lambda port, say, files=files, approve=approve: install(
                port, say, limits, files, arguments.take_over, approve, arguments.now
            ),
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
