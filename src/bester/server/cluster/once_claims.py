"""One node for each ``once`` message: before it is handled, all others are asked whether they know it (docs/scale.md).

A node *claims* the message, and the others say what they know: nothing, that they have it under way, or its report. The
disk is asked at the same time. A round of asking in which nobody knew anything and nothing happened meanwhile makes the
message this node's. Anything else that is no report begins a new round, when it is over: that the node that had it
under way has forgotten it, since its report was a temporary error; that a node has gone; that another one claims the
message too, and comes first.

Of two that claim a message at once, the one whose name is lower comes first. The other one answers that it knows
nothing, and begins anew, to be told that the first one has it under way. So it is enough that each node knows the
others when it asks them, and that no answer counts for another round than its own.

A node that is gone knows nothing, as far as the others can tell. What it kept on disk is found there.
"""

from __future__ import annotations

from msgspec import Raw

from bester.cluster.items import Claimed, Kind, Known, Replied, Unreadable, numbers
from bester.core.effects import Recall
from bester.core.once import OnceRecord
from bester.errors import BesterError, IdConflict, Overloaded
from bester.protocol.messages import Data
from bester.server.cluster.batcher import Batcher
from bester.server.cluster.membership import Member, Membership
from bester.server.mailboxes import Mailboxes
from bester.server.runtime import Runtime

KEY_BYTES = DIGEST_BYTES = 16
AGAIN_S = 2.0
"""When nodes without a final answer are asked again, because it may be lost."""
CLAIM_S = 10.0
"""How long a node that is there may take to answer."""
MEETING_S = 0.25
"""How long a new node listens who the others are, before it takes any message for its own."""
JOINING_S = 1.0
"""How long it listens after NATS was away: the others may be on their way back to it."""


class _Claim:
    """One message that this node would handle, and the present round of asking."""

    __slots__ = ("again_at", "asked_at", "awaited", "disturbed", "looking", "number", "owners", "record", "rivals")

    def __init__(self, record: OnceRecord) -> None:
        self.record = record
        self.number = 0
        """The number of this round, for the others."""
        self.awaited: set[str] = set()
        """The nodes that have not answered."""
        self.owners: set[str] = set()
        """The nodes that have the message under way."""
        self.rivals: set[str] = set()
        """The nodes that have claimed the message too, and come first."""
        self.looking = False
        """Whether the disk has not answered."""
        self.disturbed = False
        """Whether something happened meanwhile that makes earlier answers doubtful."""
        self.asked_at = 0.0
        self.again_at = 0.0


class OnceClaims:
    """Claims messages for one node, and answers the claims of others.

    Args:
        runtime: its exchange has the messages.
        mailboxes: knows what is on disk.
        batcher: how the others are reached.
        membership: who they are.
    """

    def __init__(self, runtime: Runtime, mailboxes: Mailboxes, batcher: Batcher, membership: Membership) -> None:
        self._runtime = runtime
        self._mailboxes = mailboxes
        self._batcher = batcher
        self._membership = membership
        self._next = numbers().__next__
        self._open: dict[int, _Claim] = {}
        """By the number of their round."""
        self._by_key: dict[bytes, _Claim] = {}
        self._settled_at = 0.0
        """When this node knows who the others are."""

    def open(self) -> None:
        """Begins to wait until this node knows the others."""
        self._settled_at = self._runtime.clock() + MEETING_S

    # -- a message here ------------------------------------------------------------------------------------------

    def recall(self, effect: Recall) -> None:
        """Asks the disk and all other nodes what became of a message; it is handled if nobody knows it."""
        claim = _Claim(effect.record)
        if not self._batcher.bus.up:
            self._runtime.exchange.admission.not_recalled(effect.record, _away())
            return
        self._by_key[claim.record.key] = claim
        self._ask(claim)

    def _ask(self, claim: _Claim) -> None:
        """Begins a round."""
        self._open.pop(claim.number, None)
        record, number = claim.record, self._next()
        claim.number = number
        self._open[number] = claim
        claim.awaited = {node for node, member in self._membership.others.items() if member.hello.claims} | claim.rivals
        claim.owners.clear()
        claim.disturbed = False
        claim.looking = True
        claim.asked_at = self._runtime.exchange.batch.now
        claim.again_at = claim.asked_at + AGAIN_S
        self._batcher.to_all(Kind.CLAIM, None, number, record.key, record.digest)
        self._runtime.spawn(self._look(claim, number))
        self._runtime.turn()

    async def _look(self, claim: _Claim, number: int) -> None:
        record = claim.record
        try:
            found = await self._mailboxes.look_up(record.key)
        except BesterError as error:
            if self._open.get(number) is claim:
                self._fail(claim, error)
            return
        if self._open.get(number) is not claim:
            return
        exchange = self._runtime.turn()
        if found is not None:
            self._end(claim)
            exchange.admission.recalled(record, found.digest, found.report)
        else:
            claim.looking = False
            self._decide(claim)

    def _decide(self, claim: _Claim) -> None:
        """Looks whether a round is over."""
        if claim.looking or claim.awaited or claim.owners or self._runtime.exchange.batch.now < self._settled_at:
            return
        if claim.disturbed:
            self._ask(claim)
        else:
            self._end(claim)
            self._runtime.exchange.admission.not_recalled(claim.record)

    def _end(self, claim: _Claim) -> None:
        del self._open[claim.number]
        if self._by_key.get(claim.record.key) is claim:
            del self._by_key[claim.record.key]

    def _fail(self, claim: _Claim, error: BesterError) -> None:
        self._end(claim)
        self._runtime.turn().admission.not_recalled(claim.record, error)

    def answered(self, node: str, number: int, known: int, body: bytes) -> None:
        """Takes a node's answer: what it knows of a message, or its report."""
        claim = self._open.get(number)
        if claim is None:
            return
        exchange = self._runtime.exchange
        claim.awaited.discard(node)
        if known == Known.REPORT:
            if len(body) <= DIGEST_BYTES:
                raise Unreadable("a report has no frame")
            self._end(claim)
            exchange.admission.recalled(claim.record, body[:DIGEST_BYTES], body[DIGEST_BYTES:])
        elif known == Known.CONFLICT:
            self._fail(claim, IdConflict())
        elif known == Known.UNDER_WAY:
            claim.owners.add(node)
            exchange.admission.under_way_remotely(claim.record)
        else:
            if node in claim.owners:
                self._owner_gone(claim, node)
            self._decide(claim)

    def _owner_gone(self, claim: _Claim, node: str) -> None:
        claim.owners.discard(node)
        claim.disturbed = True
        claim.record.forget_replies()

    def replied(self, node: str, number: int, note: Replied, data: bytes) -> None:
        """Takes a handler's reply to a message that a node has under way."""
        claim = self._open.get(number)
        if claim is None or node not in claim.owners or note.place != len(claim.record.replies):
            return
        record = claim.record
        assert record.recalled_for is not None
        self._runtime.exchange.commands.reply_once(record, record.recalled_for, note.type, Raw(data))

    # -- a message of another node -------------------------------------------------------------------------------

    def asked(self, node: str, number: int, body: bytes) -> None:
        """Answers a node that would handle a message."""
        if len(body) != KEY_BYTES + DIGEST_BYTES:
            raise Unreadable("a claim has no key and digest")
        key, digest = body[:KEY_BYTES], body[KEY_BYTES:]
        record = self._runtime.exchange.once.find(key)
        if record is None:
            self._answer(node, number, Known.NOTHING)
        elif record.report is not None:
            self._answer(node, number, Known.REPORT, record)
        elif (claim := self._by_key.get(key)) is not None and node < self._batcher.node:
            self._answer(node, number, Known.NOTHING)
            claim.rivals.add(node)
            self._ask(claim)
        elif claim is None and record.digest != digest:
            self._answer(node, number, Known.CONFLICT)
        else:
            record.nodes[node] = number
            self._answer(node, number, Known.UNDER_WAY)
            for place, (type, data) in enumerate(record.replies):
                self._reply(node, number, place, type, data)

    def _reply(self, node: str, number: int, place: int, type: str, data: Data) -> None:
        self._batcher.to_node(node, Kind.REPLIED, number, Replied(type, place), data)

    def _answer(self, node: str, number: int, known: Known, record: OnceRecord | None = None) -> None:
        body = (record.digest, record.report) if record is not None and record.report is not None else ()
        self._batcher.to_node(node, Kind.CLAIMED, number, Claimed(known), *body)

    def flush(self) -> None:
        """Tells the nodes that wait for them the outcomes of messages here."""
        exchange = self._runtime.exchange
        once = exchange.once
        if exchange.once.replied:
            replied, exchange.once.replied = exchange.once.replied, []
            for record, place, type, data in replied:
                for node, number in record.nodes.items():
                    self._reply(node, number, place, type, data)
        if not once.settled:
            return
        settled, once.settled = once.settled, []
        for record in settled:
            nodes, record.nodes = record.nodes, {}
            known = Known.REPORT if record.report is not None else Known.NOTHING
            for node, number in nodes.items():
                self._answer(node, number, known, record)

    # -- who is there --------------------------------------------------------------------------------------------

    def node_came(self, member: Member) -> None:
        """Asks a node that was not known, or was taken out."""
        if member.hello.claims:
            for claim in self._open.values():
                claim.awaited.add(member.node)
                claim.asked_at = self._runtime.exchange.batch.now
                self._ask_again(claim, member.node)

    def node_gone(self, node: str) -> None:
        """Waits for no answer of a node that is gone; looks on disk again for what it may have put there."""
        for claim in list(self._open.values()):
            claim.rivals.discard(node)
            if node in claim.awaited or node in claim.owners:
                claim.awaited.discard(node)
                claim.disturbed = True
                if node in claim.owners:
                    self._owner_gone(claim, node)
                self._decide(claim)

    def bus_up(self) -> None:
        """Begins to wait until the other nodes are back at NATS, too."""
        self._settled_at = self._runtime.exchange.batch.now + JOINING_S

    def bus_down(self) -> None:
        """Fails all claims, because no node can be asked; the senders of the messages may try again."""
        for claim in list(self._open.values()):
            self._fail(claim, _away())

    def sweep(self, now: float) -> None:
        """Asks again where answers may be lost, and fails the claims that nobody answers."""
        for claim in list(self._open.values()):
            if claim.awaited and now - claim.asked_at > CLAIM_S:
                self._fail(claim, Overloaded(f"{len(claim.awaited)} of this server's nodes do not answer"))
            elif now >= claim.again_at:
                claim.again_at = now + AGAIN_S
                for node in sorted(claim.awaited | claim.owners):
                    self._ask_again(claim, node)
                self._decide(claim)
            elif now >= self._settled_at:
                self._decide(claim)

    def _ask_again(self, claim: _Claim, node: str) -> None:
        self._batcher.to_node(node, Kind.CLAIM, claim.number, None, claim.record.key, claim.record.digest)


def _away() -> BesterError:
    return Overloaded("this server's nodes cannot reach each other now")
