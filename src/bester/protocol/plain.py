"""Reads the messages that most messages are, without an object for each part of them (docs/protocol.md, sections 2, 6).

A *plain* message of a client has an empty header. A plain answer of a handler has the status ``"0"`` and one command
without a payload of its own. The scanner (``_scan.c``), where it is built, reads these in one pass over the bytes; else
msgspec decodes them. All other messages, and all that are wrong in any way, are left to
:mod:`bester.protocol.messages`, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

from bester.protocol.frames import decode_id, encode_text
from bester.protocol.messages import (
    NO_MEMBERS,
    NOTHING,
    NULL,
    SHORT,
    Command,
    Data,
    HandlerHeader,
    HandlerMessage,
    Message,
    OutgoingPayload,
    Payload,
    decode_handler_message,
    decode_message,
    decode_unchecked,
    decode_unread_header,
)
from bester.protocol.scanner import built
from bester.protocol.strictjson import EXTRA_DEPTH, MAX_DEPTH, is_shallow

PlainMessage: TypeAlias = tuple[str, bytes, Data]
"""The type of a plain message, its id as JSON, and its data."""
PlainAnswer: TypeAlias = tuple[str, str, list[str] | str | None, str | None, Data]
"""The request's id, the command and its data, and the type and the data of the payload."""


_decode_to = Decoder(list[str] | str | None).decode
_scan_message: Final[Callable[[bytes, int], PlainMessage | None] | None] = built("message")
_scan_answer: Final[Callable[[bytes, int], tuple[str, str, bytes, str | None, Data] | None] | None] = built("answer")


def read_message(body: bytes) -> PlainMessage | Message:
    """Reads a later message of a client.

    Raises:
        Malformed: as :func:`bester.protocol.messages.decode_message`.
    """
    if _scan_message is not None:
        return _scan_message(body, MAX_DEPTH) or decode_message(body)
    if body.isascii() and (len(body) <= SHORT or is_shallow(body)):
        try:
            message = decode_unread_header(body)
        except DecodeError:
            return decode_message(body)
        if message.header == NO_MEMBERS:
            payload = message.payload
            return payload.type, encode_text(payload.id), payload.data
    return decode_message(body)


def read_handler_message(body: bytes) -> PlainAnswer | HandlerMessage | str:
    """Reads a message of an attached handler; a ``detach`` is a string, its id.

    Raises:
        BadAnswer, Malformed: as :func:`bester.protocol.messages.decode_handler_message`.
    """
    if _scan_answer is not None:
        scanned = _scan_answer(body, MAX_DEPTH + EXTRA_DEPTH)
        if scanned is None:
            return decode_handler_message(body)
        id, kind, to, type, data = scanned
        if not to:
            return id, kind, None, type, data
        try:
            return id, kind, _decode_to(to), type, data
        except DecodeError:
            return decode_handler_message(body)
    if not body.isascii() or (len(body) > SHORT and not is_shallow(body)):
        return decode_handler_message(body)
    try:
        message = decode_unchecked(body)
    except DecodeError:
        return decode_handler_message(body)
    header = message.header
    answered = header.id
    command = header.command
    if (
        command is None
        or answered is None
        or header.status != "0"
        or header.message_type is not None
        or header.commands is not None
        or header.more is not None
        or command.payload is not None
        or command.transient
    ):
        return decode_handler_message(body) if answered is None and header.message_type != "push" else message
    payload = message.payload
    if payload is None or payload.data is NOTHING:
        data = NULL if message.data is NOTHING else message.data
        return answered, command.type, command.data, None if payload is None else payload.type, data
    return answered, command.type, command.data, payload.type, payload.data


def whole_message(message: PlainMessage) -> Message:
    """Returns a plain message in the form that all messages of clients have."""
    type, id, data = message
    return Message(Payload(type, decode_id(id), _raw(data)))


def whole_answer(answer: PlainAnswer) -> HandlerMessage:
    """Returns a plain answer in the form that all answers have."""
    id, kind, to, type, data = answer
    return HandlerMessage(HandlerHeader(id, "0", command=Command(kind, to)), OutgoingPayload(type, _raw(data)))


def _raw(data: Data) -> Raw:
    return data if isinstance(data, Raw) else Raw(data)
