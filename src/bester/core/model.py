"""What is under way: envelopes, requests, and the effects that the server carries out for the exchange."""

from __future__ import annotations

from msgspec import Raw, Struct, field

from bester.core.endpoints import Endpoint, RemoteHandler, Session
from bester.core.handlers import SenderQueue, TypeRoute
from bester.core.metrics import TypeMetrics
from bester.core.once import OnceRecord
from bester.core.route import Step, Trail
from bester.errors import BesterError
from bester.protocol.addresses import Address
from bester.protocol.messages import HandlerMessage, Payload


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
    plain: bool = True
    """Whether it has neither ``once`` nor a ``trail``, and is not ``left``: one look for all."""
    trail: Trail | None = None
    """Its route, if its sender asked for that."""
    once: OnceRecord | None = None
    """What remembers it, if its sender asked for that."""
    durable: bool = False
    """Whether any of it went to disk."""
    awaiting: int = 0
    """Those of the pending steps that only wait for recipients."""
    let_go: bool = False
    """Whether it no longer counts against its sender's ``maxInFlight``."""
    left: bool = False
    """Whether a handler elsewhere was asked, and what it answers is carried out here; then it is not ``plain``."""


class Waiting(Struct):
    """A message beyond its sender's ``maxInFlight``, until it is taken."""

    payload: Payload
    size: int
    """Of its frame, in bytes."""
    hops: int
    record: OnceRecord | None
    """What remembers it, if its sender asked for that."""
    trace: str
    """The W3C traceparent that came with it."""
    trail: Trail | None
    """Its route, if its sender asked for that."""


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


class Request(Struct, gc=False):
    """One question to one type's handler."""

    envelope: Envelope
    handlers: TypeRoute
    data: Raw
    hops: int
    since: float
    """When it was accepted, then when it was handed over, in seconds of the exchange's clock."""
    size: int = 0
    """Bytes that it holds while it waits."""
    sender_queue: SenderQueue | None = None
    """The lane that it keeps busy, for a classic handler."""
    place: str = ""
    """Where it stands among the requests of a ``once`` message: the same each time that it is handled."""
    step: Step | None = None
    """Its step in the route, where that is recorded."""
    epoch: int = 0
    """Of its sender's order, while a handler elsewhere is asked whose node may carry out the answer."""


class CallClassic(Struct):
    """Ask a classic handler; answer with ``Exchange.classic_answered`` or ``classic_failed``."""

    request: Request


class Forward(Struct):
    """Send to another server; answer with ``Exchange.settled``."""

    envelope: Envelope
    slot: int
    to: str
    address: Address
    type: str
    data: Raw
    hops: int
    transient: bool
    message_id: str
    """What the other server recognises a repeat by: unique, and for a ``once`` message the same each time."""
    trace: str = ""
    """The message's W3C traceparent."""


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
    kept: bool = False
    """Whether it is in the mailbox, or on its way there."""
    stored: bool = False
    """Whether it has got there."""
    done: bool = False
    """Whether it may leave the mailbox, or need not get there."""
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


class Deposit(Struct):
    """Keep for an account without a session that takes it now; answer with ``Exchange.deposited``."""

    delivery: Delivery


class RemoveLetter(Struct):
    """A letter was delivered: remove it from its mailbox. Not answered."""

    username: str
    id: str


class Bury(Struct):
    """A letter that its account never acknowledges: make it a dead letter. Not answered."""

    delivery: Delivery
    tries: int


class ReadMailbox(Struct):
    """Read on in a session's mailbox; answer with ``Exchange.mail``."""

    session: Session
    after: int
    """The position behind which to read."""
    limit: int
    max_bytes: int


class Recall(Struct):
    """Look on disk for a ``once`` message; answer with ``Exchange.recalled`` or ``not_recalled``."""

    record: OnceRecord


class Remember(Struct):
    """Keep what became of a ``once`` message; answer with ``Exchange.remembered``."""

    record: OnceRecord
    envelope: Envelope
    report: bytes


class Pause(Struct):
    """Stop reading from an endpoint: too much of what it sent is waiting."""

    endpoint: Endpoint


class Resume(Struct):
    """Read from an endpoint again."""

    endpoint: Endpoint


class CutOff(Struct):
    """A session leaves too much unread for too long: end its connection."""

    session: Session


class Finished(Struct):
    """A closing endpoint has nothing in flight any more: close it when its last frame is written."""

    endpoint: Endpoint


class PresenceChanged(Struct):
    """An account's first session came, or its last one went."""

    username: str
    online: bool


class AskRemote(Struct):
    """Let another node ask one of its handlers; answer with ``Exchange.answer`` or ``answer_failed``."""

    handler: RemoteHandler
    """What stands for that node."""
    number: int
    """The request's id."""
    type: str
    head: bytes
    """Its frame between the id and the data."""
    data: Raw
    dry: bool
    order: int = 0
    """That of the sender, by number, where the answer may be carried out there."""
    epoch: int = 0


class Share(Struct):
    """Bring a copy to the sessions that an account has on other nodes. Not answered."""

    delivery: Delivery


class TellNode(Struct):
    """What another node asked for has its outcome: tell it."""

    node: str
    envelope: Envelope


Effect = (
    CallClassic
    | Forward
    | Deposit
    | RemoveLetter
    | Bury
    | ReadMailbox
    | Recall
    | Remember
    | Pause
    | Resume
    | CutOff
    | Finished
    | PresenceChanged
    | AskRemote
    | Share
    | TellNode
)
