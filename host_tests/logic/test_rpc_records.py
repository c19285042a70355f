"""What is on flash: records, tables, tokens, credentials; and the throttle."""

import binascii
import hashlib

from ram_fs import BrokenFs, RamFs
from rpc_rig import BACKEND, Random, error_of

from tapauth.crypto.hmac import Hmac
from tapauth.rpc import app_tokens, credentials, records
from tapauth.rpc.throttle import Throttle

ROWS = [b"one", b"", b"three" * 20]


def saved(rows=ROWS):
    fs = RamFs()
    records.RecordFile(fs, "/t").save(rows)
    return fs


def loaded(fs):
    file = records.RecordFile(fs, "/t")
    return file.load(), file.state


def test_records_come_back():
    assert loaded(RamFs()) == ([], records.FRESH)
    assert loaded(saved()) == (ROWS, records.GOOD)
    assert loaded(saved([])) == ([], records.GOOD)


def damages(whole):
    """What damage can make of a file: shorter, longer, any byte another, and no file at all."""
    yield None
    for cut in range(len(whole)):
        yield whole[:cut]
    yield whole + b"x"
    for at in range(len(whole)):
        yield whole[:at] + bytes((whole[at] ^ 0x10,)) + whole[at + 1 :]


def put(fs, path, data):
    if data is None:
        fs.files.pop(path, None)
    else:
        fs.files[path] = bytearray(data)


def test_damage_to_one_copy_loses_nothing_and_brings_nothing_back():
    fs = saved([b"before"])
    records.RecordFile(fs, "/t").save(ROWS)
    whole = bytes(fs.files["/t"])
    for path in ("/t", "/t.copy"):
        for data in damages(whole):
            put(fs, path, data)
            rows, state = loaded(fs)
            assert rows == ROWS
            # A copy may be missing because the power went before it was made.
            assert state == (records.GOOD if data is None and path != "/t" else records.MENDED)
            # Both are whole again, so the next damage finds one too.
            assert fs.files["/t"] == fs.files["/t.copy"] == whole


def test_without_a_whole_copy_nothing_serves():
    fs = saved([b"before"])
    records.RecordFile(fs, "/t").save(ROWS)
    whole = bytes(fs.files["/t"])
    for data in damages(whole):
        for other in (whole[:-1], None, b""):
            for one, two in ((data, other), (other, data)):
                put(fs, "/t", one)
                put(fs, "/t.copy", two)
                state = records.FRESH if one is two is None else records.LOST
                assert loaded(fs) == ([], state), (one, two)
                assert fs.files.get("/t") == one, "evidence stays"
    # Two whole files that differ: nobody knows which of them counts.
    put(fs, "/t", whole)
    put(fs, "/t.copy", bytes(saved([b"before"]).files["/t"]))
    assert loaded(fs) == ([], records.LOST)


def test_what_cannot_be_read_is_not_taken_for_nothing():
    fs = BrokenFs()
    records.RecordFile(fs, "/t").save(ROWS)
    fs.broken = ("/t", "/t.copy")
    assert loaded(fs) == ([], records.LOST)
    fs.broken = ("/t",)
    assert loaded(fs) == (ROWS, records.MENDED)


def test_no_power_cut_lets_later_damage_bring_back_what_was_removed():
    """Cut at every step of a change, then damage either copy: never older than what there was."""
    seen = set()
    for cut in range(7):
        for damaged in ("/t", "/t.copy", None):
            for data in (b"damaged", None):
                fs = BrokenFs()
                file = records.RecordFile(fs, "/t")
                file.save([b"revoked"])
                file.save([b"first"])
                fs.left = cut
                try:
                    file.save([b"second"])
                    done = True
                except OSError:
                    done = False
                fs.left = -1
                rows, state = loaded(fs)
                assert state == records.GOOD and rows in ([b"first"], [b"second"])
                assert rows == [b"second"] or not done
                if damaged:
                    put(fs, damaged, data)
                assert loaded(fs)[0] == rows, (cut, damaged, data)
                seen.add((done, rows[0]))
    assert seen == {(False, b"first"), (True, b"second")}


def test_damage_before_the_next_start_serves_nothing_older():
    """As above, but the damage comes with the cut: no start in between could make a copy."""
    lost = 0
    for cut in range(7):
        for damaged in ("/t", "/t.copy"):
            fs = BrokenFs()
            file = records.RecordFile(fs, "/t")
            file.save([b"first"])
            fs.left = cut
            try:
                file.save([b"second"])
                allowed = [[b"second"]]
            except OSError:
                allowed = [[b"first"], [b"second"]]
            fs.left = -1
            put(fs, damaged, b"damaged")
            rows, state = loaded(fs)
            assert rows in allowed or (rows, state) == ([], records.LOST), (cut, damaged)
            lost += state == records.LOST
    assert lost, "the copy goes before the file is replaced"


def test_a_full_flash_keeps_what_was_answered():
    fs = BrokenFs()
    file = records.RecordFile(fs, "/t")
    file.save([b"first"])
    fs.left = 3  # written, the copy removed, renamed; no room for the copy
    file.save([b"second"])
    assert loaded(fs) == ([b"second"], records.GOOD)
    assert "/t.copy" not in fs.files
    fs.left = -1
    loaded(fs)
    assert "/t.copy" in fs.files


def test_files_of_an_older_firmware_are_taken_over():
    one, two = (bytes(saved([row]).files["/t"]) for row in (b"one", b"two"))

    def old(file, before, new=None, copy=None):
        fs = RamFs()
        for end, data in (("", file), (".old", before), (".new", new), (".copy", copy)):
            put(fs, "/t" + end, data)
        found = loaded(fs)
        assert loaded(fs)[0] == found[0], "also at the next start"
        return found

    assert old(two, one) == ([b"two"], records.GOOD)
    # It wrote after a firmware that keeps copies: what that one left is not the newest.
    assert old(two, one, copy=one) == ([b"two"], records.GOOD)
    # Cut between its two renames.
    assert old(None, one, new=two) == ([b"two"], records.GOOD)
    assert old(None, one, new=two, copy=one) == ([b"two"], records.GOOD)
    # It would have served the generation before.
    for damaged in (b"damaged", None):
        assert old(damaged, one) == ([], records.LOST)
        assert old(damaged, one, copy=one) == ([], records.LOST)


def test_a_table():
    fs = RamFs()
    table = records.Table(records.RecordFile(fs, "/t"), 2, 3)
    assert table.get(b"a") is None
    assert table.put(b"a", b"11") and table.put(b"ab", b"22") and table.put(b"", b"33")
    assert not table.put(b"c", b"44")
    assert table.put(b"a", b"55")
    for found in (table, records.Table(records.RecordFile(fs, "/t"), 2, 3)):
        assert [found.get(key) for key in (b"a", b"ab", b"", b"c")] == [b"55", b"22", b"33", None]
        assert sorted(found.keys(b"a")) == [b"", b"b"]
        assert len(found) == 3
    table.remove(b"nobody")
    table.remove(b"ab")
    assert table.get(b"ab") is None and table.get(b"a") == b"55"
    assert records.Table(records.RecordFile(fs, "/t"), 2, 3).get(b"ab") is None


def test_what_flash_refuses_is_not_in_the_table():
    fs = RamFs()
    table = records.Table(records.RecordFile(fs, "/t"), 1, 9)
    table.put(b"a", b"1")
    fs.failing = True
    assert isinstance(error_of(table.put, b"b", b"2"), OSError)
    assert isinstance(error_of(table.put, b"a", b"2"), OSError)
    assert isinstance(error_of(table.remove, b"a"), OSError)
    assert table.get(b"a") == b"1" and table.get(b"b") is None


def test_a_token_is_derived_and_opaque():
    fs = RamFs()
    table = records.Table(records.RecordFile(fs, "/t"), app_tokens.SERIAL, app_tokens.CAPACITY)
    mac = Hmac(b"k" * 32)
    apps = app_tokens.Tokens(table, mac, Random())
    token = apps.generate("//h/joe", "app.com")
    serial = table.get(b"//h/joe\0app.com")
    digest = mac(b"tok1\0//h/joe\0app.com\0" + serial)
    padded = (token + "=").replace("-", "+").replace("_", "/")
    assert len(token) == 43 and binascii.a2b_base64(padded) == digest
    assert apps.owns("//h/joe", token)
    assert not apps.owns("//h/joe", "") and not apps.owns("//h/ann", token)
    # Nothing of it is on flash, and another board's key makes another one.
    assert token.encode() not in fs.files["/t"] and digest not in fs.files["/t"]
    assert app_tokens.Tokens(table, Hmac(b"x" * 32), Random()).get("//h/joe", "app.com") != token


CERT = binascii.b2a_base64(b"\x30\x82" + bytes(range(200))).decode()
PEM = "-----BEGIN CERTIFICATE-----\r\n" + CERT + "-----END CERTIFICATE-----\n"


def devices(fs):
    table = records.Table(records.RecordFile(fs, "/d"), credentials.DIGESTS, credentials.CAPACITY)
    return credentials.Credentials(table, Hmac(b"k" * 32), BACKEND, "a key of the backend")


def add(store, name, psk, cert):
    return store.put(name, store.digests(name, psk, cert))


def test_credentials():
    fs = RamFs()
    first = devices(fs)
    assert add(first, "//h/p", "qwerty", None)
    assert add(first, "//h/c", None, PEM)
    assert add(first, "//h/b", "both", CERT)
    wrong = CERT.replace("A", "B")
    for store in (first, devices(fs)):
        for name, psk, cert, right in (
            ("//h/p", "qwerty", None, True),
            ("//h/p", "Qwerty", None, False),
            ("//h/p", None, None, False),
            ("//h/p", "qwerty", CERT, False),
            ("//h/c", None, CERT, True),
            ("//h/c", None, PEM, True),
            ("//h/c", None, wrong, False),
            ("//h/c", None, "!", False),
            ("//h/c", "qwerty", None, False),
            ("//h/b", "both", None, True),
            ("//h/b", None, PEM, True),
            ("//h/b", "both", CERT, True),
            ("//h/b", "both", wrong, False),
            ("//h/b", "wrong", CERT, False),
            ("//h/x", "qwerty", CERT, False),
            (BACKEND, "a key of the backend", None, True),
            (BACKEND, "another", None, False),
            ("//h/x", "a key of the backend", None, False),
        ):
            assert store.verify(name, psk, cert) == right, (name, psk, cert)
    add(store, "//h/p", "new", None)
    assert store.verify("//h/p", "new") and not store.verify("//h/p", "qwerty")
    store.remove("//h/p")
    assert not store.verify("//h/p", "new")


def test_a_backend_without_a_key_is_nobody():
    table = records.Table(records.RecordFile(RamFs(), "/d"), credentials.DIGESTS, 4)
    store = credentials.Credentials(table, Hmac(b"k"), BACKEND, "")
    for psk in ("", "x", "\0" * 32):
        assert not store.verify(BACKEND, psk)


def test_flash_has_no_credential_in_clear():
    fs = RamFs()
    store = devices(fs)
    add(store, "//h/p", "qwerty", None)
    add(store, "//h/q", "qwerty", None)
    data = fs.files["/d"]
    assert b"qwerty" not in data and hashlib.sha256(b"qwerty").digest() not in data
    # The same key of two devices does not show either.
    assert store.current("//h/p") != store.current("//h/q")


def test_what_is_no_credential_to_keep():
    store = devices(RamFs())
    for psk, cert in (("x" * 129, None), (None, "!"), (None, "MTIz")):
        assert isinstance(error_of(add, store, "//h/p", psk, cert), ValueError)
    assert add(store, "//h/p", "x" * 128, None)
    for number in range(credentials.CAPACITY - 1):
        assert add(store, f"//h/n{number}", "psk", None)
    assert not add(store, "//h/more", "psk", None)


def test_the_throttle_waits_longer_each_time():
    throttle = Throttle()
    now = 1000
    for _ in range(5):
        assert not throttle.blocked("a", now)
        throttle.failed("a", now, True)
    waits = []
    for _ in range(7):
        wait = 0
        while throttle.blocked("a", now + wait):
            wait += 1000
        waits.append(wait // 1000)
        now += wait
        throttle.failed("a", now, True)
    assert waits == [30, 60, 120, 240, 480, 900, 900]
    assert throttle.blocked("a", now) and not throttle.blocked("b", now)
    throttle.passed("a")
    assert not throttle.blocked("a", now)


def test_success_forgets_failures():
    throttle = Throttle()
    for _ in range(20):
        for _ in range(4):
            throttle.failed("a", 0, True)
        assert not throttle.blocked("a", 0)
        throttle.passed("a")


def test_many_names_do_not_free_a_device_that_waits():
    throttle = Throttle()
    for _ in range(5):
        throttle.failed("victim", 0, True)
    for _ in range(4):
        throttle.failed("other", 0, True)
    for number in range(200):
        for _ in range(1 + number % 6):
            throttle.failed(f"n{number}", 0, False)
    assert throttle.blocked("victim", 0)
    throttle.failed("other", 0, True)
    assert throttle.blocked("other", 0)
    assert len(throttle.rows) == 18


def test_many_names_block_nobody_else():
    throttle = Throttle()
    for number in range(16):
        for _ in range(5):
            throttle.failed(f"n{number}", 0, False)
    assert not throttle.blocked("new", 0)
    # One that fails as often as they waits as they do, so that waiting does not tell who is known.
    for _ in range(5):
        assert not throttle.blocked("new", 0)
        throttle.failed("new", 0, False)
    assert throttle.blocked("new", 0)
    # Every device may fail, and then waits for itself alone.
    for number in range(64):
        for _ in range(5):
            throttle.failed(f"d{number}", 0, True)
    assert len(throttle.rows) <= 16 + 64
    for number in range(64):
        assert throttle.blocked(f"d{number}", 0)


def test_a_stranger_that_becomes_a_device_is_guessed_at_no_more_often():
    throttle = Throttle()
    for _ in range(4):
        throttle.failed("new", 0, False)
    throttle.failed("new", 0, True)
    for number in range(100):
        for _ in range(6):
            throttle.failed(f"n{number}", 0, False)
    assert throttle.blocked("new", 0)
