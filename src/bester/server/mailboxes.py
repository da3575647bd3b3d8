"""Messages on disk for accounts that do not take them now, and the outcomes of ``once`` messages.

docs/protocol.md, section 4. The exchange decides what is stored. This brings it to the store, in the order of the
effects and as many at a time as wait, because they share one commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bester.core.effects import Bury, Deposit, ReadMailbox, Recall, Remember, RemoveLetter
from bester.core.metrics import Drop
from bester.core.model import Delivery
from bester.core.replay import Letter
from bester.errors import BesterError, Internal, UnknownAccount
from bester.server.batching import take_batch
from bester.server.faultpoints import hit
from bester.server.runtime import Runtime
from bester.store.ports import AccountStore, MailboxBounds, MessageStore, Queued, Remembered, account_of, account_queue
from bester.store.ports import Letter as StoredLetter
from bester.timeouts import within

log = logging.getLogger("bester.mailboxes")

NEVER_ACKNOWLEDGED = "unacknowledged: given again and again, and never acknowledged"
"""Why a letter was given up, as operators are told."""
ONCE_DAYS = 7
ONCE_RECORDS = 200_000
"""How long, and how many, ``once`` messages are remembered on disk."""
EXPIRY_S = 60.0
"""How often expired letters and outcomes are removed."""
_EXPIRY_STEP = 1000
DEAD_LETTERS = 1000
DEAD_BYTES = 64 * 1024 * 1024
"""The most dead letters of an account, and their bytes; beyond that the oldest are removed."""
_DEAD_PAGE = 50


class Arrival:
    """Whether mail came for an account while its session was being made."""

    def __init__(self) -> None:
        self.has_mail = False


Stored = Callable[[dict[str, set[str]]], None]
"""Takes the types of letters that were put into mailboxes, by account."""
Failures = list[BesterError | None]
"""Why each of some deliveries could not be kept; None for those that were, or need not be."""


class Mailboxes:
    """The mailboxes of this server's accounts.

    Args:
        runtime: whose exchange decides what is kept.
        store: keeps it.
        accounts: knows which accounts there are.
    """

    def __init__(self, runtime: Runtime, store: MessageStore, accounts: AccountStore) -> None:
        self.runtime = runtime
        self.store = store
        self._accounts = accounts
        self._on_stored: list[Stored] = []
        self.stored = 0
        """Letters that were put into mailboxes since the start."""
        self._deposits: list[Delivery] = []
        self._depositing = False
        self._keeping: dict[str, int] = {}
        """By account: letters that are on their way into its mailbox."""
        self._takes: list[tuple[str, str]] = []
        self._buried: list[Bury] = []
        self._remembers: list[Remember] = []
        self._arrivals: dict[str, list[Arrival]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._expiry_due = 0.0
        runtime.exchange.admission.may_recall = store.may_recall

    def on_stored(self, callback: Stored) -> None:
        """Registers a callback for when letters were put into mailboxes."""
        self._on_stored.append(callback)

    @property
    def bounds(self) -> MailboxBounds:
        """The bounds of one account's mailbox, as configured."""
        limits = self.runtime.config.limits
        return MailboxBounds(limits.mailbox_messages, limits.mailbox_bytes, limits.mailbox_days * 86_400.0)

    @property
    def waiting(self) -> int:
        """How many deposits have not been given to the store."""
        return len(self._deposits)

    # -- sessions ------------------------------------------------------------------------------------------------

    @contextmanager
    def arriving(self, username: str) -> Iterator[Arrival]:
        """Notices mail that comes for an account after its mailbox was looked into, while a session is being made."""
        arrival = Arrival()
        self._arrivals.setdefault(username, []).append(arrival)
        try:
            yield arrival
        finally:
            arrivals = self._arrivals[username]
            arrivals.remove(arrival)
            if not arrivals:
                del self._arrivals[username]

    def came(self, username: str) -> None:
        """Notes that a letter was put into an account's mailbox, here or by another node."""
        for arrival in self._arrivals.get(username, ()):
            arrival.has_mail = True

    async def has_mail(self, username: str) -> bool:
        """Whether the account's mailbox holds anything.

        Raises:
            Internal: the store cannot be reached.
        """
        return await self.store.has_mail(username)

    async def clear(self, username: str) -> int:
        """Removes all mail of an account that is gone, and returns how many letters there were."""
        removed = await self.store.clear_mailbox(username) + await self.store.clear_held(username)
        while dead := await self.store.list_queue(account_queue(username), limit=_DEAD_PAGE):
            await self.store.remove_sent([row.position for row in dead])
            removed += len(dead)
        self.runtime.exchange.batch.counters.drops.count(Drop.LETTER_CLEARED, removed)
        return removed

    async def put_back(self, rows: Sequence[Queued]) -> int:
        """Puts dead letters of accounts into their mailboxes again, as far as they fit; returns how many.

        Raises:
            StorageFull, Internal: nothing was changed.
        """
        letters = [
            StoredLetter(account_of(one.destination) or "", one.message_id, one.type, one.data)
            for one in (row.message for row in rows)
        ]
        full = await self.store.deposit(letters, self.bounds, self.runtime.steady.now())
        done = [(row, letter) for row, letter, failure in zip(rows, letters, full, strict=True) if failure is None]
        await self.store.remove_sent([row.position for row, _ in done])
        exchange = self.runtime.turn()
        stored: dict[str, set[str]] = {}
        for _, letter in done:
            stored.setdefault(letter.username, set()).add(letter.type)
        for username, types in stored.items():
            self.came(username)
            exchange.replay.mail_came(username, sorted(types))
        self._tell_stored(stored)
        return len(done)

    def _tell_stored(self, letters: dict[str, set[str]]) -> None:
        for callback in self._on_stored:
            callback(letters)

    # -- effects -------------------------------------------------------------------------------------------------

    def keeps(self, username: str) -> bool:
        """Whether letters are on their way into an account's mailbox: what comes now has its place behind them."""
        return username in self._keeping

    def deposit(self, effect: Deposit) -> None:
        """Puts a message into its account's mailbox, if that is there."""
        delivery = effect.delivery
        self._deposits.append(delivery)
        self._keeping[delivery.username] = self._keeping.get(delivery.username, 0) + 1
        if not self._depositing:
            self._depositing = True
            self._work(self._deposit_batch())

    async def _deposit_batch(self) -> None:
        """Stores what has gathered, and reports it when what has gathered meanwhile is on its way to the disk."""
        batch = take_batch(self._deposits, _size_of)
        try:
            failures = await self._store(batch)
        finally:
            self._depositing = False  # whatever happens: what comes later begins anew
        if self.runtime.failed:
            return  # nobody knows what is on disk: nothing is reported
        hit("mailbox.stored")
        if self._deposits:
            self._depositing = True
            self._work(self._deposit_batch())
        await asyncio.sleep(0)  # until that has begun, and the batch before this one is reported
        self._deposited(batch, failures)

    def _deposited(self, batch: list[Delivery], failures: Failures) -> None:
        """Tells the exchange what became of deliveries."""
        replay = self.runtime.turn().replay
        keeping = self._keeping
        stored: dict[str, set[str]] = {}
        for delivery, error in zip(batch, failures, strict=True):
            username = delivery.username
            left = keeping[username] - 1
            if left:
                keeping[username] = left
            else:
                del keeping[username]
            if error is not None:
                replay.deposited(delivery, "failed", error)
            elif delivery.transient:
                replay.deposited(delivery, "skipped")
            else:
                self.stored += 1
                if (types := stored.get(username)) is None:
                    stored[username] = {delivery.type}
                    self.came(username)
                else:
                    types.add(delivery.type)
                replay.deposited(delivery, "stored")
        if stored:
            self._tell_stored(stored)

    async def finish(self, timeout_s: float) -> None:
        """Returns when all that is to be kept is on disk, or after the time."""
        self.runtime.end_turn()
        try:
            async with within(timeout_s):
                while self._working:
                    await asyncio.wait(self._working)
                    self.runtime.end_turn()
        except TimeoutError:
            log.warning("stopping: not everything was put into the mailboxes in time")

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.runtime.spawn(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _store(self, batch: list[Delivery]) -> Failures:
        """Puts deliveries into mailboxes, but for the transient ones; returns for each why it failed."""
        try:
            known = await self._accounts.exists(list(dict.fromkeys(delivery.username for delivery in batch)))
        except Exception as error:
            return [self._failed("accounts cannot be looked up", error)] * len(batch)
        failures: Failures = [None if delivery.username in known else UnknownAccount() for delivery in batch]
        kept = [at for at, delivery in enumerate(batch) if failures[at] is None and not delivery.transient]
        if kept:
            hit("mailbox.storing")
            letters = _letters([batch[at] for at in kept])
            full: Sequence[BesterError | None]
            try:
                full = await self.store.deposit(letters, self.bounds, self.runtime.steady.now())
            except Exception as error:
                full = [self._failed("mailboxes cannot be written", error)] * len(letters)
            for at, failure in zip(kept, full, strict=True):
                failures[at] = failure
        return failures

    def remove_letter(self, effect: RemoveLetter) -> None:
        """Removes a delivered letter, together with the others of this batch."""
        self._takes.append((effect.username, effect.id))
        if len(self._takes) == 1:
            asyncio.get_running_loop().call_soon(self._take_now)

    def _take_now(self) -> None:
        takes, self._takes = self._takes, []
        if takes:
            hit("mailbox.taking")
            self._work(self._take_all(takes))

    async def _take_all(self, takes: list[tuple[str, str]]) -> None:
        try:
            await self.store.remove_letters(takes)
        except Exception as error:
            self._failed(f"{len(takes)} delivered letters stay in their mailboxes", error)
        hit("mailbox.taken")

    def bury(self, effect: Bury) -> None:
        """Makes a dead letter of what an account never acknowledges; with the others of this batch."""
        self._buried.append(effect)
        if len(self._buried) == 1:
            asyncio.get_running_loop().call_soon(self._bury_now)

    def _bury_now(self) -> None:
        effects, self._buried = self._buried, []
        by_account: dict[str, list[tuple[StoredLetter, int]]] = {}
        for effect in effects:
            one = effect.delivery
            letter = StoredLetter(one.username, one.id, one.type, bytes(one.data))
            by_account.setdefault(one.username, []).append((letter, effect.tries))
        for username, letters in by_account.items():
            self._work(self._bury_all(username, letters))

    async def _bury_all(self, username: str, letters: list[tuple[StoredLetter, int]]) -> None:
        try:
            await self.store.bury_letters(letters, NEVER_ACKNOWLEDGED, self.runtime.steady.now())
            self._log_buried(username, letters)
            await self._bound_dead(account_queue(username))
        except Exception as error:
            self._failed(f"{len(letters)} letters of {username!a} could not be given up", error)

    def _log_buried(self, username: str, letters: list[tuple[StoredLetter, int]]) -> None:
        log.warning(
            "%d messages for account %s are given up, because it never acknowledged them: bester queue list --dead",
            len(letters),
            ascii(username),
            extra={"account": username},
        )

    async def _bound_dead(self, key: str) -> None:
        """Removes an account's oldest dead letters beyond the bounds."""
        for size in await self.store.queue_sizes():
            if size.destination != key:
                continue
            number, size_bytes = size.dead, size.bytes
            while number > DEAD_LETTERS or size_bytes > DEAD_BYTES:
                (oldest,) = await self.store.list_queue(key, limit=1)
                await self.store.remove_sent([oldest.position])
                number -= 1
                size_bytes -= len(oldest.message.data)
                self.runtime.exchange.batch.counters.drops.count(Drop.LETTER_OVER_SHARE)

    def read_mailbox(self, effect: ReadMailbox) -> None:
        """Reads the next letters of a session's mailbox."""
        self._take_now()  # or what was delivered would be read again; tasks begin in their order
        self._bury_now()
        self.runtime.spawn(self._read(effect))

    async def _read(self, effect: ReadMailbox) -> None:
        session = effect.session
        try:
            letters = await self.store.read_mailbox(
                session.username, effect.after, effect.limit, effect.max_bytes, self.runtime.steady.now()
            )
        except Exception as error:
            self._failed(f"the mailbox of {session.username!a} cannot be read", error)
            self.runtime.turn().replay.failed(session)
            return
        if letters:
            hit("mailbox.read")
        found = [Letter(letter.position, letter.delivery_id, letter.type, letter.data) for letter in letters]
        self.runtime.turn().replay.page(session, found)

    # -- once ----------------------------------------------------------------------------------------------------

    def recall(self, effect: Recall) -> None:
        """Looks up the outcome of a ``once`` message."""
        self.runtime.spawn(self._recall(effect))

    async def _recall(self, effect: Recall) -> None:
        record = effect.record
        try:
            found = await self.look_up(record.key)
        except BesterError as error:
            self.runtime.turn().admission.not_recalled(record, error)
            return
        if found is None:
            self.runtime.turn().admission.not_recalled(record)
        else:
            self.runtime.turn().admission.recalled(record, found.digest, found.report)

    async def look_up(self, key: bytes) -> Remembered | None:
        """Returns the outcome of a ``once`` message, if it is stored.

        Raises:
            BesterError: it cannot be looked up now.
        """
        try:
            return await self.store.recall(key)
        except Exception as error:
            raise self._failed("what became of a message cannot be looked up", error) from error

    def _failed(self, what: str, error: Exception) -> BesterError:
        """Logs a failure, and returns the error to report."""
        if isinstance(error, BesterError):
            log.warning("%s: %s", what, error.inside)
            return error
        log.error("%s", what, exc_info=error)
        return Internal()

    def remember(self, effect: Remember) -> None:
        """Stores the outcome of a ``once`` message, with the others of this batch; then it is reported."""
        self._remembers.append(effect)
        if len(self._remembers) == 1:
            self._work(self._remember_all())

    async def _remember_all(self) -> None:
        await asyncio.sleep(0)
        effects, self._remembers = self._remembers, []
        hit("once.remembering")
        records = [Remembered(effect.record.key, effect.record.digest, effect.report) for effect in effects]
        try:
            await self.store.remember(records, self.runtime.steady.now())
        except Exception as error:
            # What was stored is stored; a repeat would be handled again, and told from the first by its delivery ids.
            self._failed(f"{len(records)} messages will not be remembered after a restart", error)
        if self.runtime.failed:
            return
        hit("once.remembered")
        exchange = self.runtime.turn()
        for effect in effects:
            exchange.admission.remembered(effect)

    # -- time ----------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Removes expired letters and outcomes from time to time."""
        if now >= self._expiry_due:
            self._expiry_due = now + EXPIRY_S
            self.runtime.spawn(self.expire())

    async def expire(self) -> None:
        """Removes the letters and outcomes whose time is over."""
        now = self.runtime.steady.now()
        try:
            removed = _EXPIRY_STEP
            while removed == _EXPIRY_STEP:
                removed = await self.store.expire_letters(now, _EXPIRY_STEP)
                self.runtime.exchange.batch.counters.drops.count(Drop.LETTER_EXPIRED, removed)
            await self.store.forget_before(now - ONCE_DAYS * 86_400, ONCE_RECORDS)
        except BesterError as error:
            log.warning("what has expired cannot be removed: %s", error.inside)


def _size_of(delivery: Delivery) -> int:
    return len(delivery.data)


def _letters(deliveries: Sequence[Delivery]) -> list[StoredLetter]:
    """Returns deliveries as letters; one message for many is in memory once."""
    shared: dict[int, bytes] = {}
    letters = []
    for delivery in deliveries:
        raw = delivery.data
        data = shared.get(id(raw))
        if data is None:
            data = shared[id(raw)] = bytes(raw)
        letters.append(StoredLetter(delivery.username, delivery.id, delivery.type, data))
    return letters
