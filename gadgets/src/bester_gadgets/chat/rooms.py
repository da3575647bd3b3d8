"""Rooms as the homes of their members see them; what the room's own server decides is in ``host``,
and what accounts ask of rooms in ``room_requests``.

The tables ``rooms`` and ``members`` hold the rooms of this server, and of the others what they said last.
"""

from __future__ import annotations

from bester_gadgets.chat.book import Book, Refused
from bester_gadgets.chat.reasons import explain
from bester_gadgets.chat.wire import Ask, NoticeEvent, RoomState, Said


def members(book: Book, room: str) -> list[str]:
    """Returns a room's members, those first who have been there longest."""
    found = book.db.execute("SELECT member FROM members WHERE room = ? AND NOT invited ORDER BY place", (room,))
    return [member for (member,) in found]


def is_member(book: Book, room: str, who: str) -> bool:
    found = book.db.execute("SELECT 1 FROM members WHERE room = ? AND member = ? AND NOT invited", (room, who))
    return found.fetchone() is not None


def must_be_member(book: Book, user: str, room: str) -> None:
    """Refuses those who have not joined.

    Raises:
        Refused: not a member.
    """
    talk = book.talk(user, room)
    if talk is None or talk["status"] != "joined":
        raise Refused("notMember", "you are not in this room")


def refused(book: Book, op: Ask, code: str) -> None:
    """The room's server does not do what was asked."""
    user = book.local(op.sender)
    if user is None:
        return
    talk = book.talk(user, op.room)
    if op.do == "join" and talk is not None and talk["status"] == "asked":
        book.change_talk(user, op.room, status="left", reason=code)
    elif op.do != "leave":
        book.told.append((user, NoticeEvent(with_=op.room, problem=explain(code))))


def invited(book: Book, user: str, room: str, by: str, topic: str) -> None:
    """An account is invited; nothing comes of it where it blocks who invites."""
    if book.blocks(user, by) or book.blocks(user, room):
        return
    talk = book.talk(user, room)
    if talk is not None and talk["status"] in ("joined", "asked", "invited"):
        return
    book.open_talk(user, room)
    book.change_talk(user, room, status="invited", by_whom=by, topic=topic, reason="")


# -- from a room's server ---------------------------------------------------------------------------------------


def restate(book: Book, state: RoomState) -> None:
    """Takes over what the room's server says of a room: only accounts that asked for it are its members here."""
    known = book.db.execute("SELECT version FROM rooms WHERE room = ?", (state.room,)).fetchone()
    if known is not None and known[0] >= state.version:
        return
    wanting = {
        owner
        for (owner,) in book.db.execute(
            "SELECT owner FROM talks WHERE talk = ? AND status IN ('asked', 'joined')", (state.room,)
        )
    }
    if not wanting and known is None:
        return
    inside = [one for one in state.members if (local := book.local(one)) is None or local in wanting]
    book.db.execute(
        "INSERT INTO rooms (room, owner, topic, open, version) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (room)"
        " DO UPDATE SET owner = ?2, topic = ?3, open = ?4, version = ?5",
        (state.room, state.owner, state.topic, state.open, state.version),
    )
    before = set(members(book, state.room))
    book.db.execute("DELETE FROM members WHERE room = ?", (state.room,))
    book.db.executemany(
        "INSERT OR IGNORE INTO members (room, member) VALUES (?, ?)", [(state.room, one) for one in inside]
    )
    tell_all(book, state.room)
    met(book, state.room, set(inside) - before)
    left = book.db.execute(
        "SELECT 1 FROM talks WHERE talk = ? AND status IN ('asked', 'joined')", (state.room,)
    ).fetchone()
    if left is None and book.server_of(state.room) != book.own:
        book.db.execute("DELETE FROM members WHERE room = ?", (state.room,))


def met(book: Book, room: str, added: set[str]) -> None:
    """Lets new members of a room see the presence of the others, and the others theirs."""
    all_members = members(book, room)
    for member in all_members:
        user = book.local(member)
        others = [one for one in all_members if one != member and (one in added or member in added)]
        if user is not None and others:
            book.met.append((user, others))


def tell_all(book: Book, room: str) -> None:
    """Brings the conversations of this server's accounts up to date with the room's members, and tells so."""
    found = book.db.execute(
        "SELECT owner, status FROM talks WHERE talk = ? AND status IN ('asked', 'joined')", (room,)
    ).fetchall()
    for owner, status in found:
        inside = is_member(book, room, book.address(owner))
        if inside:
            book.change_talk(owner, room, status="joined")
        elif status == "joined":
            book.change_talk(owner, room, status="left", reason="removed")


def said(book: Book, op: Said) -> None:
    """A room's message reaches the members here; own ones get their place, and nobody is said to have said anything.

    Raises:
        Refused: its sender is of this server and never said that.
    """
    sender = book.local(op.sender)
    known = book.message(op.sender, op.id, op.room)
    if sender is not None:
        if known is None or known["text"] != op.text:
            raise Refused("forged", "its sender did not say that")
        own = book.entry_of(sender, known["ref"])
        if own is not None:
            book.move_to_end(sender, own[0])
        book.db.execute("UPDATE messages SET n = ? WHERE ref = ?", (op.n, known["ref"]))
    ref = known["ref"] if known is not None else None
    for (owner,) in book.db.execute(
        "SELECT owner FROM talks WHERE talk = ? AND status = 'joined' ORDER BY owner", (op.room,)
    ).fetchall():
        if owner == sender or book.blocks(owner, op.sender):
            continue
        if ref is None:
            ref = book.add_message(op.sender, op.id, op.room, op.time, op.text, op.n)
        if book.entry_of(owner, ref) is None:
            book.enter(owner, op.room, ref, mine=False, state="arrived")
