"""The whole way, on real parts: card, PN532 bytes, firmware in MicroPython, real broker."""

import gzip
import json
import subprocess
import sys
import urllib.request

import pytest
from brokers import BROKERS, Listener
from websockets.sync.client import connect

from tools import cards
from tools.charger import DesktopCharger
from tools.desk import scenario
from tools.desk.broker import free_port
from tools.desk.console import obey
from tools.desk.flash_image import FlashImage, lock_image
from tools.paths import ROOT
from tools.rigs.hostile_proxy import HostileProxy

EXPECTED = [status for _, _, statuses in scenario.STEPS for status in statuses]
CARD = scenario.FLEET_CARD
STARTED = [(CARD, "Processing"), (CARD, "Accepted"), (CARD, "UsedToStart")]


@pytest.fixture(params=sorted(BROKERS))
def broker(request):
    with BROKERS[request.param]() as it:
        yield it


@pytest.fixture
def a_broker():
    """One broker, where it does not matter which."""
    with BROKERS[sorted(BROKERS)[-1]]() as it:
        yield it


def demo(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tools.charger", "--demo", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def test_the_demo_passes_and_an_independent_client_sees_the_same(broker, tmp_path):
    with Listener(broker.port) as listener:
        where = ("--broker", f"127.0.0.1:{broker.port}", "--flash", str(tmp_path / "flash.img"))
        done = demo(*where)
        assert done.returncode == 0, done.stdout + done.stderr
        assert listener.statuses() == EXPECTED
        commands = [
            (topic, payload["command"], payload.get("reason"))
            for topic, payload in listener.messages
            if topic.endswith("/command")
        ]
        assert commands == [
            ("tapauth/desktop/evse/1/command", "withdraw_authorization", None),
            ("tapauth/desktop/evse/2/command", "withdraw_authorization", None),
            ("tapauth/desktop/evse/1/command", "authorize_response", None),
            ("tapauth/desktop/evse/1/command", "stop_transaction", "Local"),
            ("tapauth/desktop/evse/1/command", "withdraw_authorization", None),
            ("tapauth/desktop/evse/2/command", "authorize_response", None),
            ("tapauth/desktop/evse/2/command", "stop_transaction", "MasterPass"),
            ("tapauth/desktop/evse/2/command", "withdraw_authorization", None),
        ]
        beats = listener.payloads("auth_consumer/auth_api/e2m/heartbeat")
        assert beats[:2] == [0, 1]
    # What the board itself wrote on its console names no card.
    board = [line for line in done.stdout.splitlines() if " | " in line]
    assert board
    for card in (CARD, scenario.OTHER_CARD, scenario.UNKNOWN_CARD, scenario.MASTER_CARD):
        assert not [line for line in board if card in line.lower()]


def test_a_missing_message_fails_the_demo(broker, tmp_path):
    """The check is real: a card that the board does not know cannot pass for a known one."""
    steps = scenario.STEPS
    scenario.STEPS = ((steps[1][0], (f"tap {scenario.UNKNOWN_CARD}",), steps[1][2]),)
    lines = []

    class Screen:
        say = staticmethod(lines.append)

    try:
        where = f"127.0.0.1:{broker.port}"
        with DesktopCharger(where, tmp_path / "flash.img") as charger:
            charger.wait_until_up()
            scenario._STEP_TIMEOUT = 2.0
            assert scenario.play(charger, Screen) == 1
    finally:
        scenario.STEPS = steps
        scenario._STEP_TIMEOUT = 10.0
    assert f"    missing: {CARD} UsedToStart" in lines
    assert f"    not expected: {scenario.UNKNOWN_CARD} Rejected" in lines


def test_the_firmware_comes_back_when_the_broker_does(broker, tmp_path):
    with DesktopCharger(f"127.0.0.1:{broker.port}", tmp_path / "flash.img") as charger:
        charger.wait_until_up()
        with Listener(broker.port) as listener:
            listener.wait_for(lambda it: any("heartbeat" in topic for topic, _ in it.messages))
            broker.stop()
            broker.start()
            seen = len(listener.messages)
            listener.wait_for(
                lambda it: any("heartbeat" in topic for topic, _ in it.messages[seen:]), 30
            )
            obey(charger, "plug 1")
            obey(charger, f"tap {CARD}")
            listener.wait_for(lambda it: len(it.statuses(seen)) >= 3)
            assert listener.statuses(seen) == STARTED


def commands(listener, start=0):
    """(EVSE, command) of each command since then, those that came twice as one."""
    found = []
    for topic, payload in listener.messages[start:]:
        if topic.endswith("/command"):
            command = (topic.split("/")[-2], payload["command"])
            if command not in found:
                found.append(command)
    return found


def test_a_grant_does_not_outlive_a_restart_of_the_board(a_broker, tmp_path):
    with (
        Listener(a_broker.port) as listener,
        DesktopCharger(f"127.0.0.1:{a_broker.port}", tmp_path / "flash.img") as charger,
    ):
        charger.wait_until_up()
        obey(charger, "plug 1")
        obey(charger, f"tap {CARD}")
        listener.wait_for(lambda it: it.statuses() == STARTED)
        obey(charger, "lift")
        start = len(listener.messages)
        charger.kill_firmware()
        listener.wait_for(lambda it: len(commands(it, start)) >= 2, 30)
        withdrawn = [("1", "withdraw_authorization"), ("2", "withdraw_authorization")]
        assert commands(listener, start) == withdrawn


class BehindProxy(DesktopCharger):
    """The firmware reaches the broker through a proxy, everything around it does not."""

    def __init__(self, broker, proxy, *arguments, **settings):
        super().__init__(f"127.0.0.1:{broker.port}", *arguments, **settings)
        self._proxy = proxy

    def _start_firmware(self):
        self.port = self._proxy.port
        super()._start_firmware()


def test_a_tap_before_the_first_connection_is_not_undone_by_it(a_broker, tmp_path):
    lines = []
    with (
        Listener(a_broker.port) as listener,
        HostileProxy(free_port()) as proxy,
        BehindProxy(
            a_broker, proxy, tmp_path / "flash.img", on_board_line=lines.append
        ) as charger,
    ):
        charger.wait_for(lambda: any("TapAuth" in line for line in lines), 20)
        obey(charger, f"tap {CARD}")
        charger.wait_for(lambda: any("UsedToStart" in line for line in lines), 20)
        start = len(listener.messages)
        assert commands(listener) == []
        proxy.target = a_broker.port
        listener.wait_for(lambda it: len(commands(it, start)) >= 3, 40)
        assert commands(listener, start) == [
            ("1", "withdraw_authorization"),
            ("1", "authorize_response"),
            ("2", "withdraw_authorization"),
        ]
        # The simulated EVSEs have answered, and the card still has its EVSE.
        charger.wait_for(lambda: len([x for x in lines if "Deauthorized" in x]) >= 2, 20)
        obey(charger, "start 1")
        charger.wait_for(lambda: any("TransactionStarted" in x for x in lines), 20)
        provided = {"id_token": {"value": CARD, "type": "ISO14443"}, "authorization_type": "RFID"}
        topic = "everest_api/1/auth_token_provider/nfc_reader/m2e/provided_token"
        charger.observer.publish(topic, json.dumps(provided))
        listener.wait_for(lambda it: (CARD, "UsedToStop") in it.statuses(start), 20)


def test_a_refused_configuration_starts_nothing_and_names_the_key(tmp_path):
    lines = []
    wrong = {"auth": {"conection_timeout": 30}}
    charger = DesktopCharger(
        flash=tmp_path / "flash.img", overrides=wrong, on_board_line=lines.append
    )
    with charger, pytest.raises(RuntimeError, match="ended"):
        charger.wait_until_up()
    assert any("auth.conection_timeout: unknown key" in line for line in lines), lines


def test_the_flash_is_kept_between_runs(tmp_path):
    flash = tmp_path / "flash.img"
    with DesktopCharger(flash=flash) as charger:
        charger.wait_until_up()
    first = flash.read_bytes()
    with DesktopCharger(flash=flash) as charger:
        charger.wait_until_up()
    # The second run installs nothing but the configuration with its new broker port.
    blocks = range(0, len(first), 4096)
    second = flash.read_bytes()
    changed = sum(first[at : at + 4096] != second[at : at + 4096] for at in blocks)
    assert changed <= 8, f"{changed} blocks changed"


def test_a_module_of_an_older_release_does_not_stand_in_the_way(tmp_path):
    flash = tmp_path / "flash.img"
    with DesktopCharger(flash=flash) as charger:
        charger.wait_until_up()
    image = FlashImage(flash)
    for name in ("board.py", "tapauth/app.py"):
        with image.files.open("/" + name, "wb") as file:
            file.write(b"raise RuntimeError('an older one')")
    image.save()
    with DesktopCharger(flash=flash) as charger:
        charger.wait_until_up()


def test_nobody_writes_to_the_flash_of_a_charger_that_runs(tmp_path):
    """A change by a tool would be lost there, although the tool said that it was done."""
    flash = tmp_path / "flash.img"
    add = ["add", "9c3a5502", "--flash", str(flash)]
    with DesktopCharger(flash=flash) as charger:
        charger.wait_until_up()
        before = flash.read_bytes()
        for words in (add, ["status", "--flash", str(flash)]):
            with pytest.raises(SystemExit, match="in use by a running charger"):
                cards.main(words)
        assert flash.read_bytes() == before
    cards.main(add)
    lock = lock_image(flash)
    with pytest.raises(SystemExit, match="in use by a running charger or another tool"):
        DesktopCharger(flash=flash).__enter__()
    lock.close()


def test_a_board_whose_watchdog_starves_is_reset(tmp_path):
    lines = []
    charger = DesktopCharger(flash=tmp_path / "flash.img", on_board_line=lines.append)
    with charger:
        charger.wait_until_up()
        starts = [line for line in lines if "TapAuth" in line]
        charger.kill_firmware()
        charger.wait_for(lambda: len([x for x in lines if "TapAuth" in x]) > len(starts), 10)
    assert "(reset)" in lines


def test_what_the_operator_sets_outlives_a_power_cut(tmp_path):
    lines = []
    messages = []
    charger = DesktopCharger(
        flash=tmp_path / "flash.img",
        on_board_line=lines.append,
        on_message=lambda topic, payload: messages.append((topic, payload)),
    )

    def ups():
        return len([1 for topic, payload in messages if topic.endswith("/status")])

    def statuses(start):
        return [
            payload.decode().partition('"status": "')[2].partition('"')[0]
            for topic, payload in messages[start:]
            if topic.endswith("token_validation_status")
        ]

    with charger:
        charger.wait_until_up()
        topic = "everest_api/1/auth_consumer/auth_api/m2e/set_master_pass_group_id"
        charger.observer.publish(topic, '"FLEET-7"')
        charger.wait_for(lambda: any("master_pass_group_id is kept" in line for line in lines), 10)
        before = ups()
        charger.kill_firmware()
        charger.wait_for(lambda: ups() > before + 1, 10)  # offline by the last will, and online
        start = len(messages)
        obey(charger, f"tap {CARD}")
        charger.wait_for(lambda: len(statuses(start)) >= 2, 5)
        # The card's group is the master-pass group now: it starts nothing.
        assert statuses(start) == ["Processing", "Rejected"]


def test_the_console_page_opens_with_the_pin_of_the_run(tmp_path):
    lines = []
    charger = DesktopCharger(flash=tmp_path / "flash.img", on_board_line=lines.append, server=True)
    with charger:
        charger.wait_until_up()
        charger.wait_for(lambda: any("http on port" in line for line in lines), 20)
        charger.wait_for(lambda: any("until the restart" in line for line in lines), 20)
        address = f"127.0.0.1:{charger.config['server']['port']}"
        with urllib.request.urlopen(f"http://{address}/", timeout=10) as page:
            assert b"<html" in gzip.decompress(page.read())
        with connect(f"ws://{address}/api") as socket:
            query = {"method": "auth", "requestId": "1", "type": "secured"}
            socket.send(json.dumps({**query, "credentials": "000000x"}))
            assert json.loads(socket.recv(10))["resultCode"] == 8
            socket.send(json.dumps({**query, "credentials": charger.pin}))
            assert json.loads(socket.recv(10))["previleges"] == 2

            def ask(method, **members):
                socket.send(json.dumps({"method": method, "requestId": "2", **members}))
                reply = json.loads(socket.recv(10))
                while "event" in reply:
                    reply = json.loads(socket.recv(10))
                assert reply["result"] is True, reply
                return reply

            ask("bench", line="plug 2")
            charger.wait_for(lambda: any("EVSE 2: SessionStarted" in line for line in lines), 5)
            # An admin sees what is in force: what the flash keeps, and what a command set.
            status = ask("getStatus")
            assert (status["groupId"], status["connectionTimeout"]) == ("MASTER-PASS", 60)
            ask("setMasterPassGroup", groupId="Masters")
            assert ask("getStatus")["groupId"] == "Masters"
            # A card that is blocked as it is printed is refused as the reader says it.
            written = ":".join(CARD[at : at + 2].upper() for at in range(0, len(CARD), 2))
            card = ask("blockCard", idToken=written)["card"]
            assert card["authorization_status"] == "Blocked"
            assert card["parent_id_token"]["value"] == "FLEET-7"
            ask("bench", line="tap " + CARD)
            charger.wait_for(lambda: any(": Rejected" in line for line in lines), 5)
            assert not any("UsedToStart" in line for line in lines)
    assert not [line for line in lines if charger.pin in line]
