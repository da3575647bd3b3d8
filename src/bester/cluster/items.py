"""What nodes send to each other: many items in one NATS message, all that one turn of the loop has for one subject.

A batch is a byte with the version of this format, the sender's node id (a byte with its length, then UTF-8), then
items. An item is a fixed head, a *note* in JSON (what the item says; of those that are many, an array) and a *body*
(bytes, carried as they are)::

    kind     1 byte
    number   8 bytes, little endian: the sender's own, which an answer repeats
    note     2 bytes length, then so many bytes
    body     4 bytes length, then so many bytes

A node of another release may send kinds, and members of notes, that are not known here: they are passed over. A batch
of another version is not looked at.
"""

from __future__ import annotations

import enum
import secrets
import struct
from collections.abc import Iterable, Iterator
from itertools import count
from typing import TypeVar, cast

import msgspec
from msgspec import Raw

VERSION = 1
_HEAD = struct.Struct("<BQHI")
_pack_head = _HEAD.pack
MAX_NOTE_BYTES = 65_535
FIRST = 10**12
"""What the first number of a node is below."""
MAX_NODE_BYTES = 64
"""A node's id in UTF-8."""


class Kind(enum.IntEnum):
    """What an item is."""

    HELLO = 1
    """Who the sender is, and what it serves."""
    LEAVING = 2
    """The sender stops: it is asked for nothing more."""
    ASK = 3
    """A request for a handler there; the body is its frame between the id and the data, then the data."""
    ANSWER = 4
    """What the handler answered, for the node that asked to carry it out; the body is its frame's."""
    FAILED = 5
    """Something that was asked, brought or forwarded has failed."""
    BRING = 6
    """A message for an account; the body is its data."""
    TAKEN = 7
    """What was brought is the sender's to answer for; not said where an OUTCOME is said at once."""
    GONE = 8
    """The account has no session there any more."""
    OUTCOME = 9
    """What became of what was brought; the body is an entry of a report's results, or empty: delivered."""
    HERE = 10
    """An account has a session at the sender's; those who have one too answer with the same."""
    BYE = 11
    """It has none there any more."""
    MAIL = 12
    """A letter was put into an account's mailbox."""
    END = 13
    """An account's sessions end."""
    HAND = 14
    """The same as BRING, for the one node that had the account's session last, which tells others that have it too."""
    DONE = 15
    """What became of a handler's answer that the sender carried out; the body are entries of a report's results."""
    ANSWERED = 16
    """The sender carries out what its handler answered, and DONE comes later; not said where it comes at once."""
    FORWARD = 20
    """A message for another server, for the node that has the lease of its destination; the body is its data."""
    FORWARDED = 21
    """What became of it; the body is the other server's route, where it told one."""
    LOOK = 22
    """There may be something in the outbox for a destination that its node does not know of."""
    COMMAND = 30
    """A question of an operator's, or about all nodes; the body is its arguments, as JSON."""
    RESULT = 31
    """A part of its answer; the body is a piece of the result's JSON."""
    PRESENCE = 32
    """An account's first session at the sender's came, or its last one there went."""
    CLAIM = 40
    """The sender would handle a ``once`` message: does anybody know it? The body is its key, then its digest."""
    CLAIMED = 41
    """What the sender knows of it; the body is the digest and the report's frame, where it has that."""
    LEFT = 42
    """The sender has stopped."""
    REPLIED = 43
    """A handler's reply to what a CLAIM was for, which is under way at the sender's; the body is its data."""


Item = tuple[int, int, bytes, bytes]
"""One of a batch: its kind, number, note and body."""


class Unreadable(ValueError):
    """What no node of this release sends."""


class Note(msgspec.Struct, rename="camel", omit_defaults=True):
    """What every note is made from."""


class Hello(Note):
    """Of a HELLO."""

    version: str
    """The release that the node runs."""
    started: float
    """Since when, in seconds since 1970."""
    types: dict[str, int] = {}
    """What it serves, and how many requests it takes at once from each node."""
    dry: list[str] = []
    """The types that take part in dry runs."""
    answer: bool = False
    """Whether it is said in answer to one."""
    claims: bool = False
    """Whether it answers a CLAIM."""
    losses: int = 0
    """How often it has lost NATS; what was under way to it and from it then may be lost too."""


class Ask(Note, array_like=True):
    """Of an ASK."""

    type: str
    head: int
    """How long the frame's part before the data is, in bytes."""
    dry: bool = False
    order: int = 0
    """What the asking node knows the sender by, whose messages stay in order; 0: the answer is to come back."""
    epoch: int = 0
    """Of that order: larger each time that an answer came back."""


class Done(Note):
    """Of a DONE, where something went wrong."""

    code: str
    message: str = ""
    reason: str = ""
    temporary: bool = False


class Failed(Note):
    """Of a FAILED."""

    code: str
    message: str = ""
    reason: str = ""
    """Both of a handler that refused."""
    temporary: bool = False


class Bring(Note, array_like=True):
    """Of a BRING."""

    username: str
    id: str
    """The ``deliveryId``."""
    type: str
    to: str = ""
    transient: bool = False
    copy: bool = False
    """Whether the sender has a session of the account too, so that nobody waits for an outcome."""


class Named(Note):
    """Of a HERE or BYE."""

    username: str
    answer: bool = False
    also: list[str] = []
    """The other nodes with sessions of it that the sender knows of; of an answer."""


class Mail(Note):
    """Of a MAIL."""

    username: str
    types: list[str] = []
    """Of the letters; none where they are too many to tell."""


class Asked(Note):
    """Of a COMMAND."""

    name: str


class Part(Note):
    """Of a RESULT."""

    last: bool = True
    code: str = ""
    """Why there is no result."""
    message: str = ""


class Known(enum.IntEnum):
    """What a node knows of a ``once`` message."""

    NOTHING = 0
    """Nothing, or nothing any more."""
    UNDER_WAY = 1
    """It has it, or is before the other one in asking for it; what becomes of it is said later."""
    CONFLICT = 2
    """It has another message of that id under way."""
    REPORT = 3
    """What became of it."""


class Claimed(Note, array_like=True):
    """Of a CLAIMED."""

    known: int
    """See :class:`Known`."""


class Replied(Note, array_like=True):
    """Of a REPLIED."""

    type: str
    place: int
    """How many there were before it."""


class Seen(Note):
    """Of a PRESENCE."""

    username: str


class End(Note):
    """Of an END."""

    username: str
    why: str = ""
    roles: list[str] | None = None
    """The account's new roles, where its sessions go on with them."""


class ToServer(Note):
    """Of a FORWARD."""

    destination: str
    """The canonical text of its address."""
    type: str
    id: str
    """What the other server recognises a repeat by."""
    classic_id: str = ""
    """The sender's own id."""
    hops: int = 0
    trace: str = ""
    transient: bool = False
    route: bool = False
    """Whether its route is asked for."""
    dry: bool = False
    """Whether it is only asked what would become of it."""
    passed: int = 0
    """How many nodes have passed it on before."""


class Settled(Note):
    """Of a FORWARDED."""

    status: str
    code: str = ""
    """Of the error, if there was one."""
    message: str = ""
    moved: bool = False
    """Whether the sender does not have the lease now."""


class Look(Note):
    """Of a LOOK."""

    destination: str
    stored: int = 0
    """How many messages are new there, about."""
    hurry: bool = False
    """Whether nothing is new there, but the other server is."""


N = TypeVar("N", bound=Note)
_encode = msgspec.json.Encoder().encode
_decoders: dict[type[Note], msgspec.json.Decoder[Note]] = {}


def read(note: bytes, kind: type[N]) -> N:
    """Decodes a note.

    Raises:
        Unreadable: it is not of this kind.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return cast(N, decoder.decode(note))
    except msgspec.DecodeError as error:
        raise Unreadable(str(error)) from error


def pack(kind: Kind, number: int = 0, note: Note | None = None, *body: bytes | Raw) -> bytes:
    """Returns an item."""
    said = _encode(note) if note is not None else b""
    if len(said) > MAX_NOTE_BYTES:
        raise ValueError("a note is too long")
    size = 0
    for part in body:
        size += len(part)
    return b"".join((_pack_head(kind, number, len(said), size), said, *body))


def numbers() -> Iterator[int]:
    """Returns what items are numbered with: from anywhere on, so that an answer to what a node asked before it was
    started anew, under the same id, is no answer to what it asks now."""
    return count(secrets.randbelow(FIRST))


def opening(node: str) -> bytes:
    """Returns what every batch of a node begins with."""
    name = node.encode()
    if len(name) > MAX_NODE_BYTES:
        raise ValueError("a node's id is too long")
    return bytes((VERSION, len(name))) + name


def batches(begin: bytes, items: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Joins items to messages of at most so many bytes, in their order; one that is larger goes alone, as it is."""
    parts, size = [begin], len(begin)
    for item in items:
        if size + len(item) > max_bytes and len(parts) > 1:
            yield b"".join(parts)
            parts, size = [begin], len(begin)
        parts.append(item)
        size += len(item)
    if len(parts) > 1:
        yield b"".join(parts)


def unpack(batch: bytes) -> tuple[str, list[Item]]:
    """Takes a batch apart: who sent it, and its items.

    Raises:
        Unreadable: it is of another version, or not whole.
    """
    if len(batch) < 2 or batch[0] != VERSION:
        raise Unreadable(f"version {batch[0] if batch else 'none'}; this node knows {VERSION}")
    at = 2 + batch[1]
    try:
        node = batch[2:at].decode()
    except UnicodeDecodeError as error:
        raise Unreadable("the sender's id is no text") from error
    items: list[Item] = []
    while at < len(batch):
        begin = at + _HEAD.size
        if begin > len(batch):
            raise Unreadable("it ends in an item's head")
        kind, number, note_size, body_size = _HEAD.unpack_from(batch, at)
        end = at = begin + note_size + body_size
        if end > len(batch):
            raise Unreadable("it ends in an item")
        items.append((kind, number, batch[begin : begin + note_size], batch[begin + note_size : end]))
    return node, items
