"""Damage that only a real littlefs shows: a full disk, bytes of the flash. Runs on MicroPython."""

import sys

sys.path.append(".")

from flash_sim import BLOCK, SETTINGS, Cut, Failing, Files, formatted
from store_cuts import CHANGES, NOW, answer, few, image, open_store, place, put, state, token

from tapauth.cards.codec import StoreError
from tapauth.cards.store import finish


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
        for name in sorted(CHANGES):
            before, changes = CHANGES[name]
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


def broken_device():
    """A device that fails once, anywhere in a change: it is done whole or not at all, and told."""
    tried = told = 0
    for chip in ("esp32", "rp2"):
        settings = SETTINGS[chip]
        for name in sorted(CHANGES):
            before, changes = CHANGES[name]
            if not before or name in ("merge", "full_list"):
                continue
            flash = formatted(60, settings)
            store = open_store(flash, settings)
            before(store)
            store.close()
            for reads in (False, True):
                device = Failing(flash)
                store = open_store(device, settings)
                device.reads, device.count = reads, 0
                for change in changes:
                    change(store)
                total = device.count
                store.close()
                for at in range(1, total + 1, 1 + total // 10):
                    for done in (False,) if reads else (False, True):
                        case = (chip, name, "reads" if reads else "programs", at, done)
                        device = Failing(flash)
                        store = open_store(device, settings)
                        device.reads, device.done = reads, done
                        device.count, device.at = 0, at
                        told += _goes_on(store, changes, settings, device, case)
                        tried += 1
    print(tried, "failures of the device,", told, "told")


def _goes_on(store, changes, settings, device, case):
    told = 0
    possible = [state(store)]
    for change in changes:
        try:
            change(store)
            possible = [state(store)]
        except (OSError, StoreError):
            told = 1
            possible.append(state(store))
            break
    assert not store.busy, case
    device.at = None
    if store.damage:  # what was read back was wrong: told, and then it accepts nothing more
        store.close()
        return 1
    if told:
        # It is as it was, or done; a change tried again after that is kept as any other.
        try:
            change(store)
            possible = [state(store)]
        except StoreError:
            pass
    added = token(70_000)
    finish(store.put(added, {"authorization_status": "Blocked"}))
    now = state(store)
    store.close()
    store = open_store(device, settings)
    assert not store.damage, (case, store.damage)
    assert state(store) == now, (case, state(store), now)
    finish(store.verify())
    assert not store.damage, (case, store.damage)
    store.close()
    return told


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


def _learn(i, status):
    info = {"authorization_status": status}
    return lambda store: finish(store.learn(token(i), info, NOW))


def _update(version, changes):
    return lambda store: finish(store.update(version, changes))


def _accepted(*cards):
    return lambda store: any((answer(store, i) or "")[0:1] == ("Accepted",) for i in cards)


# What a store is told to hold, then to give up, and whether it is there again.
WITHDRAWALS = {
    "blocked": (put(301, "Accepted"), put(301, "Blocked"), _accepted(301)),
    "deleted": (
        put(301, "Accepted"),
        lambda store: finish(store.delete(token(301))),
        _accepted(301),
    ),
    "update": (put(301, "Accepted"), _update(9, [(token(301), None)]), _accepted(301)),
    "large_update": (
        _update(8, [(token(300 + i), {"authorization_status": "Accepted"}) for i in range(9)]),
        _update(9, [(token(300 + i), None) for i in range(20)]),
        _accepted(*range(300, 309)),
    ),
    "full_list": (
        lambda store: place(store, image([301, 302], 4)),
        lambda store: place(store, image([303], 5)),
        _accepted(301, 302),
    ),
    "version": (_update(9, []), _update(10, []), lambda store: store.version == 9),
    "learned": (_learn(20_301, "Accepted"), _learn(20_301, "Blocked"), _accepted(20_301)),
    "learned_deleted": (
        _learn(20_301, "Accepted"),
        lambda store: finish(store.delete(token(20_301))),
        _accepted(20_301),
    ),
    "cleared_cache": (
        _learn(20_301, "Accepted"),
        lambda store: store.clear_cache(),
        _accepted(20_301),
    ),
    "group": (
        lambda store: store.set_master_pass_group_id("FORMER"),
        lambda store: store.set_master_pass_group_id("PRESENT"),
        lambda store: store.master_pass_group_id == "FORMER",
    ),
    "timeout": (
        lambda store: store.set_connection_timeout(300),
        lambda store: store.set_connection_timeout(30),
        lambda store: store.connection_timeout == 300,
    ),
}


def withdrawn(step=701):
    """A flipped bit of a directory's blocks brings back nothing that was withdrawn, or is told.

    littlefs keeps a directory in two blocks: it then believes the older one, or the newer without
    its last commits. Of all bits, one in `step` is tried.
    """
    step = int(step)
    for chip in ("esp32", "rp2"):
        settings = SETTINGS[chip]
        tried = told = 0
        back = []
        for name in sorted(WITHDRAWALS):
            before, change, is_back = WITHDRAWALS[name]
            flash = formatted(24, settings)
            store = open_store(flash, settings)
            few(store)
            before(store)
            # So often that both blocks of the directory know what is to be withdrawn.
            flash.log = []
            for i in range(40):
                info = {"authorization_status": ("Blocked", "Invalid")[i % 2]}
                finish(store.put(token(400), info))
            blocks = sorted({block for block, _, _ in flash.log})
            flash.log = None
            change(store)
            for i in range(2):
                _learn(20_401 + i, "Accepted")(store)
            store.close()
            for block in blocks:
                for bit in range(block % step, 8 * BLOCK, step):
                    at = block * BLOCK + bit // 8
                    if flash.data[at : at + 64] == b"\xff" * 64:
                        continue
                    tried += 1
                    flash.data[at] ^= 1 << bit % 8
                    try:
                        store = open_store(Cut(flash), settings)
                        if is_back(store) and not store.damage:
                            back.append((name, block, bit))
                        told += bool(store.damage)
                        store.close()
                    except OSError:
                        told += 1
                    flash.data[at] ^= 1 << bit % 8
        print(
            chip, tried, "flipped,", told, "told,", len(back), "brought something back;", end=" "
        )
        assert not back, (chip, len(back), tried, back[:20])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
