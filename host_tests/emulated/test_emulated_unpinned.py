"""The same emulated Pico W with its code used from flash and from RAM, side by side in one run:
what the heap has left, how long a start takes, how soon an enable line follows a card.
"""

import statistics

import pytest
from ready_pico import (
    BASE,
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
from tools.emulator.charger import config_for
from tools.paths import BUILD

ROUNDS = 4
START_S = 900
SETTLED_S = 14
"""The least of the largest blocks is looked at every ten seconds."""
LONGER_START_S = 1.5
"""So much longer may a start take that uses code from flash."""
HEAP = ("heap_used_after_gc", "heap_min_free", "heap_largest_block", "heap_min_largest_block")
NAMES = {True: "code in flash", False: "code in RAM"}


class Life:
    """What was measured of one board."""

    def __init__(self, folder, is_pinned: bool):
        config = config_for("i2c")
        sections = {
            "pinning": is_pinned,
            "reader": {**config["reader"], "removal_ms": 200, "restart_guard_ms": 0},
        }
        if not is_pinned:
            sections["server"] = {"enabled": True}  # it must say that there is no room
        with ReadyPico(folder, sections, a_list(3, version=1)) as pico:
            pico.removed_s = 0.5
            pico.printed("mqtt: connected to", START_S)
            self.start_s = self._time_of(pico, "mqtt: connected to") - self._time_of(pico, "boot:")
            self.lines_s, self.statuses_s = [], []
            for _ in range(ROUNDS):
                pico.tap(STRANGER, *REFUSED)
                pico.plug(1)
                for statuses in (STARTS, STOPS):
                    began = pico.seconds()
                    self.statuses_s.append(pico.tap(CARD, *statuses))
                    self.lines_s.append(pico.switched_s[-1] - began)
                pico.unplug(1)
            self.health = pico.settled(SETTLED_S)
            self.errors = pico.listener.payloads(BASE + "/errors")
            self.lines = list(pico.lines)

    @staticmethod
    def _time_of(pico: ReadyPico, text: str) -> float:
        """When the board first printed this, by its own clock."""
        return next(at for line, at in zip(pico.lines, pico.line_s, strict=False) if text in line)


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    """Whether code was used from flash to what was measured."""
    found = {is_pinned: Life(tmp_path_factory.mktemp("life"), is_pinned) for is_pinned in NAMES}
    rows = []
    for is_pinned, life in found.items():
        case = "idle, " + NAMES[is_pinned]
        rows += [row("emu", case, name, life.health[name], "bytes") for name in HEAP]
        rows.append(row("emu", case, "start", round(life.start_s, 3), "s, board's"))
        line_ms = statistics.median(life.lines_s) * 1000
        rows.append(row("emu", case, "enable_line", round(line_ms, 1), "ms, board's"))
    add_rows(BUILD / "emu.json", rows)
    for one in rows:
        print(one["case"], one["metric"], one["value"], one["unit"])
    return found


def test_code_in_flash_leaves_more_of_the_heap(lives):
    pinned, other = lives[True].health, lives[False].health
    assert pinned["counters"]["pinned_functions"] > 400
    assert pinned["counters"]["pinning_failures"] == 0
    assert other["counters"]["pinned_functions"] == 0
    saved = other["heap_used_after_gc"] - pinned["heap_used_after_gc"]
    for is_pinned, life in lives.items():
        held("idle, " + NAMES[is_pinned], life.health["heap_used_after_gc"])
    assert saved > 0.8 * pinned["counters"]["pinned_bytes"]


def test_a_start_with_it_takes_little_longer_and_a_tap_no_longer(lives):
    pinned, other = lives[True], lives[False]
    assert pinned.start_s < other.start_s + LONGER_START_S
    assert statistics.median(pinned.lines_s) < 1.25 * statistics.median(other.lines_s)


def test_without_it_the_local_interface_is_not_started_and_the_board_says_so(lives):
    other = lives[False]
    assert not any("server: http" in line for line in other.lines)
    assert "Local interface not started" in str(other.errors)
    assert other.health["restarts"] == {}
