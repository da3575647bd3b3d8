"""``bester gadget chat`` on two servers, all of them processes that are killed while people write."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gadgets.tests.chat.processes import Houses
from gadgets.tests.chat.towns import Person

ALICE, BOB = "alice@a.example", "bob@b.example"
ROOM = "#both@b.example"


@pytest.fixture
def houses() -> Iterator[Houses]:
    folder = Path(tempfile.mkdtemp(prefix="bester-"))
    made = Houses(folder)
    try:
        made.start()
        yield made
    finally:
        made.end()
        shutil.rmtree(folder)


async def test_killed_while_people_write(houses: Houses) -> None:
    async with Person(houses.a.url("alice")) as alice, Person(houses.b.url("bob")) as bob:
        await bob.create(ROOM)
        await alice.room("join", ROOM)
        await alice.until(lambda: alice.conversation(ROOM).talk.status == "joined")
        sent: list[str] = []

        async def write_during(*blows: Callable[[], None]) -> None:
            """Both go on writing, to each other and in the room, while something is killed and started again."""
            posts = []
            for blow in blows:
                for _ in range(3):
                    text = str(len(sent))
                    sent.append(text)
                    posts += [alice.send(BOB, text), bob.send(ALICE, f"re {text}")]
                    posts += [alice.send(ROOM, f"a{text}"), bob.send(ROOM, f"b{text}")]
                running = asyncio.gather(*posts)
                posts = []
                await asyncio.to_thread(blow)
                posts.append(running)  # type: ignore[arg-type]
            await asyncio.gather(*posts)

        await write_during(houses.b.kill_chat, houses.b.start_chat)
        await write_during(houses.b.kill_server, houses.b.start_server)
        await write_during(houses.a.kill_server, houses.a.kill_chat, houses.a.start)

        one_to_one = sorted([*sent, *(f"re {text}" for text in sent)])
        in_room = sorted([*(f"a{text}" for text in sent), *(f"b{text}" for text in sent)])
        for one, other in ((alice, BOB), (bob, ALICE)):
            for name in (other, ROOM):
                await one.load_all(name)
            await one.until(lambda one=one, other=other: len(one.texts(other)) >= len(one_to_one))  # type: ignore[misc]
            await one.until(lambda one=one: len(one.texts(ROOM)) >= len(in_room))  # type: ignore[misc]
            assert sorted(one.texts(other)) == one_to_one
            assert sorted(one.texts(ROOM)) == in_room
        await alice.until(lambda: {state for _, _, state in alice.lines(BOB)} == {None, "delivered"})
        # And it is what a client that knows nothing finds.
        async with Person(houses.a.url("alice")) as again:
            await again.load_all(BOB)
            assert sorted(again.texts(BOB)) == one_to_one
