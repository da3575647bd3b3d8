"""The messages that a server receives, as typed values (docs/protocol.md, sections 2, 3, 6, 8).

Only the members that the server needs are decoded; ``data`` stays :class:`msgspec.Raw`, a view of the received bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw, Struct

from bester.errors import BadArguments, BadResponse, Malformed
from bester.protocol.strictjson import EXTRA_DEPTH, MAX_DEPTH, decode, decode_otherwise, is_shallow

NULL = Raw(b"null")
NOTHING = Raw(b"")
"""Stands for absent data; JSON's null is data."""

Data: TypeAlias = Any
"""JSON, as bytes or a :class:`msgspec.Raw`; only a Raw can be a part of a value that is encoded.

msgspec's stubs say that a Raw is bytes, on which mypyc would rely, so no annotation says which of them it is.
"""

# -- from clients and servers -----------------------------------------------------------------------------------


class Payload(Struct, gc=False):
    """The payload of a message from a client or a server."""

    type: str
    id: str = ""
    data: Raw = NULL


class Authentication(Struct, gc=False):
    """A client's credentials; a token can replace the password."""

    username: str
    password: str | None = None
    token: str | None = None


class FirstHeader(Struct, gc=False, frozen=True, rename="camel"):
    """The header of a connection's first message, of any scope."""

    scope: str = ""
    authentication: Authentication | None = None
    features: tuple[str, ...] = ()
    server: str | None = None
    hops: int = 0
    once: bool = False
    route: bool = False
    dry_run: bool = False
    traceparent: str = ""
    parts: Any = None
    mail: bool | tuple[str, ...] = True
    """Whether a client receives its account's messages, or the types that it receives."""


class FirstMessage(Struct, gc=False):
    header: FirstHeader = FirstHeader()
    payload: Payload | None = None


class Header(Struct, gc=False, frozen=True, rename="camel"):
    """The header of a client's later messages; ``scope`` and ``authentication`` are ignored there."""

    once: bool = False
    route: bool = False
    dry_run: bool = False
    traceparent: str = ""
    parts: Any = None
    """How many parts of an answer the client takes, any JSON value; None means that it takes none."""


NO_HEADER = Header()


class Message(Struct, gc=False):
    payload: Payload
    header: Header = NO_HEADER


class _Scope(Struct, gc=False, frozen=True):
    scope: str = ""


class _Scoped(Struct, gc=False, frozen=True):
    header: _Scope = _Scope()


_scoped = msgspec.json.Decoder(_Scoped)
_first = msgspec.json.Decoder(FirstMessage)
_message = msgspec.json.Decoder(Message)
_decode_message = _message.decode
SHORT = 2 * MAX_DEPTH
"""Bodies up to this size, in bytes, cannot be too deep; comparing the size here saves a call."""


def decode_first(body: bytes) -> FirstMessage:
    """Decodes a connection's first message.

    Raises:
        Malformed: sections 1 and 12.
    """
    return decode(_first, body)


def decode_scope(body: bytes) -> str:
    """Decodes only the scope of a connection's first message; ``""`` if it has none.

    Raises:
        Malformed: sections 1 and 12.
    """
    return decode(_scoped, body, partly=True).header.scope


def decode_message(body: bytes) -> Message:
    """Decodes a later message of a client.

    Raises:
        Malformed: sections 1 and 12.
    """
    if body.isascii() and (len(body) <= SHORT or is_shallow(body)):
        try:
            return _decode_message(body)
        except msgspec.DecodeError as error:
            return decode_otherwise(_message, body, error)
    return decode(_message, body)


NO_MEMBERS = Raw(b"{}")


class UnreadHeader(Struct, gc=False):
    """A later message of a client whose header stays JSON, for :mod:`bester.protocol.plain`."""

    payload: Payload
    header: Raw = NO_MEMBERS


decode_unread_header = msgspec.json.Decoder(UnreadHeader).decode


class _NoteHeader(Header, gc=False, frozen=True, rename="camel"):
    message_type: Any = None


class _NotePayload(Struct, gc=False):
    """The payload of a note or a message, undecoded; the header tells them apart."""

    type: Raw = NOTHING
    id: Raw = NOTHING
    data: Raw = NULL
    ids: Raw = NOTHING
    parts: Raw = NOTHING


class _NoteOrMessage(Struct, gc=False):
    payload: _NotePayload
    header: _NoteHeader = _NoteHeader()


class Ack(Struct, gc=False):
    """A client has taken over messages (section 4.3)."""

    ids: list[str]


class More(Struct, gc=False):
    """A client takes more parts of the answer to its message (section 2.9)."""

    id: str
    parts: int


class Cancel(Struct, gc=False):
    """A client cancels its messages with this id (section 2.10)."""

    id: str


MAX_PARTS = 65_536
"""The number of parts that a client may take at a time."""
Note: TypeAlias = Ack | More | Cancel
"""A message of a client that has no report."""

_note_or_message = msgspec.json.Decoder(_NoteOrMessage)
_ids = msgspec.json.Decoder(list[str])
_text = msgspec.json.Decoder(str)
_parts = msgspec.json.Decoder(int)
_FORMS = {
    "ack": "payload.ids of an ack must be a list of strings",
    "more": f"payload.id of a more must be a string, and payload.parts a whole number from 1 to {MAX_PARTS}",
    "cancel": "payload.id of a cancel must be a string",
}


def decode_note_or_message(body: bytes, features: Sequence[str]) -> Note | Message:
    """Decodes a body that may be a note: an ``ack``, a ``more`` or a ``cancel``; or a message.

    Args:
        body: the body of a frame.
        features: those of the session; without the feature that it belongs to, a note is no note.

    Raises:
        Malformed: a note of another form, or sections 1 and 12.
    """
    either = decode(_note_or_message, body)
    payload, header = either.payload, either.header
    kind = header.message_type if isinstance(header.message_type, str) else ""
    if ("ack" if kind == "ack" else "parts") not in features:
        kind = ""
    try:
        if kind == "ack":
            return Ack(_ids.decode(payload.ids))
        if kind == "cancel":
            return Cancel(_text.decode(payload.id))
        if kind == "more":
            return More(_text.decode(payload.id), checked_parts(_parts.decode(payload.parts)))
        id = _text.decode(payload.id) if len(payload.id) else ""
        return Message(Payload(_text.decode(payload.type), id, payload.data), header)
    except (msgspec.DecodeError, UnicodeDecodeError, BadArguments):
        raise Malformed(_FORMS.get(kind, "payload.type must be a string, and so must payload.id")) from None


def checked_parts(parts: object) -> int:
    """Returns how many parts a client takes.

    Raises:
        BadArguments: it is no whole number, or none from 1 to :data:`MAX_PARTS`.
    """
    if not isinstance(parts, int) or isinstance(parts, bool) or not 1 <= parts <= MAX_PARTS:
        raise BadArguments(f"header.parts must be a whole number from 1 to {MAX_PARTS}")
    return parts


# -- from handlers ----------------------------------------------------------------------------------------------


class OutgoingPayload(Struct, gc=False):
    """The payload of a handler's command; a missing part comes from the response or the handler's type."""

    type: str | None = None
    data: Raw = NOTHING


class Command(Struct, gc=False):
    """One command in a handler's answer (section 3)."""

    type: str
    data: list[str] | str | None = None
    payload: OutgoingPayload | None = None
    transient: bool = False


class HandlerHeader(Struct, gc=False, rename="camel"):
    id: str | None = None
    status: Any = None
    error: Any = None
    """Why the status is not 0, in the handler's words; any JSON value."""
    command: Command | None = None
    commands: list[Command] | None = None
    message_type: str | None = None
    more: Any = None
    """Whether the answer is a part, and others follow."""
    traceparent: Any = ""
    """The trace that a push belongs to; an invalid traceparent counts as absent."""


class HandlerMessage(Struct, gc=False):
    """A handler's answer, classic or attached, or its push."""

    header: HandlerHeader
    payload: OutgoingPayload | None = None
    data: Raw = NOTHING


class _Tag(Struct, frozen=True, rename="camel"):
    id: str | None = None
    message_type: Any = None


class _Tagged(Struct):
    header: _Tag = _Tag()


MAX_TYPES = 256
"""The number of types that one handler may attach for."""
MAX_CONCURRENCY = 65_536


class AttachData(Struct, gc=False, rename="camel"):
    types: list[str]
    name: str = ""
    concurrency: int = 64
    dry_run: list[str] | None = None
    """The types that support dry runs; None means all, if the handler has the feature."""
    describe: Raw = NOTHING
    """Decoded separately, by :func:`bester.protocol.descriptions.read_descriptions`."""


class AttachPayload(Struct, gc=False):
    type: str
    id: str = ""
    data: Raw = NOTHING
    """Decoded separately, by :func:`attach_data`, so that a report can say what is wrong with it."""


class AttachHeader(Struct, gc=False, frozen=True):
    scope: str = ""
    features: tuple[str, ...] = ()
    authentication: Authentication | None = None
    """Read where handlers attach from other machines."""


class AttachMessage(Struct, gc=False):
    """The first message on the handler socket."""

    header: AttachHeader = AttachHeader()
    payload: AttachPayload | None = None


class _DetachPayload(Struct, gc=False):
    type: str
    id: str = ""


class _DetachMessage(Struct, gc=False):
    """A message of an attached handler that is neither an answer nor a push: ``detach``."""

    payload: _DetachPayload


_handler_message = msgspec.json.Decoder(HandlerMessage)
decode_unchecked = _handler_message.decode
"""Decodes an answer or a push whose bytes are checked, for :mod:`bester.protocol.plain`."""
_tagged = msgspec.json.Decoder(_Tagged)
_attach = msgspec.json.Decoder(AttachMessage)
_attach_data = msgspec.json.Decoder(AttachData)
_detach = msgspec.json.Decoder(_DetachMessage)
_HANDLER_DEPTH = MAX_DEPTH + EXTRA_DEPTH


class BadAnswer(BadResponse):
    """An invalid answer whose header still names the request that it answers."""

    def __init__(self, id: str, detail: str) -> None:
        super().__init__()
        self.id = id
        self.detail = detail
        """The fault, for the server's log; not shown to the requester."""


def decode_attach(body: bytes) -> AttachMessage:
    """Decodes the first message on the handler socket.

    Raises:
        Malformed: sections 1 and 6.
    """
    return decode(_attach, body)


def attach_data(payload: AttachPayload | None) -> AttachData:
    """Returns the data of an attach message; does not check the names of its types.

    Raises:
        BadArguments: the message is not an attach, or its data does not have the form of section 6.1.
    """
    if payload is None or payload.type != "attach" or not len(payload.data):
        raise BadArguments("the first message must be of type attach, and its data must name the types")
    try:
        data = decode(_attach_data, bytes(payload.data), partly=True)
    except Malformed as error:
        raise BadArguments(f"data of attach: {error.message}") from error
    if not 1 <= len(data.types) <= MAX_TYPES:
        raise BadArguments(f"types must name 1 to {MAX_TYPES} types")
    if not 1 <= data.concurrency <= MAX_CONCURRENCY:
        raise BadArguments(f"concurrency must be from 1 to {MAX_CONCURRENCY}")
    return data


def decode_handler_message(body: bytes) -> HandlerMessage | str:
    """Decodes a message of an attached handler; returns a string, its id, for a ``detach``.

    Raises:
        BadAnswer: the message is invalid, but names the request that it answers: only that request fails.
        Malformed: the message is invalid otherwise; the connection ends.
    """
    try:
        if body.isascii() and (len(body) <= SHORT or is_shallow(body)):
            try:
                message = decode_unchecked(body)
            except msgspec.DecodeError as error:
                message = decode_otherwise(_handler_message, body, error)
        else:
            message = decode(_handler_message, body, _HANDLER_DEPTH)
    except Malformed as error:
        return _without_answer(body, error)
    if message.header.id is None and message.header.message_type != "push":
        return _without_answer(body, Malformed("header.id is missing"))
    return message


def _without_answer(body: bytes, error: Malformed) -> str:
    tag = decode(_tagged, body, _HANDLER_DEPTH, partly=True).header
    if tag.message_type == "push":
        raise error  # its id is the handler's own, and names no request
    if tag.id is not None:
        raise BadAnswer(tag.id, error.message) from error
    try:
        payload = decode(_detach, body, _HANDLER_DEPTH, partly=True).payload
    except Malformed:
        raise error from None
    if payload.type != "detach":
        raise error
    return payload.id


def decode_classic(body: bytes) -> HandlerMessage:
    """Decodes a classic handler's answer.

    Raises:
        BadAnswer: the answer is invalid; the error's id is empty.
    """
    try:
        return decode(_handler_message, body, _HANDLER_DEPTH)
    except Malformed as error:
        raise BadAnswer("", error.message) from error


# -- traces -----------------------------------------------------------------------------------------------------

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def checked_trace(traceparent: str) -> str:
    """Returns a W3C traceparent unchanged, or ``""`` if it is invalid: then the trace starts here."""
    return traceparent if _TRACEPARENT.fullmatch(traceparent) else ""
