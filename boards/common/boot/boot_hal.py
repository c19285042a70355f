"""What the boot part needs of the chip. It starts before a slot does, so it uses none."""

from time import sleep

from boot_pins import SAFE_MODE, TIMER
from machine import WDT, Pin, Timer, reset

__all__ = ["keep_alive", "pause", "reset", "safe_mode", "start_watchdog"]

_FEEDS = 450  # every 2 s, so for 15 minutes

_watchdog = None
_timer = None
_feeds_left = 0


def safe_mode() -> bool:
    """Whether a technician holds the safe-mode pin low."""
    return Pin(SAFE_MODE, Pin.IN, Pin.PULL_UP)() == 0


def start_watchdog(timeout_ms: int):
    """Arm the watchdog; from now on only feed() of what is returned keeps the board running."""
    global _timer, _watchdog
    if _timer:
        _timer.deinit()
        _timer = None
    _watchdog = WDT(timeout=timeout_ms)
    return _watchdog


def _feed(_timer):
    global _feeds_left
    if _feeds_left > 0:
        _feeds_left -= 1
        _watchdog.feed()


def keep_alive():
    """Feed the watchdog for 15 minutes from now, for a technician; then the board restarts."""
    global _timer, _watchdog, _feeds_left
    _feeds_left = _FEEDS
    if _timer is None:
        _watchdog = WDT(timeout=8000)
        _timer = Timer(TIMER, period=2000, callback=_feed)


def pause(seconds: int):
    """Wait."""
    sleep(seconds)
