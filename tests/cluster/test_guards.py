"""Guards and what they hold, where several nodes are one server."""

from __future__ import annotations

from typing import Any

from tests.cluster.nodes import nodes, serves
from tests.nats import NatsServer
from tests.server.peers import result, result_of
from tests.waiting import until

GUARDS: dict[str, Any] = {
    "handlers": {"guards": [{"guard": "watch", "for": {"types": ["chat"]}, "onFailure": "reject"}]}
}
HOLD = {"type": "hold"}


async def test_a_guard_anywhere_guards_everywhere(nats: NatsServer) -> None:
    async with nodes(nats, **GUARDS) as (a, b):
        guard, handler = await a.attach("watch"), await a.attach("chat")
        await serves(b, "watch")
        await serves(b, "chat")
        t = await b.login("t")
        t.ask("chat", "1", 1)
        request = await guard.get()
        assert request["header"]["guards"] == "chat"
        assert request["header"]["from"]["user"] == "t"
        guard.answer(request, {"type": "accept"})
        request = await handler.get()
        assert "guards" not in request["header"]
        handler.answer(request, {"type": "done"})
        await t.good("1")
        t.ask("chat", "2", 2)
        why = {"status": "1", "error": {"code": "spam", "message": "no", "temporary": True}}
        guard.send({"header": {"id": (await guard.get())["header"]["id"], **why}})
        error = (await t.report("2"))["error"]
        assert error == {"code": "rejected", "reason": "spam", "message": "no", "temporary": True}
        t.ask("chat", "3", 3)
        guard.answer(await guard.get(), {"type": "drop"})
        assert "results" not in await t.good("3")
        t.ask("chat", "4", 4)
        guard.answer(await guard.get(), {"type": "nonsense"})
        assert await t.bad("4") == "rejected"


async def test_what_one_node_holds_is_released_at_another(nats: NatsServer) -> None:
    async with nodes(nats, **GUARDS) as (a, b):
        guard, handler = await a.attach("watch"), await a.attach("chat")
        await serves(b, "watch")
        await serves(b, "chat")
        t, g = await a.login("t"), await b.login("g")
        for number in (1, 2):
            t.ask("chat", str(number), number)
            guard.answer(await guard.get(), HOLD | {"data": "g"})
            assert result_of(await t.good(str(number))) == [("g", "held", None)]
        found = await result(g, "listHeld")
        assert [one["data"] for one in found["held"]] == ["1", "2"]
        assert await result(g, "release", user="t", always=True) == {"messages": 2}
        for number in (1, 2):
            request = await handler.get()
            assert request["payload"]["data"] == number
            assert request["header"]["from"]["user"] == "t"
            handler.answer(request, {"type": "done"})
        await until(lambda: not b.server.held._handling)
        t.ask("chat", "3", 3)
        guard.answer(await guard.get(), HOLD | {"data": "g"})
        request = await handler.get()
        assert request["payload"]["data"] == 3
        handler.answer(request, {"type": "done"})
        await t.good("3")


async def test_nodes_handle_what_others_released_and_left(nats: NatsServer) -> None:
    async with nodes(nats, **GUARDS) as (a, b):
        guard, handler = await a.attach("watch"), await a.attach("chat")
        t = await a.login("t")
        t.ask("chat", "1", 1)
        guard.answer(await guard.get(), HOLD)
        await t.good("1")
        (held,) = await b.server.messages.list_held("", 0, 10)
        await b.server.messages.release_held("", [held.position])  # and then it dies
        a.later(60)
        request = await handler.get()
        assert request["payload"] == {"type": "chat", "id": "1", "data": 1}
        handler.answer(request, {"type": "done"})
        await until(lambda: not a.server.held._handling)
        assert await b.server.messages.released(0, 10) == []
