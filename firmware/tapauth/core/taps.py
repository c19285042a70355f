"""The rules of a tap: newness by absence, refused UIDs, two cards, the guard after a start.

Pure rules; the time comes in as milliseconds that never run backwards.
"""

from tapauth.compat import const

TOKEN = "token"
"""Event: a card was tapped. Value: ProvidedIdToken, a dict."""
REFUSED = "refused"
"""Event: a card that may not be used. Value: the reason."""
TWO_CARDS = "two cards"
"""Event: two cards in the field, none is taken. Value: None."""
GUARDED = "guarded"
"""Event: the card that just started a charge was tapped again too soon. Value: None."""

_TABLE = const(6)
"""Cards remembered at a time; in the field are three at most: two, and that they are two."""


def read_targets(answer) -> list:
    """UIDs in the data of a PN532's answer to InListPassiveTarget (from NbTg on), as bytes.

    None stands for a UID whose length byte does not fit the data. Raises ValueError for an
    answer that is none.
    """
    if not answer or answer[0] > 2:
        raise ValueError("number of targets")
    uids: list[bytes | None] = []
    at = 1
    for _ in range(answer[0]):
        # Tg, SENS_RES (2 bytes), SEL_RES, NFCIDLength, NFCID1
        end = at + 5 + answer[at + 4] if len(answer) > at + 4 else len(answer) + 1
        uids.append(bytes(answer[at + 5 : end]) if end <= len(answer) else None)
        at = end
    # Only an ATS may follow, and only from a chip that forgot it shall not ask for one.
    if uids and at < len(answer) and answer[at] != len(answer) - at:
        uids[-1] = None
    return uids


def refusal(uid) -> str | None:
    """Why `uid` (bytes, or None for a wrong length byte) may not be used; None when it may."""
    if uid is None:
        return "wrong length byte"
    if len(uid) not in (4, 7, 10):
        return f"UID of {len(uid)} bytes"
    if not any(uid):
        return "UID all 00"
    if min(uid) == 0xFF:
        return "UID all FF"
    if len(uid) == 4 and uid[0] == 0x08:
        return "random UID"
    return None


class Taps:
    """Turns the cards in the field into taps.

    A card is new again when it was seen to be absent for `removal_ms` milliseconds without a
    break; time in which the reader failed (blind()) does not count. The token that started a
    charge is not taken again for `restart_guard_ms` milliseconds.
    """

    def __init__(self, removal_ms: int = 2000, restart_guard_ms: int = 3000, uppercase=False):
        self._removal_ms = removal_ms
        self._guard_ms = restart_guard_ms
        self._uppercase = uppercase
        self._guarded = ""
        self._guarded_until = 0
        # [key, absent since or None]. Key: UID as hex, TWO_CARDS or the reason of a refusal - a
        # random UID is another one at each look, but the same reason.
        self.known: list[list] = []
        self.taps = 0
        self.refused: dict[str, int] = {}
        """Times that a card was not taken, by event or reason; all wrong lengths are one."""

    def value(self, uid: bytes) -> str:
        """The token's text: two hex digits a byte."""
        text = uid.hex()
        return text.upper() if self._uppercase else text

    def observe(self, uids, since: int, now: int):
        """Take the outcome of one search from `since` to `now`: the UIDs in the field.

        Returns (event, value), or None when nothing new is there.
        """
        reason = refusal(uids[0]) if len(uids) == 1 else None
        keys = [refusal(uid) or uid.hex() for uid in uids]
        if len(keys) > 1:
            keys.append(TWO_CARDS)
        new = self._update(keys, since, now)
        if not new or len(keys) > 1 and TWO_CARDS not in new:
            return None
        if len(keys) > 1:
            return self._refuse(TWO_CARDS, None)
        if reason:
            return self._refuse(REFUSED, reason)
        value = self.value(uids[0])
        if now < self._guarded_until and value.lower() == self._guarded:
            return self._refuse(GUARDED, None)
        self.taps += 1
        return TOKEN, {
            "id_token": {"value": value, "type": "ISO14443"},
            "authorization_type": "RFID",
        }

    def _refuse(self, event: str, reason) -> tuple:
        # Lengths share a name, so that no card can make the table grow.
        name = "UID length" if reason and reason.startswith("UID of") else reason or event
        self.refused[name] = self.refused.get(name, 0) + 1
        return event, reason

    def _update(self, keys: list, since: int, now: int) -> list:
        """Note which cards are here and which are not; returns those of `keys` that are new."""
        new = list(keys)
        kept = []
        for entry in self.known:
            here = entry[0] in keys
            # Absent from the begin of the first search that missed the card, and new again once
            # a search ends `removal_ms` later, also when that one finds the card.
            if entry[1] is None and not here:
                entry[1] = since
            if entry[1] is not None and now - entry[1] >= self._removal_ms:
                continue
            if here:
                entry[1] = None
                new.remove(entry[0])
            kept.append(entry)
        for key in new:
            if len(kept) >= _TABLE:
                kept.remove(next(entry for entry in kept if entry[1] is not None))
            kept.append([key, None])
        self.known = kept
        return new

    def blind(self) -> None:
        """Begin all absences anew: the reader failed, so no card was seen to be absent."""
        for entry in self.known:
            entry[1] = None

    def started(self, token_value: str, now: int) -> None:
        """Guard the token that has just started a charge: see Taps."""
        self._guarded = token_value.lower()
        self._guarded_until = now + self._guard_ms
