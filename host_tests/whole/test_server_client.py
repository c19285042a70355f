"""The vendor's own client of the document behind `auth`, as it is published, and the server."""

import time
import urllib.error
import urllib.request

import pytest

from tools.rigs.local_board import LocalBoard

CARD = "04a1b2c3d4e5f6"


@pytest.fixture
def board():
    with LocalBoard() as board:
        yield board
        assert board.process.poll() is None, "\n".join(board.lines)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """trueconf_room; it writes its log to where it is when it is imported."""
    monkeypatch.chdir(tmp_path)
    import trueconf_room
    import trueconf_room.consts

    yield trueconf_room
    monkeypatch.undo()


def wait_for(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Room:
    """A session of the library; `seen` is all that the board sends."""

    def __init__(self, library, board, secret):
        self.library = library
        self.port = board.port
        self.session = library.open_session("127.0.0.1", board.port, secret)
        self.seen: list[dict] = []
        self.session.add_handler({"method": None}, self.seen.append)

    def __enter__(self) -> "Room":
        return self

    def __exit__(self, *_) -> None:
        self.session.websocket.close()

    def ready(self) -> "Room":
        wait_for(self.session.isReady)
        return self

    def reply(self, method: str, command, *arguments) -> dict:
        """What the board answers to a command."""
        before = len(self.of(method))
        command(*arguments)
        wait_for(lambda: len(self.of(method)) > before)
        return self.of(method)[-1]

    def of(self, method: str) -> list[dict]:
        return [one for one in self.seen if one["method"] == method]

    def event(self, name: str) -> dict:
        found: list[dict] = []

        def look():
            found[:] = [one for one in self.of("event") if one["event"] == name]
            return found

        wait_for(look)
        return found[-1]

    def http(self, path: str) -> int:
        token = self.session.getTokenForHttpServer()
        url = f"http://127.0.0.1:{self.session.http_port}{path}?token={token}"
        try:
            return urllib.request.urlopen(url).status
        except urllib.error.HTTPError as error:
            return error.code


def test_it_finds_the_ports_logs_in_and_commands(board, library):
    with Room(library, board, board.pins["admin"]) as room:
        assert room.session.wsPort == room.session.http_port == board.port
        room.ready()
        methods = room.session.methods
        # The client asks at each login for what only a conference room has: refused in words.
        wait_for(lambda: room.of("getMonitorsInfo"))
        assert room.of("getMonitorsInfo")[0]["error"] == "no such method"
        assert room.reply("setUsedApiVersion", methods.setUsedApiVersion, "1")["result"]
        info = room.reply("getAuthInfo", methods.getAuthInfo)
        assert info["adminAuth"]["security"] == info["userAuth"]["security"] == "pin"
        assert info["requestId"] == ""
        # A command of ours, by the library's own way for those that it does not know.
        command = {"method": "addCard", "idToken": CARD, "requestId": "7"}
        reply = room.reply("addCard", room.session.command, command)
        assert reply["result"] is True and reply["requestId"] == "7"
        room.session.command({"method": "bench", "line": "tap " + CARD})
        event = room.event("tokenValidationStatus")
        assert event["idToken"]["value"] == CARD


def test_its_http_token_opens_files_until_the_tokens_are_cleared(board, library):
    with Room(library, board, board.pins["admin"]) as room:
        room.ready()
        methods = room.session.methods
        assert room.http("/log") == room.http("/cards") == 200
        assert room.reply("getTokenForHttpServer", methods.getTokenForHttpServer)["token"]
        assert room.reply("clearTokens", methods.clearTokens)["result"]
        assert room.http("/log") == 403


def test_a_password_that_it_sets_is_what_it_logs_in_with(board, library):
    with Room(library, board, board.pins["admin"]) as room:
        room.ready()
        set_auth = room.session.methods.setAuthParams
        assert room.reply("setAuthParams", set_auth, "admin", "password", "a Long pass")["result"]
        with Room(library, board, "a Long pass") as other:
            other.ready()
            # One admin at a time: the first is told by the event that it knows.
            event = room.event("authorizationNeeded")
            assert event["cause"] in (1, 3)
            filter = library.consts.EVENT["authorizationNeeded"]
            assert library.check_schema(filter, event, ["cause"])
            with Room(library, board, board.pins["user"]) as user:
                user.ready()
                methods = user.session.methods
                assert user.reply("clearTokens", methods.clearTokens)["error"] == "admin only"
                assert user.reply("getAuthInfo", methods.getAuthInfo)["result"]


def test_a_wrong_pin_leaves_it_outside(board, library):
    status = library.SessionStatus
    with Room(library, board, "WRONG1") as room:
        wait_for(lambda: room.session.session_status == status.close)
        assert not room.session.isReady() and room.session.getTokenForHttpServer() == ""
        room.session._VideoSDK__send_to_websocket({"method": "getAuthInfo"})
        wait_for(lambda: room.of("getAuthInfo"))
        assert room.of("getAuthInfo")[0]["error"] == "not authorized"
        assert room.http("/log") == 403
    # Without a PIN it asks for a role that is open to everybody, and none is.
    with Room(library, board, None) as room:
        wait_for(lambda: room.session.session_status == status.close)
