"""The console page in a real browser, against the local server on real MicroPython.

Screenshots go to build/screenshots.
"""

import gzip
import json
import re
import signal
from contextlib import contextmanager

import browser
import pytest

from tools.build import build
from tools.paths import BUILD, FIRMWARE, IMAGE
from tools.rigs.local_board import LocalBoard

CARD = "04a1b2c3d4e5f6"
SHOTS = BUILD / "screenshots"
PAGE = FIRMWARE / "tapauth" / "local" / "console.html"
needs_chromium = pytest.mark.skipif(
    not browser.find(), reason="Chromium is not installed (Debian: apt-get install chromium)"
)


def test_the_page_is_small_and_needs_nobody_else():
    packed = (IMAGE / "tapauth" / "local" / "console.gz").read_bytes()
    assert len(packed) <= 20_480
    text = gzip.decompress(packed).decode()
    assert text == PAGE.read_text()
    assert not re.search(r"https?:|//[a-z0-9]|src=|@import|url\(", text.split("<script>")[0])
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(", text)


def test_a_changed_page_is_packed_again():
    build()
    PAGE.touch()
    assert build() == 1
    assert build() == 0


def log_in(page, secret):
    """With the keyboard alone."""
    page.focus("#secret")
    page.run("document.querySelector('#secret').value = ''")
    page.type(secret)
    page.key("Enter")


@contextmanager
def admin_page():
    """A board, and its page with admin logged in."""
    with LocalBoard() as board, browser.Browser() as page:
        page.open(f"http://127.0.0.1:{board.port}/")
        log_in(page, board.pins["admin"])
        page.sees("Logged in as admin")
        yield board, page


@needs_chromium
def test_a_technicians_day():
    with LocalBoard() as board, browser.Browser() as page:
        page.open(f"http://127.0.0.1:{board.port}/")
        page.sees("PIN or password")
        page.screenshot(SHOTS / "login.png")
        log_in(page, board.pins["admin"].lower())
        page.sees("Logged in as admin")
        page.sees("Idle")
        # A stranger.
        page.press("Tap", "#bench")
        page.sees("Rejected")
        # Learned by a tap, with the keyboard.
        page.focus("#learn")
        page.key("Space")
        page.sees("Hold the card to the reader")
        page.screenshot(SHOTS / "learning.png")
        page.press("Tap", "#bench")
        page.sees(f"Card {CARD}. Add it to the list?")
        page.type("FLEET-7")
        page.key("Enter")
        page.sees(f"{CARD} is on the list.")
        # Accepted live.
        page.press("Plug in", "#bench")
        page.press("Tap", "#bench")
        page.sees("UsedToStart")
        page.sees("Authorized, waiting")
        page.press("Withdraw", "#evses")
        page.sees("Withdrawn")
        page.press("Tap", "#bench")
        page.wait("document.querySelector('#taps li').innerText.includes('UsedToStart')")
        page.press("Start", "#bench")
        page.sees("\u25b6 Charging")
        page.screenshot(SHOTS / "charging.png")
        # Blocked from the list of taps, and refused.
        page.press("Block", "#taps")
        page.sees(f"{CARD} is blocked.")
        refused = "document.querySelectorAll('#taps li')[0].innerText.includes('Rejected')"
        page.press("Stop", "#bench")
        page.press("Unplug", "#bench")
        page.press("Tap", "#bench")
        page.wait(refused)
        # A reload keeps the login; a lost connection comes back.
        page.reload()
        page.sees("Logged in as admin")
        board.process.send_signal(19)  # SIGSTOP: nothing answers
        board.process.send_signal(18)
        page.run("socket.close()")
        page.sees("Connection lost")
        page.sees("Logged in as admin")
        # Answers that it still owes at that moment are not missed afterwards.
        page.run("window.late = ask('getStatus'); document.querySelector('#leave').click()")
        page.sees("You are logged out.")
        assert page.run("late.then(reply => reply.error)") == "you are logged out"
        assert page.run("sessionStorage.getItem('token')") is None
        # Wrong until locked.
        for _ in range(5):
            log_in(page, "WRONG1")
            page.sees("Wrong PIN or password.")
            page.run("document.querySelector('#loginnote').textContent = ''")
        log_in(page, board.pins["admin"])
        page.sees("Locked after wrong tries. Wait")
        page.screenshot(SHOTS / "locked.png")
        assert page.errors == []
        assert not [line for line in board.lines if CARD in line or " E " in line]


def enter(page, selector, text):
    """Replace what a field holds, as somebody types."""
    page.focus(selector)
    page.run(f"document.querySelector({selector!r}).value = ''")
    page.type(text)


def open_boxes(page):
    page.run("document.querySelectorAll('details').forEach(one => one.open = true)")


@needs_chromium
def test_blocked_is_said_when_the_next_tap_is_refused():
    with admin_page() as (board, page):
        enter(page, "#card", "04:A1:B2:C3:D4:E5:F6")
        page.press("Add")
        page.sees("04:A1:B2:C3:D4:E5:F6 is on the list. A tap gets: Accepted.")
        page.press("Block")
        page.sees("04:A1:B2:C3:D4:E5:F6 is blocked. A tap gets: Blocked.")
        page.press("Plug in", "#bench")
        page.press("Tap", "#bench")
        page.sees("Rejected")
        # A number that no card can have blocks nothing, and so it says.
        for wrong in ("04A1B2C3D4E5F", "04A1B2C3D4"):
            enter(page, "#card", wrong)
            page.press("Block", "#cardform")
            page.wait("document.querySelector('#cardnote').textContent.startsWith('\u2717')")
            page.press("Look up")
            page.sees(f"{wrong}: not known here")
        # The page shows what the board answers, and not what was meant.
        page.run("outcome('addCard', 'X', {card: {authorization_status: 'Accepted'}})")
        for method, card in (
            ("blockCard", {"authorization_status": "Accepted"}),
            ("blockCard", None),
            ("addCard", {"authorization_status": "Expired"}),
        ):
            call = f"outcome({method!r}, 'X', {{card: {json.dumps(card)}}})"
            failed = f"(() => {{ try {{ {call}; return false }} catch (e) {{ return true }} }})()"
            assert page.run(failed), (method, card)
        # Learned, a blocked card is shown as what it is; what it had, it keeps.
        page.run("ask('addCard', {idToken: '04a1b2c3d4e5f6', parentId: 'F7', evseIds: [2]})")
        page.press("Block", "#taps")
        page.sees("is blocked. A tap gets: Blocked, group F7, only at charging point 2.")
        page.press("Learn a card")
        page.sees("Hold the card to the reader")
        page.press("Tap", "#bench")
        page.sees(f"Card {CARD}: a tap gets Blocked, group F7, only at charging point 2.")
        page.wait("document.querySelector('#newgroup').value === 'F7'")
        twice = "[0, 1].forEach(() => document.querySelector('#confirm').requestSubmit())"
        page.run(twice)
        page.sees("is on the list. A tap gets: Accepted, group F7, only at charging point 2.")
        page.wait("document.querySelector('#learning').hidden")
        assert "no card was tapped" not in page.text()
        assert page.errors == []


@needs_chromium
def test_a_setting_is_shown_as_it_is_and_not_emptied_by_mistake():
    with admin_page() as (board, page):
        open_boxes(page)
        page.wait("document.querySelector('#timeout').value === '60'")
        enter(page, "#group", "MASTERS")
        page.press("Set group")
        page.sees("The master-pass group is MASTERS.")
        enter(page, "#timeout", "45")
        page.press("Set timeout")
        page.sees("The connection timeout is 45 s.")
        page.reload()
        page.wait("document.querySelector('#group').value === 'MASTERS'")
        page.wait("document.querySelector('#timeout').value === '45'")
        open_boxes(page)
        page.run("window.asked = []; window.confirm = text => { asked.push(text); return false; }")
        enter(page, "#group", " ")
        page.press("Set group")
        page.sees("The master-pass group is still MASTERS.")
        assert "MASTERS" in page.run("asked[0]")
        assert page.run("ask('getStatus').then(reply => reply.groupId)") == "MASTERS"
        page.run("window.confirm = () => true")
        enter(page, "#group", "")
        page.press("Set group")
        page.sees("There is no master-pass group.")
        # The next to log in, as user, finds nothing that the admin had open.
        enter(page, "#group", "NEXT")
        page.press("Set group")
        page.sees("The master-pass group is NEXT.")
        page.press("Tap", "#bench")
        page.sees(CARD)
        page.press("Log out")
        log_in(page, board.pins["user"])
        page.sees("Logged in as user")
        page.sees("heap free")
        left = "document.querySelector('#console').textContent"
        fields = "[...document.querySelectorAll('#group, #config, #newgroup')].map(f => f.value)"
        assert CARD not in page.run(left) and page.run(fields) == ["", "", ""]
        assert page.errors == []


@needs_chromium
def test_a_setting_that_cannot_be_read_back_is_not_shown_as_the_old_one():
    with admin_page() as (board, page):
        open_boxes(page)
        page.wait("document.querySelector('#timeout').value === '60'")
        page.wait("document.querySelector('#config').value !== ''")
        page.run("window.asked = ask; window.deaf = ['getStatus', 'getConfig']; 0")
        page.run(
            "ask = (method, members) => deaf.includes(method)"
            " ? Promise.resolve({result: false, error: 'out of memory'})"
            " : asked(method, members); 0"
        )
        enter(page, "#timeout", "45")
        page.press("Set timeout")
        page.sees("The board took it")
        note = "document.querySelector('#setnote').textContent"
        assert "60" not in page.run(note) and page.run("+$('timeout').value") == 45
        page.run("$('config').value = JSON.stringify({...written, board_id: 'b2'}); 0")
        page.press("Check and save")
        page.sees("Saved, but the board does not show")
        page.run("window.deaf = []; 0")
        assert page.run("ask('getConfig').then(reply => reply.config.board_id)") == "b2"
        assert page.errors == []


@needs_chromium
def test_a_deleted_line_of_the_configuration_is_gone():
    with LocalBoard() as board, browser.Browser() as page:
        file = board.folder / "config.json"
        mqtt = {"host": "h", "user": "u", "password": "secret", "port": 1}
        config = {"board_id": "a", "mqtt": mqtt, "auth": {"connection_timeout": 30}}
        file.write_text(json.dumps(config))
        page.open(f"http://127.0.0.1:{board.port}/")
        log_in(page, board.pins["admin"])
        page.sees("Logged in as admin")
        open_boxes(page)
        page.wait("document.querySelector('#config').value.includes('***')")
        page.press("Check and save")
        page.sees("Nothing is changed.")
        seen = page.run("JSON.parse(document.querySelector('#config').value)")
        assert seen["mqtt"] == {**mqtt, "password": "***"}
        edited = {"mqtt": {"host": "h2", "password": "***", "port": 1}, "board_id": "b"}
        enter(page, "#config", json.dumps(edited))
        page.press("Check and save")
        page.sees("Saved: this is what is written down now.")
        mqtt = {"host": "h2", "password": "secret", "port": 1}
        assert json.loads(file.read_text()) == {"mqtt": mqtt, "board_id": "b"}
        assert page.run("JSON.parse(document.querySelector('#config').value)") == edited
        enter(page, "#config", json.dumps({"mqtt": {"host": "h2", "port": 1}, "board_id": "b"}))
        page.run("say('confignote', '')")
        page.press("Check and save")
        page.sees("Saved: this is what is written down now.")
        page.wait("!document.querySelector('#config').value.includes('***')")
        assert "password" not in json.loads(file.read_text())["mqtt"]
        for text, why in (("[]", "no object"), ("{", "no JSON"), ("null", "no object")):
            enter(page, "#config", text)
            page.press("Check and save")
            page.sees(why)
        assert page.errors == []


@needs_chromium
def test_a_board_that_falls_silent_is_told_and_found_again():
    with admin_page() as (board, page):
        board.process.send_signal(signal.SIGSTOP)
        page.sees("The board does not answer")
        assert page.run("document.querySelector('#main').classList.contains('stale')")
        board.process.send_signal(signal.SIGCONT)
        page.sees("Logged in as admin")
        assert not page.run("document.querySelector('#main').classList.contains('stale')")
        # After a longer silence it looks for a new connection, for as long as that takes.
        page.run("slack = 1; patience = 2")
        board.process.send_signal(signal.SIGSTOP)
        page.sees("Connection lost, trying again", 30)
        board.process.send_signal(signal.SIGCONT)
        page.run("patience = 10")
        page.sees("Logged in as admin", 60)
        assert page.errors == []


@needs_chromium
def test_what_a_lost_connection_leaves_unanswered_is_told():
    with admin_page() as (board, page):
        board.process.send_signal(signal.SIGSTOP)
        page.focus("#card")
        page.type(CARD)
        page.press("Look up")
        board.stop()
        page.sees("the connection was lost")


@needs_chromium
def test_a_user_sees_and_cannot_change():
    with LocalBoard() as board, browser.Browser(1200, 900, dark=True) as page:
        page.open(f"http://127.0.0.1:{board.port}/")
        log_in(page, board.pins["user"])
        page.sees("Logged in as user, reading only")
        page.sees("Idle")
        page.sees("heap free")
        labels = page.run(
            "[...document.querySelectorAll('button')].filter(one => one.offsetParent)"
            ".map(one => one.textContent)"
        )
        assert labels == ["Log out", "Read again"]
        page.screenshot(SHOTS / "user-dark.png")
        # Another one takes the role: told, and not in a loop of taking it back.
        with board.client() as other:
            assert other.login(board.pins["user"])["result"]
            page.sees("Somebody else has logged in.")
            assert other.ask("getStatus")["result"]
        assert page.errors == []


@needs_chromium
def test_the_admins_page_on_a_desk():
    with LocalBoard() as board, browser.Browser(1200, 900) as page:
        page.open(f"http://127.0.0.1:{board.port}/")
        log_in(page, board.pins["admin"])
        page.sees("Logged in as admin")
        for name in ("Settings", "Configuration", "Log"):
            page.run(
                "[...document.querySelectorAll('summary')]"
                f".find(one => one.textContent === '{name}').click()"
            )
        page.sees("http on port")
        page.wait("document.querySelector('#config').value.includes('***')")
        page.screenshot(SHOTS / "desk.png")
        page.run(
            "document.querySelector('#config').value = JSON.stringify({...written, evses: 2})"
        )
        page.press("Check and save")
        page.sees("evses: ")
        page.run("document.querySelector('#authtype').value = 'password'")
        page.focus("#newpassword")
        page.type("correct horse")
        page.press("Change")
        page.sees("Changed.")
        page.reload()
        page.sees("Logged in as admin")
        page.press("Log out")
        log_in(page, "correct horse")
        page.sees("Logged in as admin")
        assert page.errors == []


@needs_chromium
def test_nothing_is_wider_than_a_small_phone():
    with LocalBoard() as board, browser.Browser(320, 640) as page:
        page.open(f"http://127.0.0.1:{board.port}/")
        log_in(page, board.pins["admin"])
        page.sees("Logged in as admin")
        page.sees("Idle")
        page.press("Tap", "#bench")
        page.sees("Rejected")
        page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        page.sees("http on port")
        assert page.run("document.documentElement.scrollWidth") <= 320
        page.screenshot(SHOTS / "small-phone.png")
