"""Answers in parts, and cancelled messages, over real connections (docs/protocol.md, sections 2.9, 2.10, 6.7, 6.8)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.server.peers import Stage, Wire, hello, result, stage, to
from tests.waiting import until

DONE = {"type": "done"}
REPLY = {"type": "reply"}
BOTH = ("parts", "cancel")


def ask(wire: Wire, id: str, parts: Any, type: str = "count", **header: Any) -> None:
    wire.send({"header": {"parts": parts, **header}, "payload": {"type": type, "id": id}})


async def both(play: Stage, **header: Any) -> tuple[Wire, Wire]:
    """A handler that knows parts, and a client that takes them."""
    count = await play.attach("count", features=BOTH)
    return count, await play.login("t", features=["parts", "replyTo"], **header)


async def test_parts_and_more_of_them() -> None:
    async with stage() as play:
        count, t = await both(play)
        ask(t, "7", 2)
        request = await count.get()
        assert request["header"]["parts"] == 2
        for number in range(2):
            count.answer_in_part(request, number)
            assert await t.part("7") == number
        t.note("more", id="7", parts=3)
        assert await count.get() == {"header": {"messageType": "more", "id": request["header"]["id"], "parts": 3}}
        count.answer_in_part(request, 2, to("t"))
        assert (await t.get())["payload"] == {"type": "count", "data": 2}
        assert (await result(await play.connect("control"), "status"))["streams"] == 1
        count.answer(request, REPLY, data="last")
        assert (await t.get())["payload"] == {"type": "count", "data": "last", "replyTo": "7"}
        assert (await t.good("7"))["results"] == [{"to": "t", "status": "delivered"}]
        t.note("more", id="7", parts=3)
        t.note("cancel", id="7")
        t.ask("dummy", "p")
        assert (await t.get())["payload"]["id"] == "p"
        assert len(play.runtime.exchange.streams) == 0


async def test_parts_of_a_first_message() -> None:
    async with stage() as play:
        count = await play.attach("count", features=BOTH)
        t = await play.connect()
        t.send(hello("t", payload={"type": "count", "id": "7"}, features=["parts"], parts=1))
        await t.good("auth_special")
        count.answer_in_part(await count.get(), 1)
        assert await t.part("7") == 1


async def test_a_session_that_acknowledges() -> None:
    async with stage() as play:
        count, t = await both(play)
        t = await play.login("t", features=["parts", "ack"])
        ask(t, "7", 1)
        request = await count.get()
        count.answer_in_part(request, 1)
        assert await t.part("7") == 1
        count.answer(request, REPLY, data=2)
        delivery = (await t.get())["payload"]["deliveryId"]
        await t.good("7")
        t.note("ack", ids=[delivery])
        await t.leave()
        await until(lambda: len(play.runtime.exchange.presence.sessions("t")) == 1)
        g = await play.login("t", features=["ack"])
        g.ask("dummy", "p")
        assert (await g.get())["payload"]["id"] == "p", "nothing is in the mailbox"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"parts": 0}, "badArguments"),
        ({"parts": 65_537}, "badArguments"),
        ({"parts": "1"}, "badArguments"),
        ({"parts": [1]}, "badArguments"),
        ({"parts": 1, "once": True}, "badArguments"),
        ({"parts": 1}, ""),
        ({"parts": None}, ""),
    ],
)
async def test_what_a_message_may_say(header: Any, code: str) -> None:
    async with stage() as play:
        count, t = await both(play)
        t.send({"header": header, "payload": {"type": "count", "id": "7"}})
        if code:
            assert await t.bad("7") == code
        else:
            assert (await count.get())["header"].get("parts") == header["parts"]


async def test_one_message_with_parts_of_an_id() -> None:
    async with stage() as play:
        count, t = await both(play)
        ask(t, "7", 1)
        request = await count.get()
        ask(t, "7", 1)
        assert await t.bad("7") == "idConflict"
        count.answer(request, DONE)
        await t.good("7")
        ask(t, "7", 1)
        await count.get()


async def test_without_the_feature() -> None:
    async with stage() as play:
        await play.attach("count", features=BOTH)
        t = await play.login("t", features=["ack"])
        ask(t, "7", 1)
        assert await t.bad("7") == "notAllowed"
        t.note("more", id="7", parts=1)
        assert await t.fatal() == "malformed"


async def test_a_malformed_note() -> None:
    async with stage() as play:
        _, t = await both(play)
        t.note("more", id="7", parts=0)
        assert await t.fatal() == "malformed"


async def test_an_old_client_and_a_new_handler() -> None:
    async with stage() as play:
        count = await play.attach("count", features=BOTH)
        t = await play.login("t")
        t.ask("count", "7")
        request = await count.get()
        assert "parts" not in request["header"]
        count.answer_in_part(request, 1)
        assert await t.bad("7") == "badResponse"
        assert (await count.get())["header"] == {"messageType": "cancel", "id": request["header"]["id"]}


async def test_an_old_handler_and_a_new_client() -> None:
    async with stage() as play:
        count = await play.attach("count")
        t = await play.login("t", features=["parts", "replyTo"])
        ask(t, "7", 5)
        request = await count.get()
        assert "parts" not in request["header"]
        t.note("more", id="7", parts=5)
        t.note("cancel", id="7")
        count.answer(request, REPLY, data=1)
        assert (await t.get())["payload"] == {"type": "count", "data": 1, "replyTo": "7"}
        await t.good("7")


async def test_a_cancelled_message() -> None:
    async with stage() as play:
        count, t = await both(play)
        t.ask("count", "1")
        t.ask("count", "2")
        first, second = await count.get(), await count.get()
        t.note("cancel", id="1")
        assert (await count.get())["header"] == {"messageType": "cancel", "id": first["header"]["id"]}
        count.answer(second, DONE)
        await t.good("2")
        count.send({"header": {"id": first["header"]["id"], "status": "1"}})
        assert await t.bad("1") == "cancelled"


async def test_a_session_that_ends_cancels_its_parts() -> None:
    async with stage() as play:
        count, t = await both(play, where="tcp4")
        ask(t, "7", 1)
        request = await count.get()
        t.reset()
        assert (await count.get())["header"] == {"messageType": "cancel", "id": request["header"]["id"]}
        count.answer(request, DONE)
        await until(lambda: play.runtime.exchange.reports.under_way == 0)
        assert len(play.runtime.exchange.streams) == 0


async def test_a_client_that_closed_is_found_out_by_the_next_part() -> None:
    async with stage() as play:
        count, t = await both(play)
        ask(t, "7", 2)
        request = await count.get()
        await t.leave()  # for all that the server knows, it still reads
        count.answer_in_part(request, 1)
        count.answer_in_part(request, 2)
        assert (await count.get())["header"] == {"messageType": "cancel", "id": request["header"]["id"]}


async def test_the_route_of_parts() -> None:
    async with stage() as play:
        count = await play.attach("count", features=BOTH)
        t = await play.login("t", features=["parts", "route"])
        ask(t, "7", 2, route=True)
        request = await count.get()
        count.answer_in_part(request, 1)
        assert await t.part("7") == 1
        count.answer_in_part(request, 2)
        assert await t.part("7") == 2
        count.answer(request, DONE)
        steps = (await t.good("7"))["route"]
        assert [(step["step"], step["status"], step.get("parts")) for step in steps] == [
            ("handler", "good", 2),
            ("clients", "delivered", None),
            ("clients", "delivered", None),
        ]


async def test_answers_in_parts_do_not_keep_a_handler_from_draining() -> None:
    async with stage({"limits": {"handlerTimeout": 0.5}}) as play:
        count, t = await both(play)
        control = await play.connect("control")
        ask(t, "7", 1000)
        request = await count.get()
        assert (await result(control, "drainHandler", type="count"))["outstanding"] == 1
        told = asyncio.ensure_future(count.get())
        for number in range(1000):  # it would never come to an end by itself
            count.answer_in_part(request, number)
            assert await t.part("7") == number
            await asyncio.wait({told}, timeout=0.05)
            if told.done():
                break
        assert await told == {"header": {"messageType": "cancel", "id": request["header"]["id"]}}
        count.send({"header": {"id": request["header"]["id"], "status": "1"}})
        assert await t.bad("7") == "cancelled"
        await count.closed()
