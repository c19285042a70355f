"""Each status code, and the order of the checks."""

import json

from rpc_rig import (
    ABSENT,
    BACKEND,
    BACKEND_KEY,
    DEVICE,
    DISPATCHER,
    HOST,
    UNIX,
    Rig,
)

from tapauth import wallclock
from tapauth.rpc.service import MAX_FRAME, MAX_REPLY, RpcPeer

JOE = HOST + "/user_joe"
GOOD = {"id": DEVICE, "credentials": {"psk": "qwerty"}}
BAD = {"id": DEVICE, "credentials": {"psk": "guess"}}


def rig_with_joe(**settings):
    rig = Rig(**settings)
    rig.add(JOE, psk="joe's key")
    rig.add(DEVICE, psk="qwerty")
    return rig


def as_joe(rig, name, args=ABSENT, **extra):
    return rig.call(name, args, src=JOE, key="joe's key", **extra)["status"]


def test_status_0_also_for_a_negative_answer():
    rig = rig_with_joe()
    assert rig.call("Auth.Authenticate", GOOD) == {"id": 7, "status": 0, "resp": True}
    assert rig.call("Auth.Authenticate", BAD) == {"id": 7, "status": 0, "resp": False}


def test_status_400_for_arguments():
    rig = rig_with_joe()
    cases = (
        ("Auth.GenerateToken", ({}, {"host": ""}, {"host": None}, {"host": 5}, {"host": "a b"})),
        ("Auth.GetToken", ({}, {"host": ["a"]}, {"host": "http://a"})),
        ("Auth.RevokeToken", ({}, {"host": {}}, {"host": "x" * 254})),
        (
            "Auth.Authenticate",
            (
                {},
                {"id": DEVICE},
                {"credentials": {"psk": "x"}},
                {"id": "", "credentials": {"psk": "x"}},
                {"id": 5, "credentials": {"psk": "x"}},
                {"id": "device_123", "credentials": {"psk": "x"}},
                {"id": HOST + "/a.b.c", "credentials": {"psk": "x"}},
                {"id": DEVICE, "credentials": {}},
                {"id": DEVICE, "credentials": {"psk": ""}},
                {"id": DEVICE, "credentials": {"psk": "", "cert": ""}},
                {"id": DEVICE, "credentials": {"psk": 5}},
                {"id": DEVICE, "credentials": {"psk": "x", "cert": None}},
                {"id": DEVICE, "credentials": "qwerty"},
                {"id": DEVICE, "credentials": ["qwerty"]},
            ),
        ),
        (
            "Auth.AuthorizeCommand",
            (
                {"src": DEVICE, "dst": DEVICE},
                {"src": DEVICE, "cmd": "x"},
                {"dst": DEVICE, "cmd": "x"},
                {"src": DEVICE, "dst": DEVICE, "cmd": ""},
                {"src": DEVICE, "dst": DEVICE, "cmd": 5},
                {"src": DEVICE, "dst": DEVICE, "cmd": "%4"},
                {"src": "x", "dst": DEVICE, "cmd": "x"},
                {"src": DEVICE, "dst": HOST + "/", "cmd": "x"},
            ),
        ),
        (
            "Device.Add",
            (
                {},
                {"deviceid": DEVICE},
                {"deviceid": DEVICE, "psk": ""},
                {"deviceid": DEVICE, "cert": "!"},
                {"deviceid": DEVICE, "psk": "x" * 129},
                {"deviceid": BACKEND, "psk": "x"},
                {"deviceid": "x", "psk": "x"},
            ),
        ),
        ("Device.Delete", ({}, {"deviceid": 5}, {"deviceid": "x"})),
    )
    for name, all_args in cases:
        for args in all_args:
            assert rig.status(name, args) == 400, (name, args)
        for args in (None, [], "x", 5, True):
            assert rig.status(name, args) == 400, (name, args)
        assert rig.status(name) == 400
    assert rig.status("Hello", []) == 400


def test_unknown_arguments_are_ignored():
    rig = rig_with_joe()
    assert rig.result("Auth.Authenticate", dict(GOOD, more=[1], psk=5)) is True


def test_status_401_without_the_right_key():
    rig = rig_with_joe()
    for src, key in (
        (DISPATCHER, None),
        (DISPATCHER, ""),
        (DISPATCHER, "wrong"),
        (DISPATCHER, 5),
        (DISPATCHER, [BACKEND_KEY]),
        (DISPATCHER, "joe's key"),
        (JOE, BACKEND_KEY),
        (JOE, None),
        (HOST + "/nobody", "x"),
        (HOST, "wrong"),
    ):
        for name in ("Hello", "Auth.Authenticate", "No.Such"):
            assert rig.status(name, {}, src=src, key=key) == 401, (src, key)
    assert rig.status("Hello", src=HOST + "/cloud.x") == 0
    # The host alone is its backend.
    assert rig.status("Hello", src=HOST) == 0


def test_status_403_for_who_is_not_the_backend():
    rig = rig_with_joe()
    for name in ("Auth.Authenticate", "Auth.AuthorizeCommand", "Device.Add", "Device.Delete"):
        assert as_joe(rig, name, {}) == 403
    for name in ("Hello", "Services.List", "Auth.ListToken"):
        assert as_joe(rig, name) == 0


def test_status_404_for_an_unknown_command():
    rig = rig_with_joe()
    for name in ("Auth.Nuke", "auth.authenticate", "Auth.authenticate", "hello", "", "Auth"):
        assert rig.status(name) == 404, name
    peer = rig.pinned()
    for name in (
        "",
        "Auth.ListToken",
        "/v2/Auth.ListToken",
        "/v1/Auth%2EListToken",
        "_authenticate",
    ):
        frame = {"v": 1, "src": DISPATCHER, "cmds": [{"cmd": name, "id": 1}]}
        assert rig.ask(frame, peer)["resp"][0]["status"] == 404, name


def test_status_413_for_too_much():
    rig = rig_with_joe()
    # A frame: nobody can tell whom to answer; its connection ends.
    peer = RpcPeer()
    assert rig.ask(b" " * (MAX_FRAME + 1), peer) is None
    assert peer.close == 1009
    # A batch: the first 25 are done.
    batch = [{"cmd": "/v1/Hello", "id": number + 1} for number in range(30)]
    reply = rig.ask({"v": 1, "src": DISPATCHER, "key": BACKEND_KEY, "cmds": batch})
    assert [entry["status"] for entry in reply["resp"]] == [0] * 25 + [413] * 5
    # A result: it says so in its place, and the frame stays within the limit.
    for number in range(16):
        host = ".".join(["x" * 60] * 4) + f".{number}"
        rig.result("Auth.GenerateToken", {"host": host})
    batch = [{"cmd": "/v1/Auth.ListToken", "id": 1}, {"cmd": "/v1/Hello", "id": 2}]
    frame = {"v": 1, "src": DISPATCHER, "key": BACKEND_KEY, "cmds": batch}
    text = rig.service.handle(json.dumps(frame), RpcPeer())
    assert len(text) <= MAX_REPLY
    assert [entry["status"] for entry in json.loads(text)["resp"]] == [413, 0]


def test_status_418_before_a_reboot():
    rig = rig_with_joe()
    rig.service.rebooting = True
    assert rig.status("Hello") == 418
    assert rig.status("No.Such") == 418
    assert rig.status("Hello", key="wrong") == 401


def test_status_429_after_too_many_failures():
    rig = rig_with_joe()
    for _ in range(5):
        assert rig.result("Auth.Authenticate", BAD) is False
    # Also the right one has to wait, and an unknown ID is answered alike.
    assert rig.status("Auth.Authenticate", GOOD) == 429
    unknown = {"id": HOST + "/nobody", "credentials": {"psk": "x"}}
    for _ in range(5):
        assert rig.result("Auth.Authenticate", unknown) is False
    assert rig.call("Auth.Authenticate", unknown) == rig.call("Auth.Authenticate", GOOD)
    # A component is no other ID.
    other = {"id": DEVICE + ".x", "credentials": {"psk": "qwerty"}}
    assert rig.status("Auth.Authenticate", other) == 429
    assert (
        rig.result("Auth.Authenticate", {"id": JOE, "credentials": {"psk": "joe's key"}}) is True
    )
    rig.clock.advance(30_000)
    assert rig.result("Auth.Authenticate", GOOD) is True


def test_status_429_for_guessing_keys_of_frames():
    rig = rig_with_joe()
    for name in (JOE, HOST + "/nobody"):
        statuses = [rig.status("Hello", src=name, key="guess") for _ in range(7)]
        assert statuses == [401] * 5 + [429] * 2, name
    assert as_joe(rig, "Hello") == 429
    # A missing key is no guess; the backend cannot be locked out; nor can Authenticate be.
    for _ in range(9):
        assert rig.status("Hello", src=DEVICE, key=None) == 401
        assert rig.status("Hello", key="guess") == 401
    assert rig.status("Hello", src=DEVICE, key="qwerty") == 0
    assert rig.status("Hello") == 0
    args = {"id": JOE, "credentials": {"psk": "joe's key"}}
    assert rig.result("Auth.Authenticate", args) is True
    rig.clock.advance(30_000)
    assert as_joe(rig, "Hello") == 0


def test_names_that_somebody_makes_up_keep_no_device_out():
    rig = rig_with_joe()
    asked = {"id": JOE, "credentials": {"psk": "joe's key"}}
    for number in range(20):
        made_up = HOST + f"/x{number}"
        for _ in range(5):
            assert rig.status("Hello", src=made_up, key="no") == 401
            args = {"id": made_up, "credentials": {"psk": "no"}}
            assert rig.status("Auth.Authenticate", args) == 0
    for _ in range(60):
        assert as_joe(rig, "Hello") == 0
        assert rig.result("Auth.Authenticate", asked) is True
        rig.clock.advance(60_000)
        for number in range(16):
            rig.status("Hello", src=HOST + f"/x{number}", key="no")
    # Nor do they let a device's key be guessed.
    statuses = []
    for number in range(20):
        statuses.append(rig.status("Hello", src=DEVICE, key="guess"))
        for _ in range(6):
            rig.status("Hello", src=HOST + f"/y{number}", key="no")
    assert statuses == [401] * 5 + [429] * 15
    assert rig.status("Hello", src=DEVICE, key="qwerty") == 429


def test_deleted_devices_leave_no_failures_behind():
    rig = Rig()
    for number in range(40):
        name = HOST + f"/d{number}"
        rig.add(name, psk="qwerty")
        assert rig.status("Hello", src=name, key="guess") == 401
        args = {"id": name, "credentials": {"psk": "guess"}}
        assert rig.result("Auth.Authenticate", args) is False
        rig.result("Device.Delete", {"deviceid": name})
        assert rig.service.asked_for.rows == []


def test_status_500_when_flash_or_random_fail():
    rig = rig_with_joe()
    rig.result("Auth.GenerateToken", {"host": "kept.com"})
    rig.fs.failing = True
    assert rig.status("Auth.GenerateToken", {"host": "a.com"}) == 500
    assert rig.status("Auth.RevokeToken", {"host": "kept.com"}) == 500
    assert rig.status("Device.Add", {"deviceid": DEVICE, "psk": "x"}) == 500
    assert rig.status("Device.Delete", {"deviceid": DEVICE}) == 500
    assert rig.result("Auth.ListToken") == [{"host": "kept.com"}]
    assert rig.result("Auth.Authenticate", GOOD) is True
    rig.fs.failing = False

    def broken(count):
        raise OSError(5)

    rig.service.tokens.random = broken
    assert rig.status("Auth.GenerateToken", {"host": "a.com"}) == 500


def test_status_504_when_the_deadline_has_passed():
    rig = rig_with_joe()
    for extra, status in (
        ({"deadline": UNIX + 1}, 0),
        ({"deadline": UNIX}, 504),
        ({"deadline": UNIX - 1}, 504),
        ({"deadline": 0}, 504),
        ({"deadline": -1.5}, 504),
        ({"timeout": 10}, 0),
        ({"timeout": 0.5}, 0),
        ({"timeout": 0}, 504),
        ({"timeout": -1}, 504),
        ({"timeout": 10, "deadline": UNIX - 1}, 504),
        ({"deadline": "tomorrow"}, 400),
        ({"timeout": True}, 400),
        ({"timeout": None}, 400),
    ):
        assert rig.status("Hello", **extra) == status, extra
    # Nothing is done any more.
    assert rig.status("Auth.GenerateToken", {"host": "a.com"}, timeout=0) == 504
    assert rig.result("Auth.ListToken") == []
    # A clock that was never set knows of no deadline.
    for unix in (1000, 1_735_689_600, wallclock.EARLIEST - 1):
        rig.unix = unix
        assert rig.status("Hello", deadline=unix - 1) == 0
    rig.unix = wallclock.EARLIEST
    assert rig.status("Hello", deadline=wallclock.EARLIEST - 1) == 504
    assert rig.status("Hello", timeout=0) == 504


def test_status_507_when_a_table_is_full():
    rig = rig_with_joe()
    for number in range(16):
        rig.result("Auth.GenerateToken", {"host": f"app{number}.com"})
    assert rig.status("Auth.GenerateToken", {"host": "one.more"}) == 507
    assert rig.status("Auth.GenerateToken", {"host": "app3.com"}) == 0
    for user in range(3):
        rig.add(f"//h/u{user}", psk="x")
        for number in range(16):
            args = {"host": f"app{number}.com"}
            assert rig.status("Auth.GenerateToken", args, src=f"//h/u{user}", key="x") == 0
    assert as_joe(rig, "Auth.GenerateToken", {"host": "one.more"}) == 507
    rig.result("Auth.RevokeToken", {"host": "app3.com"})
    assert as_joe(rig, "Auth.GenerateToken", {"host": "one.more"}) == 0
    rig.service.credentials.table.capacity = 6
    rig.add("//h/d", psk="x")
    assert rig.status("Device.Add", {"deviceid": "//h/one_more", "psk": "x"}) == 507


def test_the_order_of_the_checks():
    rig = rig_with_joe()
    past = {"deadline": 1}
    # Source before everything of the command.
    assert rig.status("No.Such", 5, key="wrong", deadline=1) == 401
    # Deadline before name, name before caller, caller before arguments.
    assert as_joe(rig, "No.Such", 5, **past) == 504
    assert as_joe(rig, "No.Such", 5) == 404
    assert as_joe(rig, "Auth.Authenticate", 5) == 403
    assert rig.status("Auth.Authenticate", 5) == 400
    # Arguments before the throttle.
    for _ in range(5):
        rig.call("Auth.Authenticate", BAD)
    assert rig.status("Auth.Authenticate", {"id": DEVICE, "credentials": {}}) == 400
    assert rig.status("Auth.Authenticate", BAD) == 429
