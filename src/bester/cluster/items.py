"""The items that nodes exchange, batched: one NATS message per subject and iteration of the event loop.

A batch is a byte with the version of this format, the sender's node id (a byte with its length, then UTF-8), then
items. An item is a fixed head, a *note* (its parameters, as JSON; an array for the most frequent kinds) and a *body*
(bytes, carried unchanged)::

    kind     1 byte
    number   8 bytes, little endian: the sender's own, which an answer repeats
    note     2 bytes length, then so many bytes
    body     4 bytes length, then so many bytes

A node of another release may send unknown kinds, and unknown members of notes: they are ignored. A batch of another
version is ignored.
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
"""A node's first number is below this."""
MAX_NODE_BYTES = 64
"""The most bytes of a node's id in UTF-8."""


class Kind(enum.IntEnum):
    """The kind of an item."""

    HELLO = 1
    """Introduces the sender and the types that it serves."""
    LEAVING = 2
    """The sender is stopping: it must get no more requests."""
    ASK = 3
    """A request for a handler at the receiver; the body is its frame between the id and the data, then the data."""
    ANSWER = 4
    """A handler's answer or a part of it, which the asking node executes; the body is the body of its frame."""
    FAILED = 5
    """An ASK, BRING or FORWARD has failed."""
    BRING = 6
    """A message for an account; the body is its data."""
    TAKEN = 7
    """The sender is responsible for the message of a BRING; not sent if an OUTCOME is sent at once."""
    GONE = 8
    """The account has no session at the sender any more."""
    OUTCOME = 9
    """The outcome of a BRING; the body is an entry of a report's results, or empty: delivered."""
    HERE = 10
    """An account has a session at the sender; other nodes with sessions of it answer with a HERE."""
    BYE = 11
    """An account has no session at the sender any more."""
    MAIL = 12
    """A message was stored in an account's mailbox."""
    END = 13
    """An account's sessions must end."""
    HAND = 14
    """A BRING to the one node that last had the account's session, which forwards it to others that have one too."""
    DONE = 15
    """The outcome of a handler's answer that the sender executed; the body holds entries of a report's results."""
    ANSWERED = 16
    """The sender executes its handler's answer, and a DONE follows; not sent if the DONE comes at once."""
    MORE = 17
    """The handler of an ASK may send more parts."""
    CANCEL = 18
    """An ASK is cancelled; it is still answered."""
    FORWARD = 20
    """A message for another server, sent to the node with the lease of its destination; the body is its data."""
    FORWARDED = 21
    """The outcome of a FORWARD; the body is the other server's route, if it sent one."""
    LOOK = 22
    """The outbox may hold messages for a destination that the node with its lease does not know of."""
    COMMAND = 30
    """An operator's command, or a query about all nodes; the body is its arguments, as JSON."""
    RESULT = 31
    """A part of the answer to a COMMAND; the body is a piece of the result's JSON."""
    PRESENCE = 32
    """An account's first session at the sender started, or its last one ended."""
    CLAIM = 40
    """The sender wants to handle a ``once`` message, unless a node knows it; the body is its key, then its digest."""
    CLAIMED = 41
    """The answer to a CLAIM; the body is the digest and the report's frame, if the sender has it."""
    LEFT = 42
    """The sender has stopped."""
    REPLIED = 43
    """A handler's reply to a claimed message that is in flight at the sender; the body is its data."""


Item = tuple[int, int, bytes, bytes]
"""An item of a batch: its kind, number, note and body."""


class Unreadable(ValueError):
    """Raised for input that no node of this release sends."""


class Note(msgspec.Struct, rename="camel", omit_defaults=True):
    """The base of all notes."""


class Hello(Note):
    """The note of a HELLO."""

    version: str
    """The release that the node runs."""
    started: float
    """When the node started, in seconds since 1970."""
    types: dict[str, int] = {}
    """The types that the node serves, with the number of requests that it accepts at once from each node."""
    dry: list[str] = []
    """The types that support dry runs."""
    answer: bool = False
    """Whether this answers another HELLO."""
    claims: bool = False
    """Whether the node answers a CLAIM."""
    parts: bool = False
    """Whether the node lets its handlers answer in parts, and cancels requests."""
    losses: int = 0
    """How often the node has lost NATS; items in flight to it or from it at such a time may be lost."""


class Ask(Note, array_like=True):
    """The note of an ASK."""

    type: str
    head: int
    """The length of the frame's part before the data, in bytes."""
    dry: bool = False
    order: int = 0
    """The asking node's number for the sender, whose messages stay in order; 0: the answer must come back."""
    epoch: int = 0
    """The epoch of that order, which grows each time that an answer comes back."""
    parts: int = -1
    """How many parts the answer may have for now; -1: it must be one answer."""
    guards: bool = False
    """Whether the handler is asked as a guard."""
    sent_on: bool = False
    """Whether a handler of another type has sent the message on."""


class More(Note):
    """The note of a MORE."""

    parts: int


class Done(Note):
    """The note of a DONE, if there was an error."""

    code: str
    message: str = ""
    reason: str = ""
    temporary: bool = False


class Failed(Note):
    """The note of a FAILED."""

    code: str
    message: str = ""
    reason: str = ""
    """Message and reason come from a handler that refused."""
    temporary: bool = False


class Bring(Note, array_like=True):
    """The note of a BRING."""

    username: str
    id: str
    """The ``deliveryId``."""
    type: str
    to: str = ""
    transient: bool = False
    copy: bool = False
    """Whether the sender has a session of the account too, so that it does not wait for an outcome."""


class Named(Note):
    """The note of a HERE or BYE."""

    username: str
    answer: bool = False
    also: list[str] = []
    """In an answer: the other nodes with sessions of the account that the sender knows."""


class Mail(Note):
    """The note of a MAIL."""

    username: str
    types: list[str] = []
    """The types of the stored messages; empty if there are too many to list."""


class Asked(Note):
    """The note of a COMMAND."""

    name: str


class Part(Note):
    """The note of a RESULT."""

    last: bool = True
    code: str = ""
    """Why there is no result."""
    message: str = ""


class Known(enum.IntEnum):
    """A node's knowledge of a ``once`` message."""

    NOTHING = 0
    """The node knows nothing of it, or no longer does."""
    UNDER_WAY = 1
    """The node handles it, or takes precedence in claiming it; the outcome follows."""
    CONFLICT = 2
    """The node handles another message with that id."""
    REPORT = 3
    """The node knows the outcome."""


class Claimed(Note, array_like=True):
    """The note of a CLAIMED."""

    known: int
    """See :class:`Known`."""


class Replied(Note, array_like=True):
    """The note of a REPLIED."""

    type: str
    place: int
    """The number of replies before this one."""


class Seen(Note):
    """The note of a PRESENCE."""

    username: str


class End(Note):
    """The note of an END."""

    username: str
    why: str = ""
    roles: list[str] | None = None
    """The account's new roles, if its sessions continue with them."""


class ToServer(Note):
    """The note of a FORWARD."""

    destination: str
    """The canonical text of the destination's address."""
    type: str
    id: str
    """The id by which the other server recognises a repeat."""
    classic_id: str = ""
    """The id that the sender gave the message."""
    hops: int = 0
    trace: str = ""
    transient: bool = False
    route: bool = False
    """Whether the sender asks for the message's route."""
    dry: bool = False
    """Whether this is a dry run."""
    passed: int = 0
    """How many nodes have forwarded the message before."""


class Settled(Note):
    """The note of a FORWARDED."""

    status: str
    code: str = ""
    """The code of the error, if there was one."""
    message: str = ""
    moved: bool = False
    """Whether the sender no longer has the lease."""


class Look(Note):
    """The note of a LOOK."""

    destination: str
    stored: int = 0
    """The approximate number of new messages in the outbox."""
    hurry: bool = False
    """Whether there are no new messages, but the other server is back."""


N = TypeVar("N", bound=Note)
_encode = msgspec.json.Encoder().encode
_decoders: dict[type[Note], msgspec.json.Decoder[Note]] = {}


def read(note: bytes, kind: type[N]) -> N:
    """Decodes a note.

    Raises:
        Unreadable: the note is not of this kind.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return cast(N, decoder.decode(note))
    except msgspec.DecodeError as error:
        raise Unreadable(str(error)) from error


def pack(kind: Kind, number: int = 0, note: Note | None = None, *body: bytes | Raw) -> bytes:
    """Returns an encoded item."""
    encoded = _encode(note) if note is not None else b""
    if len(encoded) > MAX_NOTE_BYTES:
        raise ValueError("a note is too long")
    size = 0
    for part in body:
        size += len(part)
    return b"".join((_pack_head(kind, number, len(encoded), size), encoded, *body))


def numbers() -> Iterator[int]:
    """Returns consecutive numbers for items, from a random start.

    So if a node restarts under the same id, answers to its earlier requests do not match its new requests.
    """
    return count(secrets.randbelow(FIRST))


def opening(node: str) -> bytes:
    """Returns the first bytes of every batch of a node."""
    name = node.encode()
    if len(name) > MAX_NODE_BYTES:
        raise ValueError("a node's id is too long")
    return bytes((VERSION, len(name))) + name


def batches(begin: bytes, items: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Joins items, in order, to messages of at most so many bytes; a larger item becomes a message by itself."""
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
    """Returns a batch's sender and items.

    Raises:
        Unreadable: the batch has another version, or is incomplete.
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
