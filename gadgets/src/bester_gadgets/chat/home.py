"""Answers the requests of this server's accounts (docs/chat.md, section 3)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from bester.protocol.names import server_name
from bester_gadgets.chat import audience, host, room_requests, rooms
from bester_gadgets.chat.addresses import Address, parse_person, parse_room
from bester_gadgets.chat.book import Book, Refused
from bester_gadgets.chat.wire import (
    MAX_ITEMS,
    MAX_PAGE,
    VERSION,
    Answer,
    Block,
    BlockedEvent,
    ClientOp,
    Create,
    Entry,
    EntryEvent,
    Hello,
    History,
    Mark,
    MarkOp,
    Marks,
    Members,
    RoomOp,
    Say,
    Send,
    Sync,
    TalkEvent,
    encode,
)

MAX_PAGE_BYTES = 256 * 1024
MAX_LIST_BYTES = 512 * 1024


def recipient(op: ClientOp, own: str) -> str | None:
    """Returns the account of this server that must exist for this; None if there is none.

    Raises:
        BadChatAddress: not an address.
    """
    named = op.to if isinstance(op, Send) else op.who if isinstance(op, RoomOp) and op.do == "invite" else None
    if not named or (isinstance(op, Send) and named.startswith("#")):
        return None
    person = parse_person(named, own)
    return person.name if person.server == own else None


def handle(book: Book, user: str, op: ClientOp, exists: bool) -> Answer:
    """Does what an account asks.

    Args:
        book: the job's.
        user: who asks, as the server knows it.
        op: what is asked.
        exists: whether :func:`recipient` does.

    Raises:
        Refused, BadChatAddress: nothing was done, for a reason that is told.
    """
    match op:
        case Hello():
            answer = _hello(book, user)
        case Sync():
            answer = _sync(book, user, op.since)
        case Send():
            answer = _send(book, user, op, exists)
        case History():
            answer = _history(book, user, op)
        case MarkOp():
            answer = _mark(book, user, op)
        case Block():
            answer = _block(book, user, op)
        case Create():
            answer = _create(book, user, op)
        case RoomOp():
            answer = _room(book, user, op, exists)
        case Members():
            room = str(parse_room(op.room, book.own))
            rooms.must_be_member(book, user, room)
            answer = Answer(members=rooms.members(book, room))
    answer.ask = op.ask
    return answer


def _hello(book: Book, user: str) -> Answer:
    talks = book.talks(user)
    size = 0
    for count, talk in enumerate(talks):
        size += len(encode(talk))
        if size > MAX_LIST_BYTES:
            del talks[count:]
            break
    return Answer(v=VERSION, you=book.address(user), seq=book.seq(user), talks=talks, blocked=book.blocked(user))


def _sync(book: Book, user: str, since: int) -> Answer:
    entries = book.entries("e.owner = ? AND e.changed > ? ORDER BY e.changed", (user, since), MAX_PAGE + 1)
    numbers = dict(
        book.db.execute(
            "SELECT pos, changed FROM entries WHERE owner = ? AND changed > ? ORDER BY changed LIMIT ?",
            (user, since, MAX_PAGE + 1),
        ).fetchall()
    )
    talks = book.db.execute(
        "SELECT talk, changed FROM talks WHERE owner = ? AND changed > ? ORDER BY changed LIMIT ?",
        (user, since, MAX_PAGE + 1),
    ).fetchall()
    changes: list[EntryEvent | TalkEvent] = [EntryEvent(seq=numbers[one.pos], entry=one) for one in entries]
    changes += [TalkEvent(seq=changed, talk=book.talks(user, name)[0]) for name, changed in talks]
    changes.sort(key=lambda event: event.seq)
    page = list(_fitting(changes, MAX_PAGE))
    more = len(page) < len(changes)
    return Answer(changes=page, seq=page[-1].seq if more else book.seq(user), more=more)


def _fitting(events: list[EntryEvent | TalkEvent], most: int) -> Iterator[EntryEvent | TalkEvent]:
    size = 0
    for number, event in enumerate(events):
        size += len(encode(event))
        if number and (number >= most or size > MAX_PAGE_BYTES):
            return
        yield event


def _history(book: Book, user: str, op: History) -> Answer:
    name = str(book.parse(op.with_))
    before = op.before if op.before is not None else 2**62
    found = book.entries(
        "e.owner = ? AND e.talk = ? AND e.pos < ? ORDER BY e.pos DESC", (user, name, before), op.limit + 1
    )
    page: list[Entry] = []
    size = 0
    for entry in found[: op.limit]:
        size += len(encode(entry))
        if page and size > MAX_PAGE_BYTES:
            break
        page.append(entry)
    return Answer(entries=page[::-1], more=len(page) < len(found))


# -- messages -----------------------------------------------------------------------------------------------------


def _send(book: Book, user: str, op: Send, exists: bool) -> Answer:
    to = book.parse(op.to)
    me, target = book.address(user), str(to)
    if target == me:
        raise Refused("yourself", "that is your own address")
    known = book.message(me, op.id, target)
    if known is not None:
        if known["text"] != op.text:
            raise Refused("idConflict", "another message was sent with this id")
        book.tell_again(known["ref"])
        return _entry_answer(book, user, known["ref"])
    ref = room_requests.send(book, user, target, op) if to.room else _send_to_person(book, user, to, op, exists)
    return _entry_answer(book, user, ref)


def _entry_answer(book: Book, user: str, ref: int) -> Answer:
    found = book.entries("e.owner = ? AND e.ref = ?", (user, ref), 1)
    # A message that is older than what is kept has no entry any more.
    return Answer(entry=found[0]) if found else Answer()


def _send_to_person(book: Book, user: str, to: Address, op: Send, exists: bool) -> int:
    me, target = book.address(user), str(to)
    if book.blocks(user, target):
        raise Refused("blocked", f"you block {target}")
    if to.server == book.own and not exists:
        raise Refused("unknownAccount", f"there is no account {target}")
    book.open_talk(user, target)
    if book.db.execute(
        "UPDATE talks SET contact = 1 WHERE owner = ? AND talk = ? AND NOT contact", (user, target)
    ).rowcount:
        book.met.append((user, [target]))
        _tell_earlier_marks(book, user, target)
    ref = book.add_message(me, op.id, target, book.now, op.text)
    if to.server == book.own:
        # Who is blocked sees what somebody sees whose messages are not read.
        book.enter(user, target, ref, mine=True, state="arrived")
        if not book.blocks(to.name, me):
            book.enter(to.name, me, ref, mine=False, state="arrived")
    else:
        book.enter(user, target, ref, mine=True, state="sent")
        say = Say(key=book.new_key(), sender=me, to=target, id=op.id, time=book.now, text=op.text)
        book.post(to.server, say, ref)
    return ref


def _mark(book: Book, user: str, op: MarkOp) -> Answer:
    name = str(book.parse(op.with_))
    talk = book.talk(user, name)
    if talk is None:
        raise Refused("unknownConversation", f"there is no conversation with {name}")
    begin = talk[op.state]
    upto = min(op.upto, talk["last"])
    rows = book.db.execute(
        "SELECT e.pos, m.sender, m.id, m.ref FROM entries e JOIN messages m ON m.ref = e.ref"
        " WHERE e.owner = ? AND e.talk = ? AND NOT e.mine AND e.pos > ? AND e.pos <= ? ORDER BY e.pos LIMIT ?",
        (user, name, begin, upto, MAX_ITEMS),
    ).fetchall()
    if len(rows) == MAX_ITEMS:
        upto = rows[-1][0]
    if upto > begin:
        if op.state == "read":
            book.change_talk(user, name, read=upto, delivered=max(upto, talk["delivered"]))
        else:
            book.db.execute("UPDATE talks SET delivered = ? WHERE owner = ? AND talk = ?", (upto, user, name))
    _tell_marks(book, user, name, op.state, rows)
    return Answer(upto=max(upto, begin))


def _tell_earlier_marks(book: Book, user: str, who: str) -> None:
    """Tells a former stranger what becomes of messages from now on; of the earlier ones, the newest."""
    talk = book.talk(user, who)
    assert talk is not None
    rows = book.db.execute(
        "SELECT e.pos, m.sender, m.id, m.ref FROM entries e JOIN messages m ON m.ref = e.ref"
        " WHERE e.owner = ? AND e.talk = ? AND NOT e.mine AND e.pos <= ? ORDER BY e.pos DESC LIMIT ?",
        (user, who, talk["delivered"], MAX_ITEMS),
    ).fetchall()
    _tell_marks(book, user, who, "read", [row for row in rows if row[0] <= talk["read"]])
    _tell_marks(book, user, who, "delivered", [row for row in rows if row[0] > talk["read"]])


def _tell_marks(book: Book, user: str, name: str, state: Mark, rows: list[sqlite3.Row]) -> None:
    """Tells those who wrote something of what became of it, as far as they may know."""
    senders: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        senders.setdefault(row[1], []).append(row)
    for sender, some in senders.items():
        if audience.may_see_reads(book, user, name, sender):
            _tell_mark(book, user, name, sender, state, some)


def _tell_mark(book: Book, user: str, name: str, sender: str, state: Mark, rows: list[sqlite3.Row]) -> None:
    local = book.local(sender)
    if local is not None:
        book.raise_states(local, [ref for _, _, _, ref in rows], state)
        return
    me = book.address(user)
    target = name if name.startswith("#") else me
    ids = [id for _, _, id, _ in rows]
    marks = Marks(key=book.new_key(), sender=me, to=sender, with_=target, state=state, ids=ids)
    book.post(book.server_of(sender), marks)


def _block(book: Book, user: str, op: Block) -> Answer:
    # A word without @ is a server, unless it has no dot and no such meaning: a person's server is never left out here.
    who = str(parse_person(op.who)) if "@" in op.who else server_name(op.who)
    if who == book.address(user):
        raise Refused("yourself", "that is your own address")
    if op.on:
        if len(book.blocked(user)) >= book.settings.max_blocked:
            raise Refused("tooMany", f"at most {book.settings.max_blocked} are blocked")
        book.db.execute("INSERT OR IGNORE INTO blocked VALUES (?, ?)", (user, who))
    else:
        book.db.execute("DELETE FROM blocked WHERE owner = ? AND who = ?", (user, who))
    blocked = book.blocked(user)
    book.told.append((user, BlockedEvent(blocked=blocked)))
    return Answer(blocked=blocked)


# -- rooms --------------------------------------------------------------------------------------------------------


def _create(book: Book, user: str, op: Create) -> Answer:
    room = parse_room(op.room, book.own)
    if room.server != book.own:
        raise Refused("notHere", f"a room is made on your own server: #{room.name}@{book.own}")
    host.create(book, user, str(room), op.topic, op.open)
    return Answer(talk=book.talks(user, str(room))[0])


def _room(book: Book, user: str, op: RoomOp, exists: bool) -> Answer:
    room = str(parse_room(op.room, book.own))
    who = str(parse_person(op.who, book.own)) if op.who is not None else None
    if op.do in ("invite", "kick") and who is None:
        raise Refused("incomplete", f"{op.do} needs somebody")
    if op.do == "invite" and book.server_of(who or "") == book.own and not exists:
        raise Refused("unknownAccount", f"there is no account {who}")
    if op.do == "topic" and op.topic is None:
        raise Refused("incomplete", "there is no topic")
    room_requests.ask(book, user, room, op.do, who, op.topic)
    found = book.talks(user, room)
    return Answer(talk=found[0]) if found else Answer()
