"""The operator's door to the store over MQTT: differential lists, and forgetting what was learned.

In: `{base}/cards/update` and `{base}/cards/clear_cache`, envelopes; docs/mqtt.md has the shapes.
The steps of a change are made by the vault's task; the reply comes when it is on flash, or when
it is certain that nothing of it will be.
"""

import json

from tapauth.cards.changes_in import read_update
from tapauth.cards.codec import StoreError
from tapauth.cards.store import takes_away
from tapauth.cards.vault import NOT_MADE
from tapauth.compat import is_scarce
from tapauth.json_in import load_or_fail


class CardUpdates:
    """`base` is the board's base topic, `link` the way to the broker, and
    `reply_topic(request, link)` says where a reply goes, or None. `refused` counts requests of
    which nothing was tried.
    """

    def __init__(self, base: str, link, vault, reply_topic, log):
        self.refused = 0
        self._update_topic = base + "/cards/update"
        self._clear_topic = base + "/cards/clear_cache"
        self._link = link
        self._vault = vault
        self._reply_topic = reply_topic
        self._log = log

    @property
    def subscriptions(self) -> tuple:
        """The topics of the requests."""
        return self._update_topic, self._clear_topic

    def link_up(self) -> None:
        """Nothing to say: whoever wants the version of the list reads it in the health report."""

    def tick(self, now: int) -> None:
        """Nothing is ever due."""

    def message(self, topic: str, payload: bytes) -> bool:
        """Take a message. False: its topic is none of these."""
        if topic not in (self._update_topic, self._clear_topic):
            return False
        reply_to = None
        try:
            request = load_or_fail(payload)
            reply_to = self._reply_topic(request, self._link)
            work: tuple = (self._clear, reply_to)
            changes: list = []
            if topic == self._update_topic:
                version, changes, base = read_update(request.get("payload"))
                work = (self._update, reply_to, version, changes, base)
            # What takes acceptances away is tried all the same.
            if is_scarce() and not takes_away(changes):
                raise MemoryError
        except NOT_MADE as error:
            self.refused += 1
            self._fail(reply_to, error)
        else:
            if not self._vault.later(*work):
                self._fail(reply_to, StoreError("another change of the list waits already"))
        return True

    def _update(self, reply_to, version: int, changes: list, base: int | None):
        """Steps: a differential list, and its reply."""
        try:
            status = yield from self._vault.update(version, changes, base)
        except NOT_MADE as error:
            self._fail(reply_to, error)
            return
        if status == "Accepted":
            self._log.info("cards", "list version {}: {} cards changed", version, len(changes))
        self._reply(reply_to, status)

    def _clear(self, reply_to):
        """Steps: forget what was learned, and say so."""
        try:
            self._vault.clear_cache()
        except NOT_MADE as error:
            self._fail(reply_to, error)
            return
        yield
        self._log.info("cards", "what was learned is forgotten")
        self._reply(reply_to, "Accepted")

    def _fail(self, reply_to, error: Exception) -> None:
        reason = str(error)
        if isinstance(error, MemoryError):
            reason = "no memory"
        elif isinstance(error, OSError):
            reason = "flash: " + reason
        self._log.warning("cards", "a change of the list was refused: {}", reason)
        self._reply(reply_to, "Failed", reason)

    def _reply(self, reply_to, status: str, reason: str = "") -> None:
        """Send a reply, if one was asked for: what became of it, and the version that holds."""
        if not reply_to:
            return
        reply: dict = {"status": status}
        if reason:
            reply["reason"] = reason
        if self._vault.store:
            reply["listVersion"] = self._vault.store.version
        self._link.publish(reply_to, json.dumps(reply))
