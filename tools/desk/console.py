"""What a person at the desktop charger sees and can type."""

import contextlib
import json
import re
import threading
import time

HELP = """\
  tap UID      hold a card to the reader until `lift`: 8, 14 or 20 hex digits
  lift         take all cards away
  plug N       plug a car in at EVSE N
  start N      the EVSE begins its transaction
  stop N       the EVSE ends its transaction
  unplug N     the car is unplugged
  help         this text
  quit         stop everything (Ctrl-D too)
The cards of a new flash are in boards/desktop/cards.csv."""


class Screen:
    """Prints one line per happening, with the seconds since the start; safe from any thread."""

    def __init__(self, write=print):
        self._write = write
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def _line(self, mark: str, text: str) -> None:
        with self._lock:
            self._write(f"{time.monotonic() - self._start:8.3f} {mark} {text}", flush=True)

    def say(self, text: str) -> None:
        """The desktop charger itself says something."""
        self._line("*", text)

    def board(self, line: str) -> None:
        """The board printed a line on its serial console."""
        self._line("|", line)

    def message(self, topic: str, payload: bytes) -> None:
        """A message came over MQTT."""
        self._line(">", f"{topic}  {summary(topic, payload)}")


def summary(topic: str, payload: bytes) -> str:
    """One readable line for a payload: a token status in words, other JSON compact."""
    try:
        value = json.loads(payload)
    except ValueError:
        return repr(payload[:200])
    if topic.endswith("/token_validation_status"):
        with contextlib.suppress(KeyError, TypeError):
            token = value["token"]
            line = f"{value['status']}  card {token['id_token']['value']}"
            if "parent_id_token" in token:
                line += f"  group {token['parent_id_token']['value']}"
            if "connectors" in token:
                line += "  EVSE " + ", ".join(str(evse) for evse in token["connectors"])
            return line
    return json.dumps(value, separators=(",", ":"))


def parse_uid(text: str) -> bytes:
    """A UID in any common writing to its bytes. Raises ValueError with advice."""
    digits = re.sub(r"[\s:.-]", "", text)
    if not re.fullmatch(r"([0-9a-fA-F]{2})+", digits) or len(digits) not in (8, 14, 20):
        raise ValueError("a UID has 8, 14 or 20 hex digits, like 04a1b2c3d4e5f6")
    return bytes.fromhex(digits)


def obey(charger, line: str) -> None:
    """Carry out one command line. Raises ValueError with advice when it makes no sense."""
    verb, _, rest = line.strip().partition(" ")
    verb = verb.lower()
    rest = rest.strip()
    if verb == "tap":
        charger.chip.place(parse_uid(rest))
    elif verb == "lift" and not rest:
        charger.chip.lift()
    elif verb in ("plug", "start", "stop", "unplug"):
        count = len(charger.config.get("evses", [1]))
        if not rest.isdigit() or not 1 <= int(rest) <= count:
            raise ValueError(f"{verb} takes the number of an EVSE, 1 to {count}")
        getattr(charger.evses, verb)(int(rest))
    else:
        raise ValueError("type `help` for what can be typed")


def converse(charger, screen: Screen, help_text: str = HELP) -> int:
    """Take commands from the terminal until `quit`. Returns the exit code."""
    screen.say("type `help` for what you can do, for example: tap 04a1b2c3d4e5f6")
    while True:
        try:
            line = input()
        except EOFError:
            return 0
        if charger.exit_code is not None:
            screen.say("the firmware has ended; its last lines say why")
            return 1
        if not line.strip():
            continue
        if line.strip().lower() in ("quit", "exit"):
            return 0
        if line.strip().lower() == "help":
            print(help_text)
            continue
        try:
            obey(charger, line)
        except ValueError as error:
            screen.say(str(error))
