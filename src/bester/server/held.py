"""Messages that guards hold: into the store, and with consent to their handlers (docs/protocol.md, section 3.8).

A released message is handled as a ``once`` message of its own, and stays in the store until it has its report. So after
a crash it is handled again with the same ids, and what came of it the first time is recognised. The messages of one
sender for one holder are handled one after the other; one that fails for now is tried again, and those behind it wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from msgspec import Raw

from bester.core.effects import HoldBack
from bester.core.endpoint import Consented, Peer
from bester.core.metrics import Drop
from bester.core.session import Session
from bester.errors import BadArguments, BesterError, Internal, Rejected, UnknownAccount
from bester.protocol.frames import decode_id, encode_text
from bester.protocol.framing import PREFIX
from bester.protocol.reports import ReportError, decode_written
from bester.server.batching import take_batch
from bester.server.faultpoints import hit
from bester.server.runtime import Runtime
from bester.server.settings import guard_rules
from bester.store.held import OPERATORS, Held, HeldBounds, HeldHead, HeldMessage, HoldOutcome
from bester.store.ports import AccountStore, MessageStore

log = logging.getLogger("bester.held")

TOTAL = 100_000
"""How many messages are held in all."""
MAX_TRUSTED = 1000
"""How many senders an account, or the operators, may trust."""
PAGE = 64
"""How many released messages are in memory at a time."""
RETRY_S = 5.0
"""The pause after a released message failed for now."""
LOOK_S = 30.0
"""How often is looked for what other nodes released and left, and which servers they know."""
EXPIRY_S = 3600.0
_EXPIRY_STEP = 1000


class HeldMessages:
    """What is held for consent on this server.

    Args:
        runtime: of the server.
        store: where it is kept; opened and closed by others.
        accounts: says whether a holder exists.
        shared: whether other nodes use the store, too.
    """

    def __init__(self, runtime: Runtime, store: MessageStore, accounts: AccountStore, *, shared: bool) -> None:
        self.runtime = runtime
        self.store = store
        self._accounts = accounts
        self._shared = shared
        self._arrived: list[HoldBack] = []
        self._holding = False
        self._handling = False
        self._again = False
        """Whether more was released since the round began."""
        self._blocked: dict[tuple[str, str], float] = {}
        """By holder and sender, until when nothing is tried again."""
        self._known: frozenset[str] = frozenset()
        """The servers that the operators trust."""
        self._look_at = self._expiry_due = 0.0
        """Of the server's clock."""
        self._retry_at = 0.0
        """At first at once: what was released before the start."""

    async def open(self) -> None:
        """Reads which servers are known.

        Raises:
            Internal: the store cannot be reached.
        """
        await self._read_known()

    def reconfigure(self) -> None:
        """Tells the exchange which guards there are, and which servers are no strangers."""
        config = self.runtime.config
        known = self._known | set(config.federation.servers)
        self.runtime.turn().gates.guard(guard_rules(config), known)

    async def _read_known(self) -> None:
        trusted = await self.store.trusted(OPERATORS)
        self._known = frozenset(one.removeprefix("server:") for one in trusted if one.startswith("server:"))
        self.reconfigure()

    @property
    def bounds(self) -> HeldBounds:
        limits = self.runtime.config.limits
        return HeldBounds(limits.max_held, limits.mailbox_bytes, TOTAL)

    # -- holding -------------------------------------------------------------------------------------------------

    def hold_back(self, effect: HoldBack) -> None:
        """Keeps a message until its holder consents."""
        self._arrived.append(effect)
        if not self._holding:
            self._holding = True
            self.runtime.spawn(self._hold_all())

    async def _hold_all(self) -> None:
        try:
            while self._arrived:
                batch = take_batch(self._arrived, _size_of)
                messages = [self._message(effect) for effect in batch]
                outcomes = await self._hold(messages)
                if self.runtime.failed:
                    return  # nobody knows what is on disk: nothing is reported
                hit("held.stored")
                gates = self.runtime.turn().gates
                for effect, (status, error) in zip(batch, outcomes, strict=True):
                    gates.held_back(effect.number, status, error)
        finally:
            self._holding = False

    async def _hold(self, messages: Sequence[HeldMessage]) -> list[tuple[str, BesterError | None]]:
        """Keeps messages; returns for each its status and why it failed."""
        try:
            holders = {one.holder for one in messages} - {OPERATORS}
            exist = await self._accounts.exists(sorted(holders)) if holders else set()
            kept = [one for one in messages if one.holder == OPERATORS or one.holder in exist]
            found = iter(await self.store.hold(kept, self.bounds, self.runtime.steady.now()) if kept else ())
        except Exception as error:
            return [("failed", _explained("messages cannot be held", error))] * len(messages)
        outcomes: list[tuple[str, BesterError | None]] = []
        for one in messages:
            if one.holder != OPERATORS and one.holder not in exist:
                outcomes.append(("failed", UnknownAccount()))
            else:
                outcomes.append(_outcome(next(found)))
        return outcomes

    def _message(self, effect: HoldBack) -> HeldMessage:
        request = effect.request
        envelope = request.envelope
        origin = envelope.origin
        user = origin.username if isinstance(origin, Session) else None
        server = self.runtime.config.server.name if user is not None else None
        if isinstance(origin, Peer):
            server = origin.name
        exchange = self.runtime.exchange
        trace = exchange.traces.of(envelope)
        head = HeldHead(
            request.route.name,
            decode_id(envelope.id),
            user,
            server,
            server is not None,
            request.hops,
            effect.guard,
            trace,
        )
        return HeldMessage(exchange.batch.new_id(), effect.holder or OPERATORS, head, bytes(request.data))

    # -- consent -------------------------------------------------------------------------------------------------

    async def release(self, holder: str, positions: Sequence[int]) -> int:
        """Lets messages of a holder go to their handlers; returns how many."""
        count = await self.store.release_held(holder, positions)
        hit("held.released")
        self.handle_soon()
        return count

    async def release_sender(self, holder: str, sender: str, *, always: bool) -> int:
        """Lets all messages of a sender for a holder go to their handlers, and ``always`` those that will come.

        Raises:
            BadArguments: the holder trusts too many already.
        """
        if always and sender not in (trusted := await self.store.trusted(holder)) and len(trusted) >= MAX_TRUSTED:
            raise BadArguments(
                f"at most {MAX_TRUSTED} senders may be trusted; refuse with a sender ends the trust in it"
            )
        count = await self.store.release_sender(holder, sender, always=always, now=self.runtime.steady.now())
        hit("held.released")
        self.handle_soon()
        return count

    async def refuse(self, holder: str, positions: Sequence[int]) -> int:
        """Removes messages of a holder; returns how many."""
        return self._refused(await self.store.refuse_held(holder, positions))

    async def refuse_sender(self, holder: str, sender: str) -> int:
        """Removes all messages of a sender for a holder, which trusts it no longer; returns how many messages."""
        count = await self.store.refuse_sender(holder, sender)
        if holder == OPERATORS:
            await self._read_known()
        return self._refused(count)

    def _refused(self, count: int) -> int:
        self.runtime.exchange.batch.counters.drops.count(Drop.HELD_REFUSED, count)
        return count

    # -- what is released ----------------------------------------------------------------------------------------

    def handle_soon(self) -> None:
        """Begins to hand released messages to their handlers, unless that is under way."""
        self._again = True
        if not self._handling:
            self._handling = True
            self.runtime.spawn(self._handle_all())

    async def _handle_all(self) -> None:
        """Handles what is released, a page at a time; the lines of different senders are handled side by side."""
        try:
            while self._again:
                self._again = False
                now = self.runtime.clock()
                self._blocked = {key: until for key, until in self._blocked.items() if until > now}
                after = 0
                while page := await self.store.released(after, PAGE):
                    after = page[-1].position
                    lines: dict[tuple[str, str], list[Held]] = {}
                    for held in page:
                        lines.setdefault((held.message.holder, held.message.head.sender), []).append(held)
                    await asyncio.gather(*(self._handle_line(key, line) for key, line in lines.items()))
                if self._blocked:
                    self._retry_at = min(self._blocked.values())
                await self._read_known()  # what is sent from now on waits behind nothing
        except BesterError as error:
            log.warning("released messages cannot be read: %s", error.inside)
            self._retry_at = self.runtime.clock() + RETRY_S
        finally:
            self._handling = False

    async def _handle_line(self, key: tuple[str, str], line: Iterable[Held]) -> None:
        for held in line:
            if key in self._blocked or self.runtime.stopping:
                return
            oldest = self.runtime.steady.now() - self.runtime.config.limits.held_days * 86_400
            if held.created >= oldest and not await self._handle(held):
                self._blocked[key] = self.runtime.clock() + RETRY_S
                return
            hit("held.handled")
            await self.store.remove_held([held.position])

    async def _handle(self, held: Held) -> bool:
        """Hands a message to its handler; returns whether it is done with."""
        message, head = held.message, held.message.head
        if head.type not in self.runtime.exchange.dispatcher.types:
            return False  # a report of that would be remembered
        reported = _Reported()
        scope = "client" if head.user is not None else "server"
        origin = Consented(scope, head.user, head.server, head.verified, message.id, reported)
        size = len(message.data)
        hit("held.handling")
        exchange = self.runtime.turn()
        id = encode_text(head.message_id)
        exchange.admission.message(origin, head.type, id, Raw(message.data), size, head.hops, True, head.trace)
        error = await reported.outcome
        if error is None:
            return True
        log.warning("a released message %s of type %s is reported bad: %s", message.id, ascii(head.type), error.code)
        return not error.temporary

    # -- time ----------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Tries again, and removes what is held for too long; called a few times a second."""
        if not self.runtime.started_up or self.runtime.stopping:
            return
        if now >= self._retry_at:
            self._retry_at = float("inf")
            self.handle_soon()
        if self._shared and now >= self._look_at:
            self._look_at = now + LOOK_S
            self.handle_soon()
        if now >= self._expiry_due:
            self._expiry_due = now + EXPIRY_S
            self.runtime.spawn(self.expire())

    async def expire(self) -> None:
        """Removes what nobody has consented to in time."""
        before = self.runtime.steady.now() - self.runtime.config.limits.held_days * 86_400
        try:
            removed = _EXPIRY_STEP
            while removed == _EXPIRY_STEP:
                removed = await self.store.expire_held(before, _EXPIRY_STEP)
                self.runtime.exchange.batch.counters.drops.count(Drop.HELD_EXPIRED, removed)
        except BesterError as error:
            log.warning("what is held for too long cannot be removed: %s", error.inside)


class _Reported:
    """Writes to an endpoint that has one message: takes its report."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[ReportError | None] = asyncio.get_running_loop().create_future()

    def write(self, frames: Sequence[bytes]) -> None:
        if not self.outcome.done():
            self.outcome.set_result(decode_written(memoryview(frames[0])[PREFIX.size :]).error)

    def abort(self) -> None:
        """What was to be written is lost."""
        if not self.outcome.done():
            self.outcome.set_result(ReportError(Internal.code, "", True))


def _outcome(outcome: HoldOutcome) -> tuple[str, BesterError | None]:
    if outcome == "full":
        return "failed", Rejected("too many messages wait for consent", temporary=True)
    return outcome, None


def _explained(what: str, error: Exception) -> BesterError:
    if isinstance(error, BesterError):
        log.warning("%s: %s", what, error.inside)
        return error
    log.error("%s", what, exc_info=error)
    return Internal()


def _size_of(effect: HoldBack) -> int:
    return len(effect.request.data)
