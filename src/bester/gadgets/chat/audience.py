"""Who may see whether somebody is connected: those whom they wrote to, and who is in a room with them.

Whoever is blocked sees nothing, and a stranger sees nothing by writing to somebody.
"""

from __future__ import annotations

from bester.gadgets.chat.book import Book
from bester.gadgets.chat.wire import MAX_ITEMS, NoticeEvent, Problem


def of(book: Book, user: str) -> list[str]:
    """Returns those who may see an account of this server, but for those whom it blocks."""
    me = book.address(user)
    found = book.db.execute(
        "SELECT talk FROM talks WHERE owner = ?1 AND contact AND talk NOT LIKE '#%' UNION"
        " SELECT o.member FROM members m JOIN members o ON o.room = m.room AND NOT o.invited"
        " WHERE m.member = ?2 AND NOT m.invited AND o.member <> ?2",
        (user, me),
    ).fetchall()
    blocked = set(book.blocked(user))
    return [who for (who,) in found if who not in blocked and book.server_of(who) not in blocked]


def may_see(book: Book, user: str, who: str) -> bool:
    """Says whether somebody may see an account of this server."""
    if book.blocks(user, who):
        return False
    contact = book.db.execute("SELECT 1 FROM talks WHERE owner = ? AND talk = ? AND contact", (user, who)).fetchone()
    return contact is not None or _share(book, book.address(user), who)


def looks_at(book: Book, user: str) -> list[str]:
    """Returns those whom an account of this server would like to see, whether or not it may."""
    me = book.address(user)
    found = book.db.execute(
        "SELECT talk FROM talks WHERE owner = ?1 AND talk NOT LIKE '#%' UNION"
        " SELECT o.member FROM members m JOIN members o ON o.room = m.room AND NOT o.invited"
        " WHERE m.member = ?2 AND NOT m.invited AND o.member <> ?2 LIMIT ?3",
        (user, me, 4 * MAX_ITEMS),
    ).fetchall()
    blocked = set(book.blocked(user))
    return [who for (who,) in found if who not in blocked and book.server_of(who) not in blocked]


def cares(book: Book, user: str, who: str) -> bool:
    """Says whether an account of this server is to be told of somebody elsewhere."""
    if book.blocks(user, who):
        return False
    return book.talk(user, who) is not None or _share(book, book.address(user), who)


def _share(book: Book, one: str, other: str) -> bool:
    found = book.db.execute(
        "SELECT 1 FROM members m JOIN members o ON o.room = m.room AND NOT o.invited AND o.member = ?"
        " WHERE m.member = ? AND NOT m.invited",
        (other, one),
    )
    return found.fetchone() is not None


def notice(book: Book, user: str, about: str, problem: Problem) -> None:
    """Tells an account of something that did not work out."""
    book.told.append((user, NoticeEvent(with_=about, problem=problem)))
