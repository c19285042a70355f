"""What is on flash: records, tables, tokens, credentials; and the throttle."""

import binascii
import hashlib

from rpc_rig import BACKEND, RamFs, Random, error_of

from tapauth.mac import Mac
from tapauth.rpc import credentials, records, tokens
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


def test_every_damage_is_seen_and_the_generation_before_serves():
    fs = saved([b"before"])
    file = records.RecordFile(fs, "/t")
    file.load()
    file.save(ROWS)
    whole = fs.files["/t"]
    broken = [whole[:cut] for cut in range(len(whole))] + [whole + b"x"]
    for at in range(len(whole)):
        broken.append(whole[:at] + bytes((whole[at] ^ 0x10,)) + whole[at + 1 :])
    for data in broken:
        fs.files["/t"] = data
        assert loaded(fs) == ([b"before"], records.PREVIOUS)
        old = fs.files.pop("/t.old")
        assert loaded(fs) == ([], records.LOST)
        fs.files["/t.old"] = old
    del fs.files["/t"]
    assert loaded(fs) == ([b"before"], records.PREVIOUS)


def test_a_damaged_file_never_becomes_the_generation_before():
    fs = saved([b"before"])
    file = records.RecordFile(fs, "/t")
    file.load()
    file.save([b"after"])
    fs.files["/t"] = b"damaged"
    file = records.RecordFile(fs, "/t")
    assert file.load() == [b"before"]
    file.save([b"next"])
    assert loaded(fs) == ([b"next"], records.GOOD)
    fs.files["/t"] = b"damaged again"
    assert loaded(fs) == ([b"before"], records.PREVIOUS)


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
    table = records.Table(records.RecordFile(fs, "/t"), tokens.SERIAL, tokens.CAPACITY)
    mac = Mac(b"k" * 32)
    apps = tokens.Tokens(table, mac, Random())
    token = apps.generate("//h/joe", "app.com")
    serial = table.get(b"//h/joe\0app.com")
    digest = mac(b"tok1\0//h/joe\0app.com\0" + serial)
    padded = (token + "=").replace("-", "+").replace("_", "/")
    assert len(token) == 43 and binascii.a2b_base64(padded) == digest
    assert apps.owns("//h/joe", token)
    assert not apps.owns("//h/joe", "") and not apps.owns("//h/ann", token)
    # Nothing of it is on flash, and another board's key makes another one.
    assert token.encode() not in fs.files["/t"] and digest not in fs.files["/t"]
    assert tokens.Tokens(table, Mac(b"x" * 32), Random()).get("//h/joe", "app.com") != token


CERT = binascii.b2a_base64(b"\x30\x82" + bytes(range(200))).decode()
PEM = "-----BEGIN CERTIFICATE-----\r\n" + CERT + "-----END CERTIFICATE-----\n"


def devices(fs):
    table = records.Table(records.RecordFile(fs, "/d"), credentials.DIGESTS, credentials.CAPACITY)
    return credentials.Credentials(table, Mac(b"k" * 32), BACKEND, "a key of the backend")


def test_credentials():
    fs = RamFs()
    first = devices(fs)
    assert first.put("//h/p", "qwerty", None)
    assert first.put("//h/c", None, PEM)
    assert first.put("//h/b", "both", CERT)
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
    store.put("//h/p", "new", None)
    assert store.verify("//h/p", "new") and not store.verify("//h/p", "qwerty")
    store.remove("//h/p")
    assert not store.verify("//h/p", "new")


def test_a_backend_without_a_key_is_nobody():
    table = records.Table(records.RecordFile(RamFs(), "/d"), credentials.DIGESTS, 4)
    store = credentials.Credentials(table, Mac(b"k"), BACKEND, "")
    for psk in ("", "x", "\0" * 32):
        assert not store.verify(BACKEND, psk)


def test_flash_has_no_credential_in_clear():
    fs = RamFs()
    store = devices(fs)
    store.put("//h/p", "qwerty", None)
    store.put("//h/q", "qwerty", None)
    data = fs.files["/d"]
    assert b"qwerty" not in data and hashlib.sha256(b"qwerty").digest() not in data
    # The same key of two devices does not show either.
    assert store.current("//h/p") != store.current("//h/q")


def test_what_is_no_credential_to_keep():
    store = devices(RamFs())
    for psk, cert in (("x" * 129, None), (None, "!"), (None, "MTIz")):
        assert isinstance(error_of(store.put, "//h/p", psk, cert), ValueError)
    assert store.put("//h/p", "x" * 128, None)
    for number in range(credentials.CAPACITY - 1):
        assert store.put(f"//h/n{number}", "psk", None)
    assert not store.put("//h/more", "psk", None)


def test_the_throttle_waits_longer_each_time():
    throttle = Throttle()
    now = 1000
    for _ in range(5):
        assert not throttle.blocked("a", now)
        throttle.failed("a", now)
    waits = []
    for _ in range(7):
        wait = 0
        while throttle.blocked("a", now + wait):
            wait += 1000
        waits.append(wait // 1000)
        now += wait
        throttle.failed("a", now)
    assert waits == [30, 60, 120, 240, 480, 900, 900]
    assert throttle.blocked("a", now) and not throttle.blocked("b", now)
    throttle.passed("a")
    assert not throttle.blocked("a", now)


def test_success_forgets_failures():
    throttle = Throttle()
    for _ in range(20):
        for _ in range(4):
            throttle.failed("a", 0)
        assert not throttle.blocked("a", 0)
        throttle.passed("a")


def test_many_names_do_not_free_one_that_waits():
    throttle = Throttle()
    for _ in range(5):
        throttle.failed("victim", 0)
    for number in range(200):
        throttle.failed(f"n{number}", 0)
    assert throttle.blocked("victim", 0)
    # Four failures each outlive many names with one.
    for _ in range(4):
        throttle.failed("other", 0)
    for number in range(200):
        throttle.failed(f"m{number}", 0)
    throttle.failed("other", 0)
    assert throttle.blocked("other", 0)


def test_a_table_full_of_waiting_names_lets_nobody_guess():
    throttle = Throttle()
    for number in range(16):
        for _ in range(5):
            throttle.failed(f"n{number}", 0)
    assert throttle.blocked("new", 0)
    assert not throttle.blocked("new", 30_000)
    throttle.failed("new", 30_000)
    assert len(throttle.rows) == 16
