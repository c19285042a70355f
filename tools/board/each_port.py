"""One job on several boards at once, each at its own port."""

import contextlib
import sys
import threading
import time
import traceback

from tools.board.board_port import BoardError, stop

_lock = threading.Lock()
_STOP_SECONDS = 30
_LOOK_SECONDS = 0.2


class Reporter:
    """Says what happens at one port; lines name it when there are several."""

    def __init__(self, port: str, several: bool):
        self._start = port + ": " if several else ""

    def say(self, text: str) -> None:
        """Write a line."""
        with _lock:
            print(self._start + text, flush=True)


def ports_of(text: str) -> list[str]:
    """The ports of PORT=a,b or PORT="a b", each once. Raises SystemExit when there is none."""
    ports = list(dict.fromkeys(text.replace(",", " ").split()))
    if not ports:
        raise SystemExit(
            "name the board's serial port: PORT=/dev/ttyACM0, or several: PORT=/dev/ttyACM0,"
            "/dev/ttyUSB0; `.venv/bin/mpremote connect list` shows them"
        )
    return ports


def on_each(text: str, job) -> int:
    """Run `job(port, say)` for every port at once. Returns the exit code: 0 when all went well.

    A job raises BoardError when it fails.
    """
    ports = ports_of(text)
    failed: dict[str, str] = {}

    def work(port: str, done: threading.Event) -> None:
        reporter = Reporter(port, len(ports) > 1)
        try:
            job(port, reporter.say)
        except BoardError as error:
            failed[port] = str(error)
            reporter.say(f"FAILED: {error}")
        except Exception as error:
            # An error of ours: not to be taken for a success.
            failed[port] = str(error)
            traceback.print_exc()
            reporter.say(f"FAILED: {type(error).__name__}: {error}")
        finally:
            done.set()

    stop.clear()
    # Not Thread.join(): interrupted, it takes the thread for one that has ended.
    ends = [threading.Event() for _ in ports]
    for each in zip(ports, ends, strict=True):
        threading.Thread(target=work, args=each, daemon=True).start()
    try:
        for end in ends:
            # By the clock: Ctrl-C that reaches another thread of this process wakes nobody here.
            while not end.wait(_LOOK_SECONDS):
                pass
    except KeyboardInterrupt:
        # A board that is stopped in the middle shall run its firmware again.
        stop.set()
        deadline = time.monotonic() + _STOP_SECONDS
        with contextlib.suppress(KeyboardInterrupt):  # a second one: at once
            for end in ends:
                end.wait(max(0, deadline - time.monotonic()))
        raise SystemExit(130) from None
    if len(ports) > 1:
        print(f"{len(ports) - len(failed)} of {len(ports)} boards went well", file=sys.stderr)
    return 1 if failed else 0
