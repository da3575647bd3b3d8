"""The server lends nobody its rights: what handlers command, and where it never connects (docs/protocol.md, sections
3.3 and 8.4).

It connects as its own user, whom the control socket takes for the operator. So each way is tried by which a handler, or
whoever makes a handler send, might get a built-in command to that socket.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.server.linked import forwarded, settled_on
from tests.server.peers import GOOD, Listening, Stage, Wire, hello, result, result_of, stage
from tests.waiting import until

from bester.store.ports import Outgoing
from bester.testing import PASSWORD

DONE = {"type": "done"}
TAKE_OVER = {"command": {"type": "addAccount", "args": {"username": "x", "password": "p", "admin": True}}}
CLASSIC = {"handlers": {"typeMap": {"old": {"unixDomainSocketPath": "old"}}}}


def send_on(*addresses: str, **more: Any) -> Any:
    return {"type": "sendServers", "data": addresses, **more}


async def sent(play: Stage, handler: Wire, wire: Wire, *addresses: str, **payload: Any) -> Any:
    """Lets the handler of ``chat`` send a message to these addresses, and returns the report."""
    wire.ask("chat", "1")
    handler.answer(await handler.get(), send_on(*addresses), **payload)
    return await wire.report("1")


# -- the server's own types --------------------------------------------------------------------------------------------

CONTROL = "unix:besterControl"
WAYS: dict[str, tuple[Any, Any]] = {
    "to a server": (send_on(CONTROL), {"type": "TYPE", "data": TAKE_OVER}),
    "in the command's payload": (send_on(CONTROL, payload={"type": "TYPE", "data": TAKE_OVER}), {}),
    "to clients": ({"type": "sendClients", "data": ["t"]}, {"type": "TYPE", "data": TAKE_OVER}),
    "as a reply": ({"type": "reply"}, {"type": "TYPE", "data": TAKE_OVER}),
    "to a handler": ({"type": "sendHandler", "data": "TYPE"}, {"data": TAKE_OVER}),
}


@pytest.mark.parametrize("type", ["builtin", "dummy"])
@pytest.mark.parametrize("way", WAYS)
async def test_no_handler_sends_a_type_of_the_servers_own(way: str, type: str) -> None:
    command, payload = msgspec.json.decode(msgspec.json.encode(WAYS[way]).replace(b"TYPE", type.encode()))
    async with stage(CLASSIC) as play:
        wire, handler, second = await play.login(), await play.attach("chat"), await play.attach("next")
        old = await play.listen("old")
        handler.send({"header": {"messageType": "push", "id": "p", "commands": [command]}, "payload": payload})
        assert await handler.bad("p") == "notAllowed"
        # In an answer, behind a command that would be fine; by the next handler of a chain; by a classic handler.
        wire.ask("chat", "1")
        handler.answer(await handler.get(), {"type": "sendClients", "data": ["t"]}, command, **payload)
        assert await wire.bad("1") == "notAllowed"
        wire.ask("chat", "2")
        handler.answer(await handler.get(), {"type": "sendHandler", "data": "next"})
        second.answer(await second.get(), command, **payload)
        assert await wire.bad("2") == "notAllowed"
        wire.ask("old", "3")
        called = await old.accept()
        await called.body()
        called.send({"header": {"status": "0", "command": command}, "payload": payload})
        assert await wire.bad("3") == "notAllowed"
        assert not await play.server.accounts.exists("x")
        assert not play.server.federation.destinations


async def test_a_dry_run_says_so_too() -> None:
    async with stage() as play:
        wire, handler = await play.login(features=["route"]), await play.connect("handlers")
        attach = {"type": "attach", "id": "a", "data": {"types": ["chat"]}}
        handler.send({"header": {"scope": "handler", "features": ["dryRun"]}, "payload": attach})
        await handler.good("a")
        wire.send({"header": {"dryRun": True}, "payload": {"type": "chat", "id": "1"}})
        handler.answer(await handler.get(), {"type": "reply"}, type="builtin", data=TAKE_OVER)
        assert await wire.bad("1") == "notAllowed"


async def granted(other: Listening) -> Wire:
    """Another server that grants a link."""
    there = await other.accept()
    hello = await there.get()
    there.send({"header": GOOD, "payload": {"id": hello["payload"]["id"], "features": ["link"]}})
    return there


async def test_what_another_node_hands_over_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as play:
        other = await play.listen("other")
        found = settled_on(play, monkeypatch)
        message = forwarded("1", TAKE_OVER, to="a node's")
        message.type = "builtin"
        play.server.federation.send(message)
        play.server.federation.send(forwarded("2", to="good"))
        there = await granted(other)
        assert (await there.get())["payload"]["id"] == "2"
        there.send({"header": GOOD, "payload": {"id": "2"}})
        await until(lambda: len(found) == 2)
        assert found == [("a node's", "failed", "notAllowed"), ("good", "sent", None)]


async def test_what_is_on_disk_is_looked_at_again() -> None:
    async with stage() as play:
        data = msgspec.json.encode(TAKE_OVER)
        rows = [Outgoing(address, address, "builtin", data, 1) for address in (CONTROL, "unix:other")]
        await play.server.messages.enqueue(rows, time.time())
        other = await play.listen("other")
        await play.server.federation.changed([row.destination for row in rows])
        there = await granted(other)
        destinations = play.server.federation.destinations
        control = await play.connect("control")
        await until(lambda: destinations[CONTROL].last_error and not destinations["unix:other"].backlog.active)
        await play.server.federation.outbox.written()
        [dead] = await result(control, "listQueue", dead=True)
        assert (dead["server"], dead["lastError"].partition(":")[0]) == ("unix:other", "notAllowed")
        assert destinations[CONTROL].last_error.startswith("notAllowed: ")
        assert not await play.server.accounts.exists("x")
        await there.leave()


# -- what a type's handlers may use ------------------------------------------------------------------------------------

COMMANDS: dict[str, Any] = {
    "reply": {"type": "reply"},
    "sendClients": {"type": "sendClients", "data": ["t"]},
    "sendHandler": {"type": "sendHandler", "data": "next"},
    "sendServers": {"type": "sendServers", "data": []},
}


@pytest.mark.parametrize("where", ["the type", "all types"])
async def test_the_configuration_says_what_handlers_may_use(where: str) -> None:
    handlers = {"may": ["reply"]} if where == "all types" else {"typeMap": {"chat": {"may": ["reply"]}}}
    async with stage({"handlers": handlers}) as play:
        wire, handler = await play.login(), await play.attach("chat", "free")
        for name, command in COMMANDS.items():
            wire.ask("chat", "1")
            handler.answer(await handler.get(), DONE, command)
            if name == "reply":
                assert (await wire.get())["payload"]["type"] == "chat"
                await wire.good("1")
                continue
            assert await wire.bad("1") == "notAllowed"
            handler.send({"header": {"messageType": "push", "id": "p", "command": command}, "payload": {}})
            assert await handler.bad("p") == "notAllowed"
        (row, *_) = await result(await play.connect("control"), "listHandlers")
        assert row["lastError"] == "notAllowed: this type's handlers may not use sendServers"
        wire.ask("free", "2")
        handler.answer(await handler.get(), COMMANDS["sendServers"])
        if where == "all types":
            assert await wire.bad("2") == "notAllowed"
        else:
            await wire.good("2")


# -- the server's own sockets ------------------------------------------------------------------------------------------


def spellings(folder: Path, name: str) -> list[str]:
    """Returns addresses that lead to a socket in the server's folder, each in a way of its own."""
    (folder / f"{name}.link").symlink_to(name)
    (folder / f"{name}.far").symlink_to(folder / f"{name}.link")
    (folder / f"{name}.hard").hardlink_to(folder / name)
    (folder / f"{name}.folder").symlink_to(folder)
    names = (name, f"./{name}", f"../{folder.name}/{name}", f"{name}.link", f"{name}.far", f"{name}.hard")
    return [f"unix:{one}" for one in (*names, f"{name}.folder/{name}", f"{folder / name}", f"//{folder}//{name}")]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("name", ["besterControl", "besterHandlers", "bInformer", "clients", "old"])
async def test_the_servers_own_sockets_are_no_destinations(name: str, named: bool) -> None:
    federation = {"federation": {"servers": {"own.example": {"address": f"unix:{name}"}}}} if named else {}
    async with stage(CLASSIC | federation) as play:
        old = await play.listen("old")
        wire, handler = await play.login(), await play.attach("chat")
        there = len(play.server.connections.all)
        addresses = spellings(play.folder, name) + (["own.example"] if named else [])
        for _ in range(2):  # the second message comes while the destinations pause
            payload = await sent(play, handler, wire, *addresses, data=TAKE_OVER)
            assert result_of(payload) == [(address, "failed", "notAllowed") for address in addresses]
        assert (len(play.server.connections.all), old.wires) == (there, [])
        assert (await result(await play.connect("control"), "listQueue")) == []


# -- what is on this machine -------------------------------------------------------------------------------------------


async def serve(other: Listening) -> None:
    """Another server that grants links, and takes everything."""
    there = await granted(other)
    while True:
        message = await there.get()
        there.send({"header": GOOD, "payload": {"id": message["payload"]["id"]}})


@pytest.mark.parametrize("policy", ["local", "open", "verified"])
@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_others_on_this_machine_are_named_or_the_policy_is_local(kind: str, policy: str) -> None:
    async with stage() as play:
        named, other = [await play.listen(name if kind == "unix" else None) for name in ("named", "other")]
        addresses = ["unix:named", "unix:other"]
        if kind == "tcp":
            addresses = [f"127.0.0.1:{one.port}" for one in (named, other)]
        federation = type(play.runtime.config.federation).model_validate(
            {"policy": policy, "servers": {"near.example": {"address": addresses[0]}}}
        )
        play.runtime.config = play.runtime.config.model_copy(update={"federation": federation})
        serving = [asyncio.ensure_future(serve(one)) for one in (named, other)]
        wire, handler = await play.login(), await play.attach("chat")
        assert result_of(await sent(play, handler, wire, addresses[0])) == [(addresses[0], "sent", None)]
        outcome = ("sent", None) if policy == "local" else ("failed", "notAllowed")
        assert result_of(await sent(play, handler, wire, addresses[1])) == [(addresses[1], *outcome)]
        for one in serving:
            one.cancel()


# -- who is who on a Unix socket ---------------------------------------------------------------------------------------


async def test_one_user_of_the_machine_does_not_slow_down_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def code(password: str = PASSWORD, user: int = 1000) -> str | None:
        monkeypatch.setattr("bester.net.peers.peer_user", lambda connected: user)
        wire = await play.connect()
        wire.send(hello(password=password))
        error = (await wire.report("auth_special")).get("error")
        return error and str(error["code"])

    async with stage({"accounts": {"registration": "closed"}}) as play:
        await play.server.accounts.add("t", PASSWORD)
        assert [await code("wrong") for _ in range(5)] == ["authenticationFailed"] * 5
        assert await code() == "throttled"
        assert await code(user=1001) is None
