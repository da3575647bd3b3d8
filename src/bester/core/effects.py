"""What the exchange asks the server to do."""

from __future__ import annotations

from msgspec import Raw, Struct

from bester.core.endpoint import Endpoint
from bester.core.model import Delivery, Envelope
from bester.core.once import OnceRecord
from bester.core.routing import RemoteHandler, Request
from bester.core.session import Session
from bester.protocol.addresses import Address


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
