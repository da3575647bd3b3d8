"""What is under way: envelopes, requests, and the effects that the server carries out for the exchange."""

from __future__ import annotations

from msgspec import Raw, Struct

from bester.core.endpoints import Endpoint
from bester.core.handlers import HandlerType, Lane
from bester.errors import BesterError
from bester.protocol.addresses import Address


class Envelope(Struct, gc=False):
    """A message on its way, from when it is accepted until its status report."""

    origin: Endpoint
    id: str
    """The sender's own id."""
    pending: int = 1
    """Steps that are not finished; the report is due when there are none."""
    results: list[bytes] | None = None
    """One entry per recipient, in the order of the commands; empty bytes while it is awaited."""
    error: BesterError | None = None
    """The first thing that went wrong."""
    data: Raw | None = None
    """What a handler replied with, where the report carries it."""


class Request(Struct, gc=False):
    """One question to one type's handler."""

    envelope: Envelope
    handlers: HandlerType
    data: Raw
    hops: int
    since: float
    """When it was accepted, then when it was handed over, in seconds of the exchange's clock."""
    size: int = 0
    """Bytes that it holds while it waits."""
    lane: Lane | None = None
    """The lane that it keeps busy, for a classic handler."""


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


class Deposit(Struct):
    """Keep for an account without a session; answer with ``Exchange.settled``."""

    envelope: Envelope
    slot: int
    to: str
    username: str
    type: str
    data: Raw
    transient: bool


class Pause(Struct):
    """Stop reading from an endpoint: too much of what it sent is waiting."""

    endpoint: Endpoint


class Resume(Struct):
    """Read from an endpoint again."""

    endpoint: Endpoint


class Finished(Struct):
    """A closing endpoint has nothing in flight any more: close it when its last frame is written."""

    endpoint: Endpoint


class PresenceChanged(Struct):
    """An account's first session came, or its last one went."""

    username: str
    online: bool


Effect = CallClassic | Forward | Deposit | Pause | Resume | Finished | PresenceChanged
