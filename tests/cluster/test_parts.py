"""Answers in parts, and cancelled messages, of handlers on another node."""

from __future__ import annotations

from tests.cluster.nodes import joined, nodes, others, serves
from tests.nats import NatsServer
from tests.server.peers import Stage, Wire
from tests.waiting import until

DONE = {"type": "done"}
REPLY = {"type": "reply"}
BOTH = ("parts", "cancel")


async def apart(a: Stage, b: Stage) -> tuple[Wire, Wire]:
    """A handler on one node, and a client on the other."""
    count = await a.attach("count", features=BOTH)
    await serves(b, "count")
    return count, await b.login("t", features=["parts"])


async def test_parts_come_from_another_node(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        count, t = await apart(a, b)
        t.send({"header": {"parts": 2}, "payload": {"type": "count", "id": "7"}})
        request = await count.get()
        assert request["header"]["parts"] == 2
        assert request["header"]["from"]["user"] == "t"
        count.answer_in_part(request, 1)
        count.answer_in_part(request, 2)
        assert [await t.part("7"), await t.part("7")] == [1, 2]
        t.note("more", id="7", parts=50)
        assert (await count.get())["header"] == {"messageType": "more", "id": request["header"]["id"], "parts": 50}
        for number in range(50):
            count.answer_in_part(request, number)
        count.answer(request, REPLY, data="last")
        assert [await t.part("7") for _ in range(50)] == list(range(50))
        assert (await t.get())["payload"] == {"type": "count", "data": "last"}
        await t.good("7")
        assert len(a.runtime.exchange.streams) == len(b.runtime.exchange.streams) == 0
        assert not joined(b).remote_handlers._asked


async def test_a_part_too_many(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        count, t = await apart(a, b)
        t.send({"header": {"parts": 1}, "payload": {"type": "count", "id": "7"}})
        request = await count.get()
        count.answer_in_part(request, 1)
        count.answer_in_part(request, 2)
        assert await t.part("7") == 1
        assert await t.bad("7") == "badResponse"
        assert (await count.get())["header"]["messageType"] == "cancel"


async def test_a_message_is_cancelled_over_there(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        count, t = await apart(a, b)
        t.ask("count", "7")
        request = await count.get()
        t.note("cancel", id="7")
        assert (await count.get())["header"] == {"messageType": "cancel", "id": request["header"]["id"]}
        count.send({"header": {"id": request["header"]["id"], "status": "1", "error": {"code": "own"}}})
        assert await t.bad("7") == "cancelled"


async def test_a_session_that_ends_cancels_its_parts_over_there(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        count, _ = await apart(a, b)
        t = await b.login("t", "tcp4", features=["parts"])
        t.send({"header": {"parts": 1}, "payload": {"type": "count", "id": "7"}})
        request = await count.get()
        t.reset()
        assert (await count.get())["header"]["messageType"] == "cancel"
        count.answer(request, DONE)
        await until(lambda: not b.runtime.exchange.reports.under_way)


async def test_a_node_that_stops_cancels_what_it_asked_in_parts(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        count, t = await apart(a, b)
        t.send({"header": {"parts": 1}, "payload": {"type": "count", "id": "7"}})
        await count.get()
        joined(a).membership.stopped(next(iter(others(a))))
        assert (await count.get())["header"]["messageType"] == "cancel"


async def test_a_node_that_knows_no_parts_is_asked_for_one_answer(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        count, t = await apart(a, b)
        for handler in b.runtime.exchange.dispatcher.types["count"].remote:
            handler.parts = handler.cancels = False  # as its HELLO has it
        t.send({"header": {"parts": 2}, "payload": {"type": "count", "id": "7"}})
        request = await count.get()
        assert "parts" not in request["header"]
        t.note("cancel", id="7")
        count.answer(request, REPLY, data=1)
        assert (await t.get())["payload"] == {"type": "count", "data": 1}
        await t.good("7")
