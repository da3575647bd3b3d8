"""What guards hold: kept over kill -9, released and refused by its holder."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.certificates import issued
from tests.server.peers import Stage, Wire, attaching, refused, result, result_of, stage, to
from tests.server.test_mailboxes import CONFIG, Daemons
from tests.waiting import until

from bester.server import held as held_messages

GUARDS = {"handlers": {"guards": [{"guard": "watch", "for": {"types": ["chat"]}, "onFailure": "reject"}]}}
HOLD = {"type": "hold"}


@pytest.fixture
async def play() -> AsyncIterator[Stage]:
    async with stage(GUARDS) as made:
        yield made


async def held_of(wire: Wire) -> list[Any]:
    return [one["data"] for one in (await result(wire, "listHeld"))["held"]]


async def hold(guard: Wire, sender: Wire, data: Any, holder: str | None = None, id: str = "") -> None:
    sender.ask("chat", id, data)
    guard.answer(await guard.get(), HOLD | {"data": holder})
    assert [status for _, status, _ in result_of(await sender.good(id))] == ["held"]


async def test_an_account_decides_about_its_own(play: Stage) -> None:
    guard, handler = await play.attach("watch"), await play.attach("chat")
    t, g, root = await play.login("t"), await play.login("g"), await play.admin()
    await hold(guard, t, 1, "g")
    await hold(guard, t, 2, "g")
    await hold(guard, t, 3)
    found = (await result(g, "listHeld"))["held"]
    assert [(one["data"], one["from"]["user"], one["type"], one["guard"]) for one in found] == [
        ("1", "t", "chat", "watch"),
        ("2", "t", "chat", "watch"),
    ]
    assert await held_of(t) == []
    assert await refused(g, "listHeld", operators=True) == "notAllowed"
    of_operators = await result(root, "listHeld", operators=True)
    assert ([one["data"] for one in of_operators["held"]], of_operators["counts"]) == (
        ["3"],
        {"operators": 1, "accounts": 2},
    )
    receipts = (await result(root, "trace", outcome="held"))["receipts"]
    assert [(one["outcome"], one["recipients"]["counts"]) for one in receipts] == [("good", {"held": 1})] * 3
    [watch] = [one for one in await result(root, "listHandlers") if one["type"] == "watch"]
    [guarded] = [one for one in await result(root, "listHandlers") if one["type"] == "chat"]
    assert (watch["verdicts"], watch["guards"], guarded["guards"]) == ({"hold": 3}, [], ["watch"])
    assert [(one["over"], one["address"]) for one in watch["attached"]] == [("socket", None)]
    assert await result(t, "release", ids=[found[0]["id"]]) == {"messages": 0}
    assert await result(g, "release", ids=[found[1]["id"], 10**9]) == {"messages": 1}
    request = await handler.get()
    assert request["payload"]["data"] == 2
    assert request["header"]["from"] == {"user": "t", "server": "test.example", "verified": True}
    assert request["header"]["scope"] == "client"
    handler.answer(request, to("g"), data="two")
    assert (await g.get())["payload"]["data"] == "two"
    assert await result(g, "refuse", ids=[found[0]["id"]]) == {"messages": 1}
    assert await held_of(g) == []
    control = await play.connect("control")
    assert await held_of(control) == ["3"]
    assert await result(control, "refuse", user="t") == {"messages": 1}
    await until(lambda: not play.runtime.exchange.reports.under_way)
    assert (await play.server.messages.released(0, 10)) == []


async def test_wrong_arguments(play: Stage) -> None:
    g = await play.login("g")
    for args in ({}, {"ids": [1], "user": "t"}, {"ids": [-1]}, {"ids": [1], "always": True}, {"user": "\u0007"}):
        assert await refused(g, "release", **args) == "badArguments", args
    for server in ("", "k" * 254, "k.example\n"):
        assert await refused(g, "release", server=server) == "badArguments", server
    assert await refused(g, "refuse", ids=list(range(1001))) == "badArguments"
    assert await refused(g, "listHeld", limit=101) == "badArguments"


async def test_trust_is_bounded(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_messages, "MAX_TRUSTED", 2)
    g, root = await play.login("g"), await play.admin()
    for server in ("k.example", "l.example", "K.example."):
        await result(g, "release", server=server, always=True)
    assert await refused(g, "release", server="m.example", always=True) == "badArguments"
    await result(root, "release", server="m.example", always=True, operators=True)
    await result(g, "refuse", server="k.example")
    await result(g, "release", server="m.example", always=True)


async def test_a_trusted_sender_passes_behind_what_is_released(play: Stage) -> None:
    guard, handler = await play.attach("watch"), await play.attach("chat")
    t, g = await play.login("t"), await play.login("g")
    await hold(guard, t, 1, "g")
    assert await result(g, "release", user="T", always=True) == {"messages": 1}
    first = await handler.get()
    await hold(guard, t, 2, "g")  # the first one is not handled yet
    assert (await result(g, "listHeld")) == {"held": [], "trusted": [{"user": "t"}]}
    handler.answer(first, {"type": "done"})
    second = await handler.get()
    assert (first["payload"]["data"], second["payload"]["data"]) == (1, 2)
    handler.answer(second, {"type": "done"})
    await until(lambda: not play.server.held._handling)
    t.ask("chat", "3", 3)
    guard.answer(await guard.get(), HOLD | {"data": "g"})
    request = await handler.get()
    assert request["payload"]["data"] == 3
    handler.answer(request, {"type": "reply"}, data="passed")
    assert (await t.get())["payload"]["data"] == "passed"
    await t.good("3")
    assert await result(g, "refuse", user="t") == {"messages": 0}
    await hold(guard, t, 4, "g")


async def test_nobody_can_consent_for_an_account_that_does_not_exist(play: Stage) -> None:
    guard, t = await play.attach("watch"), await play.login("t")
    await play.attach("chat")
    t.ask("chat", "1")
    guard.answer(await guard.get(), HOLD | {"data": "nobody"})
    assert result_of(await t.report("1")) == [("nobody", "failed", "unknownAccount")]


async def test_what_is_held_is_bounded() -> None:
    async with stage(GUARDS | {"limits": {"maxHeld": 2}}) as play:
        guard, t = await play.attach("watch"), await play.login("t")
        await play.attach("chat")
        await hold(guard, t, 1)
        await hold(guard, t, 2)
        t.ask("chat", "3")
        guard.answer(await guard.get(), HOLD)
        error = (await t.report("3"))["error"]
        assert (error["code"], error["temporary"]) == ("rejected", True)


async def test_what_is_held_goes_with_its_account(play: Stage) -> None:
    guard, t = await play.attach("watch"), await play.login("t")
    await play.attach("chat")
    await play.away("g")
    await hold(guard, t, 1, "g")
    await play.server.accounts.remove("g")
    await play.away("g")
    assert await held_of(await play.login("g")) == []


async def test_what_is_held_too_long_is_dropped(play: Stage) -> None:
    guard, t = await play.attach("watch"), await play.login("t")
    await play.attach("chat")
    await hold(guard, t, 1)
    await play.server.messages.release_held("", [])
    store = play.server.messages
    assert await store.expire_held(play.runtime.steady.now() + 1, 10) == 1
    await play.server.held.expire()
    assert await held_of(await play.connect("control")) == []


async def test_a_refusal_for_good_is_the_end(play: Stage) -> None:
    guard, handler, t = await play.attach("watch"), await play.attach("chat"), await play.login("t")
    await hold(guard, t, 1)
    await hold(guard, t, 2)
    control = await play.connect("control")
    await result(control, "release", user="t")
    handler.send({"header": {"id": (await handler.get())["header"]["id"], "status": "1"}})
    request = await handler.get()
    assert request["payload"]["data"] == 2
    why = {"status": "1", "error": {"temporary": True}}
    play.server.held.handle_soon()  # something else is released meanwhile
    handler.send({"header": {"id": request["header"]["id"], **why}})
    await until(lambda: not play.server.held._handling)
    play.later(10)
    request = await handler.get()  # the second one again
    assert request["payload"]["data"] == 2
    handler.answer(request, {"type": "done"})
    await until(lambda: not play.server.held._handling)
    assert await play.server.messages.released(0, 10) == []


# -- a server that dies -------------------------------------------------------------------------------------------


@pytest.fixture
async def daemons(tmp_path: Path) -> AsyncIterator[Daemons]:
    daemons = Daemons(tmp_path)
    (tmp_path / "server.conf").write_text(json.dumps(CONFIG | GUARDS))
    yield daemons
    daemons.kill()
    for wire in daemons.wires:
        await wire.leave()


async def guard_of(daemons: Daemons) -> Wire:
    return await daemons.connect("besterHandlers", attaching("watch"))


async def test_a_kill_loses_nothing_that_is_held(daemons: Daemons) -> None:
    daemons.start()
    guard, t = await guard_of(daemons), await daemons.client("t")
    await daemons.handler()
    await hold(guard, t, 1, id="a")
    await hold(guard, t, 2, id="b")
    daemons.kill()
    daemons.start(BESTER_DIE_AT="held.released")
    control = Wire(*await _control(daemons))
    assert await held_of(control) == ["1", "2"]
    control.command("release", user="t", always=True)
    assert daemons.wait() == -signal.SIGKILL  # between consent and handling
    await control.leave()
    daemons.start(BESTER_DIE_AT="held.handled")
    handler = await daemons.handler()
    request = await handler.get()
    assert (request["payload"]["data"], request["payload"]["id"]) == (1, "a")
    handler.answer(request, to("t"), data="one")
    assert daemons.wait() == -signal.SIGKILL  # after the report, before the store knows
    daemons.start()
    handler, again = await daemons.handler(), await daemons.client("t", features=["ack"])
    letter = await again.get()
    assert letter["payload"]["data"] == "one"
    request = await handler.get()
    assert (request["payload"]["data"], request["payload"]["id"]) == (2, "b")  # the first one was remembered
    handler.answer(request, to("t"), data="two")
    assert (await again.get())["payload"]["data"] == "two"


async def _control(daemons: Daemons) -> Any:
    return await asyncio.open_unix_connection(daemons.folder / "besterControl")


@pytest.mark.parametrize("point", ["held.stored", "held.handling"])
async def test_a_kill_at_any_point_is_made_good(daemons: Daemons, point: str) -> None:
    daemons.start(BESTER_DIE_AT=point)
    guard, t = await guard_of(daemons), await daemons.client("t")
    await daemons.handler()
    t.ask("chat", "a", 1)
    guard.answer(await guard.get(), HOLD)
    if point == "held.handling":
        await t.good("a")
        control = Wire(*await _control(daemons))
        control.command("release", user="t")
        await control.good()
        await control.leave()
    assert daemons.wait() == -signal.SIGKILL
    daemons.start()
    handler = await daemons.handler()
    if point == "held.stored":
        control = Wire(*await _control(daemons))
        assert await held_of(control) == ["1"]  # though its sender had no report
        await result(control, "release", user="t")
        await control.leave()
    request = await handler.get()
    assert request["payload"]["data"] == 1
    handler.answer(request, {"type": "done"})


# -- strangers ----------------------------------------------------------------------------------------------------


async def test_a_server_that_the_operators_trust_is_no_stranger(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca = str(tmp_path / "ca.pem")
    a, b = issued(tmp_path, authority, "a.example"), issued(tmp_path, authority, "b.example")
    guards = [{"guard": "watch", "for": {"from": ["strangers"]}, "onFailure": "reject"}]
    there_has = {"server": {"name": "b.example"}, "network": b.network, "federation": {"ca": ca}}
    async with stage(there_has | {"handlers": {"guards": guards}}) as there:
        servers = {"b.example": {"address": f"127.0.0.1:{there.port_of('tls')}"}}
        here_has = {"server": {"name": "a.example"}, "network": a.network, "federation": {"ca": ca, "servers": servers}}
        async with stage(here_has) as here:
            sender, t = await here.attach("chat"), await here.login("t")
            guard, handler = await there.attach("watch"), await there.attach("chat")

            async def send(data: Any) -> None:
                t.ask("chat", "1", data)
                command = {"type": "sendServers", "data": ["b.example"]}
                sender.answer(await sender.get(), command, data=data)

            await send(1)
            request = await guard.get()
            assert request["header"]["from"] == {"user": None, "server": "a.example", "verified": True}
            guard.answer(request, HOLD)
            assert result_of(await t.good("1")) == [("b.example", "sent", None)]
            control = await there.connect("control")
            assert await result(control, "release", server="A.example.", always=True) == {"messages": 1}
            request = await handler.get()
            assert request["header"]["scope"] == "server"
            assert request["header"]["from"] == {"user": None, "server": "a.example", "verified": True}
            handler.answer(request, {"type": "done"})
            await until(lambda: "a.example" in there.runtime.exchange.gates.known)
            await send(2)
            handler.answer(await handler.get(), {"type": "done"})  # no guard is asked
            await t.good("1")
            assert await result(control, "refuse", server="a.example") == {"messages": 0}
            assert "a.example" not in there.runtime.exchange.gates.known
