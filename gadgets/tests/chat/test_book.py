"""Two books whose messages to each other are lost, doubled and late, and clients that miss what they are told."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bester_gadgets.chat import home, peers, upkeep
from bester_gadgets.chat.book import Book, Refused
from bester_gadgets.chat.mirror import Mirror
from bester_gadgets.chat.settings import ChatSettings
from bester_gadgets.chat.store import MIGRATIONS, connect
from bester_gadgets.chat.wire import (
    Answer,
    Block,
    ClientOp,
    Create,
    Hello,
    History,
    MarkOp,
    RoomOp,
    Send,
    Sync,
    encode,
    read_client_op,
    read_server_op,
    read_told,
)

T = TypeVar("T")
A, B = "a.example", "b.example"
PEOPLE = ("t@a.example", "g@a.example", "bob@b.example")
ROOM = "#kitchen@b.example"


class Side:
    """One server's book, and its people's clients."""

    def __init__(self, own: str, world: World) -> None:
        self.own = own
        self.db = connect(":memory:")
        self.world = world
        self.mirrors = {one.partition("@")[0]: Mirror() for one in PEOPLE if one.endswith(own)}
        self.settings = ChatSettings()

    def work(self, work: Callable[[Book], T], hear: bool = True) -> T:
        """Runs a job; what it says goes on its way, and to the clients if they hear it."""
        book = Book(self.db, self.own, self.settings, self.world.now + self.world.set_by, self.world.now)
        self.db.execute("BEGIN")
        try:
            result = work(book)
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")
        self.world.air += [(self.own, server, body) for server, body in book.posts]
        self.world.air += [(self.own, server, encode(op)) for server, op in book.passing]
        for user, event in book.told:
            if hear and user in self.mirrors:
                told = read_told(encode(event))
                assert told is not None
                if not self.mirrors[user].told(told):
                    self.catch_up(user)
        return result

    def ask(self, user: str, op: ClientOp, hear: bool = True) -> Answer:
        read = read_client_op(encode(op))
        answer = self.work(lambda book: home.handle(book, user, read, True), hear)
        found = read_told(encode(answer))
        assert isinstance(found, Answer)
        return found

    def catch_up(self, user: str) -> None:
        mirror = self.mirrors[user]
        more = True
        while more:
            answer = self.ask(user, Sync(since=mirror.cursor))
            mirror.synced(answer)
            more = answer.more


class World:
    """Both servers, and what is on its way between them."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000
        self.set_by = 0
        """By how much the system clock was set."""
        self.air: list[tuple[str, str, bytes]] = []
        self.sides = {A: Side(A, self), B: Side(B, self)}
        self.count = 0

    def side(self, person: str) -> tuple[Side, str]:
        user, _, server = person.rpartition("@")
        return self.sides[server], user

    def arrive(self, sender: str, to: str, body: bytes, hear: bool = True) -> None:
        op = read_server_op(body)
        peers.check(op, sender, to)
        self.sides[to].work(lambda book: peers.handle(book, sender, op, True), hear)

    def settle(self) -> None:
        """All that is on its way arrives, and what was lost is sent again, until nothing waits."""
        for _ in range(50):
            while self.air:
                self.arrive(*self.air.pop(0))
            self.now += 3_600_000
            for side in self.sides.values():
                for server, some in side.work(upkeep.due).items():
                    self.air += [(side.own, server, body) for _, body in some]
            if not self.air:
                break
        for side in self.sides.values():
            assert side.db.execute("SELECT count(*) FROM outgoing").fetchone() == (0,)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(PEOPLE), st.sampled_from([*PEOPLE, ROOM]), st.booleans()),
        st.tuples(st.just("read"), st.sampled_from(PEOPLE), st.sampled_from([*PEOPLE, ROOM]), st.booleans()),
        st.tuples(st.sampled_from(["arrive", "lose", "double"]), st.integers(0, 30), st.booleans()),
        st.tuples(st.just("later"), st.integers(0, 120_000)),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_nothing_is_lost_doubled_or_forgotten(plan: list[tuple[Any, ...]]) -> None:
    world = World()
    host, bob = world.side("bob@b.example")
    host.ask(bob, Create(room=ROOM))
    for one in PEOPLE[:2]:
        side, user = world.side(one)
        side.ask(user, RoomOp(do="join", room=ROOM))
    world.settle()
    said: dict[tuple[str, str], list[str]] = {}
    for step in plan:
        match step:
            case ("send", sender, to, hear) if sender != to:
                side, user = world.side(sender)
                world.count += 1
                text = f"m{world.count}"
                op = Send(to=to, id=f"id{world.count}", text=text)
                side.ask(user, op, hear)
                if world.count % 3 == 0:
                    side.ask(user, replace(op), hear)  # the same again is the same
                said.setdefault((sender, to), []).append(text)
            case ("read", reader, name, hear):
                side, user = world.side(reader)
                if name in side.mirrors[user].conversations:
                    upto = side.mirrors[user].conversations[name].talk.last
                    side.ask(user, MarkOp(with_=name, state="read", upto=upto), hear)
            case ("later", ms):
                world.now += ms
            case (what, at, hear) if world.air and what in ("arrive", "lose", "double"):
                one = world.air[at % len(world.air)]
                if what != "double":
                    world.air.remove(one)
                if what != "lose":
                    world.arrive(one[0], one[1], one[2], hear)
    world.settle()
    for person in PEOPLE:
        side, user = world.side(person)
        side.catch_up(user)
        check_person(side, user, person, said)


def check_person(side: Side, user: str, person: str, said: dict[tuple[str, str], list[str]]) -> None:
    mirror = side.mirrors[user]
    for other in [*(one for one in PEOPLE if one != person), ROOM]:
        if other == ROOM:
            expected = [text for (_, to), texts in said.items() if to == ROOM for text in texts]
        else:
            expected = said.get((person, other), []) + said.get((other, person), [])
        kept = history(side, user, other)
        assert sorted(entry.text for entry in kept) == sorted(expected)
        assert all(entry.state in (None, "arrived", "delivered", "read") for entry in kept)
        # The client's picture is the book's.
        if other in mirror.conversations:
            found = mirror.conversations[other]
            [talk] = side.work(lambda book, other=other: book.talks(user, other))  # type: ignore[misc]
            assert (found.talk.last, found.talk.read, found.talk.unread) == (talk.last, talk.read, talk.unread)
            if found.floor is not None:
                assert found.lines() == [entry for entry in kept if entry.pos >= found.floor]


def history(side: Side, user: str, name: str) -> list[Any]:
    """Returns all of a conversation, page by page."""
    found: list[Any] = []
    before = None
    while True:
        answer = side.ask(user, History(with_=name, before=before, limit=7))
        page = answer.entries if isinstance(answer.entries, list) else []
        found = page + found
        if not answer.more:
            return found
        before = page[0].pos


def test_pages_have_no_holes_and_no_repeats() -> None:
    world = World()
    side, _ = world.side("t@a.example")
    for number in range(40):
        side.ask("t", Send(to="g@a.example", id=str(number), text=str(number)))
    assert [entry.text for entry in history(side, "g", "t@a.example")] == [str(number) for number in range(40)]
    answer = side.ask("g", History(with_="t@a.example", before=5, limit=100))
    assert (len(answer.entries or ()), answer.more) == (4, False)
    long = "x" * 8000
    for number in range(40):
        side.ask("t", Send(to="g@a.example", id=f"long{number}", text=long))
    answer = side.ask("g", History(with_="t@a.example", limit=100))
    assert answer.more
    assert len(encode(answer)) < 300_000


def test_a_reader_reads_all_however_much_it_is() -> None:
    world = World()
    side, _ = world.side("t@a.example")
    for number in range(1100):
        side.ask("t", Send(to="g@a.example", id=str(number), text="x"), hear=False)
    side.ask("g", Send(to="t@a.example", id="g", text="so much!"))
    upto, rounds = 0, 0
    while upto < 1100:
        answer = side.ask("g", MarkOp(with_="t@a.example", state="read", upto=1100))
        assert isinstance(answer.upto, int)
        upto, rounds = answer.upto, rounds + 1
    assert rounds == 3
    assert {entry.state for entry in history(side, "t", "g@a.example")} == {"read", None}
    [talk] = side.ask("g", Hello()).talks or []
    assert talk.unread == 0


def refused(side: Side, user: str, op: ClientOp) -> str:
    with pytest.raises(Refused) as caught:
        side.ask(user, op)
    return caught.value.code


def test_bounds() -> None:
    world = World()
    side, _ = world.side("t@a.example")
    side.settings = ChatSettings(max_conversations=3, max_rooms=1, max_members=2, max_blocked=1, max_waiting=100)
    side.ask("t", Create(room="#one"))
    assert refused(side, "t", Create(room="#two")) == "tooMany"
    assert refused(side, "g", Create(room="#one")) == "roomExists"
    side.ask("g", RoomOp(do="join", room="#one"))
    assert refused(side, "h", RoomOp(do="join", room="#one")) == "full"
    side.ask("t", Block(who="x@b.example"))
    assert refused(side, "t", Block(who="y@b.example")) == "tooMany"
    assert refused(side, "t", Send(to="x@b.example", id="1", text="x")) == "blocked"
    assert refused(side, "t", Send(to="t@a.example", id="1", text="x")) == "yourself"
    side.ask("t", Send(to="u@b.example", id="1", text="x"))
    assert refused(side, "t", Send(to="u@b.example", id="1", text="y")) == "idConflict"
    side.ask("t", Send(to="v@b.example", id="1", text="x"))
    assert refused(side, "t", Send(to="w@b.example", id="1", text="x")) == "tooMany"
    for number in range(98):
        side.ask("t", Send(to="v@b.example", id=f"n{number}", text="x"))
    assert refused(side, "t", Send(to="v@b.example", id="more", text="x")) == "busy"


def test_who_may_do_what_in_a_room() -> None:
    world = World()
    side, _ = world.side("t@a.example")
    side.ask("t", Create(room="#club", open=False))
    assert refused(side, "g", RoomOp(do="join", room="#club")) == "inviteOnly"
    assert refused(side, "g", Send(to="#club@a.example", id="1", text="let me in")) == "notMember"
    side.ask("t", RoomOp(do="invite", room="#club", who="g"))
    side.ask("g", RoomOp(do="join", room="#club"))
    assert refused(side, "g", RoomOp(do="invite", room="#club", who="h")) == "notOwner"
    assert refused(side, "g", RoomOp(do="topic", room="#club", topic="mine")) == "notOwner"
    assert refused(side, "g", RoomOp(do="kick", room="#club", who="t")) == "notOwner"
    assert refused(side, "g", RoomOp(do="join", room="#nowhere")) == "unknownRoom"
    side.ask("t", RoomOp(do="topic", room="#club", topic="chess"))
    side.ask("t", RoomOp(do="kick", room="#club", who="g"))
    [talk] = side.ask("g", Hello()).talks or []
    assert (talk.status, talk.reason, talk.topic) == ("left", "removed", "chess")
    assert refused(side, "g", Send(to="#club@a.example", id="2", text="why?")) == "notMember"
    side.ask("t", RoomOp(do="invite", room="#club", who="g"))
    side.ask("g", RoomOp(do="join", room="#club"))
    # The owner goes, and the room goes to who has been there longest.
    side.ask("t", RoomOp(do="leave", room="#club"))
    [talk] = side.ask("g", Hello()).talks or []
    assert talk.owner == "g@a.example"
    side.ask("g", RoomOp(do="leave", room="#club"))
    side.ask("h", Create(room="#club"))


def test_what_is_never_confirmed_fails_at_last() -> None:
    world = World()
    side, _ = world.side("t@a.example")
    side.ask("t", Send(to="x@b.example", id="1", text="hello"))
    side.ask("t", RoomOp(do="join", room=ROOM))
    world.air.clear()
    world.now += 15 * upkeep.DAY_MS
    side.work(upkeep.give_up)
    [entry] = history(side, "t", "x@b.example")
    assert (entry.state, entry.reason) == ("failed", "expired")
    talks = {talk.with_: talk for talk in side.ask("t", Hello()).talks or []}
    assert (talks[ROOM].status, talks[ROOM].reason) == ("left", "expired")


def test_what_is_too_old_or_too_much_is_forgotten() -> None:
    world = World()
    side, _ = world.side("t@a.example")
    side.settings = ChatSettings(keep_days=30, keep_messages=100)
    side.ask("t", Send(to="g@a.example", id="old", text="old"))
    world.now += 31 * upkeep.DAY_MS
    for number in range(150):
        side.ask("t", Send(to="g@a.example", id=str(number), text=str(number)), hear=False)
    assert not side.work(upkeep.forget)
    assert [entry.text for entry in history(side, "g", "t@a.example")] == [str(number) for number in range(50, 150)]
    assert side.db.execute("SELECT count(*) FROM messages WHERE text = 'old'").fetchone() == (0,)


@pytest.mark.parametrize("years", [-30, 30])
def test_setting_the_clock_forgets_and_gives_up_nothing(years: int) -> None:
    world = World()
    side, _ = world.side("t@a.example")
    side.ask("t", Send(to="g@a.example", id="1", text="here"))
    side.ask("t", Send(to="x@b.example", id="2", text="away"))
    world.set_by = years * 365 * upkeep.DAY_MS
    side.work(upkeep.give_up)
    assert not side.work(upkeep.forget)
    assert [entry.text for entry in history(side, "g", "t@a.example")] == ["here"]
    [entry] = history(side, "t", "x@b.example")
    assert entry.state == "sent"
    side.ask("t", Send(to="g@a.example", id="3", text="later"))
    assert history(side, "g", "t@a.example")[-1].time == world.now + world.set_by


def test_a_database_of_the_first_version_goes_on(tmp_path: Any) -> None:
    path = tmp_path / "chat.db"
    with sqlite3.connect(path) as db:
        db.executescript(MIGRATIONS[0])
        db.execute("INSERT INTO messages (sender, id, target, time, text) VALUES ('t@a', '1', 'g@a', 7, 'hello')")
        db.execute("PRAGMA user_version = 1")
    db.close()
    db = connect(path)
    assert db.execute("SELECT time, kept FROM messages").fetchall() == [(7, 7)]
    db.close()


def test_a_newer_database_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "chat.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Exception, match="version 99"):
        connect(path)
