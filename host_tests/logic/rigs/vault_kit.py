"""A vault with an empty store, on a flash that can be full, and a loop that takes no time."""

import asyncio

from store_kit import KEY, NOW, new_store, token

from tapauth.cards import files
from tapauth.cards import vault as vault_module
from tapauth.cards.vault import Vault
from tapauth.compat import sleep_ms

ACCEPTED = {"authorization_status": "Accepted", "tariff_messages": []}
BLOCKED = {"authorization_status": "Blocked", "tariff_messages": []}
SETTINGS = {"capacity": 1000, "cache_days": 90}


class Parts:
    """Clock, errors and log of a board."""

    def __init__(self):
        self.active = set()
        self.now = NOW

    def unix(self):
        return self.now

    def set(self, active, kind, sub_type, origin, message):
        if active:
            self.active.add(sub_type)
        else:
            self.active.discard(sub_type)

    def info(self, *arguments):
        pass

    warning = error = info


class Flash:
    """The file system, which can be full."""

    def __init__(self):
        self.full = False
        self.error: Exception = OSError(28)
        self.rename, self.remove = files.rename, files.remove
        self.mkdir, self.urandom = files.mkdir, files.urandom

    def open(self, path, mode):
        if self.full and mode != "rb":
            raise self.error
        return files.open(path, mode)


async def _soon(ms):
    await sleep_ms(0)


vault_module.sleep_ms = _soon  # a turn of its loop takes no time


def new_vault(name):
    """(vault, parts) with an empty store, on a flash that can be full."""
    store = new_store("vault_" + name)
    store.close()
    vault_module.FOLDER = store.folder
    from tapauth.crypto import sitekey  # anew each time: the vault forgets it

    own = sitekey.KEY, sitekey.COPY
    sitekey.KEY, sitekey.COPY = store.folder + ".key", store.folder + ".key2"
    for path, data in sitekey.key_copies(KEY):
        with open(path, "wb") as file:
            file.write(data)
    parts = Parts()
    vault_module.files = Flash()
    vault = Vault(SETTINGS, False, parts, parts, parts)
    # The tools have the module too, when they run in this process.
    sitekey.KEY, sitekey.COPY = own
    return vault, parts


def run(vault, *conditions):
    """Let the vault work until each condition was true once."""

    async def wait():
        task = asyncio.create_task(vault.run(lambda: None))
        for condition in conditions:
            while not condition():
                await sleep_ms(0)
        task.cancel()

    asyncio.run(wait())


def turns(count):
    """A condition that is true after so many turns of the loop."""
    left = [count]

    def over():
        left[0] -= 1
        return left[0] <= 0

    return over


def status(vault, i):
    result, _ = vault.look_up(token(i))
    return result and result["authorization_status"]


def learn(vault, i, result=ACCEPTED):
    vault.learn({"id_token": token(i)}, result)
