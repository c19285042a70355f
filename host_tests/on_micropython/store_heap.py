"""100,000 lookups leave the heap as it was. Runs on MicroPython: first `fill`, then `look`."""

import gc
import os
import sys

gc.threshold(2048)  # boot.py does so on a board; the heap here is a third of a board's

from tapauth.cards import files  # noqa: E402
from tapauth.cards.store import Store, finish  # noqa: E402

KEY = bytes(range(32))
NOW = 1_790_000_000
LOOKUPS = 100_000


def token(i):
    return {"value": f"04{i:012X}", "type": "ISO14443"}


def fill(folder):
    """300 cards with parents, in the run, the delta and the journal."""
    store = Store(files, folder, KEY)
    for i in range(300):
        parent = {"value": f"FLEET{i % 5}", "type": "Central"}
        info = {"authorization_status": "Accepted", "parent_id_token": parent}
        finish(store.put(token(i), info))


def look(folder):
    """Half of the lookups find nothing."""
    # Once before: the names that opening a store brings stay, and are no part of it.
    Store(files, folder, KEY).close()
    gc.collect()
    before = gc.mem_alloc()
    store = Store(files, folder, KEY)
    store.lookup(token(0), NOW)  # else the stack may still point at what was forgotten
    gc.collect()
    held = gc.mem_alloc() - before
    known = unknown = 0
    lowest = highest = None
    for i in range(LOOKUPS):
        if store.lookup(token(i % 600), NOW)[0]:
            known += 1
        else:
            unknown += 1
        if i % 10_000 == 9_999:
            gc.collect()
            free = gc.mem_free()
            lowest = free if lowest is None else min(lowest, free)
            highest = free if highest is None else max(highest, free)
    print("known", known, "unknown", unknown, "growth", highest - lowest, "held", held)


# So that what is held does not depend on how long a folder's name is.
os.chdir(sys.argv[2])
globals()[sys.argv[1]]("store")
