"""Decides who may see a person's presence and read marks: the people they wrote to, and those in a room with them.

Whoever is blocked sees nothing, and a stranger sees nothing by writing to somebody. In which rooms an account is, its
own home knows by what the account asked for (``talks``), and takes nobody's word for it.
"""

from __future__ import annotations

from bester_gadgets.chat import rooms
from bester_gadgets.chat.book import Book
from bester_gadgets.chat.wire import MAX_ITEMS, NoticeEvent, Problem


def of(book: Book, user: str) -> list[str]:
    """Returns those who may see an account of this server, but for those whom it blocks."""
    me = book.address(user)
    found = book.db.execute(
        "SELECT talk FROM talks WHERE owner = ?1 AND contact AND talk NOT LIKE '#%' UNION"
        " SELECT o.member FROM talks t JOIN members o ON o.room = t.talk AND NOT o.invited"
        " WHERE t.owner = ?1 AND t.status = 'joined' AND o.member <> ?2",
        (user, me),
    ).fetchall()
    blocked = set(book.blocked(user))
    return [who for (who,) in found if who not in blocked and book.server_of(who) not in blocked]


def may_see(book: Book, user: str, who: str) -> bool:
    """Says whether somebody may see an account of this server."""
    if book.blocks(user, who):
        return False
    contact = book.db.execute("SELECT 1 FROM talks WHERE owner = ? AND talk = ? AND contact", (user, who)).fetchone()
    return contact is not None or _share(book, user, who)


def may_see_reads(book: Book, user: str, name: str, who: str) -> bool:
    """Says whether somebody may know that an account of this server got, or read, what they said in a conversation."""
    if book.blocks(user, who):
        return False
    talk = book.talk(user, name)
    if not name.startswith("#"):
        return talk is not None and bool(talk["contact"])
    return talk is not None and talk["status"] == "joined" and rooms.is_member(book, name, who)


def looks_at(book: Book, user: str) -> list[str]:
    """Returns those whom an account of this server would like to see, whether or not it may.

    Strangers elsewhere who wrote to it are not among them: the question alone would tell them that it is connected.
    """
    found = book.db.execute(
        "SELECT talk, contact FROM talks WHERE owner = ?1 AND talk NOT LIKE '#%' UNION"
        " SELECT o.member, 1 FROM talks t JOIN members o ON o.room = t.talk AND NOT o.invited"
        " WHERE t.owner = ?1 AND t.status = 'joined' AND o.member <> ?2 LIMIT ?3",
        (user, book.address(user), 4 * MAX_ITEMS),
    ).fetchall()
    blocked = set(book.blocked(user))
    seen = {who: None for who, asked in found if asked or book.server_of(who) == book.own}
    return [who for who in seen if who not in blocked and book.server_of(who) not in blocked]


def cares(book: Book, user: str, who: str) -> bool:
    """Says whether an account of this server is to be told of somebody elsewhere."""
    if book.blocks(user, who):
        return False
    return book.talk(user, who) is not None or _share(book, user, who)


def _share(book: Book, user: str, who: str) -> bool:
    found = book.db.execute(
        "SELECT 1 FROM talks t JOIN members o ON o.room = t.talk AND NOT o.invited AND o.member = ?"
        " WHERE t.owner = ? AND t.status = 'joined'",
        (who, user),
    )
    return found.fetchone() is not None


def notice(book: Book, user: str, about: str, problem: Problem) -> None:
    """Tells an account of something that did not work out."""
    book.told.append((user, NoticeEvent(with_=about, problem=problem)))
