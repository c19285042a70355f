"""Connection auth put by while nobody is connected: it comes back as if it had never gone."""

import gc

from conn_rig import PASSWORD, Connection, Rig, finish

from tapauth.compat import mem_alloc
from tapauth.local.login.accounts import freeze

MONTH = 30 * 86_400_000
PLAIN = (int, str, bytes, bool, type(None))


def opens(rig, token):
    return rig.code(type="secured", credentials=token)


def test_tokens_open_afterwards_as_long_as_before():
    rig = Rig()
    admin, user = rig.login(), rig.login(rig.pin("user"))
    rig.sleep()
    for one, role in ((admin, 2), (user, 1)):
        assert rig.auth.http_role(one.reply["tokenForHttpServer"]) == role
        assert rig.auth.http_role(one.reply["token"]) == 0
        assert opens(rig, one.reply["tokenForHttpServer"]) == 8
        assert rig.login(one.reply["token"]).reply["previleges"] == role
    rig.sleep()
    rig.clock.advance(299_999)
    assert rig.auth.http_role(admin.reply["tokenForHttpServer"]) == 2
    rig.clock.advance(1)
    rig.sleep()
    assert rig.auth.http_role(admin.reply["tokenForHttpServer"]) == 0
    rig.clock.advance(MONTH - 300_001)
    assert opens(rig, admin.reply["token"]) == 0
    rig.sleep()
    rig.clock.advance(1)
    assert opens(rig, admin.reply["token"]) == 8


def test_what_was_void_stays_void():
    rig = Rig()
    first = rig.login()
    second = rig.login()
    third = rig.login(second.reply["token"])  # voids the HTTP tokens before it
    rig.sleep()
    assert opens(rig, first.reply["token"]) == 8
    assert rig.auth.http_role(second.reply["tokenForHttpServer"]) == 0
    assert rig.auth.http_role(third.reply["tokenForHttpServer"]) == 2
    admin = rig.login(third.reply["token"])
    assert rig.ask(admin, "clearTokens")["result"]
    rig.sleep()
    assert opens(rig, third.reply["token"]) == 8


def test_a_lock_goes_on():
    rig = Rig()
    for _ in range(4):
        assert rig.code(type="secured", credentials="wrong") == 8
    rig.sleep()
    assert rig.code(type="secured", credentials="wrong") == 8
    rig.clock.advance(10_000)
    rig.sleep()
    reply = rig.ask(Connection(), "auth", type="secured", credentials=rig.pin())
    assert reply["resultCode"] == 6 and reply["retryAfter"] == 20
    rig.clock.advance(20_000)
    rig.sleep()
    rig.login()


def test_secrets_go_on():
    rig = Rig()
    rig.passwords()
    assert rig.auth.set_boot_pin("pin123")
    rig.sleep()
    assert rig.login(PASSWORD).reply["previleges"] == 2
    boot = rig.login("PIN123")
    rig.clock.advance(100 * MONTH)
    rig.sleep()
    assert opens(rig, boot.reply["token"]) == 0
    info = rig.ask(rig.login("pin123"), "getAuthInfo")
    assert info["adminAuth"] == {"security": "password"}
    finish(rig.auth.renew_pin(1))
    pin = rig.pin("user")
    rig.sleep()
    info = rig.ask(rig.login("pin123"), "getAuthInfo")
    assert info["userAuth"] == {"security": "pin", "pin": pin}
    # The file is as good as ever: what is put by is for this start only.
    rig.boot()
    assert rig.login(pin).reply["previleges"] == 1
    assert rig.code(type="secured", credentials="pin123") == 8


def test_no_random_number_comes_twice():
    rig = Rig()
    rig.noise.state = 1
    before = rig.keeper.random(32)
    rig.sleep()
    rig.noise.state = 1
    assert rig.keeper.random(32) != before


def test_a_strangers_tokens_leave_nothing_in_memory():
    rig = Rig()
    stranger = Connection()

    def show(numbers):
        for number in numbers:
            # Each with a character that was not met before, where a token has only some.
            odd = bytes((0xE4, 0x80 | number >> 6, 0x80 | number & 63))
            for parts in ((odd, b"x" * 16, b"1"), (b"1", odd + b"x" * 15, b"1"), (b"1", odd, odd)):
                token = b"*".join(parts + (b"0" * 64,)).decode()
                assert rig.auth.http_role(token) == 0
                if not number % 64:
                    request = {"method": "auth", "type": "secured", "credentials": token}
                    finish(rig.auth.handle(stranger, request))

    show(range(1))
    gc.collect()
    before = mem_alloc()
    show(range(1, 1024))
    gc.collect()
    assert mem_alloc() - before < 2000


def test_nothing_but_plain_values_is_put_by():
    rig = Rig()
    rig.auth.set_boot_pin("pin123")
    rig.auth.closed(rig.login())

    def look(value):
        if isinstance(value, (tuple, list)):
            for one in value:
                look(one)
        else:
            assert isinstance(value, PLAIN), value

    look(freeze(rig.auth))
