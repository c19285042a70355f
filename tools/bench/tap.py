"""From a card in the field to the decision and to the broker, through the whole firmware.

    python -m tools.bench.tap

The desktop charger with 200 cards, the broker up, down, and stalling in the middle of packets.
`card_to_decision` is from the transfer that carried the card's UID to the lamp that shows the
decision, which changes in the call that hands the status to the link; `card_to_published` is from
there to another client of the broker. Wall times, in ms, of all of the firmware's processes.
"""

import csv
import json
import statistics
import tempfile
import time
from pathlib import Path

from tools import charger
from tools.bench.link import stalling
from tools.bench.rows import row
from tools.desk.broker import EmbeddedBroker
from tools.rigs.hostile_proxy import HostileProxy

TAPS = 40
CARDS = [f"04{number:012x}" for number in range(0x1000, 0x1000 + 3 * TAPS)]
# A card is no new tap before it was away for so long.
SETTINGS = {
    "reader": {"removal_ms": 200},
    "auth": {"master_pass_group_id": "MASTER-PASS"},
    "log_level": "error",
}


class Stopwatch:
    """Notes when a card's UID was read, the lamp showed the decision, and the status came."""

    def __init__(self, it: charger.DesktopCharger):
        self.read = self.decided = 0.0
        self.published: dict[str, float] = {}
        serve = it.bench.handlers[ord("R")]

        def read(address: int, data: bytes) -> bytes | None:
            reply = serve(address, data)
            if reply and b"\xd5\x4b\x01" in reply:
                self.read = time.monotonic()
                self.decided = 0.0
            return reply

        it.bench.handlers[ord("R")] = read

    def lamp(self, line: str) -> None:
        if line in ("(lamp: accepted)", "(lamp: refused)") and not self.decided:
            self.decided = time.monotonic()

    def message(self, topic: str, payload: bytes) -> None:
        if topic.endswith("token_validation_status"):
            message = json.loads(payload)
            if message["status"] in ("UsedToStart", "Rejected"):
                self.published[message["token"]["id_token"]["value"]] = time.monotonic()


def tap(it: charger.DesktopCharger, watch: Stopwatch, uid: str) -> float:
    """Hold a card to the reader until it is decided. Returns when its UID was read."""
    watch.read = 0.0
    it.chip.place(bytes.fromhex(uid))
    it.wait_for(lambda: watch.read and watch.decided, 5)
    read = watch.read
    it.chip.lift()
    time.sleep(0.35)
    return read


def rows(case: str, metric: str, seconds: list[float]) -> list[dict]:
    """Median and worst of some times."""
    ms = [1000 * value for value in seconds]
    return [
        row("tap", case, metric + "_median", round(statistics.median(ms), 2), "ms"),
        row("tap", case, metric + "_worst", round(max(ms), 2), "ms"),
    ]


def measure(case: str, it: charger.DesktopCharger, watch: Stopwatch, cards: list[str]) -> list:
    decisions = []
    published = []
    reads = {}
    for uid in cards:
        reads[uid] = tap(it, watch, uid)
        decisions.append(watch.decided - reads[uid])
    found = rows(case, "card_to_decision", decisions)
    if case != "broker down":
        it.wait_for(lambda: all(uid in watch.published for uid in cards), 60)
        published = [watch.published[uid] - reads[uid] for uid in cards]
        found += rows(case, "card_to_published", published)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker() as broker:
        table = Path(folder) / "cards.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([["uid"], *[[uid] for uid in CARDS]])
        with HostileProxy(broker.port) as proxy:
            it = charger.DesktopCharger(
                f"127.0.0.1:{proxy.port}", Path(folder) / "flash.img", SETTINGS, cards=table
            )
            with it:
                watch = Stopwatch(it)
                it.on_message, it.on_board_line = watch.message, watch.lamp
                it.wait_until_up()
                found = measure("broker up", it, watch, CARDS[:TAPS])
                proxy.up = stalling
                found += measure("broker stalling", it, watch, CARDS[TAPS : 2 * TAPS])
                proxy.heal()
                broker.stop()
                found += measure("broker down", it, watch, CARDS[2 * TAPS :])
    for one in found:
        print(json.dumps(one))


if __name__ == "__main__":
    main()
