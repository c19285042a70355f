"""A long life of an emulated Pico W whose code is used from flash: taps, and whatever else a day
brings between them. No status is wrong, it never restarts, and what is pinned stays as it was.

TAPAUTH_SOAK_TAPS is the number of taps.
"""

import json
import os

import pytest
from pinned_memory import pinned
from ready_pico import (
    ADMIN_PIN,
    BASE,
    CARD,
    REFUSED,
    STARTS,
    STOPS,
    STRANGER,
    ReadyPico,
    a_list,
)

from tools.bench.rows import add_rows, row
from tools.emulator.charger import config_for
from tools.paths import BUILD
from tools.rigs.hostile_proxy import half_then_cut, once
from tools.rigs.local_board import Client

TAPS = int(os.environ.get("TAPAUTH_SOAK_TAPS", "40"))
EACH = 10
"""Taps between two events."""
START_S, REPLY_S, WAIT_S = 900, 300, 300
PUBLISH = 0x30
UPDATE_CARDS = 100


class Day:
    """A board, and what happens to it beside taps."""

    def __init__(self, pico: ReadyPico):
        self.pico = pico
        self.version = 1
        self.visits = self.updates = self.cuts = self.nonsense = 0
        self.token = ""

    def event(self, number: int) -> None:
        """The next thing that happens."""
        (self.update, self.visit, self.cut, self.odd)[number % 4]()

    def update(self) -> None:
        """A differential list comes, which in time makes the store merge."""
        self.version += 1
        cards = [
            {
                "idToken": f"06{self.version % 50:04x}{number:08x}",
                "authorizationStatus": "Accepted",
            }
            for number in range(UPDATE_CARDS)
        ]
        answer = f"soak/answers/{self.version}"
        update = {"listVersion": self.version, "cards": cards}
        message = {"headers": {"replyTo": answer}, "payload": update}
        self.pico.listener.publish(f"{BASE}/cards/update", json.dumps(message))
        self.pico.listener.wait_for(lambda it: it.payloads(answer), WAIT_S)
        assert self.pico.listener.payloads(answer)[0]["status"] == "Accepted"
        self.updates += 1

    def visit(self) -> None:
        """Somebody looks at the console, and reads the log."""
        with Client(self.pico.http_port, patience_s=REPLY_S, ping_interval=None) as admin:
            reply = admin.login(self.token or ADMIN_PIN, role="admin")
            assert reply["previleges"] == 2, reply
            self.token = reply.get("token", self.token)
            assert admin.ask("getStatus")["status"]["restarts"] == {}
        self.visits += 1

    def cut(self) -> None:
        """The broker's connection ends in the middle of a message."""
        self._reconnect(half_then_cut)
        self.cuts += 1

    def odd(self) -> None:
        """The broker sends bytes that make no sense: an exception, and a new connection."""
        self._reconnect(lambda _: (b"\x30\x00",))
        self.nonsense += 1

    def _reconnect(self, rule) -> None:
        pico = self.pico
        since = len(pico.lines)
        before = pico.proxy.connections
        pico.proxy.down = once(PUBLISH, rule)
        pico.listener.publish(f"{BASE}/cards/clear_cache", "{}")
        pico.printed("mqtt: connected to", START_S, since=since)
        pico.proxy.heal()
        assert pico.proxy.connections > before


@pytest.fixture(scope="module")
def pico(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soak")
    config = config_for("i2c")
    sections = {
        "server": {"enabled": True},
        "reader": {**config["reader"], "removal_ms": 200, "restart_guard_ms": 0},
        "lines": {"debounce_ms": 50},
        "cards": {"mqtt_update": True},
    }
    with ReadyPico(folder, sections, a_list(3, version=1), folder) as it:
        it.removed_s = 0.5
        yield it


def look(pico: ReadyPico) -> set[int]:
    """The pinned functions; each of them has been compared with the pack it is of."""
    found = pinned(pico.board.memory(), "a", pico.image.slot)
    assert not found.wrong, found.wrong[:10]
    assert found.generators > 5  # tasks that wait, each in its function
    return set(found.functions)


def test_a_board_that_uses_code_from_flash_goes_on_and_on(pico):
    pico.printed("mqtt: connected to", START_S)
    first = pico.settled()
    functions = first["counters"]["pinned_functions"]
    assert functions > 400 and first["counters"]["pinning_failures"] == 0
    looks = [look(pico)]
    day = Day(pico)
    rounds = [(STRANGER, REFUSED), (CARD, STARTS), (CARD, STOPS)]
    for tap in range(TAPS):
        card, statuses = rounds[tap % 3]
        if statuses is STARTS:
            pico.plug(1)
        pico.tap(card, *statuses)
        if statuses is STOPS:
            pico.unplug(1)
        if tap % EACH == EACH - 1:
            day.event(tap // EACH)
            looks.append(look(pico))
            print(f"{tap + 1} taps, {len(looks[-1])} pinned functions found in memory", flush=True)
    last = pico.settled()
    assert last["restarts"] == {} and last["uptime_s"] > first["uptime_s"]
    assert last["counters"]["pinned_functions"] == functions
    assert sum(line.startswith("boot: ") for line in pico.lines) <= 2  # started, and confirmed
    assert day.nonsense == sum("frame shorter than it says" in line for line in pico.lines)
    # Those of the start are where they were, look by look.
    stay = set.intersection(*looks)
    assert len(stay) > 0.75 * functions, (len(stay), functions)
    rows = [
        row("emu", "soak", "taps", TAPS, "taps"),
        row("emu", "soak", "pinned_functions", functions, "functions"),
        row("emu", "soak", "pinned_functions_in_place", len(stay), "functions"),
        row("emu", "soak", "heap_min_free", last["heap_min_free"], "bytes"),
        row("emu", "soak", "heap_min_largest_block", last["heap_min_largest_block"], "bytes"),
        row("emu", "soak", "console_visits", day.visits, "visits"),
        row("emu", "soak", "list_updates", day.updates, "updates"),
        row("emu", "soak", "reconnects", day.cuts + day.nonsense, "connections"),
    ]
    add_rows(BUILD / "emu.json", rows)
    for one in rows:
        print(one["metric"], one["value"], one["unit"])
