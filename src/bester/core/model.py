"""What is under way: envelopes, and their deliveries to accounts."""

from __future__ import annotations

from msgspec import Raw, Struct, field

from bester.core.endpoint import Endpoint
from bester.core.metrics import TypeMetrics
from bester.core.once import OnceRecord
from bester.core.trail import Trail
from bester.errors import BesterError
from bester.protocol.messages import HandlerMessage


class Envelope(Struct, gc=False):
    """A message on its way, from when it is accepted until its status report."""

    origin: Endpoint
    id: str
    """The sender's own id."""
    type: str = ""
    """What it was sent to."""
    since: float = 0.0
    """When it was accepted, in seconds of the exchange's clock."""
    metrics: TypeMetrics = field(default_factory=TypeMetrics)
    """Where it is counted when it has its report."""
    pending: int = 1
    """Steps that are not finished; the report is due when there are none."""
    results: list[bytes] | None = None
    """One entry per recipient, in the order of the commands; empty bytes while it is awaited."""
    error: BesterError | None = None
    """The first thing that went wrong."""
    data: Raw | None = None
    """What a handler replied with, where the report carries it."""
    trace: str = ""
    """The W3C traceparent that came with it; else what its own is made from, once it has one: bester.core.traces."""
    untracked: bool = True
    """Whether it has neither ``once`` nor a ``trail``, is not ``answered_locally`` and not another node's: one look for
    all."""
    trail: Trail | None = None
    """Its route, if its sender asked for that."""
    once: OnceRecord | None = None
    """What remembers it, if its sender asked for that."""
    durable: bool = False
    """Whether any of it went to disk."""
    awaiting: int = 0
    """Those of the pending steps that only wait for recipients."""
    slot_released: bool = False
    """Whether it no longer counts against its sender's ``maxInFlight``."""
    answered_locally: bool = False
    """Whether another node's handler was asked, and this node carries out the answer; then it is not ``untracked``."""


class Relayed(Envelope, gc=False):
    """Another node's request for a handler here: its answer is carried out here, or goes back as it is."""

    number: int = 0
    """What that node knows it by."""
    head: bytes = b""
    """The request's frame between its id and its data."""
    order: int = 0
    """That of its sender, by number; 0: its answer goes back."""
    epoch: int = 0
    answer: HandlerMessage | None = None
    """What goes back."""
    carried: bool = False
    """Whether the answer is carried out here."""


class Delivery(Struct, gc=False):
    """One message for one account, until the account has it or it is kept (section 4)."""

    envelope: Envelope | None
    """None for a letter from the mailbox, and for what nobody's report waits for."""
    slot: int
    """Its place in the envelope's results."""
    to: str
    """The recipient, as the handler wrote it."""
    username: str
    id: str
    """The ``deliveryId``."""
    type: str
    data: Raw
    transient: bool = False
    since: float = 0.0
    """When it was handed to a session, in seconds of the exchange's clock."""
    number: int = 0
    """Larger than those of the account's messages before it."""
    settled: bool = False
    """Whether its result is known: nobody's report waits for it any more."""
    in_mailbox: bool = False
    """Whether it is in the mailbox, or on its way there."""
    stored: bool = False
    """Whether it has got there."""
    received: bool = False
    """Whether the account has it: it may leave the mailbox, or need not get there."""
    refused: bool = False
    """Whether the mailbox did not take it."""
    awaits_ack: bool = False
    """Whether the report waits for nothing but its recipient, which holds up nothing behind it."""


class Late(Struct, gc=False):
    """What went to the mailbox because its session took too long to have it."""

    delivery: Delivery | None
    """None as soon as it is on disk."""
    due: float = 0.0
    """Before then it is not given again, in seconds of the exchange's clock; 0: it is as soon as it is read."""
