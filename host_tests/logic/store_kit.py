"""What the store's logic tests share: tokens, and a store in a fresh folder."""

import os

from tapauth.store import Store, files

KEY = bytes(range(32))
NOW = 1_790_000_000  # 2026-09-21
DAY = 86_400
FOLDER = "/tmp/tapauth-store"


def token(i, kind="ISO14443"):
    return {"value": f"04{i:012X}", "type": kind}


def accepted(**more):
    return dict(authorization_status="Accepted", **more)


def parent(value):
    return {"value": value, "type": "Central"}


def new_store(name, **options):
    """An empty store in a folder of its own."""
    # The process's number keeps runs side by side apart; MicroPython has none to give.
    folder = f"{FOLDER}-{name}-{options.pop('run', getattr(os, 'getpid', int)())}"
    try:
        for entry in os.listdir(folder):
            os.remove(folder + "/" + entry)
    except OSError:
        pass
    return Store(files, folder, KEY, **options)


def again(store, **options):
    """The same store after a restart."""
    store.close()
    return Store(files, store.folder, KEY, **options)


def status_of(store, id_token, now=NOW):
    result, _ = store.lookup(id_token, now)
    return result and result["authorization_status"]
