"""What a client receives from a server, and how it is decoded (docs/protocol.md, sections 2 and 4)."""

from __future__ import annotations

from msgspec import Raw, Struct, field
from msgspec.json import Decoder

from bester.protocol.messages import NULL
from bester.protocol.reports import EmptyHeader, ReportPayload
from bester.protocol.strictjson import EXTRA_DEPTH, MAX_DEPTH, decode, decode_quickly
from bester.protocol.withdata import WithData

_MAX_DEPTH = MAX_DEPTH + EXTRA_DEPTH


class ReceivedMessage(WithData, eq=False):
    """A message that a handler sent to this client."""

    type: str
    delivery_id: str | None = None
    """Identifies the delivery, and stays the same when the message is delivered again; needs the feature ``ack``."""
    reply_to: str | None = None
    """The id of this client's message that a handler replies to; None if this is not a reply, or a part of one."""
    part_of: str | None = None
    """The id of this client's message whose answer this is a part of; more follows."""


class Pong(Struct, frozen=True):
    """The answer to a ping."""

    id: str


class ServerHeader(EmptyHeader, gc=False, rename="camel"):
    part_of: str | None = None


class ServerMessage(Struct):
    """Any message from a server to a client."""

    header: ServerHeader
    payload: ReportPayload = field(default_factory=ReportPayload)


class _ReceivedPayload(Struct, gc=False, rename="camel"):
    type: str = ""
    data: Raw = NULL
    delivery_id: str | None = None
    reply_to: str | None = None


class _Received(Struct, gc=False):
    payload: _ReceivedPayload


class _PartHeader(Struct, gc=False, rename="camel"):
    part_of: str


class _Part(Struct, gc=False):
    header: _PartHeader
    payload: _ReceivedPayload


_server_message = Decoder(ServerMessage)
_received = Decoder(_Received)
_part = Decoder(_Part)


def decode_server_message(body: bytes) -> ServerMessage:
    """Decodes any message from a server to a client.

    Raises:
        Malformed: a server never sends this to a client.
    """
    return decode(_server_message, body, _MAX_DEPTH)


def decode_received(body: bytes) -> ReceivedMessage:
    """Decodes a message that a handler sent to this client.

    Raises:
        Malformed: a server never sends this to a client.
    """
    payload = decode_quickly(_received, body, _MAX_DEPTH).payload
    return ReceivedMessage(payload.type, payload.delivery_id, payload.reply_to, raw=payload.data)


def decode_part(body: bytes) -> ReceivedMessage:
    """Decodes a part of the answer to a message of this client.

    Raises:
        Malformed: a server never sends this to a client.
    """
    part = decode_quickly(_part, body, _MAX_DEPTH)
    payload = part.payload
    return ReceivedMessage(payload.type, payload.delivery_id, None, part.header.part_of, raw=payload.data)
