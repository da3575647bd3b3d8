"""Who the other nodes are."""

from __future__ import annotations

import pytest
from tests.cluster.nodes import joined, node, nodes, others, serves
from tests.nats import NatsServer
from tests.waiting import PATIENCE_S, until

from bester import __version__
from bester.bus.connection import Fault
from bester.cluster.items import Hello
from bester.server.admin import problems
from bester.server.cluster import membership


async def test_a_node_that_comes_again_under_its_name_is_another_one(nats: NatsServer) -> None:
    """Its death may not have been seen: what was outstanding there is not waited for."""
    async with nodes(nats) as (a, _):
        members = joined(a).membership
        gone: list[float] = []
        members._gone = lambda member: gone.append(member.hello.started)
        before = others(a)["n1"].hello
        members.met("n1", Hello(before.version, before.started))
        assert gone == []
        members.met("n1", Hello(before.version, before.started + 1))
        assert gone == [before.started]
        assert others(a)["n1"].hello.started == before.started + 1


async def test_what_was_under_way_at_a_node_that_lost_nats_is_not_waited_for(nats: NatsServer) -> None:
    """Its answer may have gone with its NATS server; the others may not have noticed anything."""
    async with nodes(nats) as (a, b):
        work = await b.attach("work")
        await serves(a, "work")
        t = await a.login("t")
        t.ask("work", "1")
        await work.get()
        await joined(b).bus.fail(Fault.DROPPED)
        assert (await t.report("1"))["error"]["temporary"]
        await until(lambda: list(others(b)) == ["n0"])  # it knows the others again, at once
        await serves(a, "work")
        t.ask("work", "2")
        work.answer(await work.get(), {"type": "done"})
        await t.good("2")


async def test_a_type_that_nobody_serves_may_get_a_handler_soon_after_a_node_came_or_went(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(nats) as (a, b):
        chat = await b.attach("chat")
        await serves(a, "chat")
        t = await a.login("t")

        async def code() -> str:
            t.ask("chat", "1")
            return str(await t.bad("1"))

        joined(b).membership.leave()
        joined(b).batcher.flush()
        await serves(a, "chat", available=False)
        assert await code() == "handlerUnavailable"
        a.runtime.exchange.dispatcher.unsure_until = 0.0
        assert await code() == "noHandler"
        nats.kill()
        monkeypatch.setattr(membership, "UNSURE_S", 0.0)
        await until(lambda: not joined(a).bus.up)
        assert await code() == "handlerUnavailable"
        nats.start()
        assert await joined(a).bus.wait_until_up(PATIENCE_S)
        assert await code() == "noHandler"
        del chat


async def test_a_node_that_starts_does_not_know_who_serves_what(nats: NatsServer) -> None:
    async with node(nats.url, "alone.example", "n0") as a:
        t = await a.login("t")
        t.ask("chat", "1")
        assert await t.bad("1") == "handlerUnavailable"


async def test_nodes_that_are_too_far_apart_are_a_problem_of_the_older_one(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        major, minor = (int(part) for part in __version__.split(".")[:2])
        for version, told in ((f"{major}.{minor + 1}.7", False), (f"{major}.{minor + 2}.0", True)):
            hello = others(a)["n1"].hello
            joined(a).membership.met("n1", Hello(version, hello.started, hello.types))
            found = [row for row in problems.of_process(a.server.admin) if row["what"] == "release"]
            assert [row["name"] for row in found] == ([version] if told else [])
        assert f"is that of n1, and this node has {__version__}" in found[0]["detail"]
        assert problems.of_process(b.server.admin) == []


@pytest.mark.parametrize(
    ("ours", "other", "told"),
    [
        ("0.9.0", "0.10.3", False),
        ("0.9.0", "0.11.0", True),
        ("0.11.0", "0.9.0", False),
        ("1.2.0", "2.0.0", True),
        ("2.0.0", "1.9.0", False),
        ("1.2.0rc1", "1.2.0", False),
        ("1.2.0", "", False),
        ("1.2.0", "9" * 5000 + ".1", False),
    ],
)
def test_one_minor_release_and_the_next_run_together(ours: str, other: str, told: bool) -> None:
    assert problems.too_new(ours, other) is told
