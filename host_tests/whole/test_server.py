"""The local interface on real MicroPython: commands, files, events."""

import json
import socket
import ssl

import pytest
from certificates import Authority
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from tools.charger import DesktopCharger
from tools.rigs.local_board import HELLO, RPC, Client, LocalBoard, is_hai, list_file

CARD = "04a1b2c3d4e5f6"


@pytest.fixture(scope="module")
def shared():
    with LocalBoard() as board:
        yield board


@pytest.fixture
def board(shared):
    """A board that other tests have used: nobody is connected, nobody is locked out."""
    yield shared
    assert shared.process.poll() is None, "\n".join(shared.lines)


def test_nothing_without_authorization(board):
    with board.client() as client:
        for method in ("getStatus", "learnCard", "addCard", "restart", "nonsense", "auth_", ""):
            reply = client.ask(method)
            assert reply["result"] is False and reply["error"] == "not authorized"
        assert client.ask("setUsedApiVersion", version="1")["result"]
        assert client.login("nonsense")["resultCode"] == 8
        assert client.login(board.pins["admin"])["previleges"] == 2


def test_a_user_reads_and_an_admin_changes(board):
    with board.client() as client:
        assert client.login(board.pins["user"])["previleges"] == 1
        status = client.ask("getStatus")
        assert status["status"]["heap_free"] > 0 and status["cards"]["capacity"] == 20_000
        assert [evse["evseId"] for evse in client.ask("getEvses")["evses"]] == [1, 2]
        assert any("http on port" in line for line in client.ask("getLog")["lines"])
        assert client.ask("getCard", idToken=CARD)["card"] is None
        for method in (
            "withdrawAuthorization",
            "setMasterPassGroup",
            "setConnectionTimeout",
            "learnCard",
            "confirmCard",
            "cancelLearning",
            "addCard",
            "blockCard",
            "removeCard",
            "getConfig",
            "setConfig",
            "confirmConfig",
            "restart",
            "bench",
        ):
            assert client.ask(method)["error"] == "admin only", method


def test_what_is_no_request(board):
    with board.client() as client:
        for text in ("", "x", "[]", "5", '"auth"', "{", "[" * 3000, '{"method":5}', "{}"):
            if not text:
                continue
            client.socket.send(text)
            reply = json.loads(client.socket.recv(10))
            assert reply["result"] is False and reply["error"]


def test_a_request_id_comes_back_in_utf_8_whatever_way_it_was_escaped(board):
    with board.client() as client:
        for text in ('"\\ud83d\\ude97"', '"\U0001f697"'):
            client.socket.send('{"method":"getStatus","requestId":' + text + "}")
            assert json.loads(client.socket.recv(10))["requestId"] == "\U0001f697"
        for text in ('"\\ud83d"', '"\\u=83d"', "", "1 2"):
            client.socket.send('{"method":"getStatus","requestId":' + text + "}")
            assert json.loads(client.socket.recv(10))["error"] == "not a JSON object"


def test_cards_are_added_blocked_and_removed(board):
    with board.admin() as client:
        assert client.ask("addCard", idToken=CARD, parentId="FLEET-7", evseIds=[1])["result"]
        card = client.ask("getCard", idToken=CARD.upper())["card"]
        assert card["authorization_status"] == "Accepted" and card["evse_ids"] == [1]
        assert card["parent_id_token"]["value"] == "FLEET-7"
        every = list(range(1, 33))
        assert client.ask("addCard", idToken=CARD, evseIds=every)["result"]
        assert client.ask("getCard", idToken=CARD)["card"]["evse_ids"] == every
        assert client.ask("blockCard", idToken=CARD)["result"]
        card = client.ask("getCard", idToken=CARD)["card"]
        assert card["authorization_status"] == "Blocked"
        assert client.ask("removeCard", idToken=CARD)["removed"] is True
        assert client.ask("removeCard", idToken=CARD)["removed"] is False
        for bad in (
            {},
            {"idToken": 5},
            {"idToken": ""},
            {"idToken": "x" * 37},
            {"idToken": {"value": CARD, "type": "x"}},
            {"idToken": {"value": CARD}},
            {"idToken": "08112233"},  # a random UID
            {"idToken": CARD, "authorizationStatus": "Perhaps"},
            {"idToken": CARD, "authorizationStatus": []},
            {"idToken": CARD, "parentId": 5},
            {"idToken": CARD, "evseIds": [0]},
            {"idToken": CARD, "evseIds": 5},
            {"idToken": CARD, "expiryTime": "tomorrow"},
        ):
            reply = client.ask("addCard", **bad)
            assert reply["result"] is False and reply["error"], bad
        assert client.ask("getCard", idToken=CARD)["card"] is None


def test_a_card_that_is_blocked_in_any_spelling_is_refused_at_its_tap(board):
    with board.admin() as client:
        for written in ("04:A1:B2:C3:D4:E5:F6", " 04-a1-b2-c3-d4-e5-f6", "0x04A1B2C3D4E5F6"):
            assert client.ask("addCard", idToken=CARD)["result"]
            reply = client.ask("blockCard", idToken=written)
            assert reply["card"]["authorization_status"] == "Blocked"
            card = client.ask("getCard", idToken=written)["card"]
            assert card["authorization_status"] == "Blocked"
            client.ask("bench", line="tap " + CARD)
            seen = [client.event("tokenValidationStatus")["status"] for _ in range(2)]
            assert seen == ["Processing", "Rejected"]
            reply = client.ask("removeCard", idToken=written)
            assert reply["removed"] is True and reply["card"] is None
        for bad in (
            "\uff10\uff14a1b2c3",
            "04a1b2c",
            "04a1b2c3d4",
            "04a1b2g3",
            "0x",
            ": :",
            "x" * 37,
        ):
            for method in ("addCard", "blockCard"):
                reply = client.ask(method, idToken=bad)
                assert reply["result"] is False, bad
                assert "UID" in reply["error"] or "id" in reply["error"]
        reply = client.ask("blockCard", idToken="04a1b2c3d4")
        assert "4, 7 or 10 bytes" in reply["error"]
        assert client.ask("getStatus")["cards"]["list"] == 0


def test_a_change_of_the_status_keeps_the_rest_of_a_card(board):
    with board.admin() as client:
        until = "2031-01-01T00:00:00Z"
        terms = {"parentId": "FLEET-7", "evseIds": [2], "expiryTime": until}
        assert client.ask("addCard", idToken=CARD, **terms)["result"]

        def rest():
            card = client.ask("getCard", idToken=CARD)["card"]
            parent = card.get("parent_id_token", {}).get("value")
            return parent, card.get("evse_ids"), card.get("expiry_time")

        assert client.ask("blockCard", idToken=CARD)["result"]
        assert rest() == ("FLEET-7", [2], until)
        assert client.ask("addCard", idToken=CARD)["result"]
        assert rest() == ("FLEET-7", [2], until)
        assert client.ask("addCard", idToken=CARD, authorizationStatus="NoCredit")["result"]
        assert client.ask("addCard", idToken=CARD, evseIds=[1, 2])["result"]
        assert rest() == ("FLEET-7", [1, 2], until)
        # Only what is taken away by its name goes.
        assert client.ask("addCard", idToken=CARD, evseIds=[])["result"]
        assert rest() == ("FLEET-7", None, until)
        assert client.ask("addCard", idToken=CARD, expiryTime=None, parentId="")["result"]
        assert rest() == (None, None, None)
        # Learned again, a card keeps it too.
        client.ask("addCard", idToken=CARD, parentId="FLEET-8", evseIds=[1])
        client.ask("learnCard")
        client.ask("bench", line="tap " + CARD)
        assert client.ask("confirmCard", evseIds=[2])["card"]["evse_ids"] == [2]
        assert rest() == ("FLEET-8", [2], None)
        for bad in ({"evseIds": 0}, {"parentId": False}, {"expiryTime": 0}):
            assert not client.ask("addCard", idToken=CARD, **bad)["result"]
        # A group that no tap could carry would make the card useless.
        reply = client.ask("addCard", idToken=CARD, parentId="S\u00fcd")
        assert "printable ASCII" in reply["error"] and rest() == ("FLEET-8", [2], None)
        assert "a blank" in client.ask("addCard", idToken=CARD, parentId=" FLEET-8")["error"]
        client.ask("removeCard", idToken=CARD)


def test_a_card_is_learned_by_a_tap(board):
    with board.admin() as client:
        assert client.ask("confirmCard")["error"] == "no card was tapped"
        assert client.ask("learnCard", window=3)["error"] == "window: 5 to 120"
        assert client.ask("learnCard", window=5)["window"] == 5
        client.ask("bench", line="tap " + CARD)
        assert client.event("cardTapped")["idToken"] == {"value": CARD, "type": "ISO14443"}
        # Known only with a yes, and until then as unknown as before.
        assert client.ask("getCard", idToken=CARD)["card"] is None
        assert client.ask("confirmCard", parentId="F")["idToken"]["value"] == CARD
        client.ask("bench", line="plug 1")
        client.ask("bench", line="tap " + CARD)
        seen = [client.event("tokenValidationStatus") for _ in range(3)]
        assert [one["status"] for one in seen] == ["Processing", "Accepted", "UsedToStart"]
        assert seen[0]["idToken"]["value"] == CARD
        assert client.ask("withdrawAuthorization", evseId=1)["withdrawalResult"] == "Accepted"
        client.ask("bench", line="unplug 1")
        assert client.ask("blockCard", idToken=CARD)["result"]
        client.ask("bench", line="tap " + CARD)
        seen = [client.event("tokenValidationStatus") for _ in range(3)]
        assert [one["status"] for one in seen] == ["Withdrawn", "Processing", "Rejected"]
        # The window closes by itself, for a tap and for a yes.
        assert client.ask("learnCard", window=5)["result"]
        assert client.event("learningEnded", 10)["cause"] == "time"
        client.ask("removeCard", idToken=CARD)


def test_only_one_learns_and_only_as_long_as_it_may(board):
    with board.admin() as client:
        assert client.ask("learnCard")["result"]
        with board.admin() as other:
            # The first one has lost its authorization to this one.
            assert client.event("authorizationNeeded")["cause"] == 1
            other.ask("bench", line="tap " + CARD)
            assert other.event("tokenValidationStatus")["status"] == "Processing"
            assert other.event("tokenValidationStatus")["status"] == "Rejected"
            assert other.ask("learnCard")["result"]
            assert other.ask("cancelLearning")["result"]
            other.ask("bench", line="tap " + CARD)
            assert other.event("tokenValidationStatus")["status"] == "Processing"


def test_users_see_no_card_numbers_in_events(board):
    with board.admin() as admin, board.client() as user:
        user.login(board.pins["user"])
        admin.ask("bench", line="tap " + CARD)
        event = user.event("tokenValidationStatus")
        assert "idToken" not in event and len(event["card"]) == 8
        assert event["card"] == admin.event("tokenValidationStatus")["card"]


def test_settings_have_bounds(board):
    with board.admin() as client:
        assert client.ask("setConnectionTimeout", connectionTimeout=30)["result"]
        assert client.ask("setMasterPassGroup", groupId="MASTER")["result"]
        for bad in (9, 301, "30", None, True):
            assert not client.ask("setConnectionTimeout", connectionTimeout=bad)["result"]
        for bad in (5, None, "x" * 37, "MASTER ", "S\u00fcd"):
            assert not client.ask("setMasterPassGroup", groupId=bad)["result"]
        # An admin sees what is in force; a user does not see the group.
        status = client.ask("getStatus")
        assert (status["groupId"], status["connectionTimeout"]) == ("MASTER", 30)
        with board.client() as user:
            user.login(board.pins["user"])
            assert "groupId" not in user.ask("getStatus")
        assert client.ask("setMasterPassGroup", groupId="")["result"]
        assert client.ask("getStatus")["groupId"] == ""


def test_a_user_reads_no_group_with_which_cards_stop_everything(board):
    with board.admin() as admin, board.client() as user:
        assert user.login(board.pins["user"])["previleges"] == 1
        assert admin.ask("addCard", idToken=CARD, parentId="MASTER")["result"]
        card = admin.ask("getCard", idToken=CARD)["card"]
        assert card["parent_id_token"]["value"] == "MASTER"
        card = user.ask("getCard", idToken=CARD)["card"]
        assert admin.ask("removeCard", idToken=CARD)["result"]
        assert card["authorization_status"] == "Accepted" and "MASTER" not in str(card)
        assert user.ask("getCard", idToken=CARD)["card"] is None
        token = user.ask("getTokenForHttpServer")["token"]
        status, body, _ = board.http("GET", "/cards?token=" + token)
        assert status == 403 and body == b"token of an admin needed"


def test_the_list_goes_down_and_up(board):
    with board.admin() as client:
        for number in range(30):
            parent = f"F{number % 3}"
            client.ask("addCard", idToken=f"06{number:012x}", parentId=parent)
        token = client.ask("getTokenForHttpServer")["token"]
        status, data, headers = board.http("GET", "/cards?token=" + token)
        assert status == 200 and len(data) == int(headers["Content-Length"])
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        client.ask("removeCard", idToken=f"06{5:012x}")
        bearer = {"Authorization": "Bearer " + token}
        status, body, _ = board.http("POST", "/cards", data, bearer)
        assert status == 200, body
        card = client.ask("getCard", idToken=f"06{5:012x}")["card"]
        assert card["parent_id_token"]["value"] == "F2"
        assert client.ask("getStatus")["cards"]["list"] == 30
        # A damaged or cut upload leaves the list as it is.
        flipped = data[:-300] + bytes((data[-300] ^ 1,)) + data[-299:]
        for bad in (data[:-256], data[:300], b"x" * 256, flipped, data * 2):
            status, body, _ = board.http("POST", "/cards?token=" + token, bad)
            assert status == 422, (status, body)
        assert client.ask("getStatus")["cards"]["list"] == 30


def test_a_damaged_list_is_not_given_away_and_the_answer_says_so():
    with LocalBoard() as board:
        board.stop()
        cards = board.folder / "store" / "cards"
        cards.write_bytes(b"x" * len(cards.read_bytes()))
        board.start()
        with board.admin() as client:
            path = "/cards?token=" + client.ask("getTokenForHttpServer")["token"]
            status, text, _ = board.http("GET", path)
            assert status == 500 and text.startswith(b"the list is damaged")
            assert board.http("POST", path, list_file(3))[0] == 200
            assert board.http("GET", path)[0] == 200


def test_who_sends_a_list_that_is_refused_reads_why(board):
    with board.admin() as client:
        head = "POST /cards?token=" + client.ask("getTokenForHttpServer")["token"]
        for data, why in ((b"x" * 100_000, b"not a list"), (list_file(9, key=bytes(32)), b"key")):
            with socket.create_connection(("127.0.0.1", board.port), 20) as peer:
                length = f" HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
                peer.sendall((head + length).encode() + data)
                # To the very end: a reset, which can overtake the answer, would be an error here.
                answer = b"".join(iter(lambda peer=peer: peer.recv(4096), b""))
                assert b"422" in answer and why in answer


def test_a_list_is_not_taken_from_who_lost_the_right_meanwhile(board):
    with board.admin() as client:
        before = client.ask("getStatus")["cards"]
        data = list_file(5)
        head = "POST /cards?token=" + client.ask("getTokenForHttpServer")["token"]
        with socket.create_connection(("127.0.0.1", board.port), 20) as peer:
            length = f" HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
            peer.sendall((head + length).encode() + data[:-10])
            while client.ask("removeCard", idToken=CARD)["result"]:
                pass  # until the list is being taken, and nothing else is
            assert client.ask("clearTokens")["result"]
            peer.sendall(data[-10:])
            answer = b"".join(iter(lambda: peer.recv(4096), b""))
            assert b"422" in answer and b"no longer valid" in answer
    with board.admin() as client:
        assert client.ask("getStatus")["cards"] == before


def test_files_need_the_right_token(board):
    with board.client() as user:
        reply = user.login(board.pins["user"])
        http = reply["tokenForHttpServer"]
        assert board.http("GET", "/log?token=" + http)[0] == 200
        assert board.http("GET", "/cards?token=" + http)[0] == 403
        assert board.http("POST", "/cards?token=" + http, b"x")[0] == 403
        for bad in ("", "x", reply["token"], http[:-1] + "G", "4" + http):
            for path in ("/log", "/cards"):
                assert board.http("GET", f"{path}?token={bad}")[0] == 403
    with board.admin() as admin:
        reply = admin.login(board.pins["admin"])
        assert board.http("POST", "/cards?token=" + reply["token"], b"x")[0] == 403
        assert board.http("POST", "/cards?token=" + reply["tokenForHttpServer"])[0] == 411
        assert board.http("GET", "/cards?token=" + reply["tokenForHttpServer"])[0] == 200
    # An evicted or logged-out session's token is void only when its session ends.
    with board.admin():
        assert board.http("GET", "/log?token=" + reply["tokenForHttpServer"])[0] == 403
    assert not [line for line in board.lines if http in line or reply["token"] in line]


def test_configuration_is_checked_applied_and_on_trial():
    with LocalBoard() as board:
        with board.admin() as client:
            config = client.ask("getConfig")["config"]
            mqtt = {"host": "127.0.0.1", "port": 1, "password": "***"}
            assert config["mqtt"] == mqtt and config["rpc"]["backend_key"] == "***"
            for bad in ({"evses": 2}, {"evses": []}, {"evses": [9]}, {"evse": [1]}):
                reply = client.ask("setConfig", config=bad)
                assert not reply["result"] and next(iter(bad)) in reply["error"], reply
            assert client.ask("setConfig", config=[])["error"]
            assert client.ask("confirmConfig")["error"] == "no configuration is on trial"
            changes = {"mqtt": {**mqtt, "host": "127.0.0.2"}, "board_id": "b"}
            assert client.ask("setConfig", config=changes)["result"]
            assert client.ask("getStatus")["configuration"] == "waits for a restart"
            expected = {**board.config, "board_id": "b"}
            expected["mqtt"] = {**mqtt, "host": "127.0.0.2", "password": "secret"}
            written = json.loads((board.folder / "config.json").read_text())
            assert written == expected
            assert client.ask("restart")["result"]
        assert board.process.wait(10) == 3
        # It holds after the restart, on trial, and stays with a yes.
        board.start()
        with board.admin() as client:
            assert client.ask("getStatus")["configuration"] == "on trial"
            assert client.ask("setConfig", config={"board_id": "c"})["error"]
            assert client.ask("confirmConfig")["result"]
            assert client.ask("getStatus")["configuration"] == "in force"


def test_a_configuration_that_starts_nothing_gives_way_to_the_one_before(tmp_path):
    lines = []
    charger = DesktopCharger(flash=tmp_path / "flash.img", on_board_line=lines.append, server=True)
    with charger:
        charger.wait_until_up()

        def back(starts):
            # The charger types its PIN at each start.
            return all(
                len([line for line in lines if told in line]) >= starts
                for told in ("http on port", "until the restart")
            )

        charger.wait_for(lambda: back(1), 20)
        port = charger.config["server"]["port"]
        with Client(port) as client:
            client.login(charger.pin)
            # The desktop charger has no lines, which only the start finds out.
            assert client.ask("setConfig", config={"evse_io": "lines"})["result"]
            assert client.ask("restart")["result"]
        charger.wait_for(lambda: back(2), 20)
        with Client(port) as client:
            client.login(charger.pin)
            assert client.ask("getStatus")["configuration"] == "in force"
            assert "evse_io" not in client.ask("getConfig")["config"]
        assert [line for line in lines if "new configuration: restored" in line]


def test_a_restart_by_command_ends_no_charge_without_a_word():
    with LocalBoard() as board:
        client = board.admin()
        for line in ("plug 1", "start 1"):
            assert client.ask("bench", line=line)["result"]
        for members in ({}, {"now": False}, {"now": 1}):
            reply = client.ask("restart", **members)
            assert not reply["result"] and "EVSE 1 charges" in reply["error"]
        assert client.ask("restart", now=True)["result"]
        board.process.wait(10)


def test_a_page_of_another_host_gets_no_connection(board):
    for path in ("/api", "/rpc"):
        with pytest.raises(InvalidHandshake):
            Client(board.port, path, origin="http://evil.example")
    with Client(board.port, origin=f"http://127.0.0.1:{board.port}") as client:
        assert client.ask("getStatus")["error"] == "not authorized"


def doors(board, token, **headers):
    """The status that each door of the server gives a request with these headers."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    statuses = {}
    for method, path in (
        ("GET", "/"),
        ("GET", "/log"),
        ("GET", "/cards"),
        ("POST", "/cards"),
        ("GET", "/public/default/config.json"),
        ("UPGRADE", "/"),
        ("UPGRADE", "/api"),
        ("UPGRADE", "/rpc"),
    ):
        sent = {"Authorization": "Bearer " + token, **headers}
        if method == "UPGRADE":
            sent |= upgrade
        lines = [f"{method.replace('UPGRADE', 'GET')} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in sent.items()]
        with socket.create_connection(("127.0.0.1", board.port), 20) as peer:
            peer.sendall("\r\n".join([*lines, "", ""]).encode())
            statuses[method, path] = int(peer.recv(4096).split()[1])
    return statuses


def test_a_page_whose_address_only_looks_like_the_boards_opens_no_door(board):
    with board.admin() as client:
        token = client.ask("getTokenForHttpServer")["token"]
        host = f"127.0.0.1:{board.port}"
        for origin in (
            "http://evil.example",
            f"http://evil.example/{host}",
            f"http://{host}.evil.example",
            f"http://evil{host}",
            f"http://x@{host}",
            f"http://{host}/",
            f"http://{host}0",
            "http://127.0.0.1",
            "http://127.0.0.1:1",
            f"https://{host}",
            f"ftp://{host}",
            f"//{host}",
            host,
            "null",
            "",
            "http://",
        ):
            statuses = doors(board, token, Host=host, Origin=origin)
            assert set(statuses.values()) == {403}, (origin, statuses)
        wanted = {"GET": 200, "POST": 411, "UPGRADE": 101}
        for origin in (f"http://{host}", f"HTTP://{host}"):
            for (method, path), status in doors(board, token, Host=host, Origin=origin).items():
                assert status == wanted[method], (method, path)
        # A browser leaves out the port that is its scheme's own.
        for pair in (("localhost", "http://localhost:80"), ("localhost:80", "http://localhost")):
            found = doors(board, token, Host=pair[0], Origin=pair[1])
            assert found["UPGRADE", "/api"] == 101


def test_a_name_that_anybody_could_have_given_the_boards_address_opens_no_door(board):
    with board.admin() as client:
        token = client.ask("getTokenForHttpServer")["token"]
        for host in (
            "evil.example",
            f"evil.example:{board.port}",
            "charger.example.evil.example",
            "xcharger.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "1.2.3",
            "[::1",
            "[evil.example]:80",
            "charger.example:80:80",
            "charger.example:x",
            "charger.example@evil.example",
        ):
            # Not even when the page says that it is of that very name.
            for origin in ({}, {"Origin": "http://" + host}):
                statuses = doors(board, token, Host=host, **origin)
                assert set(statuses.values()) == {421}, (host, statuses)
        assert set(doors(board, token).values()) == {400}
        for host in (
            "localhost",
            "Charger.Example:8080",
            "charger.example.",
            "[::1]:80",
            "[fe80::1]",
        ):
            found = doors(board, token, Host=host, Origin="http://" + host)
            assert found["GET", "/log"] == 200 and found["UPGRADE", "/"] == 101, host
    status, text, _ = board.http("GET", "/", headers={"Host": "evil.example"})
    assert status == 421 and b"server.names" in text


def test_the_page_is_served_compressed(board):
    status, data, headers = board.http("GET", "/")
    assert status == 200 and headers["Content-Encoding"] == "gzip"
    assert data[:2] == b"\x1f\x8b"


def test_ten_thousand_cards_go_up(tell):
    with LocalBoard() as board, board.admin() as client:
        idle = board.next_measurement()
        at = len(board.measured)
        token = client.ask("getTokenForHttpServer")["token"]
        status, body, _ = board.http("POST", "/cards?token=" + token, list_file(10_000))
        assert status == 200, body
        assert json.loads(body) == {"version": 7}
        board.next_measurement()
        busy = max(one["heap"] for one in board.measured[at:])
        tell(f"uploading 10,000 cards takes {busy - idle['heap']} bytes of heap")
        assert client.ask("getStatus")["cards"]["list"] == 10_000
        assert busy - idle["heap"] < 24_000
        assert board.worst_lag(at) < 100


def test_the_serial_console_opens_what_is_locked():
    with LocalBoard() as board, board.client() as client:
        for _ in range(5):
            client.login("wrong")
        assert client.login(board.pins["admin"])["resultCode"] == 6
        board.type("nonsense")
        board.wait_for_line("pin SECRET, newpin, newpin user")
        board.type("pin short")
        board.wait_for_line("6 to 128 characters")
        board.type("pin at the board")
        board.wait_for_line("until the restart")
        assert client.login("At The Board")["previleges"] == 2
        before = dict(board.pins)
        board.lines.clear()
        board.type("newpin")
        board.wait_for_line("admin PIN: ")
        assert client.event("authorizationNeeded")["cause"] == 3
        board.lines.clear()
        board.type("newpin user")
        board.wait_for_line("user PIN: ")
        for role in ("admin", "user"):
            assert client.login(before[role])["resultCode"] == 8
            assert client.login(board.pins[role])["resultCode"] == 0
        board.stop()
        board.start()
        with board.client() as again:
            assert again.login("at the board")["resultCode"] == 8


def test_the_cloud_auth_service_is_reached_at_rpc(board):
    with Client(board.port, "/rpc") as client:
        for _ in range(2):
            client.socket.send(HELLO)
            assert is_hai(client.socket.recv(10))
        client.socket.send(HELLO.replace(RPC["address"], "//else/where"))
        with pytest.raises(ConnectionClosed) as closed:
            client.socket.recv(10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


def test_tls(tmp_path):
    authority = Authority(tmp_path, "authority")
    paths = authority.issue("board", host="127.0.0.1", kind="der")
    context = ssl.create_default_context(cafile=authority.pem)
    with LocalBoard(tls=paths) as board:
        address = f"wss://127.0.0.1:{board.port}/api"
        with connect(address, ssl=context, proxy=None) as socket:
            socket.send('{"method": "auth", "requestId": "1"}')
            assert json.loads(socket.recv(10))["resultCode"] == 11
        # The scheme is a part of where a page comes from.
        origin = f"127.0.0.1:{board.port}"
        with connect(address, ssl=context, proxy=None, origin="https://" + origin):
            pass
        with pytest.raises(InvalidHandshake):
            connect(address, ssl=context, proxy=None, origin="http://" + origin)
        # A client that speaks no TLS gets nothing, and harms nobody.
        with pytest.raises(OSError):
            board.http("GET", "/")
        with connect(address, ssl=context, proxy=None) as socket:
            socket.send('{"method": "auth", "requestId": "1"}')
            assert json.loads(socket.recv(10))["resultCode"] == 11
