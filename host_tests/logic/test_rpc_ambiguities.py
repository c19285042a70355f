"""Where the service's document is silent or contradicts itself: the reading that was taken."""

from rpc_rig import BACKEND, BACKEND_KEY, DEVICE, DISPATCHER, HOST, Rig

from tapauth.rpc.service import RpcPeer

JOE = HOST + "/user_joe"
APP = {"host": "app.example.com"}


def board(**settings):
    rig = Rig(**settings)
    for user in (JOE, HOST + "/user_ann"):
        rig.add(user, psk="key of " + user)
    return rig


def by(user, component=""):
    return {"src": user + component, "key": "key of " + user}


def test_ambiguity_1_a_token_belongs_to_the_caller():
    rig = board()
    token = rig.result("Auth.GenerateToken", APP, **by(JOE))["token"]
    assert rig.result("Auth.GetToken", APP, **by(HOST + "/user_ann")) == {"exist": False}
    assert rig.result("Auth.ListToken", **by(HOST + "/user_ann")) == []
    assert rig.result("Auth.ListToken") == []
    rig.result("Auth.RevokeToken", APP, **by(HOST + "/user_ann"))
    # The component is no part of who owns it.
    assert rig.result("Auth.GetToken", APP, **by(JOE, ".phone")) == {"exist": True, "token": token}
    ann = rig.result("Auth.GenerateToken", APP, **by(HOST + "/user_ann"))["token"]
    assert ann != token


def test_ambiguity_2_tokens_are_for_every_caller_or_for_the_backend_only():
    rig = board()
    assert rig.status("Auth.GenerateToken", APP, **by(JOE)) == 0
    assert rig.status("Auth.Authenticate", {}, **by(JOE)) == 403
    assert rig.status("Auth.AuthorizeCommand", {}, **by(JOE)) == 403
    rig = board(tokens_backend_only=True)
    for name in ("GenerateToken", "GetToken", "ListToken", "RevokeToken"):
        assert rig.status("Auth." + name, APP, **by(JOE)) == 403
        assert rig.status("Auth." + name, APP) == 0
    assert rig.status("Hello", **by(JOE)) == 0


def test_ambiguity_3_get_token_only_reads_and_generate_token_creates():
    rig = board()
    assert rig.result("Auth.GetToken", APP) == {"exist": False}
    assert rig.result("Auth.ListToken") == []
    token = rig.result("Auth.GenerateToken", APP)
    assert list(token) == ["token"]
    assert rig.result("Auth.GetToken", APP) == {"exist": True, "token": token["token"]}
    assert rig.result("Auth.ListToken") == [APP]


def test_ambiguity_4_generating_again_gives_the_same_token():
    rig = board()
    token = rig.result("Auth.GenerateToken", APP)
    assert rig.result("Auth.GenerateToken", APP) == token
    # It is made new by revoking it first.
    rig.result("Auth.RevokeToken", APP)
    other = rig.result("Auth.GenerateToken", APP)
    assert other != token
    rig.restart()
    assert rig.result("Auth.GenerateToken", APP) == other


def test_ambiguity_5_revoking_what_is_not_there_succeeds():
    rig = board()
    writes = rig.fs.writes
    assert rig.call("Auth.RevokeToken", APP) == {"id": 7, "status": 0}
    assert rig.fs.writes == writes


def test_ambiguity_6_without_a_result_there_is_no_resp():
    rig = board()
    rig.result("Auth.GenerateToken", APP)
    assert rig.call("Auth.RevokeToken", APP) == {"id": 7, "status": 0}
    assert rig.result("Auth.GetToken", APP) == {"exist": False}


def test_ambiguity_7_the_payload_is_called_resp():
    assert board().call("Hello") == {"id": 7, "status": 0, "resp": "HAI"}


def test_ambiguity_8_a_token_lives_until_it_is_revoked():
    rig = board()
    token = rig.result("Auth.GenerateToken", APP)
    rig.clock.advance(10 * 365 * 86_400_000)
    rig.unix += 10 * 365 * 86_400
    rig.restart()
    assert rig.result("Auth.GenerateToken", APP) == token


def test_ambiguity_9_a_host_has_one_form():
    rig = board()
    token = rig.result("Auth.GenerateToken", {"host": "App.Example.COM."})
    assert rig.result("Auth.GetToken", APP)["token"] == token["token"]
    assert rig.result("Auth.ListToken") == [APP]
    assert rig.result("Auth.GetToken", {"host": "app.example.com:8080"}) == {"exist": False}
    for host in ("app_1.com", "-a.com", "a..b", "a/b", "a b", "x" * 254, "a:99999"):
        assert rig.status("Auth.GenerateToken", {"host": host}) == 400


def test_ambiguity_10_a_missing_id_is_a_notification_and_a_bad_one_invalid():
    rig = board()
    command = {"cmd": "/v1/Auth.GenerateToken", "args": APP}
    frame = {"v": 1, "src": DISPATCHER, "key": BACKEND_KEY, "cmds": [command]}
    for number in (1.5, 0, -1, 2**53, 1.0, True, "1", None):
        command["id"] = number
        assert rig.ask(frame) is None
        assert rig.result("Auth.ListToken") == []
    del command["id"]
    assert rig.ask(frame) is None
    assert rig.result("Auth.ListToken") == [APP]


def test_ambiguity_11_a_token_is_no_key_unless_configured():
    rig = board()
    token = rig.result("Auth.GenerateToken", APP, **by(JOE))["token"]
    args = {"id": JOE, "credentials": {"psk": token}}
    assert rig.result("Auth.Authenticate", args) is False
    rig.settings["tokens_as_psk"] = True
    rig.restart()
    assert rig.result("Auth.Authenticate", args) is True
    assert (
        rig.result("Auth.Authenticate", {"id": HOST + "/x", "credentials": {"psk": token}})
        is False
    )
    both = {"id": JOE, "credentials": {"psk": token, "cert": "MA=="}}
    assert rig.result("Auth.Authenticate", both) is False
    # It never opens a connection.
    assert rig.status("Hello", src=JOE, key=token) == 401
    rig.result("Auth.RevokeToken", APP, **by(JOE))
    assert rig.result("Auth.Authenticate", args) is False


def test_ambiguity_12_the_prose_asks_for_one_of_psk_and_cert():
    rig = board()
    assert rig.status("Auth.Authenticate", {"id": JOE, "credentials": {}}) == 400
    assert rig.status("Auth.Authenticate", {"id": JOE, "credentials": {"other": "x"}}) == 400
    assert rig.status("Auth.Authenticate", {"id": JOE, "credentials": {"psk": ""}}) == 400


def test_ambiguity_13_each_command_of_a_batch_has_its_own_status():
    rig = board()
    batch = [
        {"cmd": "/v1/Auth.GetToken", "id": 3, "args": {}},
        {"cmd": "/v1/Auth.Nuke", "id": 2},
        {"cmd": "/v1/Hello", "id": 1},
    ]
    reply = rig.ask({"v": 1, "src": BACKEND, "key": BACKEND_KEY, "cmds": batch})
    assert [(one["id"], one["status"]) for one in reply["resp"]] == [(3, 400), (2, 404), (1, 0)]


def test_authenticate_decodes_ids_and_strips_their_component():
    rig = board()
    rig.add(HOST + "/device_123", psk="qwerty")
    for name in (DEVICE, DEVICE + ".x", "//API.cesanta.com/%64evice%5f123"):
        assert (
            rig.result("Auth.Authenticate", {"id": name, "credentials": {"psk": "qwerty"}}) is True
        )
    upper = {"id": HOST + "/Device_123", "credentials": {"psk": "qwerty"}}
    assert rig.result("Auth.Authenticate", upper) is False


def test_authorize_command_decodes_what_rules_match():
    rules = [{"src": "//*/bob", "cmd": "/v1/Nuke.*", "allow": False}, {"allow": True}]
    rig = Rig(rules)
    for src in ("//h/bob", "//h/%62ob", "//h/bob.phone", "//H/bob"):
        for cmd in ("/v1/Nuke.Launch", "/v1%2FNuke.Launch", "/v1/Nuke%2ELaunch", "/v1/%4euke.x"):
            args = {"src": src, "dst": "//h/y", "cmd": cmd}
            assert rig.result("Auth.AuthorizeCommand", args) is False, (src, cmd)
    args = {"src": "//h/bob", "dst": "//h/y", "cmd": "/v1/nuke.Launch"}
    # Rules and our own commands have the same policy: case counts.
    assert rig.result("Auth.AuthorizeCommand", args) is True
    assert rig.status("hello") == 404


def test_every_board_has_its_own_secret():
    one, two = board(), board()
    two.random.state = 99
    two.fs.files.clear()
    two.restart()
    args = dict(APP)
    first = one.result("Auth.GenerateToken", args)["token"]
    assert two.result("Auth.GenerateToken", args)["token"] != first
    one.restart()
    assert one.result("Auth.GetToken", args)["token"] == first


def test_what_was_acknowledged_survives_a_restart():
    rig = board()
    token = rig.result("Auth.GenerateToken", APP, **by(JOE))
    rig.restart()
    assert rig.result("Auth.GenerateToken", APP, **by(JOE)) == token
    rig.result("Device.Delete", {"deviceid": JOE})
    rig.restart()
    assert rig.status("Hello", **by(JOE)) == 401


def test_damaged_files_are_reported_and_let_nobody_in():
    rig = board()
    for name in ("key", "devices", "tokens", "rules"):
        for suffix in ("", ".copy", ".old"):
            if "/rpc_" + name + suffix in rig.fs.files:
                rig.fs.files["/rpc_" + name + suffix] = b"garbage"
    rig.lines.clear()
    rig.restart()
    for name in ("key", "devices", "rules"):
        assert any(f"rpc_{name} is damaged" in line for line in rig.lines), name
    assert rig.status("Hello", **by(JOE)) == 401
    peer = RpcPeer()
    assert rig.ask(
        {"v": 1, "src": BACKEND, "key": BACKEND_KEY, "cmds": [{"cmd": "x", "id": 1}]}, peer
    )
