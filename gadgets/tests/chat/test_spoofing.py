"""Nobody speaks for somebody else: not an account, not a server, not through a room."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from gadgets.tests.chat.towns import PATIENCE_S, Pair, two_towns

from bester import Handler, SendServers
from bester.testing import server
from bester_gadgets.chat import peers
from bester_gadgets.chat.addresses import BadChatAddress
from bester_gadgets.chat.wire import encode, read_server_op

ALICE, BOB = "alice@a.example", "bob@b.example"


async def test_an_account_does_not_speak_for_another() -> None:
    async with two_towns() as pair:
        bob = await pair.person(BOB)
        async with pair.a.client("mallory") as mallory:
            for forged in (ALICE, "mallory@b.example", "Mallory@a.example", "mallory"):
                data = {"op": "send", "from": forged, "to": BOB, "id": uuid4().hex, "text": "it is me"}
                report = await mallory.send("chat", data)
                assert (report.good, report.error.code if report.error else "") == (False, "handlerError")
            honest = {"op": "send", "from": "mallory@a.example", "to": BOB, "id": "1", "text": "it is only me"}
            assert (await mallory.send("chat", honest)).good
        await bob.hears("mallory@a.example", "it is only me")
        assert list(bob.mirror.conversations) == ["mallory@a.example"]


def say(**more: Any) -> dict[str, Any]:
    return {"op": "say", "key": uuid4().hex, "from": ALICE, "to": BOB, "id": uuid4().hex, "time": 1, "text": "x"} | more


async def refused_by(pair: Pair, *messages: Any) -> None:
    """Sends messages from the server a.example, past its chat; b.example's chat must refuse each."""
    handler = Handler(str(pair.a.folder / "besterHandlers"))
    handler.on("forger")(lambda message: None)
    async with handler:
        for message in messages:
            report = await handler.push(SendServers(["b.example"], message, type="chat"), timeout=PATIENCE_S)
            assert report.results[0].status == "failed", message
            assert report.results[0].error is not None
            assert report.results[0].error.code == "serverRefused"
            assert "handlerError" in report.results[0].error.message


async def test_a_server_does_not_speak_for_another() -> None:
    async with two_towns() as pair:
        bob = await pair.person(BOB)
        carol = await pair.person("carol@b.example")
        await carol.create("#kitchen")
        key = {"key": uuid4().hex}
        await refused_by(
            pair,
            say(**{"from": "carol@b.example"}),
            say(**{"from": "eve@c.example"}),
            say(**{"from": "alice@A.example"}),
            say(to="dave@c.example"),
            {"op": "said", "room": "#kitchen@b.example", "n": 9, "from": ALICE, "id": "1", "time": 1, "text": "x"}
            | key,
            {"op": "ask", "do": "join", "from": "carol@b.example", "room": "#kitchen@b.example"} | key,
            {"op": "marks", "from": "carol@b.example", "to": BOB, "with": "carol@b.example", "state": "read", "ids": []}
            | key,
            {"op": "marks", "from": ALICE, "to": BOB, "with": "carol@b.example", "state": "read", "ids": ["1"]} | key,
            {"op": "room", "room": "#kitchen@b.example", "version": 2**50, "topic": "", "owner": ALICE, "open": True}
            | {"members": [ALICE]}
            | key,
            {"op": "invited", "room": "#kitchen@b.example", "to": BOB, "by": ALICE} | key,
            {"op": "presence", "to": [BOB], "people": [["carol@b.example", False]]},
            {"op": "probe", "from": "carol@b.example", "of": [BOB]},
            {"op": "send", "to": BOB, "id": "1", "text": "as if it were an account"},
        )
        assert bob.mirror.conversations == {}
        assert await carol.members("#kitchen") == ["carol@b.example"]


async def test_a_room_puts_no_words_into_mouths() -> None:
    """A room's server vouches for who spoke there, but not for the people of the server that it tells."""
    async with two_towns() as pair:
        alice, bob = await pair.person(ALICE), await pair.person(BOB)
        await alice.create("#kitchen")
        await bob.room("join", "#kitchen@a.example")
        await bob.until(lambda: bob.conversation("#kitchen@a.example").talk.status == "joined")
        handler = Handler(str(pair.a.folder / "besterHandlers"))
        handler.on("forger")(lambda message: None)
        forged = {"op": "said", "key": "k", "room": "#kitchen@a.example", "n": 5, "from": BOB, "id": "1", "time": 1}
        async with handler:
            await handler.push(
                SendServers(["b.example"], forged | {"text": "I owe you"}, type="chat"), timeout=PATIENCE_S
            )
        await alice.send("#kitchen", "hello")
        await bob.hears("#kitchen@a.example", "hello")
        assert bob.texts("#kitchen@a.example") == ["hello"]


async def test_nobody_is_put_into_a_room() -> None:
    async with two_towns() as pair:
        alice, bob = await pair.person(ALICE), await pair.person(BOB)
        handler = Handler(str(pair.a.folder / "besterHandlers"))
        handler.on("forger")(lambda message: None)
        state = {"op": "room", "key": "k", "room": "#spam@a.example", "version": 9, "topic": "buy", "owner": ALICE}
        async with handler:
            await handler.push(
                SendServers(["b.example"], state | {"open": True, "members": [BOB]}, type="chat"), timeout=PATIENCE_S
            )
        await alice.send(BOB, "after it")
        await bob.hears(ALICE, "after it")
        assert list(bob.mirror.conversations) == [ALICE]


async def test_a_server_that_proves_nothing_is_refused() -> None:
    """Where the policy lets unproven servers in, chat still does not listen to them."""
    async with two_towns(federation={"policy": "open", "servers": {}}) as pair, server() as stranger:
        handler = Handler(stranger.handlers_path)
        handler.on("forger")(lambda message: None)
        port = pair.b.tree["network"]["tcp4"]["port"]
        async with handler:
            command = SendServers([f"127.0.0.1:{port}"], say(), type="chat")
            report = await handler.push(command, timeout=PATIENCE_S)
        assert report.results[0].status == "failed"
        assert "handlerError" in str(report.results[0].error)


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        (say(), None),
        (say(to="#kitchen@b.example"), None),
        (say(to="bob"), BadChatAddress),
        (say(**{"from": "Alice@a.example"}), BadChatAddress),
        (say(**{"from": "#alice@a.example"}), BadChatAddress),
        (say(**{"from": "alice@b.example"}), peers.Forged),
        ({"op": "got", "keys": ["1"]}, None),
    ],
)
def test_what_is_checked(message: Any, wrong: type[Exception] | None) -> None:
    op = read_server_op(encode(message))
    if wrong is None:
        peers.check(op, "a.example", "b.example")
    else:
        with pytest.raises(wrong):
            peers.check(op, "a.example", "b.example")


async def test_blocked_people_learn_nothing() -> None:
    async with two_towns() as pair:
        alice, bob = await pair.person(ALICE), await pair.person(BOB)
        await bob.send(ALICE, "hello")
        await alice.hears(BOB, "hello")
        await alice.until(lambda: BOB in alice.mirror.online)
        assert await bob.block(ALICE) == [ALICE]
        await alice.until(lambda: BOB not in alice.mirror.online)
        await alice.send(BOB, "are you there?")
        # As if he were away: his server has it, and that is all there is to see.
        await alice.sees_state(BOB, "are you there?", "arrived")
        assert bob.texts(ALICE) == ["hello"]
        await bob.close()
        again = await pair.person(BOB)
        assert again.mirror.blocked == [ALICE]
        await alice.send(BOB, "still away?")
        await alice.sees_state(BOB, "still away?", "arrived")
        assert BOB not in alice.mirror.online
        await again.block(ALICE, on=False)
        await alice.send(BOB, "now?")
        await again.hears(ALICE, "now?")
        await again.load(ALICE)
        assert again.texts(ALICE) == ["hello", "now?"]


async def test_a_whole_server_is_blocked() -> None:
    async with two_towns() as pair:
        alice, bob = await pair.person(ALICE), await pair.person(BOB)
        await bob.block("a.example")
        await alice.create("#kitchen")
        await alice.room("invite", "#kitchen", BOB)
        await alice.send(BOB, "hello")
        await alice.sees_state(BOB, "hello", "arrived")
        await asyncio.sleep(0)
        assert bob.mirror.conversations == {}
