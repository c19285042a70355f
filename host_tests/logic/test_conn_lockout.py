"""Connection auth: the lockout over reboots, derivations and their turns, the kept file."""

import os

from conn_rig import PASSWORD, Connection, Noise, Rig, finish

from tapauth.local.login.kdf import calibrate, derive, matches, protect
from tapauth.local.login.kept import PASSWORD as KIND_PASSWORD
from tapauth.local.login.kept import StateFile
from tapauth.local.serial_console import obey
from tapauth.small_file import Flash


def fail(rig, count):
    for _ in range(count):
        assert rig.code(type="secured", credentials="wrong") == 8


def wait(rig):
    return rig.ask(Connection(), "auth", type="secured", credentials="wrong").get("retryAfter")


def test_each_failure_after_the_lock_doubles_it():
    rig = Rig()
    fail(rig, 5)
    for seconds in (30, 60, 120, 240, 480, 900, 900):
        assert wait(rig) == seconds
        rig.clock.advance(seconds * 1000 - 1)
        assert wait(rig) == 1  # asking does not make it longer
        rig.clock.advance(1)
        fail(rig, 1)
    rig.clock.advance(900_000)
    assert rig.code(type="secured", credentials=rig.pin()) == 0
    fail(rig, 5)
    assert wait(rig) == 30


def test_a_success_resets_the_count_and_a_token_does_not():
    rig = Rig()
    fail(rig, 4)
    token = rig.login().reply["token"]
    fail(rig, 4)
    assert rig.code(type="secured", credentials=token) == 0
    fail(rig, 1)
    assert wait(rig) == 30


def test_a_reboot_does_not_end_a_lock():
    rig = Rig()
    pin = rig.pin()
    fail(rig, 4)
    rig.boot()
    fail(rig, 1)
    rig.boot()
    assert wait(rig) == 30
    rig.clock.advance(30_000)
    fail(rig, 1)
    rig.boot()
    assert wait(rig) == 60
    rig.clock.advance(60_000)
    rig.login(pin)
    rig.boot()
    fail(rig, 1)
    rig.login(pin)


def guess(rig, secret="guess"):
    """A guess under way: a generator."""
    return rig.auth.handle(
        Connection(), {"method": "auth", "type": "secured", "credentials": secret}
    )


def test_no_guess_is_free_for_who_cuts_the_power():
    rig = Rig()
    steps = guess(rig)
    whole = sum([1 for _ in steps])
    # The power goes at the first step, in the middle, at the last one, and after the answer.
    for moment in (1, whole // 2, whole, whole + 1):
        rig = Rig()
        for _ in range(5):
            steps = guess(rig)
            for _ in range(moment):
                try:
                    next(steps)
                except StopIteration:
                    break
            rig.boot()
        assert wait(rig) == 30


def test_who_leaves_before_the_answer_waits_like_everybody():
    rig = Rig()
    for _ in range(5):
        steps = guess(rig)
        next(steps)
        steps.close()
    # Else a hundred of them would close the board for good within seconds.
    assert wait(rig) == 30
    rig.clock.advance(30_000)
    rig.login()


def test_a_guess_that_cannot_be_kept_is_not_looked_at():
    rig = Rig()
    rig.file.fail = True
    for secret in (rig.pin(), rig.pin("user"), "wrong", "wrong", "wrong"):
        steps = guess(rig, secret)
        try:
            next(steps)
            raise AssertionError("looked at")
        except StopIteration as end:
            assert end.value["resultCode"] == 1
    assert rig.code(type="secured", credentials=rig.pin()) == 6
    rig.clock.advance(30_000)
    rig.file.fail = False
    rig.login()


def test_a_users_login_gives_no_new_guesses_at_admins_secret():
    for over in ("nothing", "reboot", "sleep"):
        rig = Rig()
        user = rig.pin("user")
        for count in range(4):
            fail(rig, 1)
            rig.login(user)
            # It counts for nothing itself.
            assert rig.keeper.lockout.failures == count + 1
            assert rig.code(type="secured", credentials=user, role="admin") == 5
            if over == "reboot":
                rig.boot()
            elif over == "sleep":
                rig.sleep()
        fail(rig, 1)
        assert wait(rig) == 30
        rig.clock.advance(30_000)
        rig.login(user)
        fail(rig, 1)
        assert wait(rig) == 60


def test_admins_login_ends_the_count_for_good():
    rig = Rig()
    pin = rig.pin()
    fail(rig, 4)
    rig.login(pin)
    rig.boot()
    fail(rig, 4)
    rig.auth.set_boot_pin("pin123")
    rig.boot()
    fail(rig, 4)
    assert wait(rig) is None


def test_after_a_hundred_only_someone_at_the_board_helps():
    rig = Rig()
    fail(rig, 5)
    for _ in range(95):
        rig.clock.advance(900_000)
        fail(rig, 1)
    rig.clock.advance(10_000_000)
    reply = rig.ask(Connection(), "auth", type="secured", credentials=rig.pin())
    assert reply["resultCode"] == 6 and "retryAfter" not in reply
    pin = rig.pin()
    rig.boot()
    rig.clock.advance(10_000_000)
    assert rig.code(type="secured", credentials=pin) == 6
    finish(rig.auth.renew_pin(2))
    assert rig.code(type="secured", credentials=rig.pin()) == 0
    assert rig.code(type="secured", credentials=pin) == 8
    rig.keeper.lockout.failures = 100
    rig.auth.set_boot_pin("pin123")
    assert rig.code(type="secured", credentials="pin123") == 0


def test_a_new_pin_at_the_board_ends_the_sessions():
    rig = Rig()
    admin, user = rig.login(), rig.login(rig.pin("user"))
    finish(rig.auth.renew_pin(2))
    assert admin.lost == [3] and user.lost == []
    finish(rig.auth.renew_pin(1))
    assert user.lost == [4]
    pin = rig.pin()
    rig.boot()
    rig.login(pin)


def test_user_gets_no_pin_at_the_board_while_admin_is_open():
    rig = Rig()
    rig.open_all()
    written = []
    finish(obey(rig.auth, "newpin user", written.append))
    # It would open nothing, and lock user out of what is open to everybody.
    assert written == ["protect admin first"]
    assert rig.code(type="unsecured", role="user") == 0
    finish(obey(rig.auth, "newpin", written.append))
    finish(obey(rig.auth, "newpin user", written.append))
    assert rig.code(type="secured", credentials=rig.pin("user")) == 0
    assert len(written) == 1


def test_a_damaged_file_gives_new_pins_and_no_new_tries():
    for damage in (b"", b"{}", b"[]", b"null", b'{"admin":[1,"x",""],"user":[0,"",""]}', b"\xff"):
        rig = Rig()
        pin = rig.pin()
        rig.file.data = damage
        rig.boot()
        assert len(rig.shown) == 2 and rig.pin() != pin
        assert wait(rig) == 30
        rig.clock.advance(30_000)
        assert rig.code(type="secured", credentials=pin) == 8
        rig.clock.advance(60_000)
        rig.login(rig.pin())


def test_guessing_over_many_connections_is_one_guessing():
    rig = Rig()
    rig.auth.set_boot_pin("boot-pin")
    tries = [
        rig.auth.handle(Connection(), {"method": "auth", "type": "secured", "credentials": "bad"})
        for _ in range(12)
    ]
    codes = []
    while tries:
        for one in list(tries):
            try:
                next(one)
            except StopIteration as end:
                codes.append(end.value["resultCode"])
                tries.remove(one)
    # One derives, two wait, the others are sent away.
    assert sorted(codes) == [6] * 9 + [8] * 3
    fail(rig, 2)
    tries = [
        rig.auth.handle(Connection(), {"method": "auth", "type": "secured", "credentials": "bad"})
        for _ in range(3)
    ]
    assert [finish(one)["resultCode"] for one in tries] == [6] * 3


def test_a_new_pin_at_the_board_takes_no_place_of_those_who_wait():
    rig = Rig()
    request = {"method": "auth", "type": "secured", "credentials": "bad"}
    first = rig.auth.handle(Connection(), request)
    next(first)
    at_the_board = rig.auth.renew_pin(1)
    next(at_the_board)
    two = [rig.auth.handle(Connection(), request) for _ in range(2)]
    for one in two:
        next(one)
    assert finish(rig.auth.handle(Connection(), request))["resultCode"] == 6
    for steps in (first, at_the_board):
        finish(steps)
    assert [finish(one)["resultCode"] for one in two] == [8, 8]


def test_a_connection_that_goes_while_deriving_leaves_no_lock():
    rig = Rig()
    request = {"method": "auth", "type": "secured", "credentials": "bad"}
    first, second = rig.auth.handle(Connection(), request), rig.auth.handle(Connection(), request)
    next(first), next(second)
    second.close()
    first.close()
    rig.login()
    steps = rig.auth.handle(Connection(), request)
    assert sum([1 for _ in steps]) >= 2 * (1000 // 25 - 1)


def test_a_faster_board_derives_a_password_anew():
    rig = Rig()
    rig.passwords()
    record = rig.keeper.accounts[2].record
    rig.best = 1200
    rig.login(PASSWORD)
    assert rig.keeper.accounts[2].record is record  # not worth a write
    rig.boot()
    rig.best = 1500
    rig.login(PASSWORD)
    assert rig.keeper.accounts[2].iterations() == 1500
    assert rig.keeper.accounts[1].iterations() == 1000
    rig.boot()
    rig.login(PASSWORD)
    rig.best = 2000
    rig.boot()
    save = rig.file.save

    def full(data):
        if b"$2000$" in data:
            raise OSError(28)
        save(data)

    rig.file.save = full
    rig.login(PASSWORD)  # a login does not depend on it
    assert rig.keeper.accounts[2].iterations() == 1500


def test_an_authorization_lost_while_deriving_changes_nothing():
    rig = Rig()
    admin = rig.login()
    steps = rig.auth.handle(
        admin, {"method": "setAuthParams", "userType": "admin", "authType": "pin"}
    )
    next(steps)
    rig.login(admin.reply["token"])  # a token needs no derivation, and takes the session
    reply = finish(steps)
    assert reply["error"] == "not authorized" and "newPin" not in reply
    rig.login()


def test_the_vectors_of_pbkdf2():
    for count, key in (
        (1, "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b"),
        (2, "ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43"),
        (4096, "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a"),
    ):
        assert finish(derive(b"password", b"salt", count)) == bytes.fromhex(key)


def test_calibration_stays_within_its_bounds():
    for step_us, expected in ((1, 20_000), (2500, 5000), (10_000, 1250), (1_000_000, 1000)):
        times = [0]

        def time_us(times=times, step_us=step_us):
            times[0] += step_us
            return times[0]

        assert finish(calibrate(time_us)) == expected


def test_an_account_tells_its_secret_to_nobody():
    account = finish(protect(KIND_PASSWORD, PASSWORD, Noise(), 5))
    assert account.pin == "" and PASSWORD not in account.record
    assert account.record.startswith("pbkdf2-sha256$5$")
    assert finish(matches(account, PASSWORD)) and not finish(matches(account, PASSWORD + "x"))


def test_the_file_is_checked_and_replaced_whole():
    path = f"build/conn_test_{getattr(os, 'getpid', int)()}"
    for name in (path, path + ".new"):
        try:
            os.remove(name)
        except OSError:
            pass
    file = StateFile(path)
    assert file.load() is None
    file.save(b"one")
    file.save(b"two")
    assert file.load() == b"two"
    with open(path, "rb") as raw:
        data = raw.read()
    for at in range(len(data)):
        with open(path, "wb") as raw:
            raw.write(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        assert file.load() == b""
        with open(path, "wb") as raw:
            raw.write(data[:at])
        assert file.load() == b""
    file.save(b"three")
    assert file.load() == b"three"
    os.remove(path)


def test_a_secret_that_is_on_flash_is_told_though_flash_told_an_error():
    path = f"build/conn_rename_{getattr(os, 'getpid', int)()}"

    class Odd(Flash):
        """A rename that fails, having done it or not."""

        done = True

        @staticmethod
        def rename(old, new):
            if Odd.done:
                os.rename(old, new)
            raise OSError(5)

    StateFile(path).save(b"one")
    file = StateFile(path, Odd)
    try:
        file.save(b"two")
        assert file.load() == b"two"
        Odd.done = False
        try:
            file.save(b"three")
            raise AssertionError("it was not done")
        except OSError:
            pass
        assert file.load() == b"two"
    finally:
        os.remove(path)
        os.remove(path + ".new")
