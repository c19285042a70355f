"""Damaged files: the store never fails to open, and never accepts a card it should not."""

import os
import random
import struct
from binascii import crc32

import pytest
from conftest import run_micropython

from tapauth.cards import files
from tapauth.cards.codec import Damaged, StoreError
from tapauth.cards.store import Store, finish
from tools.cardlist.card_image import Builder

KEY = bytes(range(32))
NOW = 1_790_000_000


def token(i):
    return {"value": f"04{i:012X}", "type": "ISO14443"}


def info(i):
    found = {"authorization_status": "Blocked" if i % 4 == 0 else "Accepted"}
    if i % 3 == 0:
        found["parent_id_token"] = {"value": f"FLEET{i % 5}", "type": "Central"}
    if i % 7 == 0:
        found["evse_ids"] = [1 + i % 3]
    if i % 5 == 0:
        found["expiry_time"] = "2027-03-01T00:00:00Z"
    return found


def image(path, cards, version):
    builder = Builder(KEY)
    for i in cards:
        builder.add(token(i), info(i))
    with open(path, "wb") as file:
        builder.write(file, version, 12345)
    return path.read_bytes()


@pytest.fixture
def store(tmp_path):
    """Cards in every place: run, delta, journal; some deleted or blocked since."""
    store = Store(files, str(tmp_path / "store"), KEY)
    store.day(NOW)  # or the first card learned would merge the delta away
    load = store.load()
    finish(load.write(image(tmp_path / "list", range(60), 3)))
    finish(load.commit())
    finish(store.update(4, [(token(i), None) for i in range(10, 20)] + [(token(99), info(99))]))
    finish(store.update(5, [(token(21), {"authorization_status": "Blocked"})]))
    for i in range(200, 210):
        finish(store.learn(token(i), info(i), NOW))
    store.clear_cache()
    for i in range(205, 215):
        finish(store.learn(token(i), info(i), NOW))
    finish(store.delete(token(22)))
    finish(store.delete(token(99)))
    store.set_master_pass_group_id("MASTERS")
    yield store
    store.close()


def answers(store):
    return [store.lookup(token(i), NOW) for i in (*range(62), 99, *range(198, 216))]


def check(store, truth):
    """No accept that is not the truth; anything else than the truth was told. Returns whether
    all was as it should."""
    found = answers(store)
    for got, right in zip(found, truth, strict=True):
        if got[0] and got[0]["authorization_status"] == "Accepted":
            assert got == right
    assert found == truth or store.damage
    assert store.master_pass_group_id == "MASTERS"
    return found == truth


def reopened(folder):
    store = Store(files, folder, KEY)
    finish(store.verify())
    return store


def test_every_flipped_byte_and_truncation(store):
    truth = answers(store)
    folder = store.folder
    store.close()
    rng = random.Random(1)
    tried = whole = 0
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        good = open(path, "rb").read()
        damaged = [good[:n] for n in range(len(good))]
        if len(good) > 1000:
            damaged = [good[:n] for n in range(0, len(good), 13)]
            damaged += [good[:n] for n in range(0, len(good), 256)]
        for n in range(len(good)):
            flipped = bytearray(good)
            flipped[n] ^= 1 << rng.randrange(8)
            damaged.append(bytes(flipped))
        for data in damaged:
            with open(path, "wb") as file:
                file.write(data)
            store = Store(files, folder, KEY)
            whole += check(store, truth)
            tried += 1
            store.close()
        with open(path, "wb") as file:
            file.write(good)
    assert check(reopened(folder), truth)
    print(f"{tried} damaged stores, {whole} of them answered as before")
    assert tried > 4000


def test_files_swapped_or_missing(store):
    truth = answers(store)
    folder = store.folder
    store.close()
    names = sorted(os.listdir(folder))
    content = {name: open(os.path.join(folder, name), "rb").read() for name in names}

    def place(changed):
        for name, data in changed.items():
            path = os.path.join(folder, name)
            if data is None:
                os.remove(path)
            else:
                with open(path, "wb") as file:
                    file.write(data)

    for one in names:
        for other in names:
            if one < other:
                place({one: content[other], other: content[one]})
                store = Store(files, folder, KEY)
                check(store, truth)
                store.close()
                place(content)
    for name in names:
        if name in ("cards", "settings"):
            place({name: None})
            store = Store(files, folder, KEY)
            if name == "cards":
                assert store.damage and not any(got for got, _ in answers(store))
            else:
                assert store.master_pass_group_id == "MASTERS" and not store.damage
            store.close()
            place(content)


def test_a_damaged_store_takes_no_change_and_a_full_list_mends_it(store, tmp_path):
    folder = store.folder
    store.close()
    path = os.path.join(folder, "cards")
    data = bytearray(open(path, "rb").read())
    data[700] ^= 1
    open(path, "wb").write(data)
    for name in ("j1", "j2", "j3"):
        if os.path.exists(os.path.join(folder, name)):
            open(os.path.join(folder, name), "ab").write(b"x")
    store = reopened(folder)
    assert store.damage
    with pytest.raises(Damaged):
        finish(store.put(token(500), info(501)))
    load = store.load()
    finish(load.write(image(tmp_path / "list", range(100), 9)))
    finish(load.commit())
    assert not store.damage and store.version == 9 and store.listed == 100
    store.close()
    store = reopened(folder)
    assert not store.damage
    for i in range(100):
        assert (
            store.lookup(token(i), NOW)[0]["authorization_status"]
            == (info(i)["authorization_status"])
        )
    finish(store.put(token(500), info(501)))


def test_a_bad_upload_changes_nothing(store, tmp_path):
    truth = answers(store)
    good = image(tmp_path / "list", range(70), 9)
    records = good[-2048:-1280]
    swapped = records[12:24] + records[:12] + records[24:]
    bad = [good[:n] for n in (0, 100, 256, 600, len(good) - 256)]
    bad += [good + b"x", good[:-2048] + swapped + good[-1280:], b"\0" * 600]
    rng = random.Random(2)
    terms = int.from_bytes(good[32:34], "little")
    padding = range(256 + terms * 48, 256 + -(-terms * 48 // 256) * 256)  # says nothing
    for n in range(0, len(good), 3):
        if n not in padding:
            flipped = bytearray(good)
            flipped[n] ^= 1 << rng.randrange(8)
            bad.append(bytes(flipped))
    for data in bad:
        load = store.load()
        with pytest.raises((StoreError, OSError)):
            finish(load.write(data))
            finish(load.commit())
        load.abort()
        assert not store.damage
    assert answers(store) == truth and store.version == 5
    other = Builder(bytes(32))
    other.add(token(1), info(1))
    with open(tmp_path / "other", "wb") as file:
        other.write(file, 9, 1)
    with pytest.raises(StoreError, match="another site key"):
        finish(store.load().write((tmp_path / "other").read_bytes()))
    finish(store.put(token(500), info(501)))


def test_changes_gone_back_are_told_and_a_full_list_mends_them(store, tmp_path):
    folder = store.folder
    card = token(300)

    def kept():
        return {name: open(os.path.join(folder, name), "rb").read() for name in os.listdir(folder)}

    def answer(store):
        result, _ = store.lookup(card, NOW)
        return result and result["authorization_status"]

    finish(store.put(card, {"authorization_status": "Accepted"}))
    store.set_master_pass_group_id("FORMER")
    former = kept()
    finish(store.delete(card))
    store.set_master_pass_group_id("PRESENT")
    present = kept()
    for gone in (former, {**former, "settings": present["settings"]}):
        store.close()
        for name, data in gone.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
        store = Store(files, folder, KEY)
        assert "gone back" in store.damage
        assert answer(store) is None and store.master_pass_group_id == "PRESENT"
    load = store.load()
    finish(load.write(image(tmp_path / "list", range(100), 9)))
    finish(load.commit())
    assert not store.damage
    store.close()
    store = reopened(folder)
    assert not store.damage and store.version == 9 and answer(store) is None
    finish(store.put(card, {"authorization_status": "Accepted"}))
    store.close()
    for name, data in present.items():  # a store that goes on is never taken for the former one
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
    assert Store(files, folder, KEY).damage


def test_what_goes_back_while_the_store_is_open_is_told_by_the_next_look(store):
    folder = store.folder
    paths = [os.path.join(folder, name) for name in ("j0", "j1", "j2", "settings")]
    paths.append(folder + ".witness")
    finish(store.verify())
    assert not store.damage
    for path in paths:
        good = open(path, "rb").read()
        with open(path, "wb") as file:
            file.write(good[:-1] + bytes((good[-1] ^ 1,)))
        store.damage = ""
        finish(store.verify())
        assert store.damage
        with open(path, "wb") as file:
            file.write(good)


def test_a_store_of_older_firmware_gets_its_witness(store):
    folder = store.folder
    truth = answers(store)
    group, timeout = b"MASTERS", 0
    seed, cleared = store.settings[:2]
    store.close()
    os.remove(folder + ".witness")
    os.remove(folder + ".settings")
    data = struct.pack("<IIH", seed, cleared, timeout) + group
    with open(os.path.join(folder, "settings"), "wb") as file:
        file.write(struct.pack("<I", crc32(data, 14)) + data)
    store = reopened(folder)
    assert not store.damage and answers(store) == truth
    assert store.master_pass_group_id == "MASTERS"
    assert os.path.exists(folder + ".witness")
    store.set_connection_timeout(45)
    assert not reopened(folder).damage


def test_an_unreadable_piece_of_the_journal_may_be_the_newest(store):
    """Without a witness, older pieces answer nothing then."""
    folder = store.folder
    many = [(token(i), {"authorization_status": "Blocked"}) for i in range(400, 420)]
    finish(store.update(50, many))  # so that the journal is empty
    for i in range(300, 309):
        finish(store.put(token(i), {"authorization_status": "Accepted"}))
    for i in range(300, 309):
        finish(store.delete(token(i)))
    assert store.status()["journal"] == 18
    store.close()
    os.remove(folder + ".witness")
    for name in ("j0", "j1", "j2", "j3", "j4"):
        path = os.path.join(folder, name)
        good = open(path, "rb").read()
        with open(path, "wb") as file:
            file.write(good[:-1] + bytes((good[-1] ^ 1,)))
        store = Store(files, folder, KEY)
        for i in range(300, 309):
            found, _ = store.lookup(token(i), NOW)
            assert not found or found["authorization_status"] != "Accepted"
        store.close()
        with open(path, "wb") as file:
            file.write(good)


@pytest.mark.parametrize("witness", ("damaged", "missing"))
def test_a_missing_piece_of_the_journal_beside_no_witness_may_be_the_newest(store, witness):
    folder = store.folder
    finish(store.update(50, [(token(i), {"authorization_status": "Blocked"}) for i in range(20)]))
    for i in range(300, 309):
        finish(store.put(token(i), {"authorization_status": "Accepted"}))
    for i in range(300, 309):
        finish(store.delete(token(i)))
    assert store.status()["journal"] == 18
    store.close()
    if witness == "damaged":
        with open(folder + ".witness", "wb") as file:
            file.write(bytes(14))
    else:
        os.remove(folder + ".witness")
    for name in ("j0", "j1", "j2", "j3", "j4"):
        path = os.path.join(folder, name)
        good = open(path, "rb").read()
        os.remove(path)
        for _ in range(2):  # nor does the next start take it for one that was never written
            store = Store(files, folder, KEY)
            for i in range(300, 309):
                found, _ = store.lookup(token(i), NOW)
                assert not found or found["authorization_status"] != "Accepted", name
            store.close()
        with open(path, "wb") as file:
            file.write(good)


def test_another_key_or_a_newer_format_is_told(store):
    folder = store.folder
    store.close()
    other = Store(files, folder, bytes(32))
    assert "key" in other.damage and not other.lookup(token(1), NOW)[0]
    other.close()
    path = os.path.join(folder, "cards")
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(b"\x02")
    newer = Store(files, folder, KEY)
    assert "format 2" in newer.damage and not newer.lookup(token(1), NOW)[0]
    newer.close()


def test_a_flipped_bit_of_a_directory_brings_back_no_withdrawn_card(tell):
    step = os.environ.get("TAPAUTH_FLIPS", "701")
    done = run_micropython(
        "host_tests/on_micropython/store_damage.py", "withdrawn", step, heap="64m", timeout=9e3
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tell(f"withdrawn: {done.stdout.strip()}")


@pytest.mark.parametrize("case", ("full_disk", "broken_device", "flash_bytes"))
def test_on_littlefs(case, tell):
    done = run_micropython("host_tests/on_micropython/store_damage.py", case, heap="64m")
    assert done.returncode == 0, done.stdout + done.stderr
    tell(f"{case}: {done.stdout.strip()}")
