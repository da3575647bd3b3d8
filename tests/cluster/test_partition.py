"""Nodes that do not hear each other for a while, though each has its NATS server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.cluster.nodes import joined, node, nodes, others, serves, shared
from tests.cluster.partition import Divided, Pair, divided
from tests.nats import NatsServer
from tests.server.peers import Stage, attaching, to
from tests.waiting import until

from bester.cluster.items import Bring, Kind, numbers, opening, pack
from bester.errors import BesterError
from bester.server.cluster import membership
from bester.store.jetstream.messages import JetStreamMessages
from bester.store.jetstream.retrying import RetryTimes
from bester.store.ports import Letter, MailboxBounds

BOUNDS = MailboxBounds(100, 100_000, 3600.0)


in_one_loop = pytest.mark.asyncio(loop_scope="module")
"""The routes between the NATS servers are carried by the loop in which they were made."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def natses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Divided]:
    async with divided(tmp_path_factory.mktemp("divided")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def parting(natses: Divided, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setattr(membership, "PING_S", 0.1)
    monkeypatch.setattr(membership, "HELLO_S", 0.2)
    monkeypatch.setattr(membership, "QUIET_S", 0.5)
    monkeypatch.setattr(membership, "SILENT_S", 1.0)
    async with natses.pair() as made:
        yield made


async def both_get(play: Pair, data: object) -> None:
    """Sees that what is sent on the first node reaches sessions of the account on both."""
    handler = await play.first.connect("handlers")
    handler.send(attaching("chat"))
    await handler.good("a")
    t = await play.first.login("t")
    t.ask("chat", "1")
    handler.answer(await handler.get(), to("g"), data=data)
    await t.good("1")


@in_one_loop
async def test_sessions_know_of_each_other_again_when_nodes_hear_each_other_again(parting: Pair) -> None:
    sessions = [await stage.login("g") for stage in (parting.first, parting.second)]
    for stage in (parting.first, parting.second):
        await shared(stage, "g")
    parting.routes.cut()
    await parting.apart(parting.first, parting.second)
    for stage in (parting.first, parting.second):
        await shared(stage, "g", wanted=False)
    parting.routes.heal()
    await parting.together()
    for stage in (parting.first, parting.second):
        await shared(stage, "g")
    await both_get(parting, "again")
    assert [(await session.get())["payload"]["data"] for session in sessions] == ["again", "again"]


@in_one_loop
@pytest.mark.parametrize("speaker", [0, 1])
async def test_a_node_that_was_not_heard_knows_of_the_others_again(parting: Pair, speaker: int) -> None:
    stages = (parting.first, parting.second)
    sessions = [await stage.login("g") for stage in stages]
    for stage in stages:
        await shared(stage, "g")
    parting.routes.cut(first=speaker == 0, second=speaker == 1)
    await parting.apart(stages[1 - speaker])
    await shared(stages[1 - speaker], "g", wanted=False)
    parting.routes.heal()
    await parting.together()
    for stage in stages:
        await shared(stage, "g")
    await both_get(parting, "again")
    assert [(await session.get())["payload"]["data"] for session in sessions] == ["again", "again"]


@in_one_loop
async def test_a_letter_that_a_node_was_not_told_of_is_found_when_it_hears_again(
    parting: Pair,
) -> None:
    sessions = []
    for stage in (parting.first, parting.second):
        sessions.append(await stage.login("g"))
        messages = stage.server.messages
        assert isinstance(messages, JetStreamMessages)
        for stream in messages.letters.streams:
            stream.api.publishing.times = RetryTimes(total_s=0.5)
    parting.routes.cut()
    await parting.apart(parting.first, parting.second)
    letter = Letter("g", "1" * 32, "chat", b'"letter"')

    async def put(stage: Stage) -> bool:
        """Only where the one copy of the stream is, it can be put into it."""
        try:
            await stage.server.messages.deposit([letter], BOUNDS, time.time())
        except BesterError:
            return False
        joined(stage).stored({"g": {"chat"}})
        return True

    assert await put(parting.first) or await put(parting.second)
    parting.routes.heal()
    await parting.together()
    reading = [asyncio.ensure_future(session.get()) for session in sessions]
    (first, *_), rest = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
    assert first.result()["payload"]["data"] == "letter"
    for one in rest:
        one.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def test_a_node_that_slept_judges_nobody(nats: NatsServer) -> None:
    async with nodes(nats) as (a, _):
        known = joined(a).membership
        known.sweep(a.runtime.clock() + 100.0)
        assert list(others(a)) == ["n1"]
        assert not known.some_silent


async def test_an_answer_to_a_node_of_the_same_name_before_is_no_answer(nats: NatsServer) -> None:
    async with nodes(nats) as (a, _):
        name = a.runtime.config.server.name
        handler = await a.attach("chat")
        async with node(nats.url, name, "twice", limits={"drainTimeout": 0}) as first:
            await serves(first, "chat")
            t = await first.login("t")
            t.ask("chat", "1")
            before = await handler.get()
        async with node(nats.url, name, "twice") as second:
            await serves(second, "chat")
            t = await second.login("t")
            t.ask("chat", "1")
            now = await handler.get()
            handler.answer(before, {"type": "reply"}, data="before")
            handler.answer(now, {"type": "reply"}, data="now")
            assert (await t.get())["payload"]["data"] == "now"
            await t.good("1")


def test_nodes_number_from_anywhere_on() -> None:
    first = numbers()
    assert next(first) + 1 == next(first)
    assert len({next(numbers()) for _ in range(10)}) > 1


async def test_nodes_that_never_say_who_they_are_are_forgotten(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        g = await a.login("g")
        for number in range(20):
            item = pack(Kind.BRING, number, Bring("g", f"{number:032}", "chat"), b"1")
            joined(b).bus.publish(joined(b).batcher.subjects.node("n0"), opening(f"stranger{number}") + item)
        for _ in range(20):
            await g.get()
        await until(lambda: not joined(a)._incoming._peers)
