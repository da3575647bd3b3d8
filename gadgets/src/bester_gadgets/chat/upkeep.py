"""Does the periodic work: sends again, gives up, and forgets what is too old."""

from __future__ import annotations

from bester_gadgets.chat import peers
from bester_gadgets.chat.book import Book

DAY_MS = 86_400_000
SEEN_DAYS = 30
"""How long the keys of other servers are known; none sends anything again for more than 28 days."""
MAX_AGAIN = 200
"""Messages in one go, over all servers."""
MAX_RETRY_MS = 15 * 60_000
MAX_REMOVED = 5000
"""Rows in one go, so that nobody waits for long."""


def due(book: Book) -> dict[str, list[tuple[str, bytes]]]:
    """Returns what other servers have not confirmed and is to be sent again: by server, keys and bodies in order."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    for key, server, body in book.db.execute(
        "SELECT key, server, body FROM outgoing WHERE due <= ? ORDER BY place LIMIT ?", (book.steady, MAX_AGAIN)
    ):
        found.setdefault(server, []).append((key, body))
    for some in found.values():
        for key, _ in some:
            book.db.execute(
                "UPDATE outgoing SET tries = tries + 1, due = ?1 + min(?2 << min(tries, 10), ?3) WHERE key = ?4",
                (book.steady, book.first_retry_ms, MAX_RETRY_MS, key),
            )
    return found


def hasten(book: Book, server: str) -> None:
    """A server is there again: what waits for it is due now."""
    book.db.execute("UPDATE outgoing SET due = ?1, tries = 0 WHERE server = ?2 AND tries > 0", (book.steady, server))


def give_up(book: Book) -> None:
    """Ends what another server has not confirmed for too long."""
    for body, ref in book.db.execute(
        "DELETE FROM outgoing WHERE made < ? RETURNING body, ref",
        (book.steady - book.settings.give_up_days * DAY_MS,),
    ).fetchall():
        peers.settle(book, body, ref, "expired")


def forget(book: Book) -> bool:
    """Removes what is too old or too much; returns whether there may be more of it."""
    settings = book.settings
    old = book.steady - settings.keep_days * DAY_MS
    removed = book.db.execute(
        "DELETE FROM entries WHERE (owner, pos) IN (SELECT e.owner, e.pos FROM messages m"
        " JOIN entries e ON e.ref = m.ref WHERE m.kept < ? LIMIT ?)",
        (old, MAX_REMOVED),
    ).rowcount
    for owner, count in book.db.execute("SELECT owner, count(*) FROM entries GROUP BY owner").fetchall():
        if count > settings.keep_messages:
            removed += book.db.execute(
                "DELETE FROM entries WHERE owner = ?1 AND pos IN"
                " (SELECT pos FROM entries WHERE owner = ?1 ORDER BY pos LIMIT ?2)",
                (owner, min(count - settings.keep_messages, MAX_REMOVED)),
            ).rowcount
    # Two days, so that what another server may still send again is known.
    removed += book.db.execute(
        "DELETE FROM messages WHERE ref IN (SELECT m.ref FROM messages m LEFT JOIN entries e ON e.ref = m.ref"
        " WHERE e.ref IS NULL AND m.kept < ? LIMIT ?)",
        (book.steady - (settings.give_up_days + 2) * DAY_MS, MAX_REMOVED),
    ).rowcount
    book.db.execute("DELETE FROM seen WHERE time < ?", (book.steady - SEEN_DAYS * DAY_MS,))
    return removed >= MAX_REMOVED
