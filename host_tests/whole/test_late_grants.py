"""A grant that its EVSE did not get in time never comes late, over a real broker."""

import pytest
from brokers import BROKERS, Listener

from tools.charger import DesktopCharger
from tools.rigs.hostile_proxy import Cut, HostileProxy, never_acknowledge

CARD = "04a1b2c3d4e5f6"
SETTINGS = {"auth": {"connection_timeout": 10}, "evses": [1], "health_interval_s": 1}


def cut_off(packet: bytes):
    raise Cut


@pytest.mark.parametrize("fault", ["cut off", "no acknowledgements"])
def test_a_stranger_cannot_use_the_grant_of_a_driver_who_left_while_the_broker_was_away(
    fault, tmp_path
):
    kind = "mosquitto" if "mosquitto" in BROKERS else "embedded"
    lines: list[str] = []
    with (
        BROKERS[kind]() as broker,
        HostileProxy(broker.port) as proxy,
        DesktopCharger(
            f"127.0.0.1:{proxy.port}",
            tmp_path / "flash.img",
            SETTINGS,
            on_board_line=lines.append,
        ) as charger,
        Listener(broker.port) as listener,
    ):
        charger.wait_until_up()
        listener.wait_for(lambda it: it.payloads("/health"))
        if fault == "cut off":
            proxy.up = cut_off
        else:
            proxy.down = never_acknowledge
        charger.chip.place(CARD)
        charger.wait_for(lambda: any("UsedToStart" in line for line in lines), 20)
        charger.chip.lift()
        charger.wait_for(lambda: any("TimedOut" in line for line in lines), 30)
        before = len(listener.messages)
        proxy.heal()
        listener.wait_for(lambda it: (CARD, "TimedOut") in it.statuses(), 60)
        commands = [
            payload["command"]
            for topic, payload in listener.messages[before:]
            if topic.endswith("evse/1/command")
        ]
        assert commands == ["withdraw_authorization"], commands
