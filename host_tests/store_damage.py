"""Damage that only a real littlefs shows: a full disk, bytes of the flash. Runs on MicroPython."""

import sys

sys.path.append(".")

from flash_sim import BLOCK, SETTINGS, Cut, Files, formatted
from store_cuts import NOW, SCENARIOS, few, open_store, state, token

from tapauth.store import finish
from tapauth.store.codec import StoreError


def fill(fs, blocks):
    """Take up to this many blocks. Returns how many there were."""
    filler = fs.open("filler", "wb")
    for taken in range(blocks):
        try:
            filler.write(bytes(BLOCK - 8))
            filler.flush()
        except OSError:
            return taken
    filler.close()
    return blocks


def full_disk():
    """Every operation at every amount of room left: done whole or not at all, and told."""
    told = done = 0
    for chip in ("esp32", "rp2"):
        settings = SETTINGS[chip]
        for name in sorted(SCENARIOS):
            before, changes = SCENARIOS[name]
            if not before:
                continue
            large = name in ("merge", "full_list")
            flash = formatted(160 if large else 40, settings)
            store = open_store(flash, settings)
            before(store)
            store.close()
            free = fill(Files(Cut(flash), settings), 1000)
            for room in range(2, 44, 10) if large else range(8):
                device = Cut(flash)
                fill(Files(device, settings), free - room)
                store = open_store(device, settings)
                for change in changes:
                    old = state(store)
                    try:
                        change(store)
                        done += 1
                    except (OSError, StoreError):
                        told += 1
                        assert state(store) == old, (chip, name, room)
                    assert not store.damage and not store.busy
                    new = state(store)
                    store.close()
                    store = open_store(device, settings)
                    assert state(store) == new, (chip, name, room, state(store), new)
                store.close()
    print(done, "changes went through,", told, "were refused for want of room")


def flash_bytes():
    """Flash bytes flipped: it mounts and opens or says why not, and accepts no stranger."""
    settings = SETTINGS["esp32"]
    flash = formatted(16, settings)
    store = open_store(flash, settings)
    few(store)
    for i in range(9):
        finish(store.put(token(100 + i), {"authorization_status": "Blocked"}))
    finish(
        store.update(
            7, [(token(300 + i), {"authorization_status": "Accepted"}) for i in range(20)]
        )
    )
    store.close()
    never = [token(100 + i) for i in range(9)] + [token(5), token(999)]
    once = [token(i) for i in range(1, 5)] + [token(310)]
    tried = unmounted = told = 0
    for at in range(len(flash.data)):
        if at % 3 or flash.data[at] == 0xFF and flash.data[at : at + 64] == b"\xff" * 64:
            continue
        tried += 1
        flash.data[at] ^= 1 << at % 8
        device = Cut(flash)
        try:
            store = open_store(device, settings)
        except OSError:
            unmounted += 1
            store = None
        if store:
            for id_token in never:
                result, _ = store.lookup(id_token, NOW)
                assert not result or result["authorization_status"] != "Accepted", at
            for id_token in once:
                store.lookup(id_token, NOW)
            told += bool(store.damage)
            store.close()
        flash.data[at] ^= 1 << at % 8
    print(tried, "flipped,", unmounted, "without a file system,", told, "told by the store")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
