"""What nodes send to each other: many items in one NATS message, all that one turn of the loop has for one node.

A batch is a byte with the version of this format, then items. An item is a fixed head, a *note* in JSON (what the item
says) and a *body* (bytes that are carried as they are)::

    kind     1 byte
    number   8 bytes, little endian: the sender's own, which an answer repeats
    note     2 bytes length, then so many bytes
    body     4 bytes length, then so many bytes

A node of another release may send kinds, and members of notes, that are not known here: they are passed over. A batch
of another version is not looked at, and its sender is told of in the log.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import msgspec

VERSION = 1
_HEAD = struct.Struct("<BQHI")
MAX_NOTE_BYTES = 65_535


class Kind(enum.IntEnum):
    """What an item is."""

    ASK = 1
    """A request for a handler there; the body is its data."""
    ANSWER = 2
    """What the handler answered; the body is its frame's."""
    FAILED = 3
    """A request that has no answer."""
    BRING = 4
    """A message for an account with sessions there; the body is its data."""
    REPORT = 5
    """What became of something that was brought or forwarded; the body is a status report."""
    FORWARD = 6
    """A message for another server, for the node that has the link; the body is its data."""
    TAKEN = 7
    """Something that was brought to an account's subject is this node's to answer for."""
    CANCEL = 8
    """A request whose asker does not wait any more."""


class Item(NamedTuple):
    """One of a batch."""

    kind: int
    number: int
    note: bytes
    body: bytes


class Unreadable(ValueError):
    """A batch that no node of this release sends."""


def pack(kind: Kind, number: int, note: msgspec.Struct | None = None, body: bytes | msgspec.Raw = b"") -> list[bytes]:
    """Returns an item in pieces, which :func:`size_of` measures and a batch joins."""
    said = msgspec.json.encode(note) if note is not None else b""
    if len(said) > MAX_NOTE_BYTES:
        raise ValueError("a note is too long")
    return [_HEAD.pack(kind, number, len(said), len(body)), said, bytes(body)]


def batches(items: list[list[bytes]], max_bytes: int) -> Iterator[bytes]:
    """Joins items to messages of at most so many bytes, in their order; one item is never split."""
    parts: list[bytes] = [bytes([VERSION])]
    size = 1
    for item in items:
        more = sum(map(len, item))
        if size + more > max_bytes and len(parts) > 1:
            yield b"".join(parts)
            parts, size = [bytes([VERSION])], 1
        parts += item
        size += more
    if len(parts) > 1:
        yield b"".join(parts)


def unpack(batch: bytes) -> Iterator[Item]:
    """Takes a batch apart.

    Raises:
        Unreadable: it is of another version, or ends in the middle of an item.
    """
    if not batch or batch[0] != VERSION:
        raise Unreadable(f"version {batch[0] if batch else 'none'}, known is {VERSION}")
    at, end = 1, len(batch)
    while at < end:
        if at + _HEAD.size > end:
            raise Unreadable("it ends in an item's head")
        kind, number, note_size, body_size = _HEAD.unpack_from(batch, at)
        at += _HEAD.size
        if at + note_size + body_size > end:
            raise Unreadable("it ends in an item")
        note = batch[at : at + note_size]
        at += note_size
        yield Item(kind, number, note, batch[at : at + body_size])
        at += body_size


N = TypeVar("N", bound=msgspec.Struct)


class Note(msgspec.Struct, rename="camel", omit_defaults=True):
    """What every note is made from."""


class Ask(Note):
    """Of an ASK."""

    type: str
    head: str
    """The request's frame between its id and its data."""
    dry_run: bool = False


class Failed(Note):
    """Of a FAILED."""

    code: str
    message: str = ""


class Bring(Note):
    """Of a BRING."""

    username: str
    id: str
    """The ``deliveryId``."""
    type: str
    to: str = ""
    transient: bool = False
    copy: bool = False
    """Whether the account has a session at the sender's as well, so that nobody waits for an outcome."""


class ForwardNote(Note):
    """Of a FORWARD."""

    to: str
    type: str
    message_id: str
    hops: int = 0
    transient: bool = False
    trace: str = ""
    client_id: str = ""
    route: bool = False
    dry_run: bool = False


def read(note: bytes, kind: type[N]) -> N:
    """Decodes a note.

    Raises:
        Unreadable: it is not of this kind.
    """
    try:
        return msgspec.json.decode(note, type=kind)
    except msgspec.DecodeError as error:
        raise Unreadable(str(error)) from error
