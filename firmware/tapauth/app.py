"""Where a stranger starts reading: main() makes the parts of a board and runs them.

start.py makes and joins them, once, and is forgotten then; roles/ has what they do together. No
part knows more than its own room: docs/architecture.md has the map.
"""

import asyncio

from tapauth.compat import forget


def main() -> None:
    """Start the firmware; returns only when its configuration is refused."""
    from tapauth import start

    begun = start.begin()
    if not begun:
        return
    app = start.make(*begun)
    try:
        start.add_tasks(app)
        forget(start)
        del start  # it made the parts, and what it needed for that is in the way from here on
        asyncio.run(app.supervisor.run())
    finally:
        while True:
            try:
                app.close()
                break
            except KeyboardInterrupt:
                pass  # a second Ctrl-C must not leave an EVSE on
