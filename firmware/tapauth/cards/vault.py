"""The card store as a part of the running firmware: answers taps, and writes in quiet moments.

Theory of operation. A tap must not wait for flash to be written, and a change must not get lost.
So lookups are immediate, in the turn of the loop that asks, and all writing is done by one task,
run(), which takes a step, lets others go on, and takes the next. Three things wait for the task:

    settings   by name, of each the newest value. They hold at once, and go to flash before
               anything else, also between two steps of other work; what fails is tried again
    orders     one at a time: work of somebody who tells its outcome by himself (card_updates.py)
    answers    of validators, up to 8, to be learned; of two for one card the newer

With nothing to do for a minute the task tidies the store. The local interface makes the steps of
its own changes: while the store is busy with them the task begins nothing but settings.

The winner of a conflict: a change of the list over an answer that waits. The answer was given
before, so delete(), update() and clear_cache() drop it; else a card that was just deleted would be
learned anew. No change that fails ends the task: it is logged, a lost answer is counted, and an
error tells of a setting that is not kept until it is. Where memory was short nothing is begun for
ten seconds; then an answer is tried again, as it may take an acceptance away, and so is the look
through the store. An order is not: its sender is told, and asks again.

Nothing here makes a card valid. Without a site key, and with a damaged store, no card is known
(store.py); the error "Card store unusable" says what to do.
"""

import tapauth_slot

from tapauth.cards import files
from tapauth.cards.codec import Damaged, StoreError, digest
from tapauth.cards.store import Store
from tapauth.compat import SYSTEM_ERRORS, const, forget, late, sleep_ms
from tapauth.errors import VENDOR_ERROR, VENDOR_WARNING

FOLDER = "/store"
_QUEUE = const(8)
_TICK_MS = const(200)
_TIDY = const(300)  # ticks of quiet
_RETRY = const(50)  # ticks until a setting is tried again, or what found no memory
_NEARLY_FULL = const(90)
# The fields of an answer that is to be learned.
_NAME = const(0)
_RESULT = const(2)
NOT_MADE = (StoreError, OSError, ValueError, MemoryError)
"""What a change that was not made may raise. Made once: see SYSTEM_ERRORS."""
UNKNOWN = {"authorization_status": "Unknown", "tariff_messages": []}


def _is_certified(token: dict) -> bool:
    return "certificate" in token or "iso15118CertificateHashData" in token


class Vault:
    """`settings` is the "cards" object of the configuration; `wallclock.unix()` the time or None.

    Without a site key, or with a store that cannot be used, no card is known, and an error says
    so. `skipped` counts answers that were to be learned and were not: too many waited, or the
    store could not take one.
    """

    def __init__(self, settings: dict, without_clock: bool, wallclock, errors, log):
        self.skipped = 0
        self.store: Store | None = None
        self._wallclock = wallclock
        self._errors = errors
        self._log = log
        self._problem = "no site key"
        self._jobs: list = []  # of [_NAME: digest, id token, _RESULT], to be learned
        self._orders: list = []  # of (function that makes steps, its arguments)
        self._unkept: dict = {}  # settings that are not on flash yet
        self._pause = 0  # ticks until they are tried again
        self._starved = 0  # ticks until there may be memory for a change
        with late("sitekey"):
            from tapauth.crypto import sitekey

        forget(sitekey)
        try:
            self.store = Store(
                files,
                FOLDER,
                # The boot part has checked the running slot with it.
                sitekey.mended_key(tapauth_slot.running != "", log),
                capacity=settings["capacity"],
                cache_days=settings["cache_days"],
                accept_expiry_without_clock=without_clock,
            )
        except (OSError, ValueError) as error:
            self._problem = str(error)
            log.error("cards", "no site key ({}): no card is known", error)
        else:
            status = self.store.status()
            log.info("cards", "{} cards, list version {}", status["list"], status["version"])
        self._report()

    def look_up(self, id_token: dict) -> tuple:
        """(ValidationResult or None, whether that settles the question) for an IdToken."""
        if not self.store:
            return None, False
        found = self.store.lookup(id_token, self._wallclock.unix())
        if self.store.damage:
            self._report()
        return found

    def validate(self, token: dict) -> tuple:
        """(ValidationResult, whether that settles the question) for a ProvidedIdToken.

        That one was accepted before, with another certificate or none, says nothing of one with a
        certificate: the board checks none.
        """
        result, settled = self.look_up(token["id_token"])
        if result and _is_certified(token) and result["authorization_status"] == "Accepted":
            assert self.store
            if self.store.is_learned(token["id_token"]):
                return UNKNOWN, False
        return result or UNKNOWN, settled

    def is_unknown(self, id_token: dict) -> bool:
        """Whether the store certainly holds nothing about a card.

        One that is damaged, or none, may have forgotten that it is blocked.
        """
        result, _ = self.look_up(id_token)
        return not (result or not self.store or self.store.damage)

    def learn(self, token: dict, result: dict) -> None:
        """Remember another validator's answer, soon; of two for one card the newer. That a token
        was accepted with its certificate is not remembered."""
        accepts = result["authorization_status"] == "Accepted"
        if not self.store or accepts and _is_certified(token):
            return
        id_token = token["id_token"]
        name = digest(self.store.key, id_token)
        # A second tap before the first answer is on flash: one write will do for both.
        for job in self._jobs:
            if job[_NAME] == name:
                job[_RESULT] = result
                return
        if len(self._jobs) >= _QUEUE:
            self.skipped += 1
            return
        self._jobs.append([name, id_token, result])

    def delete(self, id_token: dict):
        """Steps: Store.delete, and an answer for the card that still waits goes with it."""
        store = self.store
        assert store
        found = yield from store.delete(id_token)
        self._drop_answers(((id_token, None),))
        return found

    def update(self, version: int, changes, base: int | None = None):
        """Steps: Store.update, and answers for its cards that still wait go with it.

        Returns "Accepted" or "VersionMismatch". Raises ValueError, StoreError (Busy while another
        change is under way), OSError, MemoryError: then nothing has changed, or the update is
        there without its witness: the version tells.
        """
        store = self.store
        if not store:
            raise Damaged(self._problem)
        try:
            return (yield from store.update(version, changes, base))
        finally:
            # Also after an error, when the update is there and only its witness is missing.
            if store.version == version:
                self._drop_answers(changes)

    def clear_cache(self) -> None:
        """Forget everything learned, and the answers that wait to be. At once: it writes two small
        files. Raises StoreError (Busy while a change is under way), OSError, MemoryError.
        """
        if not self.store:
            raise Damaged(self._problem)
        self.store.clear_cache()
        self._jobs = []

    def _drop_answers(self, changes) -> None:
        """Answers that wait were given before these changes: what is deleted stays so."""
        assert self.store
        try:
            names = [digest(self.store.key, id_token) for id_token, _ in changes]
            self._jobs = [job for job in self._jobs if job[_NAME] not in names]
        except MemoryError:  # the changes are made: that must not look as if they were not
            self.skipped += len(self._jobs)
            self._jobs.clear()

    def later(self, work, *arguments) -> bool:
        """Let the task make the steps of `work(*arguments)`, when no other change is under way.

        `work` says itself what became of it. False, and it is not done: one waits already.
        """
        if self._orders:
            return False
        self._orders.append((work,) + arguments)
        return True

    # Settings that outlive a restart.

    def setting(self, key: str, default):
        """A setting that was kept; `default` when none was."""
        value = self._unkept.get(key)
        if value is None and self.store:
            value = getattr(self.store, key)
        return default if value is None else value

    def keep(self, key: str, value) -> None:
        """Keep a setting: "connection_timeout" or "master_pass_group_id". It holds at once, and
        is on flash within a second; when that fails an error says so until it is."""
        self._unkept[key] = value
        self._pause = 0

    def save(self) -> None:
        """Write the settings that wait; to be called before a restart."""
        self._pause = 0
        while self._unkept and not self._pause:
            self._save_one()

    def _save_one(self) -> None:
        error: Exception | None = None
        key = next(iter(self._unkept))
        try:
            if not self.store:
                raise OSError("no store")
            getattr(self.store, "set_" + key)(self._unkept[key])
            del self._unkept[key]
            self._log.info("cards", "{} is kept", key)
        except SYSTEM_ERRORS as found:
            error = found
            self._pause = _RETRY
        except ValueError:  # such as half a character: what cannot be written is not tried again
            del self._unkept[key]
            self._log.error("cards", "{} cannot be kept: not suitable", key)
        # The error goes only when all that waited is kept.
        if error or not self._unkept:
            text = f"a setting would be lost by a restart ({error}): it is tried again"
            failed = error is not None
            self._errors.set(
                failed, VENDOR_WARNING, "Setting not kept", origin="cards", message=text
            )

    def counters(self) -> dict:
        """The store's fill, and what was not learned."""
        counters = self.store.status() if self.store else {}
        counters["skipped"] = self.skipped
        return counters

    # The task.

    async def run(self, beat) -> None:
        """Look through the store once, then write what is to be written, for ever."""
        unverified = True
        quiet = _TIDY
        while True:
            beat()
            await self._save_due()
            store = self.store
            if store and store.busy:  # with a list, which can take minutes
                quiet = 0
            elif self._starved:
                self._starved -= 1
            elif self._orders:
                await self._do(beat, *self._orders.pop(0))
                quiet = 0
            elif self._jobs and store:
                job = self._jobs.pop(0)
                _, id_token, result = job
                if await self._do(beat, store.learn, id_token, result, self._wallclock.unix()):
                    pass
                elif self._starved:
                    self._put_back(job)
                else:
                    self.skipped += 1
                quiet = 0
            elif quiet >= _TIDY and store and unverified:
                unverified = not await self._do(beat, store.verify) and self._starved > 0
                quiet = 0
            elif quiet >= _TIDY and store:
                await self._do(beat, store.tidy, self._wallclock.unix())
                quiet = 0
            await sleep_ms(_TICK_MS)
            quiet += 1
            if self._pause:
                self._pause -= 1

    def _put_back(self, job) -> None:
        """An answer that there was no memory to learn waits on, unless there is a newer one: it
        may be the one that takes an acceptance away.
        """
        for one in self._jobs:
            if one[_NAME] == job[_NAME]:
                return
        if len(self._jobs) >= _QUEUE:
            self.skipped += 1
        else:
            self._jobs.insert(0, job)

    async def _save_due(self) -> None:
        while self._unkept and not self._pause:
            await sleep_ms(0)  # apart from what else has been written
            self._save_one()

    async def _do(self, beat, work, *arguments) -> bool:
        steps = None
        done = False
        try:
            # The steps are made here: a frame that lives on would keep them, and with them the
            # modules that were loaded for them.
            steps = work(*arguments)
            for _ in steps:
                beat()
                await sleep_ms(0)
                await self._save_due()
            done = True
        except NOT_MADE as error:
            if isinstance(error, MemoryError):
                self._starved = _RETRY
            self._log.warning("cards", "a change was not made: {}", str(error))
        finally:
            if steps:
                steps.close()
        self._report()
        return done

    def _report(self) -> None:
        damage = self._problem
        full = False
        if self.store:
            damage = self.store.damage
            full = self.store.status()["fill"] > _NEARLY_FULL
        what = "install a full list" if self.store else "provision the board again"
        text = f"the card store cannot be relied on ({damage}): {what}"
        self._errors.set(
            bool(damage), VENDOR_ERROR, "Card store unusable", origin="cards", message=text
        )
        text = f"the card store is over {_NEARLY_FULL} % full"
        self._errors.set(
            full, VENDOR_WARNING, "Card store nearly full", origin="cards", message=text
        )
