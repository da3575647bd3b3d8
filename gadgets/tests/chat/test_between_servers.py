"""Chat between two servers that have proven their names, through restarts of either."""

from __future__ import annotations

import pytest
from gadgets.tests.chat.towns import two_towns

from bester import Handler, SendClients
from bester.errors import BadConfiguration
from bester.testing import server
from bester_gadgets.chat import gadget
from bester_gadgets.chat.client import ChatClient

ALICE, BOB, CAROL = "alice@a.example", "bob@b.example", "carol@b.example"


async def test_one_to_one_with_marks_and_presence() -> None:
    async with two_towns() as pair:
        bob_was_here = await pair.person(BOB)
        alice = await pair.person(ALICE)
        bob = bob_was_here
        await alice.send(BOB, "hello")
        await bob.hears(ALICE, "hello")
        # She wrote to him, so he sees her; he did not write to her.
        await bob.until(lambda: ALICE in bob.mirror.online)
        await bob.read(ALICE)
        assert BOB not in alice.mirror.online
        assert alice.lines(BOB) == [(ALICE, "hello", "arrived")]
        await bob.send(ALICE, "hello yourself")
        await alice.hears(BOB, "hello yourself")
        await alice.sees_state(BOB, "hello", "read")
        await alice.send(BOB, "how are you?")
        await alice.sees_state(BOB, "how are you?", "delivered")
        await alice.until(lambda: BOB in alice.mirror.online)
        await bob.close()
        await alice.until(lambda: BOB not in alice.mirror.online)


async def test_an_account_that_is_not_there() -> None:
    async with two_towns() as pair:
        alice = await pair.person(ALICE)
        await alice.send("nobody@b.example", "is anybody there?")
        await alice.sees_state("nobody@b.example", "is anybody there?", "failed")
        assert alice.conversation("nobody@b.example").lines()[0].reason == "unknownAccount"


async def test_a_room_across_servers() -> None:
    async with two_towns() as pair:
        alice, bob, carol = [await pair.person(who) for who in (ALICE, BOB, CAROL)]
        room = "#kitchen@a.example"
        await alice.create(room, "what is for dinner")
        for one in (bob, carol):
            await one.room("join", room)
            await one.until(lambda one=one: one.conversation(room).talk.status == "joined")  # type: ignore[misc]
        assert bob.conversation(room).talk.topic == "what is for dinner"
        await bob.send(room, "pizza")
        for one in (alice, carol):
            await one.hears(room, "pizza")
        await bob.sees_state(room, "pizza", "delivered")
        await alice.read(room)
        await bob.sees_state(room, "pizza", "read")
        await alice.send(room, "again?")
        for one in (bob, carol):
            await one.hears(room, "again?")
        assert await carol.members(room) == [ALICE, BOB, CAROL]
        await alice.until(lambda: {BOB, CAROL} <= alice.mirror.online)


async def test_nothing_is_lost_or_doubled_through_restarts() -> None:
    async with two_towns() as pair:
        alice, bob = await pair.person(ALICE), await pair.person(BOB)
        await alice.send(BOB, "0")
        await bob.hears(ALICE, "0")
        await pair.b.stop()
        await bob.until(lambda: bob.state == "waiting")
        for number in range(1, 6):
            await alice.send(BOB, str(number))
        await pair.b.start()
        await bob.hears(ALICE, "5")
        await alice.sees_state(BOB, "5", "arrived")
        await pair.a.stop()
        await alice.until(lambda: alice.state == "waiting")
        await bob.send(ALICE, "6")
        await bob.read(ALICE)
        await pair.a.start()
        await alice.hears(BOB, "6")
        await alice.sees_state(BOB, "0", "read")
        expected = [str(number) for number in range(7)]
        for one, other in ((alice, BOB), (bob, ALICE)):
            # What had to be sent again may come last.
            await one.load_all(other)
            await one.until(lambda one=one, other=other: len(one.texts(other)) >= len(expected))  # type: ignore[misc]
            assert sorted(one.texts(other)) == expected


async def test_a_chat_that_is_away_is_waited_for() -> None:
    async with two_towns() as pair:
        alice, bob = await pair.person(ALICE), await pair.person(BOB)
        await pair.b.stop_chat()
        await alice.send(BOB, "into the dark")
        await pair.b.start_chat()
        await bob.hears(ALICE, "into the dark")
        await alice.sees_state(BOB, "into the dark", "arrived")


async def test_people_of_a_server_that_is_gone_are_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gadget, "LOOK_AFTER_SERVERS_S", 0.1)
    async with two_towns() as pair:
        alice, bob = await pair.person(ALICE), await pair.person(BOB)
        await bob.send(ALICE, "hello")
        await alice.until(lambda: BOB in alice.mirror.online)
        await pair.b.stop()
        await alice.until(lambda: BOB not in alice.mirror.online)
        await pair.b.start()
        # Who comes again is told of again.
        await alice.until(lambda: BOB in alice.mirror.online)


async def test_all_sessions_of_an_account_see_the_same() -> None:
    async with two_towns() as pair:
        desk, phone = await pair.person(ALICE), await pair.person(ALICE)
        bob = await pair.person(BOB)
        await bob.send(ALICE, "hello")
        for one in (desk, phone):
            await one.hears(BOB, "hello")
            assert one.conversation(BOB).talk.unread == 1
        await phone.read(BOB)
        await desk.until(lambda: desk.conversation(BOB).talk.unread == 0)
        await desk.send(BOB, "from the desk")
        await phone.hears(BOB, "from the desk")
        for one in (desk, phone):
            await one.sees_state(BOB, "from the desk", "delivered")
        assert phone.lines(BOB) == desk.lines(BOB)


async def test_the_database_belongs_to_one_server_and_one_process() -> None:
    async with two_towns() as pair:
        second = gadget.Chat(pair.a.settings, handlers=str(pair.a.folder / "besterHandlers"))
        with pytest.raises(BadConfiguration, match="another process uses"):
            await second.start()
        await second.stop()
        await pair.a.stop_chat()
        chat = gadget.Chat(pair.a.settings, handlers=str(pair.b.folder / "besterHandlers"), server="b.example")
        with pytest.raises(BadConfiguration, match=r"is the database of a\.example"):
            await chat.start()
        await chat.stop()


async def test_a_chat_leaves_other_mail_alone() -> None:
    async with server() as running:
        handler = Handler(running.handlers_path)
        handler.on("mail")(lambda message: None)
        chat = ChatClient(running.url("t"))
        await chat.open()
        async with handler:
            report = await handler.push(SendClients(["t"], "a letter"))
            assert [result.status for result in report.results] == ["stored"]
        await chat.close()
