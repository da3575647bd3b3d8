"""Requests of this server's accounts to rooms, whether the room is here or at another server."""

from __future__ import annotations

from bester_gadgets.chat import host
from bester_gadgets.chat.book import Book
from bester_gadgets.chat.rooms import must_be_member
from bester_gadgets.chat.wire import Ask, Does, Say, Send


def send(book: Book, user: str, room: str, op: Send) -> int:
    """A member's message for a room, here or elsewhere; returns the message's reference."""
    must_be_member(book, user, room)
    me, server = book.address(user), book.server_of(room)
    ref = book.add_message(me, op.id, room, book.now, op.text)
    book.enter(user, room, ref, mine=True, state="arrived" if server == book.own else "sent")
    if server == book.own:
        host.spread(book, room, me, op.id, book.now, op.text, ref)
    else:
        say = Say(key=book.new_key(), sender=me, to=room, id=op.id, time=book.now, text=op.text)
        book.post(server, say, ref)
    return ref


def ask(book: Book, user: str, room: str, do: Does, who: str | None, topic: str | None) -> None:
    """Does what an account asks of a room, here or elsewhere."""
    talk = book.talk(user, room)
    status = talk["status"] if talk is not None else ""
    if do == "join":
        if status == "joined":
            return
        book.open_talk(user, room)
        book.change_talk(user, room, status="asked", reason="")
    elif do == "leave":
        if status in ("", "left"):
            return
        # Who leaves is gone from this moment, whether or not the room's server can be reached.
        book.change_talk(user, room, status="left", reason="")
        if book.server_of(room) != book.own:
            book.db.execute("DELETE FROM members WHERE room = ? AND member = ?", (room, book.address(user)))
        if status == "invited":
            return
    else:
        must_be_member(book, user, room)
    server = book.server_of(room)
    if server == book.own:
        host.ask(book, book.address(user), room, do, who, topic)
    else:
        op = Ask(key=book.new_key(), do=do, sender=book.address(user), room=room, who=who, topic=topic)
        book.post(server, op)
