"""The service as a whole: batches, connections, version 2, its list of commands, its log."""

from ram_fs import BrokenFs, StumblingFs
from rpc_rig import BACKEND, BACKEND_KEY, DEVICE, DISPATCHER, HOST, REGISTRY, Rig, error_of

from tapauth.rpc.service import RpcPeer

JOE = HOST + "/user_joe"
GOOD = {"id": DEVICE, "credentials": {"psk": "qwerty"}}
BAD = {"id": DEVICE, "credentials": {"psk": "guess"}}


def rig_with_joe():
    rig = Rig()
    rig.add(JOE, psk="joe's key")
    rig.add(DEVICE, psk="qwerty")
    return rig


def batch(rig, *commands, peer=None):
    frame = {"v": 1, "src": DISPATCHER, "key": BACKEND_KEY, "cmds": list(commands)}
    reply = rig.ask(frame, peer)
    return None if reply is None else [(one["id"], one["status"]) for one in reply["resp"]]


HELLO = {"cmd": "/v1/Hello"}


def test_one_failing_command_does_not_stop_the_others():
    rig = Rig()
    first, second, third = dict(HELLO, id=1), {"cmd": "/v1/No.Such", "id": 2}, dict(HELLO, id=3)
    assert batch(rig, first, second, third) == [(1, 0), (2, 404), (3, 0)]


def test_a_malformed_element_stops_the_rest():
    rig = Rig()
    for bad in (None, 5, {}, {"cmd": 5}, dict(HELLO, id=0), dict(HELLO, id=1.5)):
        before = rig.service.invalid
        assert batch(rig, dict(HELLO, id=1), bad, dict(HELLO, id=3)) == [(1, 0)]
        assert batch(rig, bad, dict(HELLO, id=3)) is None
        assert rig.service.invalid == before + 2


def test_an_id_used_twice_is_answered_and_not_executed():
    rig = Rig()
    generate = {"cmd": "/v1/Auth.GenerateToken", "args": {"host": "a.com"}, "id": 1}
    assert batch(rig, dict(HELLO, id=1), generate, dict(HELLO, id=2)) == [(1, 0), (1, 400), (2, 0)]
    assert rig.result("Auth.ListToken") == []
    # In another frame it is another command; a frame that came twice gives the same answer.
    assert batch(rig, generate) == batch(rig, generate) == [(1, 0)]
    assert rig.result("Auth.ListToken") == [{"host": "a.com"}]


def test_notifications_are_executed_and_not_answered():
    rig = Rig()
    generate = {"cmd": "/v1/Auth.GenerateToken", "args": {"host": "a.com"}}
    assert batch(rig, generate) is None
    assert batch(rig, generate, generate, dict(HELLO, id=5)) == [(5, 0)]
    assert rig.result("Auth.ListToken") == [{"host": "a.com"}]
    frame = {"src": DISPATCHER, "key": BACKEND_KEY, "nr": True, "id": 1}
    frame.update({"method": "/v1/Auth.GenerateToken", "params": {"host": "b.com"}})
    assert rig.ask(frame) is None
    assert len(rig.result("Auth.ListToken")) == 2
    # Nobody is told that a notification was refused.
    assert rig.ask({"v": 1, "src": DISPATCHER, "cmds": [HELLO]}) is None


def test_every_device_of_a_frame_without_ids_is_deleted():
    rig = rig_with_joe()
    delete = [{"cmd": "/v1/Device.Delete", "args": {"deviceid": name}} for name in (JOE, DEVICE)]
    assert batch(rig, *delete) is None
    for name, psk in ((JOE, "joe's key"), (DEVICE, "qwerty")):
        asked = {"id": name, "credentials": {"psk": psk}}
        assert rig.result("Auth.Authenticate", asked) is False


def test_a_full_reply_keeps_no_device_from_being_deleted():
    rig = rig_with_joe()
    for number in range(14):
        rig.result("Auth.GenerateToken", {"host": ".".join(["x" * 52] * 4) + f".{number:02}"})
    listing = {"cmd": "/v1/Auth.ListToken", "id": 1}
    cut_short = 0
    for size in range(2, 240, 16):
        # A list of them takes all of a reply but for some bytes, or for none.
        last = {"host": "a." * (size // 2) + "b"}
        rig.result("Auth.GenerateToken", last)
        rig.add(JOE, psk="joe's key")
        rig.add(DEVICE, psk="qwerty")
        first = {"cmd": "/v1/Device.Delete", "args": {"deviceid": JOE}, "id": 3}
        second = {"cmd": "/v1/Device.Delete", "args": {"deviceid": DEVICE}}
        # One of the three answers has no room.
        cut_short += len(batch(rig, listing, dict(listing, id=2), first, second)) < 3
        for name, psk in ((JOE, "joe's key"), (DEVICE, "qwerty")):
            asked = {"id": name, "credentials": {"psk": psk}}
            assert rig.result("Auth.Authenticate", asked) is False, size
        rig.result("Auth.RevokeToken", last)
    assert cut_short


def test_responses_get_no_answer():
    rig = Rig()
    resp = [{"id": 1, "status": 0}]
    assert rig.ask({"v": 1, "src": DISPATCHER, "resp": resp}) is None
    assert rig.ask({"v": 2, "src": DISPATCHER, "id": 1, "result": 5}) is None
    assert rig.service.invalid == 0
    frame = {
        "v": 1,
        "src": DISPATCHER,
        "key": BACKEND_KEY,
        "resp": resp,
        "cmds": [dict(HELLO, id=9)],
    }
    assert rig.ask(frame)["resp"][0]["id"] == 9


def test_the_destination():
    rig = Rig()
    for dst, ours in (
        (REGISTRY, True),
        (BACKEND, True),
        (HOST, True),
        ("//API.cesanta.com/%63loud.registry", True),
        (DISPATCHER, False),
        (DEVICE, False),
        ("registry", False),
        ("", False),
    ):
        peer = RpcPeer()
        frame = {
            "v": 1,
            "src": DISPATCHER,
            "key": BACKEND_KEY,
            "cmds": [dict(HELLO, id=1)],
            "dst": dst,
        }
        reply = rig.ask(frame, peer)
        if ours:
            # As it came: the sender compares it with what it sent.
            assert reply["src"] == dst and reply["dst"] == DISPATCHER
            assert peer.close == 0
        else:
            assert reply is None
    peer = RpcPeer()
    rig.ask({"v": 1, "src": DISPATCHER, "dst": DEVICE, "cmds": [HELLO]}, peer)
    assert peer.close == 1008


def test_a_source_that_is_no_address_gets_no_answer():
    rig = Rig()
    for src in ("", "cloud", "//h/a.b.c", HOST + "/%", 5, None):
        frame = {"v": 1, "src": src, "key": BACKEND_KEY, "cmds": [dict(HELLO, id=1)]}
        assert rig.ask(frame) is None


def test_a_connection_keeps_its_id():
    rig = rig_with_joe()
    peer = rig.pinned()
    frame = {"v": 1, "src": HOST + "/cloud.other", "cmds": [dict(HELLO, id=2)]}
    assert rig.ask(frame, peer)["resp"][0]["status"] == 0
    # Another ID, even with its right key, ends it.
    frame = {"v": 1, "src": JOE, "key": "joe's key", "cmds": [dict(HELLO, id=3)]}
    assert rig.ask(frame, peer)["resp"][0]["status"] == 401
    assert peer.close == 1008


def test_a_connection_is_not_pinned_by_a_wrong_key():
    rig = rig_with_joe()
    peer = RpcPeer()
    frame = {"v": 1, "src": DISPATCHER, "key": "wrong", "cmds": [dict(HELLO, id=1)]}
    assert rig.ask(frame, peer)["resp"][0]["status"] == 401
    del frame["key"]
    assert rig.ask(frame, peer)["resp"][0]["status"] == 401
    assert peer.close == 0
    frame = {"v": 1, "src": JOE, "key": "joe's key", "cmds": [dict(HELLO, id=3)]}
    assert rig.ask(frame, peer)["resp"][0]["status"] == 0


def test_a_connection_ends_with_its_credentials():
    rig = rig_with_joe()
    peer = rig.pinned(JOE, "joe's key")
    frame = {"v": 1, "src": JOE, "cmds": [dict(HELLO, id=2)]}
    rig.add(DEVICE, psk="other")
    assert rig.ask(frame, peer)["resp"][0]["status"] == 0
    rig.add(JOE, psk="new key")
    assert rig.ask(frame, peer)["resp"][0]["status"] == 401
    assert rig.ask(dict(frame, key="new key"), peer)["resp"][0]["status"] == 0
    assert rig.ask(frame, peer)["resp"][0]["status"] == 0
    rig.result("Device.Delete", {"deviceid": JOE})
    assert rig.ask(frame, peer)["resp"][0]["status"] == 401


def test_version_2():
    rig = rig_with_joe()
    peer = RpcPeer()
    frame = {
        "v": 2,
        "id": "a-1",
        "src": DISPATCHER,
        "dst": REGISTRY,
        "key": BACKEND_KEY,
        "tag": [1],
    }
    reply = rig.ask(dict(frame, method="/v1/Auth.Authenticate", args=GOOD), peer)
    head = {"v": 2, "src": REGISTRY, "dst": DISPATCHER, "id": "a-1", "tag": [1]}
    assert reply == dict(head, result={"success": True, "id": DEVICE})
    reply = rig.ask(dict(frame, method="/v1/Auth.Authenticate", params=BAD), peer)
    assert reply == dict(head, result={"success": False, "id": DEVICE})
    reply = rig.ask(dict(frame, method="/v1/Auth.RevokeToken", args={"host": "a.com"}), peer)
    assert reply == head
    reply = rig.ask(dict(frame, method="/v1/No.Such"), peer)
    assert reply == dict(head, error={"code": 404, "message": "no such command"})
    # Once its ID is known a connection need not say who it is; before, it must.
    reply = rig.ask({"id": 5, "method": "/v1/Hello"}, peer)
    assert reply == {"v": 2, "src": REGISTRY, "id": 5, "result": "HAI"}
    reply = rig.ask({"id": 5, "method": "/v1/Hello", "key": BACKEND_KEY})
    assert reply["error"]["code"] == 401 and "dst" not in reply


def test_the_list_of_the_commands_fits_a_frame():
    rig = Rig()
    listed = rig.result("Services.List")
    names = [f"{service}.{name}" for service in listed for name in listed[service]["methods"]]
    assert len(names) == 10
    assert listed["/v1"]["methods"]["Hello"]["result"] == {"type": "string"}
    assert "/v1/Device.Add" in names
    assert sorted(rig.service.handlers) == sorted(
        f"{service}{'/' if service == '/v1' else '.'}{name}"
        for service in listed
        for name in listed[service]["methods"]
    )


def test_bad_settings_are_refused():
    for settings in ({"address": "x"}, {"backend_id": "x"}, {"backend_key": "x" * 15}):
        assert isinstance(error_of(lambda settings=settings: Rig(**settings)), ValueError)
    assert Rig(address="").service is None
    # The backend is that of the board's own host unless another is named.
    rig = Rig(backend_id="")
    assert rig.result("Auth.ListToken") == []
    rig = Rig(backend_key="")
    assert rig.status("Hello", key="") == 401


def test_the_log_shows_no_secret():
    rig = rig_with_joe()
    token = rig.result("Auth.GenerateToken", {"host": "a.com"})["token"]
    rig.call("Auth.Authenticate", GOOD)
    rig.call("Auth.Authenticate", {"id": "x", "credentials": {"psk": "qwerty"}})
    rig.call("Hello", key="guess")
    rig.fs.failing = True
    rig.call("Device.Add", {"deviceid": DEVICE, "psk": "qwertz"})
    rig.ask({"v": 1, "src": "x", "key": BACKEND_KEY, "cmds": [HELLO]})
    text = "\n".join(rig.lines)
    assert len(rig.lines) >= 3
    for secret in (token, "qwert", "guess", BACKEND_KEY, "joe's"):
        assert secret not in text


def damage(rig, name):
    for end in ("", ".copy"):
        rig.fs.files[f"/rpc_{name}{end}"] = bytearray(b"damaged")


def test_a_revoked_token_and_a_deleted_device_do_not_come_back_by_damage():
    for damaged in ("", ".copy"):
        rig = rig_with_joe()
        rig.settings["tokens_as_psk"] = True
        rig.restart()
        how = {"src": JOE, "key": "joe's key"}
        token = rig.result("Auth.GenerateToken", {"host": "app.com"}, **how)["token"]
        asked = {"id": JOE, "credentials": {"psk": token}}
        assert rig.result("Auth.Authenticate", asked) is True
        rig.result("Auth.RevokeToken", {"host": "app.com"}, **how)
        rig.result("Device.Delete", {"deviceid": DEVICE})
        for name in ("tokens", "devices"):
            rig.fs.files[f"/rpc_{name}{damaged}"] = bytearray(b"damaged")
        rig.restart()
        assert rig.result("Auth.Authenticate", asked) is False
        assert rig.result("Auth.Authenticate", GOOD) is False
        assert rig.result("Auth.GetToken", {"host": "app.com"}, **how) == {"exist": False}


def test_a_lost_table_answers_no_question_and_says_what_to_do():
    how = {"src": JOE, "key": "joe's key"}
    rig = rig_with_joe()
    rig.result("Auth.GenerateToken", {"host": "app.com"}, **how)
    damage(rig, "tokens")
    for _ in range(2):
        rig.restart()
        assert "rpc_tokens is damaged: generate every token again" in rig.service.problem
        for name, args in (("GetToken", {"host": "app.com"}), ("ListToken", {})):
            entry = rig.call("Auth." + name, args, **how)
            assert entry["status"] == 500 and "damaged" in entry["status_msg"]
        assert rig.status("Auth.RevokeToken", {"host": "app.com"}, **how) == 0
    rig.result("Auth.GenerateToken", {"host": "new.com"}, **how)
    assert rig.result("Auth.ListToken", **how) == [{"host": "new.com"}]
    rig.restart()
    assert rig.service.problem == ""

    damage(rig, "devices")
    for _ in range(2):
        rig.restart()
        assert "rpc_devices is damaged: add every device again" in rig.service.problem
        assert rig.status("Auth.Authenticate", GOOD) == 500
        assert rig.status("Hello", **how) == 401 and rig.status("Hello") == 0
    rig.add(DEVICE, psk="qwerty")
    assert rig.result("Auth.Authenticate", GOOD) is True
    assert rig.status("Hello", **how) == 401


def test_what_was_made_under_a_lost_key_is_void_and_that_is_said():
    how = {"src": JOE, "key": "joe's key"}
    for lost in (True, False):
        rig = rig_with_joe()
        old = rig.result("Auth.GenerateToken", {"host": "app.com"}, **how)["token"]
        damage(rig, "key")
        if lost:
            for end in ("", ".copy"):
                del rig.fs.files["/rpc_key" + end]
        rig.restart()
        assert "rpc_key is lost: add every device" in rig.service.problem
        assert rig.status("Hello", **how) == 401
        rig.add(JOE, psk="joe's key")
        assert rig.result("Auth.GetToken", {"host": "app.com"}, **how) == {"exist": False}
        assert rig.result("Auth.GenerateToken", {"host": "app.com"}, **how)["token"] != old


APP = {"host": "app.com"}


def with_a_token(fs=None):
    """(rig, the token of DEVICE's app)"""
    rig = Rig(fs=fs, tokens_as_psk=True)
    rig.add(DEVICE, psk="qwerty")
    rig.result("Auth.GenerateToken", APP)
    return rig, rig.result("Auth.GenerateToken", APP, src=DEVICE, key="qwerty")["token"]


def opens(rig, secret):
    return rig.result("Auth.Authenticate", {"id": DEVICE, "credentials": {"psk": secret}})


def test_the_tokens_of_a_deleted_device_open_nothing_and_are_nobody_elses():
    rig, token = with_a_token()
    backends = rig.result("Auth.GetToken", APP)
    assert opens(rig, token) is True
    rig.result("Device.Delete", {"deviceid": DEVICE})
    assert opens(rig, token) is False
    rig.restart()
    assert opens(rig, token) is False
    rig.add(DEVICE, psk="the next holder's key")
    assert opens(rig, token) is False
    how = {"src": DEVICE, "key": "the next holder's key"}
    assert rig.result("Auth.GetToken", APP, **how) == {"exist": False}
    # The backend is no device, so there is nothing of it to delete.
    rig.result("Device.Delete", {"deviceid": BACKEND})
    assert rig.result("Auth.GetToken", APP) == backends


def test_other_credentials_of_a_device_void_its_tokens():
    rig, token = with_a_token()
    rig.add(DEVICE, psk="qwerty")
    assert opens(rig, token) is True, "the same credentials"
    assert rig.status("Device.Add", {"deviceid": DEVICE, "psk": "x" * 129}) == 400
    assert opens(rig, token) is True, "nothing was changed"
    rig.add(DEVICE, psk="another key")
    assert opens(rig, token) is False
    how = {"src": DEVICE, "key": "another key"}
    assert rig.result("Auth.ListToken", **how) == []


def test_deleted_devices_leave_room_for_the_tokens_of_others():
    rig = Rig()
    for number in range(5):
        rig.add(DEVICE, psk="qwerty")
        for app in range(16):
            host = {"host": f"app{number}-{app}.com"}
            assert rig.status("Auth.GenerateToken", host, src=DEVICE, key="qwerty") == 0
        rig.result("Device.Delete", {"deviceid": DEVICE})
    assert len(rig.service.tokens.table) == 0


def test_tokens_that_an_older_firmware_left_behind_take_nobodys_room():
    rig = Rig(tokens_as_psk=True)
    for number in range(4):
        rig.add(DEVICE, psk="qwerty")
        for app in range(16):
            host = {"host": f"app{number}-{app}.com"}
            assert rig.status("Auth.GenerateToken", host, src=DEVICE, key="qwerty") == 0
        former = rig.service.tokens.table.keys(b"")
        rig.service.credentials.remove(DEVICE)  # as it did
        rig.restart()
        assert rig.service.tokens.table.keys(b"") == former, "nobody needs the room"
        if number < 3:
            owner = (HOST + "/gone" + str(number)).encode()
            for key in former:
                if key.startswith(DEVICE.encode()):
                    serial = rig.service.tokens.table.get(key)
                    rig.service.tokens.table.remove(key)
                    rig.service.tokens.table.put(owner + key[len(DEVICE) :], serial)
    assert rig.status("Auth.GenerateToken", APP) == 0
    assert rig.service.tokens.table.keys(b"") == [(BACKEND + "\0app.com").encode()]


def test_a_backend_that_is_tried_and_given_up_costs_no_tokens():
    rig = Rig()
    token = rig.result("Auth.GenerateToken", APP)["token"]
    backend = rig.settings["backend_id"]
    rig.add(DEVICE, psk="qwerty")
    rig.settings["backend_id"] = HOST + "/another"
    rig.restart()
    for app in range(17):  # one more than a device may have
        host = {"host": f"app{app}.com"}
        status = rig.status("Auth.GenerateToken", host, src=DEVICE, key="qwerty")
        assert status == (507 if app == 16 else 0)
    rig.settings["backend_id"] = backend
    rig.restart()
    assert rig.result("Auth.GetToken", APP) == {"exist": True, "token": token}


def test_who_asks_again_for_other_credentials_ends_the_connections_of_the_old():
    rig = Rig()
    rig.add(DEVICE, psk="one")
    told = []

    def watcher():
        told.append(1)
        if len(told) == 1:
            raise MemoryError

    rig.service.watchers.append(watcher)
    for status in (500, 0):
        assert rig.status("Device.Add", {"deviceid": DEVICE, "psk": "two"}) == status
    assert len(told) == 2


def test_no_power_cut_leaves_the_tokens_of_a_device_that_is_gone():
    seen = set()
    for change in ("Device.Delete", "Device.Add"):
        for cut in range(12):
            rig, token = with_a_token(BrokenFs())
            rig.fs.left = cut
            args = {"deviceid": DEVICE}
            if change == "Device.Add":
                args["psk"] = "another key"
            done = rig.status(change, args) == 0
            rig.fs.left = -1
            for _ in range(2):
                assert opens(rig, token) is False or opens(rig, "qwerty"), (change, cut)
                assert not (done and opens(rig, token)), (change, cut)
                rig.restart()
            seen.add((change, done, opens(rig, token)))
            assert (BACKEND + "\0app.com").encode() in rig.service.tokens.table.keys(b"")
    assert len(seen) == 6, seen


def rows(rig):
    """What the service has in RAM: its devices and its tokens."""
    return [sorted(one.table.keys(b"")) for one in (rig.service.credentials, rig.service.tokens)]


def test_what_was_answered_with_a_failure_does_not_come_true_at_the_next_start():
    """Nor the other way round, whatever fails in a save, and also when only memory is out."""
    statuses = set()
    for name, args in (
        ("Device.Add", {"deviceid": JOE, "psk": "joe's key"}),
        ("Device.Delete", {"deviceid": DEVICE}),
        ("Auth.GenerateToken", {"host": "new.com"}),
        ("Auth.RevokeToken", APP),
    ):
        for late in (False, True):
            for error in (OSError(5), MemoryError()):
                for at in range(10):
                    rig, _ = with_a_token(StumblingFs())
                    before = rows(rig)
                    rig.fs.at, rig.fs.late, rig.fs.error = at, late, error
                    status = rig.status(name, args)
                    rig.fs.at = -1
                    after = rows(rig)
                    rig.restart()
                    assert rows(rig) == after, (name, late, error, at)
                    assert status == 0 or after[0] == before[0], (name, late, error, at)
                    assert status == 500 or after != before, (name, late, error, at)
                    statuses.add(status)
    assert statuses == {0, 500}
