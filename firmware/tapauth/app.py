"""Where a stranger starts reading: main() makes the parts of a board and runs them.

start.py makes and joins them, once, and is forgotten then; roles/ has what they do together. No
part knows more than its own room: docs/architecture.md has the map.
"""

import asyncio

from tapauth.compat import MAPS_FLASH, forget, loader


def main() -> None:
    """Start the firmware; returns only when its configuration is refused."""
    pins = counts = None
    if MAPS_FLASH:
        from tapauth.pinning import begin

        forget(begin)
        pins = begin.begin()
        del begin
        counts = pins.counts
    load = loader(pins, counts)
    app = None
    try:
        start = load(_load_start)
        begun = start.begin(pins)
        if begun:
            app = load(start.make, *begun, pins)
            load(start.add_tasks, app)
            del begun, load, start  # what the start needed is in the way from here on
            asyncio.run(app.supervisor.run())
    except KeyboardInterrupt:
        if pins:
            pins.well()
        raise
    finally:
        while app:
            try:
                app.close()
                break
            except KeyboardInterrupt:
                pass  # a second Ctrl-C must not leave an EVSE on
    if pins:
        pins.well()


def _load_start():
    # The deepest first: an import inside another takes a KB of a board's 8 KB of stack.
    from tapauth.core import shapes  # noqa: F401
    from tapauth import start  # isort: skip

    forget(start)
    return start
