"""The book: what one job reads and writes of the history, and what it has to say about it.

Each account has a sequence of changes, numbered without gaps: every entry and every conversation carries the number of
its last change, and every event that tells of a change carries the numbers before and after it. So a client knows when
it missed something, and asks for all that has changed since. A new entry's position is the number of the change that
made it.

A job collects what is to be sent: events to accounts (``told``), messages that another server must confirm and that
are therefore kept until it has (``posts``), those that it need not (``passing``), and who may see whom from now on
(``met``).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from uuid import uuid4

from bester_gadgets.chat.addresses import Address, parse
from bester_gadgets.chat.settings import ChatSettings
from bester_gadgets.chat.wire import (
    RANKS,
    STATES,
    Entry,
    EntryEvent,
    Event,
    Keyed,
    ServerBase,
    State,
    StatesEvent,
    Talk,
    TalkEvent,
    encode,
)

MAX_PREVIEW = 120
"""Characters of a message in the list of conversations."""


class Refused(Exception):
    """A request is refused; the sender is told the code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class Book:
    """One job's; see the module's text.

    Args:
        db: in a transaction.
        own: the name of this server.
        settings: the bounds.
        now: milliseconds since 1970, to be shown.
        steady: milliseconds of the clock by which things end.
    """

    db: sqlite3.Connection
    own: str
    settings: ChatSettings
    now: int
    steady: int
    told: list[tuple[str, Event]] = field(default_factory=list)
    posts: list[tuple[str, bytes]] = field(default_factory=list)
    passing: list[tuple[str, ServerBase]] = field(default_factory=list)
    met: list[tuple[str, list[str]]] = field(default_factory=list)
    """Accounts here, and those who may see them from now on."""

    @property
    def first_retry_ms(self) -> int:
        """Returns how long another server has to confirm before the item is sent again."""
        return int(2000 * self.settings.retry_s)

    # -- people -----------------------------------------------------------------------------------------------

    def address(self, owner: str) -> str:
        return f"{owner}@{self.own}"

    def local(self, address: str) -> str | None:
        """Returns the account that an address in canonical spelling names here; None if it is elsewhere."""
        name, _, server = address.rpartition("@")
        return name if server == self.own and not name.startswith("#") else None

    def seq(self, owner: str) -> int:
        """Returns the number of an account's last change."""
        row = self.db.execute("SELECT seq FROM people WHERE user = ?", (owner,)).fetchone()
        return row[0] if row else 0

    def bump(self, owner: str) -> int:
        """Returns the number of a new change."""
        (seq,) = self.db.execute(
            "INSERT INTO people VALUES (?, 1) ON CONFLICT (user) DO UPDATE SET seq = seq + 1 RETURNING seq", (owner,)
        ).fetchone()
        return int(seq)

    def blocks(self, owner: str, who: str) -> bool:
        """Says whether an account blocks a person, or the person's server."""
        server = who.rpartition("@")[2]
        found = self.db.execute("SELECT 1 FROM blocked WHERE owner = ? AND who IN (?, ?)", (owner, who, server))
        return found.fetchone() is not None

    def blocked(self, owner: str) -> list[str]:
        return [who for (who,) in self.db.execute("SELECT who FROM blocked WHERE owner = ? ORDER BY who", (owner,))]

    # -- conversations ------------------------------------------------------------------------------------------

    def talk(self, owner: str, name: str) -> sqlite3.Row | None:
        cursor = self.db.execute("SELECT * FROM talks WHERE owner = ? AND talk = ?", (owner, name))
        cursor.row_factory = sqlite3.Row
        row: sqlite3.Row | None = cursor.fetchone()
        return row

    def open_talk(self, owner: str, name: str) -> None:
        """Makes a conversation where there is none.

        Raises:
            Refused: the account has too many.
        """
        if self.talk(owner, name) is not None:
            return
        (count,) = self.db.execute("SELECT count(*) FROM talks WHERE owner = ?", (owner,)).fetchone()
        if count >= self.settings.max_conversations and not self._forget_one(owner):
            raise Refused("tooMany", f"an account has at most {self.settings.max_conversations} conversations")
        self.db.execute("INSERT INTO talks (owner, talk, changed) VALUES (?, ?, ?)", (owner, name, self.seq(owner)))

    def _forget_one(self, owner: str) -> bool:
        """Makes room: rooms that were left, and invitations, count least, and go with what was said there."""
        row = self.db.execute(
            "SELECT talk FROM talks WHERE owner = ? AND status IN ('left', 'invited') ORDER BY changed LIMIT 1",
            (owner,),
        ).fetchone()
        if row is None:
            return False
        self.db.execute("DELETE FROM entries WHERE owner = ? AND talk = ?", (owner, row[0]))
        self.db.execute("DELETE FROM talks WHERE owner = ? AND talk = ?", (owner, row[0]))
        return True

    def change_talk(self, owner: str, name: str, **values: object) -> None:
        """Changes a conversation, and tells so."""
        before = self.seq(owner)
        changes = ", ".join(f"{column} = ?" for column in values)
        self.db.execute(
            f"UPDATE talks SET {changes}{',' if changes else ''} changed = ? WHERE owner = ? AND talk = ?",
            (*values.values(), self.bump(owner), owner, name),
        )
        self.told.append((owner, self.talk_event(owner, name, before)))

    def talk_event(self, owner: str, name: str, since: int) -> TalkEvent:
        return TalkEvent(since=since, seq=self.seq(owner), talk=self.talks(owner, name)[0])

    def talks(self, owner: str, name: str | None = None) -> list[Talk]:
        """Returns an account's conversations, the newest first; or one."""
        cursor = self.db.execute(
            """SELECT t.*, m.text, m.time, r.owner AS room_owner, r.topic AS room_topic, r.open,
                 (SELECT count(*) FROM entries e WHERE e.owner = t.owner AND e.talk = t.talk AND e.pos > t.read
                    AND NOT e.mine) AS unread,
                 (SELECT count(*) FROM members x WHERE x.room = t.talk AND NOT x.invited) AS members
               FROM talks t LEFT JOIN entries e ON e.owner = t.owner AND e.pos = t.last
                 LEFT JOIN messages m ON m.ref = e.ref LEFT JOIN rooms r ON r.room = t.talk
               WHERE t.owner = ? AND (? IS NULL OR t.talk = ?) ORDER BY max(t.last, t.changed) DESC""",
            (owner, name, name),
        )
        cursor.row_factory = sqlite3.Row
        return [
            Talk(
                with_=row["talk"],
                last=row["last"],
                read=row["read"],
                unread=row["unread"],
                preview=(row["text"] or "")[:MAX_PREVIEW],
                time=row["time"] or 0,
                status=row["status"],
                reason=row["reason"],
                by=row["by_whom"],
                topic=(row["room_topic"] if row["room_topic"] is not None else row["topic"]),
                owner=row["room_owner"] or "",
                open=row["open"] is None or bool(row["open"]),
                members=row["members"],
            )
            for row in cursor
        ]

    # -- messages and entries -----------------------------------------------------------------------------------

    def message(self, sender: str, id: str, target: str) -> sqlite3.Row | None:
        cursor = self.db.execute(
            "SELECT * FROM messages WHERE sender = ? AND id = ? AND target = ?", (sender, id, target)
        )
        cursor.row_factory = sqlite3.Row
        row: sqlite3.Row | None = cursor.fetchone()
        return row

    def add_message(self, sender: str, id: str, target: str, time: int, text: str, n: int | None = None) -> int:
        """Keeps a message; returns what its entries refer to it by."""
        cursor = self.db.execute(
            "INSERT INTO messages (sender, id, target, time, text, n, kept) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (sender, id, target, min(time, self.now), text, n, self.steady),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def enter(self, owner: str, talk: str, ref: int, *, mine: bool, state: State) -> None:
        """Puts a message at the end of an account's conversation, and tells so.

        Raises:
            Refused: the account has too many conversations.
        """
        self.open_talk(owner, talk)
        before = self.seq(owner)
        pos = self.bump(owner)
        self.db.execute(
            "INSERT INTO entries (owner, pos, changed, talk, ref, mine, state) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (owner, pos, pos, talk, ref, mine, RANKS[state]),
        )
        self.db.execute("UPDATE talks SET last = ? WHERE owner = ? AND talk = ?", (pos, owner, talk))
        self.tell_entry(owner, pos, before)

    def tell_entry(self, owner: str, pos: int, since: int | None = None) -> None:
        """Tells of an entry; without ``since`` once more, which changes nothing for those who know it."""
        [entry] = self.entries("e.owner = ? AND e.pos = ?", (owner, pos), 1)
        seq = self.seq(owner)
        self.told.append((owner, EntryEvent(since=seq if since is None else since, seq=seq, entry=entry)))

    def tell_again(self, ref: int) -> None:
        """Tells all accounts here once more of a message: before a crash they may not have been told."""
        for owner, pos in self.db.execute("SELECT owner, pos FROM entries WHERE ref = ?", (ref,)).fetchall():
            self.tell_entry(owner, pos)

    def entries(self, where: str, arguments: tuple[object, ...], limit: int) -> list[Entry]:
        """Returns entries (``e``) of some condition; order belongs to it."""
        found = self.db.execute(
            "SELECT e.pos, e.talk, m.sender, m.id, m.time, m.text, e.mine, e.state, e.reason FROM entries e"
            f" JOIN messages m ON m.ref = e.ref WHERE {where} LIMIT {limit}",
            arguments,
        )
        return [
            Entry(
                pos=pos,
                with_=talk,
                sender=sender,
                id=id,
                time=time,
                text=text,
                state=STATES[state] if mine else None,
                reason=reason,
            )
            for pos, talk, sender, id, time, text, mine, state, reason in found
        ]

    def entry_of(self, owner: str, ref: int) -> tuple[int, str, int] | None:
        """Returns position, conversation and state of an account's entry of a message."""
        found: tuple[int, str, int] | None = self.db.execute(
            "SELECT pos, talk, state FROM entries WHERE owner = ? AND ref = ?", (owner, ref)
        ).fetchone()
        return found

    def raise_states(self, owner: str, refs: list[int], state: State, reason: str = "") -> None:
        """Raises the states of an account's own messages, and tells so; what is beyond that state already stays."""
        before = self.seq(owner)
        items: dict[str, list[tuple[int, State]]] = {}
        for ref in refs:
            found = self.entry_of(owner, ref)
            if found is None or found[2] >= RANKS[state] or (state == "failed" and found[2] > RANKS["sent"]):
                continue
            pos, talk, _ = found
            self.db.execute(
                "UPDATE entries SET state = ?, reason = ?, changed = ? WHERE owner = ? AND pos = ?",
                (RANKS[state], reason, self.bump(owner), owner, pos),
            )
            items.setdefault(talk, []).append((pos, state))
            if reason:
                self.tell_entry(owner, pos, before)
                return
        if len(items) == 1:
            [(talk, one)] = items.items()
            self.told.append((owner, StatesEvent(since=before, seq=self.seq(owner), with_=talk, items=one)))

    def move_to_end(self, owner: str, pos: int) -> None:
        """Gives an own message in a room the place that the room's server gave it, and tells so."""
        before = self.seq(owner)
        last = self.bump(owner)
        self.db.execute(
            "UPDATE entries SET pos = ?, changed = ?, state = max(state, ?) WHERE owner = ? AND pos = ?",
            (last, last, RANKS["arrived"], owner, pos),
        )
        (talk,) = self.db.execute("SELECT talk FROM entries WHERE owner = ? AND pos = ?", (owner, last)).fetchone()
        self.db.execute("UPDATE talks SET last = ? WHERE owner = ? AND talk = ?", (last, owner, talk))
        self.tell_entry(owner, last, before)

    # -- other servers ------------------------------------------------------------------------------------------

    def new_key(self) -> str:
        return uuid4().hex

    def post(self, server: str, op: Keyed, ref: int | None = None) -> None:
        """Sends what another server must confirm.

        Raises:
            Refused: too much waits for that server.
        """
        (count,) = self.db.execute("SELECT count(*) FROM outgoing WHERE server = ?", (server,)).fetchone()
        if count >= self.settings.max_waiting:
            raise Refused("busy", f"too much waits for {server} already; try again later")
        body = encode(op)
        self.db.execute(
            "INSERT INTO outgoing (key, server, body, ref, made, due) VALUES (?, ?, ?, ?, ?, ?)",
            (op.key, server, body, ref, self.steady, self.steady + self.first_retry_ms),
        )
        self.posts.append((server, body))

    def server_of(self, address: str) -> str:
        return address.rpartition("@")[2]

    def parse(self, text: str) -> Address:
        """Reads an address; without a server it is here.

        Raises:
            BadChatAddress: not an address.
        """
        return parse(text, self.own)
