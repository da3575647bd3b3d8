"""Takes the messages of other servers' chats (docs/chat.md, section 4).

The server that a message came from is what this server's besterd knows to be proven. Whatever a message says of who
said or did something must be of that server; else it is refused whole (:class:`Forged`), and nothing is kept.
"""

from __future__ import annotations

from typing import assert_never

from bester_gadgets.chat import audience, host, rooms
from bester_gadgets.chat.addresses import Address, BadChatAddress, parse, parse_person, parse_room
from bester_gadgets.chat.book import Book, Refused
from bester_gadgets.chat.reasons import explain
from bester_gadgets.chat.wire import (
    Ask,
    Got,
    Invited,
    Keyed,
    Marks,
    Presence,
    Probe,
    RoomState,
    Said,
    Say,
    ServerOp,
    read_server_op,
)


class Forged(Exception):
    """It says something for somebody, or of something, that is not of its server."""


def recipient(op: ServerOp, own: str) -> str | None:
    """Returns the account of this server that must exist for this; None if there is none."""
    if isinstance(op, Say) and op.to.startswith("#"):
        return None
    if isinstance(op, Say | Invited):
        person = parse_person(op.to)
        return person.name if person.server == own else None
    return None


def check(op: ServerOp, server: str, own: str) -> None:
    """Refuses what is not the other server's to say, and what is not for this one.

    Args:
        op: what was said.
        server: the proven name of the server that said it.
        own: this server's name.

    Raises:
        Forged: see there.
        BadChatAddress: something is no address, or not in its canonical spelling.
    """
    match op:
        case Say():
            _theirs(_person(op.sender), server)
            _ours(_canonical(op.to), own)
        case Said():
            _theirs(_room(op.room), server)
            _person(op.sender)
        case Marks():
            _theirs(_person(op.sender), server)
            _ours(_person(op.to), own)
            _canonical(op.with_)
            if op.with_ != op.sender and not op.with_.startswith("#"):
                raise Forged(f"{op.sender} cannot mark what went to {op.with_}")
        case Ask():
            _theirs(_person(op.sender), server)
            _ours(_room(op.room), own)
            if op.who is not None:
                _person(op.who)
        case RoomState():
            _theirs(_room(op.room), server)
            for member in [*op.members, op.owner]:
                _person(member)
        case Invited():
            _theirs(_room(op.room), server)
            _ours(_person(op.to), own)
            _person(op.by)
        case Presence():
            for address in op.to:
                _ours(_person(address), own)
            for one in op.people:
                _theirs(_person(one.who), server)
        case Probe():
            if op.sender:
                _theirs(_person(op.sender), server)
            for address in op.of:
                _ours(_person(address), own)
        case Got():
            pass
        case _:
            assert_never(op)


def _canonical(text: str) -> Address:
    address = parse(text)
    if str(address) != text:
        raise BadChatAddress(f"{text!r} is not in its canonical spelling, {address}")
    return address


def _person(text: str) -> Address:
    parse_person(text)
    return _canonical(text)


def _room(text: str) -> Address:
    parse_room(text)
    return _canonical(text)


def _theirs(address: Address, server: str) -> None:
    if address.server != server:
        raise Forged(f"{address} is not of {server}")


def _ours(address: Address, own: str) -> None:
    if address.server != own:
        raise Forged(f"{address} is not of {own}")


def handle(book: Book, server: str, op: ServerOp, exists: bool) -> None:
    """Does what another server's chat says; :func:`check` comes before.

    What has a key is done once, confirmed each time it comes, and refused with a code where it cannot be done.
    """
    match op:
        case Got():
            for key in op.keys:
                _confirmed(book, server, key, op.refused)
        case Presence() | Probe():
            pass  # not the book's: see ``presence``
        case _:
            book.passing.append((server, Got(keys=[op.key], refused=_once(book, server, op, exists))))


def _once(book: Book, server: str, op: Keyed, exists: bool) -> str:
    found = book.db.execute("SELECT refused FROM seen WHERE server = ? AND key = ?", (server, op.key)).fetchone()
    if found is not None:
        if isinstance(op, Say | Said):
            known = book.message(op.sender, op.id, op.to if isinstance(op, Say) else op.room)
            if known is not None:
                book.tell_again(known["ref"])
        return str(found[0])
    refused = ""
    book.db.execute("SAVEPOINT op")
    before = len(book.told), len(book.posts)
    try:
        _do(book, op, exists)
    except Refused as error:
        book.db.execute("ROLLBACK TO op")
        del book.told[before[0] :]
        del book.posts[before[1] :]
        refused = error.code
    book.db.execute("RELEASE op")
    book.db.execute("INSERT INTO seen VALUES (?, ?, ?, ?)", (server, op.key, book.steady, refused))
    return refused


def _do(book: Book, op: Keyed, exists: bool) -> None:
    match op:
        case Say() if op.to.startswith("#"):
            host.say(book, op.to, op.sender, op.id, op.time, op.text)
        case Say():
            _say(book, op, exists)
        case Said():
            rooms.said(book, op)
        case Marks():
            _marks(book, op)
        case Ask():
            host.ask(book, op.sender, op.room, op.do, op.who, op.topic)
        case RoomState():
            rooms.restate(book, op)
        case Invited():
            local = book.local(op.to)
            if not exists or local is None:
                raise Refused("unknownAccount", f"there is no account {op.to}")
            rooms.invited(book, local, op.room, op.by, op.topic)


def _say(book: Book, op: Say, exists: bool) -> None:
    local = book.local(op.to)
    if not exists or local is None:
        raise Refused("unknownAccount", f"there is no account {op.to}")
    # Who is blocked is told what somebody is told whose messages are not read.
    if book.blocks(local, op.sender) or book.message(op.sender, op.id, op.to) is not None:
        return
    ref = book.add_message(op.sender, op.id, op.to, op.time, op.text)
    book.enter(local, op.sender, ref, mine=False, state="arrived")


def _marks(book: Book, op: Marks) -> None:
    local = book.local(op.to)
    if local is None:
        return
    if op.with_.startswith("#") and not rooms.is_member(book, op.with_, op.sender):
        return
    refs = [row["ref"] for id in op.ids if (row := book.message(op.to, id, op.with_)) is not None]
    book.raise_states(local, refs, op.state)


def _confirmed(book: Book, server: str, key: str, refused: str) -> None:
    row = book.db.execute(
        "DELETE FROM outgoing WHERE key = ? AND server = ? RETURNING body, ref", (key, server)
    ).fetchone()
    if row is not None:
        settle(book, row[0], row[1], refused)


def settle(book: Book, body: bytes, ref: int | None, refused: str) -> None:
    """Something that was posted has an end: the other server has it, or refused it."""
    op = read_server_op(body)
    if isinstance(op, Say) and ref is not None:
        local = book.local(op.sender)
        if local is not None:
            book.raise_states(local, [ref], "failed" if refused else "arrived", refused)
    elif isinstance(op, Ask) and refused:
        rooms.refused(book, op, refused)
    elif isinstance(op, Invited) and refused:
        book.db.execute("DELETE FROM members WHERE room = ? AND member = ? AND invited", (op.room, op.to))
        local = book.local(op.by)
        if local is not None:
            audience.notice(book, local, op.room, explain(refused))
