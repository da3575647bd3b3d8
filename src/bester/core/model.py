"""Messages under way: envelopes, and their deliveries to accounts."""

from __future__ import annotations

from msgspec import Raw

from bester.core.endpoint import Endpoint
from bester.core.metrics import UNCOUNTED, TypeMetrics
from bester.core.once import OnceRecord
from bester.core.trail import Trail
from bester.errors import BesterError
from bester.protocol.messages import HandlerMessage


class Envelope:
    """A message from its acceptance until its status report."""

    __slots__ = (
        "answered_locally",
        "awaiting",
        "data",
        "durable",
        "error",
        "id",
        "metrics",
        "once",
        "origin",
        "pending",
        "results",
        "since",
        "slot_released",
        "trace",
        "trail",
        "type",
        "untracked",
    )

    def __init__(
        self,
        origin: Endpoint,
        id: str,
        type: str = "",
        since: float = 0.0,
        metrics: TypeMetrics = UNCOUNTED,
        untracked: bool = True,
    ) -> None:
        self.origin = origin
        self.id = id
        """The id that the sender gave it."""
        self.type = type
        """The type that it was sent to."""
        self.since = since
        """When it was accepted, in seconds of the exchange's clock."""
        self.metrics = metrics
        """The metrics that count it when it has its report."""
        self.pending = 1
        """How many steps are not finished; the report is due when there are none."""
        self.results: list[bytes] | None = None
        """One entry per recipient, in the order of the commands; empty bytes while it is awaited."""
        self.error: BesterError | None = None
        """The first error."""
        self.data: Raw | None = None
        """The data of a handler's reply, if the report carries it."""
        self.trace = ""
        """The W3C traceparent that came with it; else the number that its own is made from
        (:mod:`bester.core.traces`)."""
        self.untracked = untracked
        """Whether it has neither ``once`` nor a ``trail``, is not ``answered_locally`` and not another node's; so that
        one test is enough."""
        self.trail: Trail | None = None
        """Its route, if the sender asked for it or the message is traced."""
        self.once: OnceRecord | None = None
        """Its record, if it is a ``once`` message."""
        self.durable = False
        """Whether any of it went to disk."""
        self.awaiting = 0
        """How many of the pending steps only wait for recipients."""
        self.slot_released = False
        """Whether it no longer counts against its sender's ``maxInFlight``."""
        self.answered_locally = False
        """Whether this node carries out the answer of another node's handler; then it is not ``untracked``."""


class Relayed(Envelope):
    """Another node's request for a handler here; the answer is carried out here, or goes back as it is."""

    __slots__ = ("answer", "carried", "epoch", "head", "number", "order")

    def __init__(
        self,
        node: Endpoint,
        type: str,
        since: float,
        number: int,
        head: bytes,
        order: int,
        epoch: int,
    ) -> None:
        super().__init__(node, "", type, since, untracked=False)
        self.trace = "relayed"
        self.number = number
        """The number by which that node knows it."""
        self.head = head
        """The request's frame between its id and its data."""
        self.order = order
        """The number of its sender's order; 0 if the answer must go back."""
        self.epoch = epoch
        self.answer: HandlerMessage | None = None
        """The answer that goes back."""
        self.carried = False
        """Whether the answer is carried out here."""


class Delivery:
    """One message for one account, until the account has it or it is in the mailbox (section 4)."""

    __slots__ = (
        "awaits_ack",
        "data",
        "envelope",
        "id",
        "in_mailbox",
        "number",
        "received",
        "refused",
        "settled",
        "since",
        "slot",
        "stored",
        "to",
        "transient",
        "type",
        "username",
    )

    def __init__(
        self,
        envelope: Envelope | None,
        slot: int,
        to: str,
        username: str,
        id: str,
        type: str,
        data: Raw,
        transient: bool = False,
        since: float = 0.0,
        number: int = 0,
        settled: bool = False,
        in_mailbox: bool = False,
    ) -> None:
        self.envelope = envelope
        """None for a letter from the mailbox, and for a message without a report."""
        self.slot = slot
        """The index of its result in the envelope's."""
        self.to = to
        """The recipient, as the handler wrote it."""
        self.username = username
        self.id = id
        """The ``deliveryId``."""
        self.type = type
        self.data = data
        self.transient = transient
        self.since = since
        """When it was handed to a session, in seconds of the exchange's clock."""
        self.number = number
        """Larger than the numbers of the account's messages before it."""
        self.settled = settled
        """Whether its result is known, so that no report waits for it any more."""
        self.in_mailbox = in_mailbox
        """Whether it is in the mailbox or on its way there."""
        self.stored = False
        """Whether it has reached the mailbox."""
        self.received = False
        """Whether the account has it, so that it may leave the mailbox or need not go there."""
        self.refused = False
        """Whether the mailbox did not take it."""
        self.awaits_ack = False
        """Whether the report only waits for its recipient, which delays nothing behind it."""


class Late:
    """A message that went to the mailbox because its session took too long to acknowledge it."""

    __slots__ = ("delivery", "due")

    def __init__(self, delivery: Delivery | None, due: float = 0.0) -> None:
        self.delivery = delivery
        """None as soon as it is on disk."""
        self.due = due
        """When it is given again, in seconds of the exchange's clock; 0: as soon as it is read."""
