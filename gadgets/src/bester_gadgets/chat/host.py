"""A room at its own server, which decides who is in it and in what order things are said (docs/chat.md, section 5)."""

from __future__ import annotations

from bester_gadgets.chat import rooms
from bester_gadgets.chat.book import Book, Refused
from bester_gadgets.chat.wire import Does, Invited, RoomState, Said


def create(book: Book, user: str, room: str, topic: str, open: bool) -> None:
    """Makes a room; who makes it owns it.

    Raises:
        Refused: there is one of this name, or too many of this account.
    """
    if _exists(book, room):
        raise Refused("roomExists", f"there is a room {room} already")
    (count,) = book.db.execute("SELECT count(*) FROM rooms WHERE maker = ?", (user,)).fetchone()
    if count >= book.settings.max_rooms:
        raise Refused("tooMany", f"an account makes at most {book.settings.max_rooms} rooms")
    me = book.address(user)
    book.open_talk(user, room)
    # A room that is made anew goes on from the last one's version, so that other servers believe it.
    book.db.execute(
        "INSERT INTO rooms (room, maker, owner, topic, open, version) VALUES (?, ?, ?, ?, ?, ?)",
        (room, user, me, topic, open, book.steady),
    )
    book.db.execute("INSERT INTO members (room, member) VALUES (?, ?)", (room, me))
    book.change_talk(user, room, status="joined", reason="")


def _exists(book: Book, room: str) -> bool:
    return book.db.execute("SELECT 1 FROM rooms WHERE room = ?", (room,)).fetchone() is not None


def ask(book: Book, me: str, room: str, do: Does, who: str | None, topic: str | None) -> None:
    """Does what a member, or somebody who wants to be one, asks of a room of this server.

    Raises:
        Refused: it is not done.
    """
    if not _exists(book, room):
        raise Refused("unknownRoom", f"there is no room {room}")
    inside = rooms.is_member(book, room, me)
    if do == "join":
        if not inside:
            _join(book, room, me)
        else:
            _changed(book, room)
        return
    if not inside:
        if do == "leave":
            return
        raise Refused("notMember", "you are not in this room")
    owner, open = book.db.execute("SELECT owner, open FROM rooms WHERE room = ?", (room,)).fetchone()
    if do == "leave":
        _remove(book, room, me)
    elif do == "invite" and who is not None:
        if not open and owner != me:
            raise Refused("notOwner", "only the owner invites to this room")
        _invite(book, room, me, who)
    elif owner != me:
        raise Refused("notOwner", "only the room's owner may do that")
    elif do == "topic":
        book.db.execute("UPDATE rooms SET topic = ? WHERE room = ?", (topic or "", room))
        _changed(book, room)
    elif do == "kick" and who is not None:
        book.db.execute("DELETE FROM members WHERE room = ? AND member = ? AND invited", (room, who))
        if who != me and rooms.is_member(book, room, who):
            _remove(book, room, who)


def _join(book: Book, room: str, who: str) -> None:
    open, count = book.db.execute(
        "SELECT open, (SELECT count(*) FROM members WHERE room = ?1 AND NOT invited) FROM rooms WHERE room = ?1",
        (room,),
    ).fetchone()
    invited = book.db.execute("DELETE FROM members WHERE room = ? AND member = ?", (room, who)).rowcount
    if not open and not invited:
        raise Refused("inviteOnly", "one is invited to this room")
    if count >= book.settings.max_members:
        raise Refused("full", "the room is full")
    book.db.execute("INSERT INTO members (room, member) VALUES (?, ?)", (room, who))
    _changed(book, room)
    rooms.met(book, room, {who})


def _remove(book: Book, room: str, who: str) -> None:
    book.db.execute("DELETE FROM members WHERE room = ? AND member = ?", (room, who))
    rest = rooms.members(book, room)
    if rest:
        # What has no owner would be nobody's: it goes to who has been there longest.
        book.db.execute("UPDATE rooms SET owner = ? WHERE room = ? AND owner = ?", (rest[0], room, who))
    _changed(book, room, book.server_of(who))
    if not rest:
        book.db.execute("DELETE FROM members WHERE room = ?", (room,))
        book.db.execute("DELETE FROM rooms WHERE room = ?", (room,))


def _invite(book: Book, room: str, by: str, who: str) -> None:
    if rooms.is_member(book, room, who):
        return
    (count,) = book.db.execute("SELECT count(*) FROM members WHERE room = ? AND invited", (room,)).fetchone()
    if count >= book.settings.max_members:
        raise Refused("tooMany", "too many are invited already")
    book.db.execute("INSERT OR IGNORE INTO members (room, member, invited) VALUES (?, ?, 1)", (room, who))
    (topic,) = book.db.execute("SELECT topic FROM rooms WHERE room = ?", (room,)).fetchone()
    local = book.local(who)
    if local is not None:
        rooms.invited(book, local, room, by, topic)
    else:
        book.post(book.server_of(who), Invited(key=book.new_key(), room=room, to=who, by=by, topic=topic))


def _changed(book: Book, room: str, *gone: str) -> None:
    """Tells all servers that have members, and those that had, how the room is now."""
    owner, topic, open, version = book.db.execute(
        "UPDATE rooms SET version = max(version + 1, ?) WHERE room = ? RETURNING owner, topic, open, version",
        (book.steady, room),
    ).fetchone()
    members = rooms.members(book, room)
    for server in sorted({book.server_of(one) for one in members} | set(gone)):
        if server == book.own:
            continue
        state = RoomState(
            key=book.new_key(), room=room, version=version, topic=topic, owner=owner, open=bool(open), members=members
        )
        book.post(server, state)
    rooms.tell_all(book, room)


def say(book: Book, room: str, sender: str, id: str, time: int, text: str) -> None:
    """Takes a member of another server's message; the same one again is the same.

    Raises:
        Refused: not a member, or no such room.
    """
    known = book.message(sender, id, room)
    if known is not None:
        book.tell_again(known["ref"])
        return
    if not _exists(book, room):
        raise Refused("unknownRoom", f"there is no room {room}")
    if not rooms.is_member(book, room, sender):
        raise Refused("notMember", "you are not in this room")
    spread(book, room, sender, id, time, text, book.add_message(sender, id, room, time, text))


def spread(book: Book, room: str, sender: str, id: str, time: int, text: str, ref: int) -> None:
    """Gives a message its number, and brings it to all members but its sender here."""
    (n,) = book.db.execute("UPDATE rooms SET n = n + 1 WHERE room = ? RETURNING n", (room,)).fetchone()
    book.db.execute("UPDATE messages SET n = ? WHERE ref = ?", (n, ref))
    servers = set()
    for member in rooms.members(book, room):
        local = book.local(member)
        if local is None:
            servers.add(book.server_of(member))
        elif member != sender and not book.blocks(local, sender):
            talk = book.talk(local, room)
            if talk is not None and talk["status"] == "joined":
                book.enter(local, room, ref, mine=False, state="arrived")
    for server in sorted(servers):
        said = Said(key=book.new_key(), room=room, n=n, sender=sender, id=id, time=time, text=text)
        book.post(server, said)
