"""A technician's tools and a car that charges: nothing ends a charge without a word.

The real firmware in its slot on MicroPython, at a real broker, behind a pty.
"""

import json
import threading
import time

import pytest
from brokers import Listener
from deploy_rig import CONFIG, OWN, deploy, flash_image
from pty_board import PtyBoard

from tools import cards, flash, provision
from tools.board import board_port
from tools.board.board_port import BoardError, BoardPort, SilentError, ask_status, stop
from tools.deploy import Deployment, roll_back, show_status
from tools.desk.broker import EmbeddedBroker
from tools.firmware import build, limits_of

EVENTS = "tapauth/b1/evse/1/session_event"
KEY = OWN["site.key"]


class Site:
    """A broker, a board that runs the real firmware, and somebody who plays its EVSE."""

    def __init__(self, board, listener):
        self.board = board
        self.port = board.port
        self.listener = listener
        self.said: list[str] = []
        self._event = threading.Event()

    def say(self, text: str) -> None:
        self.said.append(text)
        if "waiting for the end of it" in text:
            self._event.set()

    def report(self, event: str) -> None:
        self.listener.publish(EVENTS, json.dumps({"event": event, "connector_id": 1}))
        self.board.wait_for("EVSE 1: " + event)

    def finishes_when_waited_for(self) -> threading.Thread:
        def finish():
            assert self._event.wait(60)
            self.report("TransactionFinished")

        thread = threading.Thread(target=finish, daemon=True)
        thread.start()
        return thread


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One board for all tests here: to deploy a whole firmware takes long."""
    tmp_path = tmp_path_factory.mktemp("running")
    with EmbeddedBroker() as broker:
        config = {**CONFIG, "mqtt": {"host": "127.0.0.1", "port": broker.port}}
        own = {"site.key": KEY, "config.json": json.dumps(config).encode()}
        with (
            PtyBoard(flash_image(tmp_path / "flash.img", own)) as board,
            Listener(broker.port) as listener,
        ):
            deploy(board, build("desktop"), wait=0)
            yield board, listener


@pytest.fixture
def site(running, monkeypatch):
    """The board, connected, with a car that charges."""
    board, listener = running
    monkeypatch.setattr(board_port, "_AGAIN_S", 0.2)
    stop.clear()
    while (ask_status(board.port) or {}).get("link") != "up":
        time.sleep(0.1)  # ask_status gives up by itself
    site = Site(board, listener)
    board.output = b""
    site.report("TransactionStarted")
    return site


def test_a_charge_goes_on_while_a_technician_asks_for_the_status(site):
    starts = site.board.starts
    show_status(site.port, site.say)
    assert site.board.starts == starts and b"interrupted" not in site.board.output
    text = "\n".join(site.said)
    assert "charging: EVSE 1" in text and "b1: TapAuth" in text and "broker: connection up" in text
    assert f"slot a: build {build('desktop').build}, on trial, 2 starts left" in text
    assert "bytes of flash are free" in text
    # Asked again and again, with what else may come along the line.
    site.board.type("noise\r\n\x02stat\x02\r\n")
    assert ask_status(site.port)["charging"] == [1]
    site.report("TransactionFinished")
    assert ask_status(site.port)["charging"] == []


def test_nothing_that_stops_the_firmware_begins_while_a_car_charges(site):
    files = {"/site.key": KEY}
    jobs = (
        lambda: roll_back(site.port, site.say),
        lambda: flash.wait_for_idle(site.port, site.say, False),
        lambda: provision.install(site.port, site.say, limits_of("desktop"), files),
        lambda: cards.main(["find", "9c3a5502", "--port", site.port, "--resume"]),
        lambda: Deployment(build("desktop"), site.port, site.say, KEY, 0).run(),
    )
    for job in jobs:
        stop.clear()
        # As Ctrl-C, once the board has said that it charges.
        answers = site.board.output.count(b"status {")

        def interrupt(answers=answers):
            while site.board.output.count(b"status {") == answers:
                time.sleep(0.02)
            stop.set()

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises((BoardError, SystemExit), match="stopped; nothing was changed"):
            job()
    stop.clear()
    assert b"boot: interrupted" not in site.board.output
    assert ask_status(site.port)["charging"] == [1]


def test_a_roll_back_goes_on_when_the_charge_has_ended(site):
    thread = site.finishes_when_waited_for()
    with pytest.raises(BoardError, match="nothing to go back to"):
        roll_back(site.port, site.say)
    thread.join(10)
    assert "EVSE 1 charges: waiting for the end of it" in site.said[0] and len(site.said) == 1
    site.board.wait_for("boot: interrupted")
    output = site.board.output
    assert output.index(b"EVSE 1: TransactionFinished") < output.index(b"boot: interrupted")


def test_now_ends_the_charge_because_somebody_said_so(site):
    starts = site.board.starts
    with pytest.raises(BoardError, match="nothing to go back to"):
        roll_back(site.port, site.say, now=True)
    site.board.wait_for("boot: interrupted")
    site.board.wait_for("I app: TapAuth")  # it was restarted
    assert site.board.starts == starts + 1 and not site.said


def test_a_firmware_that_cannot_be_asked_is_not_stopped_unasked(tmp_path, monkeypatch):
    """One that hangs, or is older than the question."""
    from test_deploy import image

    monkeypatch.setattr(board_port, "_ASKS_S", (0.3, 0.3))
    with PtyBoard(flash_image(tmp_path / "flash.img", OWN)) as board:
        # At MicroPython's prompt no firmware runs: nothing can charge that it would stop.
        assert ask_status(board.port) is None
        # Also at the raw prompt, where a tool may have been cut off.
        BoardPort(board.port).run("exec", "1")
        board.type("\x01")
        assert ask_status(board.port) is None
        deploy(board, image("mute"))
        starts = board.starts
        said: list[str] = []
        for job in (show_status, roll_back):
            with pytest.raises(SilentError, match="NOW=1"):
                job(board.port, said.append)
        with pytest.raises(SilentError, match="NOW=1"):
            Deployment(image("x"), board.port, said.append, KEY, 0).run()
        assert board.starts == starts and not said
