"""Messages under way: envelopes, and their deliveries to accounts.

Python's garbage collector does not look at them (``gc=False``), which would cost more than they do. So a circle through
one of them is never freed unless it is broken: an endpoint that has ended keeps no messages, for it may be their
sender, and an error that is noted keeps no frames.
"""

from __future__ import annotations

from msgspec import Struct

from bester.core.endpoint import Endpoint
from bester.core.metrics import UNCOUNTED, TypeMetrics
from bester.core.once import OnceRecord
from bester.core.trail import Trail
from bester.errors import BesterError
from bester.protocol.messages import Data, HandlerMessage


class Envelope(Struct, gc=False, eq=False):
    """A message from its acceptance until its status report."""

    origin: Endpoint
    id: bytes
    """The id that the sender gave it, as JSON: it is only copied."""
    type: str = ""
    """The type that it was sent to."""
    since: float = 0.0
    """When it was accepted, in seconds of the exchange's clock."""
    metrics: TypeMetrics = UNCOUNTED
    """The metrics that count it when it has its report."""
    pending: int = 1
    """How many steps are not finished; the report is due when there are none."""
    results: list[bytes] | None = None
    """One entry per recipient, in the order of the commands; empty bytes while it is awaited."""
    error: BesterError | None = None
    """The first error."""
    data: Data | None = None
    """The data of a handler's reply, if the report carries it."""
    trace: str = ""
    """The W3C traceparent that came with it; else the number that its own is made from (:mod:`bester.core.traces`)."""
    untracked: bool = True
    """Whether it has neither ``once`` nor a ``trail``, no tap records it, and it is not ``answered_locally`` and not
    another node's; so that one test is enough."""
    trail: Trail | None = None
    """Its route, if the sender asked for it or the message is traced."""
    once: OnceRecord | None = None
    """Its record, if it is a ``once`` message."""
    durable: bool = False
    """Whether any of it went to disk."""
    awaiting: int = 0
    """How many of the pending steps only wait for recipients."""
    slot_released: bool = False
    """Whether it no longer counts against its sender's ``maxInFlight``."""
    answered_locally: bool = False
    """Whether this node carries out the answer of another node's handler; then it is not ``untracked``."""


class Relayed(Envelope, gc=False, eq=False):
    """Another node's request for a handler here; the answer is carried out here, or goes back as it is."""

    number: int = 0
    """The number by which that node knows it."""
    head: bytes = b""
    """The request's frame between its id and its data."""
    guards: bool = False
    """Whether it asks a guard; then the answer goes back, and is not looked at here."""
    order: int = 0
    """The number of its sender's order; 0 if the answer must go back."""
    epoch: int = 0
    answer: HandlerMessage | None = None
    """The answer that goes back."""
    carried: bool = False
    """Whether the answer is carried out here."""


class Delivery(Struct, gc=False, eq=False):
    """One message for one account, until the account has it or it is in the mailbox (section 4)."""

    envelope: Envelope | None
    """None for a letter from the mailbox, and for a message without a report."""
    slot: int
    """The index of its result in the envelope's."""
    to: str
    """The recipient, as the handler wrote it."""
    username: str
    id: str
    """The ``deliveryId``."""
    type: str
    data: Data
    transient: bool = False
    since: float = 0.0
    """When it was handed to a session, in seconds of the exchange's clock."""
    number: int = 0
    """Larger than the numbers of the account's messages before it."""
    settled: bool = False
    """Whether its result is known, so that no report waits for it any more."""
    in_mailbox: bool = False
    """Whether it is in the mailbox or on its way there."""
    stored: bool = False
    """Whether it has reached the mailbox."""
    received: bool = False
    """Whether the account has it, so that it may leave the mailbox or need not go there."""
    refused: bool = False
    """Whether the mailbox did not take it."""
    awaits_ack: bool = False
    """Whether the report only waits for its recipient, which delays nothing behind it."""
    earlier: tuple[Delivery, ...] | None = None
    """Deliveries with the same id whose place it took in a window: what becomes of it becomes of them."""


class Late(Struct, gc=False, eq=False):
    """A message that went to the mailbox because its session took too long to acknowledge it."""

    delivery: Delivery | None
    """None as soon as it is on disk."""
    due: float = 0.0
    """When it is given again, in seconds of the exchange's clock; 0: as soon as it is read."""
