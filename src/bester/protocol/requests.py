"""The messages that a server sends to a handler, and how they are decoded (docs/protocol.md, section 6)."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, field
from msgspec.json import Decoder

from bester.protocol.messages import NULL
from bester.protocol.refusals import BadPayload
from bester.protocol.reports import EmptyHeader, ReportPayload
from bester.protocol.strictjson import EXTRA_DEPTH, MAX_DEPTH, decode, decode_quickly
from bester.protocol.values import decode_data
from bester.protocol.withdata import WithData

T = TypeVar("T")

_MAX_DEPTH = MAX_DEPTH + EXTRA_DEPTH


class Sender(Struct, frozen=True, gc=False):
    """The sender of a message as the server knows it; never taken from the message itself."""

    user: str | None = None
    """The authenticated account; None for messages from other servers and from handlers."""
    server: str | None = None
    """The server that the message came from: the account's own server, or another one."""
    verified: bool = False
    """Whether the sender's identity was proven: by a password or a token, or by the other server's certificate."""
    told: bool = True
    """Whether the server named the sender at all; False in a classic handler."""


UNTOLD = Sender(told=False)


class RefusingData(WithData, kw_only=True, eq=False):
    """A message whose data, if invalid, raises :class:`Refuse` when it is read, so that its sender learns why."""

    @property
    def data(self) -> Any:
        """The data as a Python value, decoded when it is first asked for.

        Raises:
            Refuse: Python cannot hold the data, or (only in a classic handler) it is not JSON. If uncaught, it is
                reported to the sender.
        """
        value = self._value
        if value is UNSET:
            try:
                value = self._value = decode_data(self.raw)
            except ValueError as error:
                raise BadPayload(str(error)) from error
        return value

    def read(self, kind: type[T]) -> T:
        """Returns the data as this type, as :meth:`ReceivedMessage.read` does.

        Raises:
            Refuse: the data is not of this type. If uncaught, it is reported to the sender with the reason
                ``badPayload`` and the place. It is also a msgspec.ValidationError.
        """
        try:
            return super().read(kind)
        except msgspec.DecodeError as error:
            raise BadPayload(str(error)) from error


class Request(RefusingData, eq=False):
    """A message that the server sends to a handler."""

    type: str
    id: str = ""
    """The id that the sender gave the message; not unique."""
    sender: Sender = UNTOLD
    """The sender; unknown attributes are None, which in a classic handler are all of them."""
    scope: str = "client"
    """The kind of sender: ``client`` or ``server``."""
    hops: int = 0
    """The number of handlers and servers that the message went through before."""
    dry_run: bool = False
    """Whether this is a dry run: the handler must have no effects other than its answer."""
    traceparent: str = ""
    """The W3C trace that the message belongs to; the server passes it on with every message that the answer causes."""
    guards: str = ""
    """The type of the message about which a guard is asked; empty if the handler is not asked as a guard."""
    request_id: str = ""
    """Matches the answer to the request; has no meaning for handlers."""
    parts: int | None = None
    """How many parts may be sent now, which can be 0; None if the request takes only one answer."""


class MoreParts(Struct, frozen=True, gc=False):
    """The sender of an outstanding request takes more parts."""

    request_id: str
    parts: int
    """How many, in addition to those that are left."""


class Cancel(Struct, frozen=True, gc=False):
    """The sender of an outstanding request gives it up; the request still needs its answer."""

    request_id: str


class _RequestHeader(Struct, gc=False, rename="camel"):
    message_type: str = ""
    id: str = ""
    scope: str = "client"
    sender: Sender | None = field(default=UNTOLD, name="from")
    hops: int = 0
    dry_run: bool = False
    traceparent: str = ""
    parts: int | None = None
    guards: str = ""


class _RequestPayload(Struct, gc=False):
    type: str = ""
    id: str = ""
    data: Raw = NULL


class _RequestMessage(Struct, gc=False):
    header: _RequestHeader
    payload: _RequestPayload


class OtherHeader(EmptyHeader, gc=False, rename="camel"):
    id: str = ""
    """The request that a ``more`` or a ``cancel`` is about."""
    parts: int = 0


class OtherMessage(Struct):
    """Any message from a server to a handler but a request."""

    header: OtherHeader
    payload: ReportPayload = field(default_factory=ReportPayload)


_request = Decoder(_RequestMessage)
_other = Decoder(OtherMessage)


def decode_request(body: bytes) -> Request | None:
    """Decodes a request; returns None if the message is another one.

    Raises:
        Malformed: a server never sends this to a handler.
    """
    found = decode_quickly(_request, body, _MAX_DEPTH)
    header = found.header
    if header.message_type != "request":
        return None
    payload = found.payload
    return Request(
        payload.type,
        payload.id,
        header.sender or UNTOLD,
        header.scope,
        header.hops,
        header.dry_run,
        header.traceparent,
        header.guards,
        header.id,
        header.parts,
        raw=payload.data,
    )


def decode_other(body: bytes) -> OtherMessage:
    """Decodes a message from a server to a handler that is not a request.

    Raises:
        Malformed: a server never sends this to a handler.
    """
    return decode(_other, body, _MAX_DEPTH)
