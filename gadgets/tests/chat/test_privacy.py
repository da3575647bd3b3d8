"""What other servers learn of people who did not ask for it: nothing, whatever those servers say.

A hostile server is played by hand, against one book and against a running chat.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from gadgets.tests.chat.test_book import World
from gadgets.tests.chat.towns import PATIENCE_S, Pair, two_towns
from hypothesis import given, settings
from hypothesis import strategies as st

from bester import Handler, Request, SendServers
from bester_gadgets.chat import audience, peers, rooms
from bester_gadgets.chat.book import Refused
from bester_gadgets.chat.wire import Block, Hello, History, MarkOp, Marks, RoomOp, Send, encode, read_server_op

EVE, VICTIM, FRIEND = "eve@b.example", "t@a.example", "g@a.example"
TRAP = "#trap@b.example"


class Hostile(World):
    """a.example has a book, and b.example says what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.home = self.sides["a.example"]
        self.version = 0

    def says(self, **op: Any) -> None:
        read = read_server_op(encode({"key": uuid4().hex} | op))
        peers.check(read, "b.example", "a.example")
        self.home.work(lambda book: peers.handle(book, "b.example", read, True))

    def claims(self, *members: str) -> None:
        """The trap's members are these, it says."""
        self.version += 1
        self.says(op="room", room=TRAP, version=self.version, topic="", owner=EVE, open=True, members=[EVE, *members])

    def told(self) -> list[bytes]:
        """Returns what left for b.example, but for confirmations; and forgets it."""
        found = [body for sender, _, body in self.air if sender == "a.example" and b'"got"' not in body]
        self.air.clear()
        return found

    def seen_by(self, user: str) -> list[str]:
        return self.home.work(lambda book: audience.of(book, user))


def in_the_trap() -> Hostile:
    """With a friend of the victim's server in the trap, so that the room is known there."""
    made = Hostile()
    made.home.ask("g", RoomOp(do="join", room=TRAP))
    made.claims(FRIEND, VICTIM)
    made.told()
    return made


@pytest.fixture
def world() -> Hostile:
    return in_the_trap()


def test_a_room_that_names_somebody_learns_nothing_of_them(world: Hostile) -> None:
    assert world.seen_by("g") == [EVE]
    assert world.seen_by("t") == []
    assert not world.home.work(lambda book: audience.may_see(book, "t", EVE))
    assert world.home.work(lambda book: rooms.members(book, TRAP)) == [EVE, FRIEND]
    assert world.home.work(lambda book: audience.looks_at(book, "t")) == []
    # Whoever says hello is not announced there.
    world.home.ask("t", Hello())
    assert world.told() == []


def test_who_left_is_not_seen_however_long_the_room_says_otherwise(world: Hostile) -> None:
    world.home.ask("g", RoomOp(do="leave", room=TRAP))
    assert world.seen_by("g") == []
    world.claims(FRIEND, VICTIM)
    assert world.seen_by("g") == []


def test_an_invitation_tells_nothing_before_it_is_accepted(world: Hostile) -> None:
    world.says(op="invited", room=TRAP, to=VICTIM, by=EVE, topic="")
    world.claims(FRIEND, VICTIM)
    assert world.seen_by("t") == []
    world.home.ask("t", RoomOp(do="leave", room=TRAP))
    assert world.told() == []
    world.home.ask("t", RoomOp(do="join", room=TRAP))
    assert world.seen_by("t") == []  # asked, and that is all
    world.claims(FRIEND, VICTIM)
    assert sorted(world.seen_by("t")) == [EVE, FRIEND]


def test_a_stranger_learns_neither_presence_nor_reads(world: Hostile) -> None:
    for number in range(3):
        world.says(op="say", **{"from": EVE}, to=VICTIM, id=f"m{number}", time=1, text="are you there?")
    world.home.ask("t", Hello())
    world.home.ask("t", MarkOp(with_=EVE, state="delivered", upto=3))
    world.home.ask("t", MarkOp(with_=EVE, state="read", upto=2))
    assert world.told() == []
    assert world.home.work(lambda book: audience.looks_at(book, "t")) == []
    # Once she writes back he is told, and of what was before too.
    world.home.ask("t", Send(to=EVE, id="1", text="yes"))
    told = [read_server_op(body) for body in world.told()]
    assert [(one.state, sorted(one.ids)) for one in told if isinstance(one, Marks)] == [
        ("read", ["m0", "m1"]),
        ("delivered", ["m2"]),
    ]
    assert world.seen_by("t") == [EVE]
    assert world.home.work(lambda book: audience.looks_at(book, "t")) == [EVE]


def test_marks_of_a_room_go_to_its_members_while_one_is_in_it(world: Hostile) -> None:
    said = {"op": "said", "room": TRAP, "time": 1, "text": "x"}
    world.says(**said, **{"from": EVE}, n=1, id="1")
    world.says(**said, **{"from": "mallory@c.example"}, n=2, id="2")  # no member, as far as the room said
    world.home.ask("g", MarkOp(with_=TRAP, state="delivered", upto=100))
    assert [(to, b"mallory" in body) for _, to, body in world.air if b'"marks"' in body] == [("b.example", False)]
    world.told()
    world.home.ask("g", RoomOp(do="leave", room=TRAP))
    world.told()
    world.home.ask("g", MarkOp(with_=TRAP, state="read", upto=100))
    assert world.told() == []


says = st.sampled_from(
    [
        {"op": "invited", "room": TRAP, "to": VICTIM, "by": EVE, "topic": ""},
        {"op": "say", "from": EVE, "to": VICTIM, "id": "1", "time": 1, "text": "are you there?"},
        {"op": "said", "room": TRAP, "from": EVE, "n": 1, "id": "2", "time": 1, "text": "x"},
        {"op": "said", "room": TRAP, "from": FRIEND, "n": 2, "id": "3", "time": 1, "text": "x"},
        {"op": "marks", "from": EVE, "to": VICTIM, "with": TRAP, "state": "read", "ids": ["1"]},
    ]
)
does = st.sampled_from(
    [
        Hello(),
        MarkOp(with_=EVE, state="delivered", upto=100),
        MarkOp(with_=EVE, state="read", upto=100),
        MarkOp(with_=TRAP, state="read", upto=100),
        History(with_=EVE),
        Block(who=EVE),
        Block(who=EVE, on=False),
        RoomOp(do="leave", room=TRAP),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(says | does | st.booleans(), max_size=12))
def test_who_asks_for_nothing_is_told_of_to_nobody(plan: list[Any]) -> None:
    """Whatever another server says, in whatever order, of somebody who only reads."""
    world = in_the_trap()
    for step in plan:
        if isinstance(step, dict):
            world.says(**step)
        elif isinstance(step, bool):
            world.claims(FRIEND, *[VICTIM] * step)
        else:
            with suppress(Refused):
                world.home.ask("t", step)
        assert world.told() == []
        assert world.seen_by("t") == []
        assert not world.home.work(lambda book: audience.may_see(book, "t", EVE))
        assert world.home.work(lambda book: audience.looks_at(book, "t")) == []


async def claimed(pair: Pair, handler: Handler, *members: str, version: int) -> None:
    state = {"op": "room", "key": uuid4().hex, "room": TRAP, "version": version, "topic": "", "owner": EVE}
    command = SendServers(["a.example"], state | {"open": True, "members": [EVE, *members]}, type="chat")
    assert (await handler.push(command, timeout=PATIENCE_S)).good


async def test_a_victim_that_comes_and_goes_is_not_told_of() -> None:
    """With real servers: b.example's chat is replaced by a handler that lies and listens."""
    async with two_towns() as pair:
        friend = await pair.person("friend@a.example")
        await pair.b.stop_chat()
        heard: list[Any] = []
        gone = asyncio.Event()
        handler = Handler(str(pair.b.folder / "besterHandlers"))

        @handler.on("chat")
        def listen(message: Request) -> None:
            heard.append(message.data)
            if told_of(heard, "friend@a.example", False):
                gone.set()

        async with handler:
            await friend.room("join", TRAP)
            await claimed(pair, handler, "friend@a.example", "victim@a.example", version=1)
            await friend.until(lambda: friend.conversation(TRAP).talk.status == "joined")
            victim = await pair.person("victim@a.example")
            await victim.close()
            await friend.close()  # who is told of, after the victim was not
            await asyncio.wait_for(gone.wait(), PATIENCE_S)
            assert told_of(heard, "friend@a.example", True)
            assert not any("victim" in str(one) for one in heard)


def told_of(heard: list[Any], who: str, online: bool) -> bool:
    return any(one["op"] == "presence" and [who, online] in one["people"] for one in heard)
