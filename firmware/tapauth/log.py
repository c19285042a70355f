"""A log with levels that cannot show a token.

Lines go to the serial console: `[ 12.345] I reader: text`, the time in seconds since the start.
A token is an argument of its own (a dict as it goes through the core) and comes out as the first
8 hex digits of a keyed hash: enough to follow one card through the log, nothing to copy it from.
"""

import binascii
import hashlib

from tapauth.compat import const, trace_lines
from tapauth.topics import is_text

DEBUG = const(0)
INFO = const(1)
WARNING = const(2)
ERROR = const(3)
_LETTERS = "DIWE"
LEVELS = ("debug", "info", "warning", "error")


def token_name(key: bytes, token: dict) -> str:
    """Eight hex digits that stand for a token: the start of SHA-256(key | value).

    `token` is an IdToken or a ProvidedIdToken. Values are compared without case, so they are
    hashed without case.
    """
    token = token.get("id_token", token)
    value = token.get("value") if isinstance(token, dict) else None
    if not isinstance(value, str):
        return "no-token"
    digest = hashlib.sha256(key + value.upper().encode()).digest()
    return binascii.hexlify(digest[:4]).decode()


class Log:
    """`key` is secret and random; `write` takes a line; `clock.now()` gives milliseconds.

    A line for which there is no memory is left out: it must not keep anybody from the work that
    it tells of.
    """

    def __init__(self, clock, key: bytes, level: int = INFO, write=print):
        self._clock = clock
        self._key = key
        self._write = write
        self.level = level

    def _line(self, level: int, where: str, text: str, arguments: tuple) -> None:
        if level < self.level:
            return
        try:
            if arguments:
                text = text.format(*[self._show(argument) for argument in arguments])
            now = self._clock.now()
            self._write(f"[{now // 1000:5}.{now % 1000:03}] {_LETTERS[level]} {where}: {text}")
        except MemoryError:
            pass

    def _show(self, argument):
        if isinstance(argument, dict):
            return "token " + self.name(argument)
        if isinstance(argument, str):
            # A line break in a stranger's word would make a line that is all the stranger's.
            return argument if is_text(argument) else "<odd text>"
        if isinstance(argument, (int, float)) or argument is None:
            return argument
        if isinstance(argument, Exception):
            # An exception's text may quote what it choked on; a number (errno) cannot.
            number = argument.args[0] if argument.args else None
            name = type(argument).__name__
            if isinstance(argument, MemoryError):
                return f"{name}: {argument}"  # how much was asked for
            return f"{name} {number}" if isinstance(number, int) else name
        # All else (a list, bytes off the wire) might hold a token.
        return f"<{type(argument).__name__}>"

    def write_to(self, write) -> None:
        """Hand the lines to `write` from now on."""
        self._write = write

    def name(self, token: dict) -> str:
        """The name of a token in the log."""
        return token_name(self._key, token)

    def trace(self, error: BaseException) -> None:
        """The places where `error` came from, without its text."""
        try:
            for line in trace_lines(error):
                self._write("        " + line)
        except MemoryError:
            pass

    def debug(self, where: str, text: str, *arguments) -> None:
        """For developers: every step."""
        self._line(DEBUG, where, text, arguments)

    def info(self, where: str, text: str, *arguments) -> None:
        """Events that a technician wants to see."""
        self._line(INFO, where, text, arguments)

    def warning(self, where: str, text: str, *arguments) -> None:
        """Something was refused or lost, and the board went on."""
        self._line(WARNING, where, text, arguments)

    def error(self, where: str, text: str, *arguments) -> None:
        """Something that the board should do does not work."""
        self._line(ERROR, where, text, arguments)
