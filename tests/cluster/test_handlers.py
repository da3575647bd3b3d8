"""Handlers on one node serve clients on all of them."""

from __future__ import annotations

import asyncio

import pytest
from tests.cluster.nodes import joined, node, nodes, serves, shared
from tests.nats import NatsServer
from tests.server.peers import attaching, result, to
from tests.waiting import until

from bester import Handler, Refuse, Reply, SendClients


async def test_a_handler_anywhere_answers_clients_everywhere(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        chat = await a.attach("chat")
        await serves(b, "chat")
        t = await b.login("t")
        t.ask("chat", "1", {"text": [1.0, "é", {"k": None}]})
        request = await chat.get()
        assert request["header"]["from"] == {"user": "t", "server": b.runtime.config.server.name, "verified": True}
        assert request["payload"] == {"type": "chat", "id": "1", "data": {"text": [1.0, "é", {"k": None}]}}
        assert request["header"]["traceparent"]
        chat.answer(request, {"type": "reply"}, data={"n": 1.0})
        assert (await t.get())["payload"] == {"type": "chat", "data": {"n": 1.0}}
        await t.good("1")


async def test_data_goes_there_and_back_byte_for_byte(nats: NatsServer) -> None:
    data = b'{ "z" : 1.50,"a":"\\u00e9\xc3\xa9" , "big":123456789012345678901234567890 }'
    async with nodes(nats) as (a, b):
        handler = Handler(a.running.handlers_path)

        @handler.on("echo")
        def echo(message):  # type: ignore[no-untyped-def]
            return Reply(message.raw)

        async with handler:
            await serves(b, "echo")
            t = await b.login("t")
            t.send(b'{"payload":{"type":"echo","id":"1","data":' + data + b"}}")
            assert data in await t.body()
            await t.good("1")


async def test_a_local_handler_is_preferred_and_a_busy_one_helped(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        there = await a.attach("work")
        here = await b.attach("work", concurrency=1)
        await serves(a, "work")
        await until(lambda: b.runtime.exchange.dispatcher.types["work"].remote)
        t = await b.login("t")
        t.ask("work", "1")
        first = await here.get()
        t.ask("work", "2")
        second = await there.get()
        here.answer(first, {"type": "done"})
        await t.good("1")
        t.ask("work", "3")
        third = await here.get()
        there.answer(second, {"type": "done"})
        here.answer(third, {"type": "done"})
        assert {(await t.good())["id"] for _ in range(2)} == {"2", "3"}


async def test_a_saturated_handler_makes_senders_on_other_nodes_wait(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        slow = await a.attach("slow", concurrency=2)
        await serves(b, "slow")
        t = await b.login("t")
        for number in range(6):
            t.ask("slow", str(number))
        held = [await slow.get(), await slow.get()]
        kind = b.runtime.exchange.dispatcher.types["slow"]
        await until(lambda: sum(len(queue.waiting) for queue in kind.queues.values()) == 4)
        for number in range(6):
            request = held.pop(0)
            assert request["payload"]["id"] == str(number)
            slow.answer(request, {"type": "done"})
            await t.good(str(number))
            if number < 4:
                held.append(await slow.get())


async def test_what_a_handler_says_is_executed_where_the_sender_is(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        chat = await a.attach("chat")
        await serves(b, "chat")
        t, g = await b.login("t"), await a.login("g")
        t.ask("chat", "1", "hello")
        chat.answer(await chat.get(), to("g", "t"), data="hello")
        assert (await g.get())["payload"]["data"] == "hello"
        assert (await t.get())["payload"]["data"] == "hello"
        report = await t.good("1")
        assert report["results"] == [{"to": "g", "status": "delivered"}, {"to": "t", "status": "delivered"}]


async def test_what_is_for_clients_beside_the_handler_is_carried_out_there(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        chat = await a.attach("chat", concurrency=1)
        await serves(b, "chat")
        t, g, h = await b.login("t"), await a.login("g"), await a.login("h", features=["ack"])
        for name in ("g", "h"):
            await shared(a, name, wanted=False)  # a moment after it came
        t.ask("chat", "1")
        chat.answer(await chat.get(), to("G"), data=1)
        assert (await g.get())["payload"]["data"] == 1
        assert (await t.good("1"))["results"] == [{"to": "G", "status": "delivered"}]
        t.ask("chat", "2")
        chat.answer(await chat.get(), to("g", "h"), data=2)
        assert (await g.get())["payload"]["data"] == 2
        delivery = (await h.get())["payload"]["deliveryId"]
        t.ask("chat", "3")  # the handler has room, although the second has no report
        chat.answer(await chat.get(), to("g"), data=3)
        await t.good("3")
        h.send({"header": {"messageType": "ack"}, "payload": {"ids": [delivery]}})
        assert [one["status"] for one in (await t.good("2"))["results"]] == ["delivered", "delivered"]
        assert joined(a).remote_delivery.brought == joined(b).remote_delivery.brought == 0
        assert (a.runtime.exchange.reports.under_way, b.runtime.exchange.reports.under_way) == (0, 0)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b'{"header":{"id":"%s","status":"1"}}', "handlerError"),
        (b'{"header":{"id":"%s","status":"0"}}', "badResponse"),
        (b'{"header":{"id":"%s","status":"0","command":{"type":"fly"}}}', "badResponse"),
    ],
)
async def test_what_a_handler_gets_wrong_is_told_to_the_sender(nats: NatsServer, answer: bytes, code: str) -> None:
    async with nodes(nats) as (a, b):
        bad = await a.attach("bad")
        await serves(b, "bad")
        t = await b.login("t")
        t.ask("bad", "1")
        request = await bad.get()
        bad.send(answer.replace(b"%s", request["header"]["id"].encode()))
        assert await t.bad("1") == code


async def test_a_handler_that_goes_away_fails_what_it_had_and_its_type_is_gone(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        chat = await a.attach("chat")
        await serves(b, "chat")
        t = await b.login("t")
        t.ask("chat", "1")
        await chat.get()
        await chat.leave()
        assert await t.bad("1") == "handlerUnavailable"
        await serves(b, "chat", available=False)
        t.ask("chat", "2")
        assert await t.bad("2") == "noHandler"


async def test_a_classic_handler_serves_other_nodes(nats: NatsServer) -> None:
    types = {"typeMap": {"classic": {"unixDomainSocketPath": "aSock"}}}
    name = "classic.example"
    async with node(nats.url, name, "n0", handlers=types) as a, node(nats.url, name, "n1") as b:
        listening = await a.listen("aSock")
        await serves(b, "classic")
        t = await b.login("t")
        t.ask("classic", "1", {"a": 1})
        call = await listening.accept()
        assert await call.get() == {"a": 1}
        call.send({"header": {"status": "0", "command": {"type": "reply"}}, "data": "done"})
        assert (await t.get())["payload"] == {"type": "classic", "data": "done"}
        await t.good("1")


async def test_a_handler_of_the_library_raises_an_error_for_a_sender_elsewhere(nats: NatsServer) -> None:
    async with nodes(nats) as (a, b):
        handler = Handler(a.running.handlers_path)

        @handler.on("chat")
        async def chat(message):  # type: ignore[no-untyped-def]
            if message.data is None:
                raise Refuse("nothing to say", code="chat.empty", temporary=True)
            await asyncio.sleep(0)
            return SendClients([message.data])

        async with handler:
            await serves(b, "chat")
            t = await b.login("t")
            t.ask("chat", "1")
            told = {"code": "handlerError", "message": "nothing to say", "temporary": True, "reason": "chat.empty"}
            assert (await t.report("1"))["error"] == told


async def test_descriptions_are_found_and_kept_to_wherever_the_handler_is(nats: NatsServer) -> None:
    async with nodes(nats, handlers={"typeMap": {"order": {"validate": True}}}) as (a, b):
        older, newer = await a.connect("handlers"), await b.connect("handlers")
        older.send(attaching("order", describe={"order": {"version": "1", "request": {"type": "integer"}}}))
        await older.good("a")
        await serves(b, "order")
        t = await b.login("t")
        t.ask("order", "1", "five")
        assert (await t.report("1"))["error"] == {
            "code": "badPayload",
            "message": 'data: the value is not of type "integer"',
            "temporary": False,
        }
        t.ask("order", "2", 5)
        older.answer(await older.get(), {"type": "done"})
        await t.good("2")
        newer.send(attaching("order", describe={"order": {"version": "2"}}))
        await newer.good("a")
        for one in (a, b):
            (row,) = await result(await one.connect("control"), "describe", type="order")
            assert (row["version"], row["versions"], row["validates"]) == ("2", ["1", "2"], False)
