"""Connection auth: lifetimes of tokens and sessions, who takes whose place, what ends them."""

from conn_rig import PASSWORD, USER_PASSWORD, Connection, Rig, finish

from tapauth import compat

DAY = 86_400_000
MONTH = 30 * DAY


def opens(rig, token):
    return rig.code(type="secured", credentials=token)


def lifetime(rig, token, expected_ms):
    """The token opens until just before `expected_ms` from now."""
    rig.clock.advance(expected_ms - 1)
    assert opens(rig, token) == 0
    rig.clock.advance(1)
    assert opens(rig, token) == 8


def test_lifetime_of_a_password():
    rig = Rig()
    rig.passwords()
    lifetime(rig, rig.login(PASSWORD).reply["token"], MONTH)


def test_lifetime_of_a_pin():
    rig = Rig()
    lifetime(rig, rig.login().reply["token"], MONTH)


def test_lifetime_of_an_open_board():
    rig = Rig()
    rig.open_all()
    lifetime(rig, rig.ask(Connection(), "auth", type="unsecured")["token"], MONTH)


def test_lifetime_of_the_boot_pin():
    rig = Rig()
    rig.auth.set_boot_pin("pin123")
    token = rig.login("pin123").reply["token"]
    rig.clock.advance(1000 * DAY)
    assert opens(rig, token) == 0
    rig.boot()
    assert opens(rig, token) == 8
    assert rig.code(type="secured", credentials="pin123") == 8


def test_lifetime_of_a_token_by_token_never_grows():
    rig = Rig()
    token = rig.login().reply["token"]
    for _ in range(29):
        rig.clock.advance(DAY)
        token = rig.login(token).reply["token"]
    lifetime(rig, token, DAY)


def test_lifetime_after_the_status_change_is_that_of_the_login():
    rig = Rig()
    admin = rig.login()
    rig.clock.advance(20 * DAY)
    reply = rig.ask(admin, "auth", role="user")
    lifetime(rig, reply["token"], 10 * DAY)
    rig = Rig()
    rig.auth.set_boot_pin("pin123")
    reply = rig.ask(rig.login("pin123"), "auth", role="user")
    rig.clock.advance(1000 * DAY)
    assert opens(rig, reply["token"]) == 0


def test_lifetime_of_a_pin_set_by_setAuthParams_is_a_day():
    rig = Rig()
    admin = rig.login()
    reply = rig.set(admin, "admin", "pin")
    assert reply["result"] and len(reply["newPin"]) == 6
    lifetime(rig, reply["token"], DAY)
    reply = rig.set(rig.login(reply["newPin"]), "admin", "password", PASSWORD)
    lifetime(rig, reply["token"], MONTH)


def test_http_tokens_live_five_minutes_and_no_longer_than_their_session():
    rig = Rig()
    admin = rig.login()
    http = admin.reply["tokenForHttpServer"]
    rig.clock.advance(299_999)
    assert rig.auth.http_role(http) == 2
    rig.clock.advance(1)
    assert rig.auth.http_role(http) == 0
    reply = rig.ask(admin, "getTokenForHttpServer")
    assert reply["result"] and rig.auth.http_role(reply["token"]) == 2
    rig.clock.ms = MONTH - 10_000
    http = rig.ask(admin, "getTokenForHttpServer")["token"]
    rig.clock.advance(9_999)
    assert rig.auth.http_role(http) == 2
    rig.clock.advance(1)
    assert rig.auth.http_role(http) == 0
    assert rig.ask(admin, "getTokenForHttpServer")["error"] == "not authorized"


def test_the_kinds_of_tokens_are_not_exchangeable():
    rig = Rig()
    admin = rig.login()
    assert opens(rig, admin.reply["tokenForHttpServer"]) == 8
    assert rig.auth.http_role(admin.reply["token"]) == 0
    assert rig.auth.http_role(admin.reply["tokenForHttpServer"]) == 2
    for wrong in (None, 5, "", "4*x*1*2", admin.reply["tokenForHttpServer"] + "0"):
        assert rig.auth.http_role(wrong) == 0


def test_a_token_altered_anywhere_is_none():
    rig = Rig()
    token = rig.login().reply["token"]
    for at in range(len(token)):
        for other in ("0", "1", "A", "*"):
            if token[at] != other:
                altered = token[:at] + other + token[at + 1 :]
                reply = rig.code(type="secured", credentials=altered)
                assert reply in (8, 6), altered
    # Those without the shape of a token counted as guesses; the token itself still opens.
    assert rig.code(type="secured", credentials=rig.pin()) == 6
    assert opens(rig, token) == 0


def test_tokens_end_with_the_start_that_made_them():
    rig = Rig()
    reply = rig.login().reply
    pin = rig.pin()
    rig.boot()
    assert opens(rig, reply["token"]) == 8
    assert rig.auth.http_role(reply["tokenForHttpServer"]) == 0
    # Even with the same random numbers: the seed went on.
    rig.noise.state = 1
    rig.boot()
    first = rig.login(pin).reply["token"]
    rig.noise.state = 1
    rig.boot()
    assert rig.login(pin).reply["token"] != first
    assert opens(rig, first) == 8


def test_tokens_open_while_locked_and_never_count():
    rig = Rig()
    token = rig.login().reply["token"]
    for _ in range(5):
        rig.code(type="secured", credentials="wrong")
    assert opens(rig, token) == 0
    assert rig.code(type="secured", credentials=rig.pin()) == 6


def test_one_connection_for_each_role():
    rig = Rig()
    first, user = rig.login(), rig.login(rig.pin("user"))
    second = rig.login()
    assert first.lost == [1] and second.lost == [] and user.lost == []
    assert rig.auth.role(first) == 0 and rig.auth.role(second) == 2
    assert opens(rig, first.reply["token"]) == 8
    assert rig.auth.http_role(first.reply["tokenForHttpServer"]) == 0
    # Also when the one before has gone meanwhile.
    rig.auth.closed(second)
    rig.login()
    assert opens(rig, second.reply["token"]) == 8
    # Logging in once more is no news for the connection itself.
    rig.login(rig.pin("user"), user)
    assert user.lost == []


def test_a_token_takes_its_session_up_again():
    rig = Rig()
    first = rig.login()
    rig.auth.closed(first)
    http = first.reply["tokenForHttpServer"]
    second = rig.login(first.reply["token"])
    assert rig.auth.role(second) == 2 and rig.auth.http_role(http) == 2
    # Both tokens work, over and over; who still holds the session loses it.
    third = rig.login(first.reply["token"])
    assert second.lost == [1]
    assert rig.auth.http_role(http) == 0
    assert rig.auth.http_role(second.reply["tokenForHttpServer"]) == 0
    assert rig.auth.http_role(third.reply["tokenForHttpServer"]) == 2
    assert rig.login(second.reply["token"]).reply["previleges"] == 2


def test_status_change_ends_the_admin_token():
    rig = Rig()
    admin = rig.login()
    user = rig.login(rig.pin("user"))
    reply = rig.ask(admin, "auth", role="user")
    assert reply["resultCode"] == 0 and rig.auth.role(admin) == 1
    assert user.lost == [1] and admin.lost == []
    assert opens(rig, admin.reply["token"]) == 8
    assert rig.auth.http_role(admin.reply["tokenForHttpServer"]) == 0
    assert rig.auth.http_role(reply["tokenForHttpServer"]) == 1


def test_many_sessions_when_configured():
    rig = Rig(single_session=False)
    admins = [rig.login() for _ in range(8)]
    assert [rig.auth.role(one) for one in admins] == [2] * 8
    twin = rig.login(admins[3].reply["token"])
    # The table is full: the oldest makes room.
    assert admins[0].lost == [1] and admins[3].lost == []
    assert rig.auth.role(twin) == 2
    rig.auth.closed(admins[5])
    rig.login()
    assert [one.lost for one in admins[1:]] == [[]] * 7
    assert opens(rig, admins[5].reply["token"]) == 8
    assert rig.ask(admins[4], "auth", role="user")["resultCode"] == 0
    assert opens(rig, admins[4].reply["token"]) == 8


def test_expiry_is_told():
    rig = Rig()
    admin = rig.login()
    rig.clock.advance(MONTH - 1)
    rig.auth.expire()
    assert admin.lost == []
    rig.clock.advance(1)
    rig.auth.expire()
    assert admin.lost == [8] and rig.auth.role(admin) == 0


def test_new_credentials_of_admin():
    rig = Rig(single_session=False)
    pin, user_pin = rig.pin(), rig.pin("user")
    mine, other, user = rig.login(pin), rig.login(pin), rig.login(user_pin)
    reply = rig.set(mine, "admin", "password", PASSWORD)
    assert reply["result"] and "newPin" not in reply and "previleges" not in reply
    assert mine.lost == [] and other.lost == [3] and user.lost == []
    assert opens(rig, mine.reply["token"]) == 8
    assert opens(rig, reply["token"]) == 0
    assert rig.auth.http_role(reply["tokenForHttpServer"]) == 2
    assert rig.code(type="secured", credentials=pin) == 8
    assert rig.code(type="secured", credentials=PASSWORD) == 0


def test_new_credentials_of_user_by_admin_and_by_user():
    rig = Rig(single_session=False)
    admin, user = rig.login(), rig.login(rig.pin("user"))
    reply = rig.set(admin, "user", "pin")
    assert reply["newPin"] and "token" not in reply
    assert user.lost == [4] and admin.lost == []
    user, other = rig.login(reply["newPin"]), rig.login(reply["newPin"])
    reply = rig.set(user, "user", "password", USER_PASSWORD)
    assert reply["result"] and other.lost == [5] and user.lost == []
    assert opens(rig, reply["token"]) == 0


def test_what_a_user_may_not():
    rig = Rig()
    user = rig.login(rig.pin("user"))
    for role, kind in (("admin", "pin"), ("admin", "unsecured"), ("user", "unsecured")):
        assert rig.set(user, role, kind)["error"] == "admin only"
    assert rig.ask(user, "clearTokens")["error"] == "admin only"
    for method in ("setAuthParams", "getAuthInfo", "getTokenForHttpServer", "clearTokens"):
        reply = rig.ask(Connection(), method)
        assert reply["result"] is False and reply["error"] == "not authorized"


def test_an_open_admin_means_an_open_user():
    rig = Rig()
    admin, user = rig.login(), rig.login(rig.pin("user"))
    assert rig.set(admin, "admin", "unsecured")["result"]
    assert user.lost == [2] and admin.lost == []
    info = rig.ask(admin, "getAuthInfo")
    assert info["adminAuth"] == info["userAuth"] == {"security": "unsecured"}
    assert rig.set(admin, "user", "pin")["error"] == "protect admin first"
    user = Connection()
    assert rig.code(user, type="unsecured", role="user") == 0
    # It was open already, so an open user stays.
    assert rig.set(admin, "admin", "unsecured")["result"]
    assert user.lost == []


def test_unsuitable_passwords():
    rig = Rig()
    admin = rig.login()
    shaped = "9*aaaaaaaaaaaaaaaa*1*" + "0" * 64
    for bad in (None, 5, "", "1234567", "x" * 129, shaped):
        assert "password" in rig.set(admin, "admin", "password", bad)["error"]
    for members in ({}, {"userType": "x", "authType": "pin"}, {"userType": "user"}):
        assert "invalid" in rig.ask(admin, "setAuthParams", **members)["error"]
    assert not rig.auth.set_boot_pin("12345")
    assert not rig.auth.set_boot_pin(shaped)


def test_getAuthInfo_tells_a_known_pin_to_admins():
    rig = Rig()
    user_pin = rig.pin("user")
    admin, user = rig.login(), rig.login(user_pin)
    assert rig.ask(admin, "getAuthInfo")["userAuth"] == {"security": "pin", "pin": user_pin}
    assert rig.ask(user, "getAuthInfo")["userAuth"] == {"security": "pin"}
    pin = rig.pin()
    rig.boot()
    assert rig.ask(rig.login(pin), "getAuthInfo")["userAuth"] == {"security": "pin"}
    rig = Rig(pin_recoverable=True)
    pin, user_pin = rig.pin(), rig.pin("user")
    rig.boot()
    assert rig.ask(rig.login(pin), "getAuthInfo")["userAuth"]["pin"] == user_pin


def test_clearTokens_ends_tokens_and_leaves_connections():
    rig = Rig()
    admin, user = rig.login(), rig.login(rig.pin("user"))
    rig.auth.closed(user)
    assert rig.ask(admin, "clearTokens")["result"]
    assert opens(rig, user.reply["token"]) == 8
    assert opens(rig, admin.reply["token"]) == 8
    assert rig.auth.http_role(admin.reply["tokenForHttpServer"]) == 0
    assert rig.auth.role(admin) == 2 and admin.lost == []
    token = rig.ask(admin, "getTokenForHttpServer")["token"]
    assert rig.auth.http_role(token) == 2


def test_setUsedApiVersion_needs_no_authorization():
    rig = Rig()
    assert rig.ask(Connection(), "setUsedApiVersion", version="1")["result"]
    assert not rig.ask(Connection(), "setUsedApiVersion", version=1)["result"]


def test_a_visitor_cannot_close_an_open_role_to_the_others():
    rig = Rig()
    admin = rig.login()
    assert rig.set(admin, "user", "unsecured")["result"]
    visitor = Connection()
    assert rig.code(visitor, type="unsecured") == 0
    for kind in ("pin", "password"):
        assert rig.set(visitor, "user", kind, USER_PASSWORD)["error"] == "admin only"
    assert rig.code(type="unsecured") == 0
    assert rig.set(admin, "user", "password", USER_PASSWORD)["result"]
    assert rig.code(type="unsecured") == 4


def test_a_user_who_logs_in_again_and_again_takes_no_admins_token():
    for on_one_connection in (True, False):
        for unsecured in (True, False):
            rig = Rig(single_session=False)
            admin = rig.login()
            if unsecured:
                assert rig.set(admin, "user", "unsecured")["result"]
            rig.auth.closed(admin)  # the phone sleeps
            user = Connection()
            for _ in range(9):
                if not on_one_connection:
                    user = Connection()
                if unsecured:
                    assert rig.code(user, type="unsecured") == 0
                else:
                    rig.login(rig.pin("user"), user)
            assert opens(rig, admin.reply["token"]) == 0


def test_an_admin_finds_room_among_many_users_and_ends_none_who_is_connected():
    rig = Rig(single_session=False)
    first = rig.login()
    users = [rig.login(rig.pin("user")) for _ in range(7)]
    rig.auth.closed(users[6])
    rig.login()
    assert first.lost == [] and [one.lost for one in users] == [[]] * 7
    assert opens(rig, users[6].reply["token"]) == 8


def test_who_changes_his_role_makes_room_by_his_own_session():
    rig = Rig(single_session=False)
    admin = rig.passwords()
    users = [rig.login(USER_PASSWORD) for _ in range(7)]
    rig.login(PASSWORD, users[3])
    everybody = [admin] + users
    assert [one.lost for one in everybody] == [[]] * 8
    assert all(one.connection for one in rig.auth.sessions.all)
    assert rig.ask(admin, "auth", role="user")["resultCode"] == 0
    assert [one.lost for one in everybody] == [[]] * 8


def test_who_logs_in_again_by_its_own_token_keeps_it():
    rig = Rig(single_session=False)
    admin = rig.login()
    token = admin.reply["token"]
    for _ in range(9):
        rig.login(token, admin)
    assert opens(rig, token) == 0 and len(rig.auth.sessions.all) == 2
    assert rig.auth.http_role(admin.reply["tokenForHttpServer"]) == 2


class Untold:
    """What a connection lost; memory is out when it is to be told."""

    def append(self, cause):
        raise MemoryError


def untold(*connections):
    for one in connections:
        one.lost = Untold()


def test_an_intruder_is_out_with_the_old_secret_also_when_memory_is_out():
    rig = Rig(single_session=False)
    one, two, admin = rig.login(), rig.login(), rig.login()
    untold(one, two)
    assert rig.set(admin, "admin", "password", PASSWORD)["result"]
    assert [rig.auth.role(each) for each in (one, two, admin)] == [0, 0, 2]
    assert opens(rig, one.reply["token"]) == opens(rig, two.reply["token"]) == 8


def test_the_consoles_new_pin_is_shown_and_ends_all_also_when_memory_is_out():
    rig = Rig(single_session=False)
    old, one, two = rig.pin(), rig.login(), rig.login()
    untold(one, two)
    finish(rig.auth.renew_pin(2))
    assert rig.auth.role(one) == rig.auth.role(two) == 0
    assert rig.pin() != old and opens(rig, rig.pin()) == 0


def test_what_ends_sessions_ends_them_all_also_when_memory_is_out():
    rig = Rig(single_session=False)
    admins = [rig.login(), rig.login()]
    untold(*admins)
    rig.auth.end_all(2, 3)
    assert [rig.auth.role(one) for one in admins] == [0, 0] and not rig.auth.sessions.all
    rig = Rig(single_session=False)
    admins = [rig.login(), rig.login()]
    untold(*admins)
    rig.clock.advance(MONTH)
    assert [rig.auth.role(one) for one in admins] == [0, 0] and not rig.auth.sessions.all


def exhausted(rig):
    """When the next secret is on flash, there is memory for nothing, and no second write.
    Returns what mends that.
    """
    save = rig.file.save

    def no_memory(*arguments):
        raise MemoryError

    def last(data):
        save(data)
        rig.noise.fail = rig.file.fail = True
        rig.log.info = no_memory

    def mend():
        rig.file.save = save
        rig.noise.fail = rig.file.fail = False

    rig.file.save = last
    return mend


def test_a_new_pin_that_is_on_flash_is_told_whatever_fails_then():
    for role in ("admin", "user"):
        rig = Rig()
        admin = rig.login()
        mend = exhausted(rig)
        reply = rig.set(admin, role, "pin")
        assert reply["result"] and rig.auth.role(admin) == 2
        mend()
        rig.boot()
        assert rig.login(reply["newPin"]).reply["previleges"] == (2 if role == "admin" else 1)


def test_the_consoles_new_pin_is_shown_when_the_flash_takes_one_write_more():
    rig = Rig()
    old = rig.pin()
    rig.code(type="secured", credentials="wrong")  # a failure to be forgotten
    mend = exhausted(rig)
    finish(rig.auth.renew_pin(2))
    pin = rig.pin()
    assert pin != old
    mend()
    rig.boot()
    assert rig.login(pin).reply["previleges"] == 2


def test_no_secret_is_changed_when_there_is_hardly_memory_to_tell_of_it():
    rig = Rig()
    admin = rig.login()
    real, compat.is_scarce = compat.is_scarce, lambda: True
    try:
        assert rig.set(admin, "admin", "pin")["error"] == "internal error"
    finally:
        compat.is_scarce = real
    assert rig.auth.role(admin) == 2 and admin.lost == []
    assert opens(rig, rig.pin()) == 0
