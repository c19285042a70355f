"""What the local server does when there is no memory to load the code for it."""

import asyncio

from conn_rig import Rig, finish
from scarcity import without_memory_for
from visitor import Visitor

from tapauth.compat import late
from tapauth.local.commands import Commands, Ports
from tapauth.local.server import Server


class Everything:
    """The ports `cards` and `board`, which note what is done."""

    def __init__(self):
        self.done = []

    def find(self, token):
        return {"authorization_status": "Accepted", "evse_ids": [2], "tariff_messages": []}

    def put(self, token, info):
        self.done.append(info)
        yield 0

    def delete(self, token):
        self.done.append("deleted")
        yield 0
        return True

    def clear_cache(self):
        self.done.append("cleared")

    def withdraw(self, request):
        self.done.append(request)
        return "Accepted"


def test_what_takes_a_permission_away_needs_no_code_that_is_loaded_for_it():
    rig = Rig()
    admin = rig.login()
    ports = Ports()
    ports.cards = ports.board = port = Everything()
    commands = Commands(rig.auth, ports, rig.clock, rig.log, lambda *arguments: None)

    def ask(method, **members):
        return finish(commands.handle(admin, dict(method=method, **members)))

    failures = late.failures
    with without_memory_for("", "tapauth.local.commands_admin") as scarce:
        assert ask("withdrawAuthorization", evseId=2)["withdrawalResult"] == "Accepted"
        assert ask("removeCard", idToken="04A1")["removed"]
        assert ask("blockCard", idToken="04A1")["result"]
        assert ask("clearCache")["result"]
        assert scarce.asked == [] and late.failures == failures
        reply = ask("addCard", idToken="04A1")
        assert (reply["result"], reply["error"]) == (False, "MemoryError")
    assert late.failures == failures + 1 and late.missing == "commands_admin"
    blocked = {"authorization_status": "Blocked", "evse_ids": [2]}
    assert port.done == [{"evse_id": 2}, "deleted", blocked, "cleared"]
    assert ask("addCard", idToken="04A1")["result"]


def test_a_list_for_which_no_code_can_be_loaded_is_turned_away_with_503():
    rig = Rig()
    token = rig.login().reply["tokenForHttpServer"]
    settings = {"tls_cert": "", "names": "", "max_connections": 4, "idle_s": 120, "port": 80}
    counts = {"server_refused": 0, "server_dropped": 0, "server_events_dropped": 0}
    ports = Ports()
    ports.cards = object()
    it = Server(settings, ports, rig.auth, rig.clock, rig.log, counts)
    head = f"POST /cards HTTP/1.1\r\nHost: 192.0.2.1\r\nAuthorization: Bearer {token}\r\n"
    visitor = Visitor(data=(head + "Content-Length: 5000\r\n\r\n").encode() + b"x" * 5000)
    failures = late.failures
    with without_memory_for("tapauth.local.upload"):
        asyncio.run(it.accept(visitor, visitor))
    assert visitor.got.startswith(b"HTTP/1.0 503 "), visitor.got
    assert visitor.data == b"" and visitor.closed
    assert late.failures == failures + 1 and counts["server_refused"] == 1
    it.close()
