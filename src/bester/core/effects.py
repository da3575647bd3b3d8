"""Effects: the requests of the exchange to the server, carried out at the end of the batch.

Each docstring is an order to the server, and names the event that answers it.
"""

from __future__ import annotations

from msgspec import Struct

from bester.core.endpoint import Endpoint
from bester.core.model import Delivery, Envelope, Relayed
from bester.core.once import OnceRecord
from bester.core.routing import RemoteHandler, Request
from bester.core.session import Session
from bester.protocol.addresses import Address
from bester.protocol.messages import Data, HandlerMessage


class CallClassic(Struct):
    """Ask a classic handler; then call ``Exchange.classic_answered`` or ``classic_failed``."""

    request: Request


class Forward(Struct):
    """Send a message to another server; then call ``Reports.settled``."""

    envelope: Envelope
    slot: int
    to: str
    address: Address
    type: str
    data: Data
    hops: int
    transient: bool
    message_id: str
    """The id by which the other server recognises a repeat: unique, and equal each time for a ``once`` message."""
    trace: str = ""
    """The message's W3C traceparent."""


class Deposit(Struct):
    """Put a message into its account's mailbox; then call ``MailboxReplay.deposited``."""

    delivery: Delivery


class RemoveLetter(Struct):
    """Remove a letter that was delivered from its mailbox; nothing is called."""

    username: str
    id: str


class Bury(Struct):
    """Make a dead letter of a letter that its account never acknowledges; nothing is called."""

    delivery: Delivery
    tries: int


class ReadMailbox(Struct):
    """Read a page of a session's mailbox; then call ``MailboxReplay.page`` or ``failed``."""

    session: Session
    after: int
    """The position behind which to read."""
    limit: int
    max_bytes: int


class Recall(Struct):
    """Look on disk for a ``once`` message; then call ``Admission.recalled`` or ``not_recalled``."""

    record: OnceRecord


class Remember(Struct):
    """Keep the report of a ``once`` message; then call ``Admission.remembered``."""

    record: OnceRecord
    envelope: Envelope
    report: bytes


class Pause(Struct):
    """Stop reading from an endpoint, because too many bytes of its messages wait."""

    endpoint: Endpoint


class Resume(Struct):
    """Read from an endpoint again."""

    endpoint: Endpoint


class CutOff(Struct):
    """End the connection of a session that left its socket full for too long."""

    session: Session


class Finished(Struct):
    """Close an endpoint that has nothing in flight any more, after its last frame is written."""

    endpoint: Endpoint


class PresenceChanged(Struct):
    """Tell those who watch an account that its first session has come, or its last one has gone."""

    username: str
    online: bool


class AskRemote(Struct):
    """Let another node ask one of its handlers.

    Then call ``Exchange.answer`` or ``answer_failed``; if that node carries the answer out,
    ``RemoteRequests.answered_remotely``, ``carried_out`` or both.
    """

    handler: RemoteHandler
    """Stands for that node."""
    number: int
    """The request's id."""
    type: str
    head: bytes
    """The request's frame between its id and its data."""
    data: Data
    dry: bool
    guards: bool = False
    """Whether a guard is asked, whose verdict comes back."""
    order: int = 0
    """The number of the sender's order, if the answer may be carried out there; else 0."""
    epoch: int = 0
    parts: int = -1
    """How many parts of an answer are granted; -1 if it must be one answer."""
    sent_on: bool = False
    """Whether a handler of another type has sent it on, so that its data is not validated."""


class TellHandler(Struct):
    """Tell another node that more parts are granted for its request, or that it is cancelled; nothing is called."""

    handler: RemoteHandler
    """Stands for that node."""
    number: int
    """The request's id."""
    parts: int = 0
    """How many; 0 cancels."""


class TellPart(Struct):
    """Tell another node a part of a handler's answer; nothing is called."""

    envelope: Relayed
    message: HandlerMessage


class Share(Struct):
    """Bring a copy to the sessions that an account has on other nodes; nothing is called."""

    delivery: Delivery


class HoldBack(Struct):
    """Keep a message until somebody consents to it; then call ``Gates.held_back``."""

    number: int
    request: Request
    holder: str | None
    """The account that may consent; None: the operators."""
    guard: str


class TellNode(Struct):
    """Tell another node the outcome of its request."""

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
    | TellHandler
    | TellPart
    | Share
    | HoldBack
    | TellNode
)
