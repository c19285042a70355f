"""The local interface of an emulated Pico W: real clients open its console, through the emulated
network's way in, while cards are tapped and MQTT is up, with TLS; in the long form also without.

Each case is one board's life, of which the tests are the stages. Rows say what its heap had left.
"""

import http.client
import os
import threading

import browser
import pytest
from ready_pico import (
    ADMIN_PIN,
    CARD,
    REFUSED,
    STARTS,
    STOPS,
    STRANGER,
    ReadyPico,
    a_list,
    held,
)

from tools.bench.rows import add_rows, row
from tools.emulator.board import BOARD
from tools.firmware import limits_of
from tools.paths import BUILD
from tools.rigs.local_board import Client

START_S = 900
REPLY_S = 300
UPLOAD_S = 3000
SLOWNESS = 40
"""Of the emulated board, at the most."""
CASES = {"without TLS": False, "TLS to the broker": True}
IS_LONG = os.environ.get("TAPAUTH_EMU_LONG") == "1"
CARDS = 10_000 if IS_LONG else 2_000
HEAP = ("heap_free", "heap_largest_block", "heap_min_free", "heap_min_largest_block")
SERVES = "server: http on port"


class Life:
    """A board, and how far it has come. `case` begins its rows' names; `token` is admin's."""

    def __init__(self, pico: ReadyPico, case: str, rows: list[dict]):
        self.pico = pico
        self.case = case
        self.serves = False
        self.token = ""
        self._rows = rows

    def note(self, stage: str, metric: str, value: float, unit: str) -> None:
        """Keep a row, and show it."""
        self._rows.append(row("emu", f"{self.case}, {stage}", metric, value, unit))
        print(f"{self.case}, {stage}: {metric} {value} {unit}")

    def note_heap(self, stage: str, since: int = -1) -> None:
        """Keep what the heap had in the reports from number `since` on: the worst of them."""
        reports = self.pico.reports()[since:]
        for name in HEAP:
            self.note(stage, name, min(report[name] for report in reports), "bytes")
        # A report may come before garbage is collected; after a collection no less was ever left.
        left = min(report["heap_free"] for report in reports)
        most = limits_of(BOARD)["heap_bytes"] - max(left, reports[-1]["heap_min_free"])
        self.note(stage, "heap_used", most, "bytes")
        held(f"{self.case}, {stage}", most)

    def console(self) -> Client:
        """A WebSocket to the board, without Pings: what is in time there comes late here."""
        return Client(self.pico.http_port, patience_s=REPLY_S, ping_interval=None)

    def http(self, method: str, path: str, token: str, body=None) -> tuple[int, bytes]:
        """(status, body) of a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.pico.http_port, timeout=UPLOAD_S)
        try:
            connection.request(method, path, body, {"Authorization": "Bearer " + token})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def rows():
    found: list[dict] = []
    yield found
    add_rows(BUILD / "emu.json", found)


@pytest.fixture(scope="module", params=CASES if IS_LONG else ["TLS to the broker"])
def life(request, rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("console")
    sections = {"server": {"enabled": True}}
    tls = folder if CASES[request.param] else None
    with ReadyPico(folder, sections, a_list(3, version=1), tls) as pico:
        yield Life(pico, request.param, rows)


@pytest.fixture
def serving(life):
    """The life of a board that serves."""
    if not life.serves:
        pytest.skip("its local interface is not up")
    return life


def test_the_local_interface_is_up(life):
    life.serves = life.pico.printed(SERVES, START_S, "MemoryError") == SERVES
    life.note("local interface", "fits", int(life.serves), "1 or 0")
    assert life.serves, "\n".join(life.pico.lines[-10:])
    life.pico.printed("mqtt: connected to", START_S)
    life.pico.settled()
    life.note_heap("nobody there")


def test_a_console_is_open(serving):
    life, pico = serving, serving.pico
    began = pico.seconds()
    with life.console() as admin:
        opened = pico.seconds()
        reply = admin.login(ADMIN_PIN, role="admin")
        assert reply["previleges"] == 2, reply
        life.token = reply["token"]
        life.note("a console open", "handshake", opened - began, "s, board's")
        life.note("a console open", "log_in", pico.seconds() - opened, "s, board's")
        status = admin.ask("getStatus")
        assert status["cards"]["list"] == 3 and status["status"]["restarts"] == {}
        pico.settled()
        life.note_heap("a console open")


def test_two_consoles_and_an_upload_go_on_beside_taps(serving):
    life, pico = serving, serving.pico
    with life.console() as admin, life.console() as user:
        assert admin.login(life.token, role="admin")["previleges"] == 2
        assert admin.ask("setAuthParams", userType="user", authType="unsecured")["result"]
        reply = user.ask("auth", type="unsecured", role="user")
        assert reply["previleges"] == 1, reply
        began = len(pico.reports())
        upload_beside_taps(life, admin, user)
        life.note_heap("two consoles and an upload", began)
        assert user.ask("getCard", idToken=CARD)["card"]["authorization_status"] == "Accepted"
        assert admin.ask("getStatus")["cards"]["list"] == CARDS
        token = user.ask("getTokenForHttpServer")["token"]
        status, log = life.http("GET", "/log", token)
        assert status == 200 and b"card list taken, version 2" in log
    assert pico.reports()[-1]["restarts"] == {}
    assert not [line for line in pico.lines if "MemoryError" in line]


def upload_beside_taps(life: Life, admin: Client, user: Client) -> None:
    """Put a list of CARDS on the board, and tap meanwhile; both consoles see the taps."""
    pico = life.pico
    token = admin.ask("getTokenForHttpServer")["token"]
    answers: list = []
    began = pico.seconds()
    data = a_list(CARDS, version=2)
    upload = threading.Thread(
        target=lambda: answers.append((life.http("POST", "/cards", token, data), pico.seconds())),
        daemon=True,
    )
    upload.start()
    slowest, taps = 0.0, 0
    rounds = [(STRANGER, REFUSED), (CARD, STARTS), (CARD, STOPS)]
    while upload.is_alive() or taps % 3:
        card, statuses = rounds[taps % 3]
        if statuses is STARTS:
            pico.plug(1)
        took = pico.tap(card, *statuses)
        if card == CARD:  # the stranger waits for a validator that nobody is
            slowest = max(slowest, took)
        if statuses is STOPS:
            pico.unplug(1)
        taps += 1
        for client in (admin, user):
            seen = [client.event("tokenValidationStatus", REPLY_S) for _ in statuses]
            assert [event["status"] for event in seen] == statuses
            assert ("idToken" in seen[0]) == (client is admin)
    (status, text), ended = answers[0]
    assert status == 200, text
    life.note("two consoles and an upload", "upload", ended - began, "s, board's")
    life.note("two consoles and an upload", "cards", CARDS, "cards")
    life.note("two consoles and an upload", "taps", taps, "taps")
    life.note(
        "two consoles and an upload", "slowest_known_card_to_last_status", slowest, "s, board's"
    )


@pytest.mark.skipif(not browser.find(), reason="Chromium is not installed")
def test_a_browser_opens_the_page(serving):
    if not IS_LONG:
        pytest.skip("with TAPAUTH_EMU_LONG=1")
    with browser.Browser(slowness=SLOWNESS) as page:
        page.open(f"http://127.0.0.1:{serving.pico.http_port}/")
        page.sees("PIN or password")
        page.focus("#secret")
        page.type(ADMIN_PIN)
        page.key("Enter")
        page.sees("Logged in as admin")
        serving.pico.tap(STRANGER, *REFUSED)
        page.sees("Rejected")
        page.screenshot(BUILD / "screenshots" / f"emulated, {serving.case}.png")
        serving.note_heap("a browser on the page")
        assert page.errors == []


def test_what_the_visitors_left_behind(serving):
    serving.pico.wait(4)
    serving.pico.settled()
    serving.note_heap("nobody there any more")
