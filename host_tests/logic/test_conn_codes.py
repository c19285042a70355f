"""Connection auth: every result code from its situations, the order of checks, the readings of
what the document leaves open.
"""

from conn_rig import PASSWORD, USER_PASSWORD, Connection, Rig

from tapauth.local.login.auth import reply_to

SHAPED = "1*Cwk7m2fznHFi0t02*99235446*" + "41" * 32


def test_a_board_begins_with_two_pins_and_nothing_open():
    rig = Rig()
    assert [line.split()[:2] for line in rig.shown] == [["admin", "PIN:"], ["user", "PIN:"]]
    assert rig.pin() != rig.pin("user")
    assert len(rig.pin()) == 6 and not set(rig.pin()) & set("01OI")
    assert rig.code(type="unsecured") == 4
    assert rig.login().reply["previleges"] == 2
    assert rig.login(rig.pin("user")).reply["previleges"] == 1
    # Shown once: the next start knows them, and says nothing.
    pin = rig.pin()
    rig.boot()
    assert rig.shown == []
    assert rig.login(pin).reply["previleges"] == 2
    assert pin.encode() not in rig.file.data
    assert not [line for line in rig.log.lines if pin in line]


def test_the_documents_examples():
    rig = Rig()
    admin = rig.open_all()
    reply = rig.ask(Connection(), "auth", requestId="1", type="unsecured", role="admin")
    assert reply["method"] == "auth" and reply["requestId"] == "1"
    assert reply["previleges"] == 2 and reply["result"] is True and reply["resultCode"] == 0
    assert admin.lost == [1]
    assert len(reply) == 7
    for name, kind in (("token", "1"), ("tokenForHttpServer", "4")):
        parts = reply[name].split("*")
        assert parts[0] == kind and len(parts[1]) == 16 and len(parts[3]) == 64
        assert parts[1].isalpha() or set(parts[1]) & set("0123456789")
        assert parts[3] == parts[3].upper()
    tokens = [int(reply[name].split("*")[2]) for name in ("token", "tokenForHttpServer")]
    assert tokens[0] - tokens[1] == 30 * 86400 - 300
    rig = Rig()
    admin = rig.passwords()
    reply = rig.ask(
        Connection(),
        "auth",
        requestId="1",
        type="secured",
        credentials=USER_PASSWORD,
        role="user",
    )
    assert reply["resultCode"] == 0 and reply["previleges"] == 1
    reply = rig.ask(admin, "auth", requestId="1", role="user")
    assert reply["resultCode"] == 0 and reply["previleges"] == 1 and len(reply) == 7


def test_0_each_proof_opens_its_role():
    rig = Rig()
    admin = rig.passwords()
    assert rig.login(PASSWORD).reply["previleges"] == 2
    assert rig.login(USER_PASSWORD).reply["previleges"] == 1
    assert rig.login(rig.login(USER_PASSWORD).reply["token"]).reply["previleges"] == 1
    assert rig.auth.set_boot_pin("pin123")
    assert rig.login("PIN123").reply["previleges"] == 2
    assert admin.lost == [1]


def test_1_what_fails_inside_changes_nothing():
    rig = Rig()
    admin = rig.login()
    rig.noise.fail = True
    assert rig.code(type="secured", credentials=rig.pin()) == 1
    assert rig.code(admin, role="user") == 1
    rig.noise.fail = False
    assert rig.auth.role(admin) == 2 and admin.lost == []
    rig.file.fail = True
    for _ in range(4):
        assert rig.code(type="secured", credentials="wrong") == 1  # each has to be kept
    assert rig.code(type="secured", credentials="wrong") == 6  # and counts all the same
    assert rig.set(admin, "user", "password", PASSWORD)["error"] == "internal error"
    assert rig.auth.role(admin) == 2


def test_2_the_plan():
    rig = Rig()
    pin, user_pin = rig.pin(), rig.pin("user")
    rig.settings["plan_pro"] = False
    rig.boot()
    for secret in (pin, user_pin, "wrong"):
        assert rig.code(type="secured", credentials=secret) == 2
    # The boot PIN still works; stored secrets neither open nor become open.
    assert rig.auth.set_boot_pin("pin123")
    assert rig.code(type="secured", credentials=pin) == 8
    assert rig.code(type="unsecured") == 4
    admin = rig.login("pin123")
    assert rig.code(admin, role="user") == 2
    assert "Pro" in rig.set(admin, "admin", "pin")["error"]
    assert rig.set(admin, "admin", "unsecured")["result"]
    assert rig.code(type="unsecured", role="user") == 2
    assert rig.code(type="unsecured") == 0


def test_2_losing_the_plan():
    rig = Rig()
    pin, user_pin = rig.pin(), rig.pin("user")
    tokens = [rig.login(secret).reply["token"] for secret in (user_pin, pin)]
    rig.settings["plan_pro"] = False
    rig.boot()  # as a plan changes
    for token in tokens:
        assert rig.code(type="secured", credentials=token) == 8
    for secret in (user_pin, pin):
        assert rig.code(type="secured", credentials=secret) == 2
    rig.auth.set_boot_pin("pin123")
    rig.login("pin123")
    # Open for all is no feature of a plan.
    rig = Rig()
    rig.open_all()
    rig.settings["plan_pro"] = False
    rig.boot()
    assert rig.code(type="unsecured") == 0


def test_3_status_change_is_for_admins():
    rig = Rig()
    user_pin = rig.pin("user")
    assert rig.code(role="user") == 3
    assert rig.code(rig.login(user_pin), role="user") == 3
    admin = rig.login()
    rig.clock.advance(30 * 86400_000)
    assert rig.code(admin, role="user") == 3
    assert admin.lost == [8]


def test_4_the_type_does_not_fit_the_protection():
    rig = Rig()
    assert rig.code(type="unsecured", role="user", credentials=5) == 4
    rig.open_all()
    assert rig.code(type="secured", credentials="anything") == 4
    assert rig.auth.set_boot_pin("pin123")
    assert rig.code(type="secured", credentials="anything") == 8
    assert rig.code(type="secured", credentials="pin123") == 0


def test_5_a_right_proof_for_the_other_role():
    rig = Rig()
    admin = rig.passwords()
    for _ in range(10):  # none of them counts as a failure
        assert rig.code(type="secured", credentials=PASSWORD, role="user") == 5
        assert rig.code(type="secured", credentials=USER_PASSWORD, role="admin") == 5
        assert rig.code(type="secured", credentials=admin.reply["token"], role="user") in (5, 8)
    assert rig.auth.role(admin) == 2
    assert rig.set(admin, "user", "unsecured")["result"]
    assert rig.code(type="unsecured", role="admin") == 5
    assert rig.code(type="unsecured") == 0


def test_6_locked():
    rig = Rig()
    for _ in range(5):
        assert rig.code(type="secured", credentials="wrong") == 8
    reply = rig.ask(Connection(), "auth", type="secured", credentials=rig.pin())
    assert reply["resultCode"] == 6 and reply["retryAfter"] == 30
    rig.clock.advance(29_000)
    reply = rig.ask(Connection(), "auth", type="secured", credentials=rig.pin())
    assert reply["resultCode"] == 6 and reply["retryAfter"] == 1
    rig.clock.advance(1000)
    assert rig.code(type="secured", credentials=rig.pin()) == 0


def test_7_and_12_empty_and_missing_credentials():
    rig = Rig()
    assert rig.code(type="secured", credentials="") == 7
    assert rig.code(type="secured") == 12
    assert rig.code(type="secured", credentials=None) == 12
    rig.open_all()
    assert rig.code(type="secured", credentials="") == 7
    assert rig.code(type="secured") == 12


def test_8_wrong_credentials():
    rig = Rig()
    # Neither a word nor short enough: not counted.
    for bad in (5, True, [], {}, "x" * 129, "\u00e4" * 65, "\U0001f600" * 33, SHAPED) * 2:
        assert rig.code(type="secured", credentials=bad) == 8
    assert rig.keeper.lockout.failures == 0
    assert rig.code(type="secured", credentials="x" * 128) == 8
    assert rig.code(type="secured", credentials="\ud800") == 8
    assert rig.keeper.lockout.failures in (1, 2)  # MicroPython takes half a character for text


def test_9_role_values():
    rig = Rig()
    for bad in (None, "", "Admin", "user ", 1, True, [], {}):
        assert rig.code(type="secured", credentials=rig.pin(), role=bad) == 9
        assert rig.code(type="unsecured", role=bad) == 9
        assert rig.code(rig.login(), role=bad) == 9
    assert rig.code(rig.login(), role="admin") == 9
    assert rig.code(role="admin") == 9


def test_10_type_values():
    rig = Rig()
    for bad in (None, "", "Secured", "token", 1, True, [], {}):
        assert rig.code(type=bad) == 10
        assert rig.code(type=bad, role="nobody", credentials="") == 10


def test_11_no_type():
    rig = Rig()
    assert rig.code() == 11
    assert rig.code(rig.login()) == 11
    assert rig.code(rig.login(), credentials=rig.pin()) == 11
    assert rig.code(rig.login(), credentials=None, role="user") == 11


def test_the_order_of_checks():
    rig = Rig()
    assert rig.code(type="x", role="x", credentials="") == 10
    assert rig.code(type="secured", role="x", credentials="") == 9
    assert rig.code(type="unsecured", role="x") == 9
    for _ in range(5):
        rig.code(type="secured", credentials="wrong")
    # Locked: what is not a try to prove something is answered as ever.
    assert rig.code(type="secured", credentials="") == 7
    assert rig.code(type="secured") == 12
    assert rig.code(type="secured", credentials="x" * 200) == 8
    assert rig.code(type="secured", credentials=SHAPED) == 8
    assert rig.code(type="unsecured") == 4
    assert rig.code(type="secured", credentials="wrong", role="admin") == 6


def test_without_a_role_the_highest_and_with_one_that_one():
    rig = Rig()
    rig.open_all()
    assert rig.ask(Connection(), "auth", type="unsecured")["previleges"] == 2
    assert rig.ask(Connection(), "auth", type="unsecured", role="user")["previleges"] == 1
    rig = Rig()
    admin = rig.passwords()
    assert rig.set(admin, "user", "password", PASSWORD)["result"]
    assert rig.login(PASSWORD).reply["previleges"] == 2
    assert rig.login(PASSWORD, role="user").reply["previleges"] == 1


def test_pins_have_no_case_and_passwords_have():
    rig = Rig()
    assert rig.login(rig.pin().lower()).reply["previleges"] == 2
    rig.passwords()
    assert rig.code(type="secured", credentials=PASSWORD.upper()) == 8


def test_credentials_with_unsecured_are_ignored():
    rig = Rig()
    rig.open_all()
    for given in ("wrong", "", None, 5, "x" * 1000):
        assert rig.code(type="unsecured", credentials=given) == 0


def test_a_failed_auth_leaves_the_authorization():
    rig = Rig()
    admin = rig.login()
    for members in (
        {},
        {"type": None},
        {"type": "secured", "credentials": "wrong"},
        {"type": "secured", "credentials": rig.pin("user"), "role": "admin"},
        {"type": "unsecured"},
        {"role": "admin"},
    ):
        assert rig.code(admin, **members) != 0
        assert rig.auth.role(admin) == 2
    assert admin.lost == []


def test_request_ids():
    for given, echoed in (
        ("1", "1"),
        ("", ""),
        (7, "7"),
        (-3, "-3"),
        (1.5, "1.5"),
        (True, ""),
        (None, ""),
        ([], ""),
        ({}, ""),
        ("x" * 100, "x" * 64),
    ):
        assert reply_to({"method": "m", "requestId": given})["requestId"] == echoed
    assert reply_to({"method": "m"}) == {"method": "m", "requestId": ""}


def test_what_is_not_of_auth_is_for_others():
    rig = Rig()
    for method in ("getStatus", None, 5, [], "_auth"):
        assert rig.ask(Connection(), method) is None
