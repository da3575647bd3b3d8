"""The messages of chat, as typed values (docs/chat.md, sections 2 to 4).

Everything is the data of Bester messages of the type ``chat``, and says in ``op`` what it is. What accounts ask is
:data:`ClientOp`, what they are told :data:`Told`, what the chats of two servers say to each other :data:`ServerOp`.
Bounds that do not depend on settings are checked here, by decoding.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import UNSET, DecodeError, Meta, Raw, Struct, UnsetType, field
from msgspec.json import Decoder, Encoder

from bester_gadgets.chat.addresses import MAX_ADDRESS

TYPE = "chat"
VERSION = 1
MAX_TEXT = 8000
MAX_TOPIC = 200
MAX_ITEMS = 500
"""Ids, addresses or keys in one list."""
MAX_PAGE = 100

Address = Annotated[str, Meta(min_length=1, max_length=MAX_ADDRESS)]
Id = Annotated[str, Meta(pattern=r"\A[!-~]{1,64}\Z")]
Tag = Annotated[str, Meta(max_length=64)]
Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
Topic = Annotated[str, Meta(max_length=MAX_TOPIC)]
Code = Annotated[str, Meta(pattern=r"\A[A-Za-z]{0,64}\Z")]
Natural = Annotated[int, Meta(ge=0, le=2**53)]
Addresses = Annotated[list[Address], Meta(max_length=MAX_ITEMS)]
Ids = Annotated[list[Id], Meta(max_length=MAX_ITEMS)]
State = Literal["sent", "arrived", "delivered", "read", "failed"]
Mark = Literal["delivered", "read"]
Does = Literal["join", "leave", "invite", "kick", "topic"]

RANKS: dict[str, int] = {"sent": 0, "arrived": 1, "delivered": 2, "read": 3, "failed": 4}
"""A message's state only ever grows."""
STATES: list[State] = ["sent", "arrived", "delivered", "read", "failed"]

# Controls but for the tabulator and the end of a line; a terminal would obey them.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class BadMessage(ValueError):
    """Not of the form that docs/chat.md gives."""


# -- what accounts ask ------------------------------------------------------------------------------------------


class ClientBase(Struct, tag_field="op", kw_only=True, omit_defaults=True, rename="camel"):
    """The members that every request of an account may have."""

    v: Literal[1] = 1
    ask: Tag = ""
    """Comes back in the answer."""
    sender: Address | None = field(name="from", default=None)
    """Where it is given it must be the account that asks; any other is refused."""


class Hello(ClientBase, tag="hello"):
    """I am here to chat: who am I, and what is there?"""


class Sync(ClientBase, tag="sync"):
    """A request for all changes since a position."""

    since: Natural


class Send(ClientBase, tag="send"):
    to: Address
    id: Id
    """The sender's own; the same again is the same message."""
    text: Text


class History(ClientBase, tag="history"):
    """The newest entries of a conversation that stand before a position."""

    with_: Address = field(name="with")
    before: Natural | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 50


class MarkOp(ClientBase, tag="mark"):
    """All that was received in a conversation up to a position was delivered here, or read."""

    with_: Address = field(name="with")
    state: Mark
    upto: Natural


class Block(ClientBase, tag="block"):
    who: Address
    """A person, or a whole server by its name."""
    on: bool = True


class Create(ClientBase, tag="create"):
    room: Address
    topic: Topic = ""
    open: bool = True
    """Whether everybody may join; else those who are invited."""


class RoomOp(ClientBase, tag="room"):
    """Something about a room: join, leave (or decline), invite, kick, topic."""

    do: Does
    room: Address
    who: Address | None = None
    topic: Topic | None = None


class Members(ClientBase, tag="members"):
    room: Address


ClientOp = Hello | Sync | Send | History | MarkOp | Block | Create | RoomOp | Members

# -- what accounts are told -------------------------------------------------------------------------------------


class Entry(Struct, kw_only=True, omit_defaults=True):
    """A message as it stands in an account's history."""

    pos: int
    """Where it stands: larger is later. Positions are the account's own."""
    with_: str = field(name="with")
    sender: str = field(name="from")
    id: str
    time: int
    """Milliseconds since 1970, by the sender's server."""
    text: str
    state: State | None = None
    """Of own messages: what is known to have become of it."""
    reason: str = ""
    """Why it failed."""


class Talk(Struct, kw_only=True, omit_defaults=True):
    """A conversation as it stands in an account's list."""

    with_: str = field(name="with")
    last: int = 0
    """The position of its newest entry."""
    read: int = 0
    """Up to this position everything is read."""
    unread: int = 0
    preview: str = ""
    time: int = 0
    status: str = ""
    """Of a room: ``asked``, ``joined``, ``invited``, ``left``."""
    reason: str = ""
    """Why it was left, or cannot be joined."""
    by: str = ""
    """The person who invited."""
    topic: str = ""
    owner: str = ""
    open: bool = True
    members: int = 0


class Online(Struct, array_like=True):
    """One person's presence: ``[address, online]``."""

    who: Address
    online: bool


class Problem(Struct):
    """The reason of a refusal; the codes are in docs/chat.md."""

    code: str
    message: str


class Event(Struct, tag_field="op", kw_only=True, omit_defaults=True, rename="camel"):
    """The base of what is told unasked. With ``seq`` it changes the history, and follows upon the change ``since``."""

    since: int = 0
    seq: int = 0


class EntryEvent(Event, tag="entry"):
    entry: Entry


class StatesEvent(Event, tag="states"):
    """The states of own messages, by their positions."""

    with_: str = field(name="with")
    items: list[tuple[int, State]]


class TalkEvent(Event, tag="talk"):
    talk: Talk


class PresenceEvent(Event, tag="presence"):
    people: list[Online]


class BlockedEvent(Event, tag="blocked"):
    blocked: list[str]


class NoticeEvent(Event, tag="notice"):
    """Another server's answer to a request about a room."""

    with_: str = field(name="with")
    problem: Problem


class Answer(Struct, tag_field="op", tag="answer", kw_only=True, omit_defaults=True, rename="camel"):
    """The answer to a question; what stands in it depends on that."""

    ask: str = ""
    v: int = 0
    you: str = ""
    seq: int = 0
    talks: list[Talk] | UnsetType = UNSET
    blocked: list[str] | UnsetType = UNSET
    online: list[str] | UnsetType = UNSET
    changes: list[EntryEvent | TalkEvent] | UnsetType = UNSET
    entries: list[Entry] | UnsetType = UNSET
    entry: Entry | UnsetType = UNSET
    talk: Talk | UnsetType = UNSET
    members: list[str] | UnsetType = UNSET
    upto: int | UnsetType = UNSET
    more: bool = False


Told = Answer | EntryEvent | StatesEvent | TalkEvent | PresenceEvent | BlockedEvent | NoticeEvent

# -- between servers --------------------------------------------------------------------------------------------


class ServerBase(Struct, tag_field="op", kw_only=True, omit_defaults=True):
    v: Literal[1] = 1


class Keyed(ServerBase):
    """An item that is sent until the other chat confirms it; a key is never used again."""

    key: Id


class Say(Keyed, tag="say"):
    """A person's message, for a person or a room of the server that it goes to."""

    sender: Address = field(name="from")
    to: Address
    id: Id
    time: Natural
    text: Text


class Said(Keyed, tag="said"):
    """A room's message, from the room's server to those of its members."""

    room: Address
    n: Natural
    sender: Address = field(name="from")
    id: Id
    time: Natural
    text: Text


class Marks(Keyed, tag="marks"):
    """Messages of ``to`` were delivered to, or read by, ``from``."""

    sender: Address = field(name="from")
    to: Address
    with_: Address = field(name="with")
    """Where the messages went to: ``from``, or a room."""
    state: Mark
    ids: Ids


class Ask(Keyed, tag="ask"):
    """A member, or somebody who wants to be one, to a room's server."""

    do: Does
    sender: Address = field(name="from")
    room: Address
    who: Address | None = None
    topic: Topic | None = None


class RoomState(Keyed, tag="room"):
    """A room as it is now, from its server to those of its members, and of those who have just left."""

    room: Address
    version: Natural
    topic: Topic
    owner: Address
    open: bool
    members: Annotated[list[Address], Meta(max_length=1024)]


class Invited(Keyed, tag="invited"):
    room: Address
    to: Address
    by: Address
    topic: Topic = ""


class Got(ServerBase, tag="got"):
    """These were handled; or were not, for a reason."""

    keys: Annotated[list[Id], Meta(max_length=MAX_ITEMS)]
    refused: Code = ""


class Presence(ServerBase, tag="presence"):
    to: Addresses
    people: Annotated[list[Online], Meta(max_length=MAX_ITEMS)]


class Probe(ServerBase, tag="probe"):
    """A question which of these people are connected, as far as ``from`` may know."""

    of: Addresses
    sender: Annotated[str, Meta(max_length=MAX_ADDRESS)] = field(name="from", default="")
    """Without it, it is only asked whether this chat is there."""


ServerOp = Say | Said | Marks | Ask | RoomState | Invited | Got | Presence | Probe

_client_op: Decoder[ClientOp] = Decoder(ClientOp)
_server_op: Decoder[ServerOp] = Decoder(ServerOp)
_told: Decoder[Told] = Decoder(Told)
encode = Encoder().encode


def as_data(value: object) -> Raw:
    """Returns a message as the data of a Bester message."""
    return Raw(encode(value))


def read_client_op(raw: Raw | bytes) -> ClientOp:
    """Returns what an account asks.

    Raises:
        BadMessage: not of the form.
    """
    try:
        op = _client_op.decode(raw)
    except (DecodeError, UnicodeDecodeError) as error:
        raise BadMessage(str(error)) from error
    if isinstance(op, Send):
        check_text(op.text)
    elif isinstance(op, Create | RoomOp):
        check_line(op.topic or "")
    return op


def read_server_op(raw: Raw | bytes) -> ServerOp:
    """Returns what another server's chat says.

    Raises:
        BadMessage: not of the form.
    """
    try:
        op = _server_op.decode(raw)
    except (DecodeError, UnicodeDecodeError) as error:
        raise BadMessage(str(error)) from error
    if isinstance(op, Say | Said):
        check_text(op.text)
    elif isinstance(op, Ask | RoomState | Invited):
        check_line(op.topic or "")
    return op


def read_told(raw: Raw | bytes) -> Told | None:
    """Returns what a chat tells its clients; None for what is not known, which newer ones may tell.

    Raises:
        BadMessage: not JSON.
    """
    try:
        return _told.decode(raw)
    except UnicodeDecodeError as error:
        raise BadMessage(str(error)) from error
    except DecodeError:
        return None


def check_text(text: str) -> None:
    """Refuses control characters, but for tabulators and ends of lines.

    Raises:
        BadMessage: there are some, or nothing else.
    """
    if _CONTROLS.search(text):
        raise BadMessage("a text has no control characters, but for tabulators and ends of lines")
    if not text.strip():
        raise BadMessage("a text is not empty")


def check_line(text: str) -> None:
    """Refuses control characters.

    Raises:
        BadMessage: there are some.
    """
    if _CONTROLS.search(text) or "\n" in text or "\t" in text:
        raise BadMessage("a topic is one line, without control characters")
