"""Messages between servers (docs/protocol.md, sections 3.4 and 8)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.server.peers import BAD, GOOD, Listening, Stage, Wire, result_of, stage, to
from tests.waiting import PATIENCE_S

from bester import Client, Handler, Reply, Request, Response, SendClients, SendServers
from bester.net.peers import Remote

FAR = Remote("203.0.113.5", False)
DONE = {"type": "done"}


def send_on(*addresses: str, **more: Any) -> Any:
    return {"type": "sendServers", "data": addresses, **more}


def server_message(type: str, id: str = "s", data: Any = None, **header: Any) -> Any:
    return {"header": {"scope": "server", **header}, "payload": {"type": type, "id": id, "data": data}}


@asynccontextmanager
async def stages(*names: str, overrides: Mapping[str, Any] | None = None) -> AsyncIterator[list[Stage]]:
    """Runs several servers at once, with these names."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(stage({**(overrides or {}), "server": {"name": name}})) for name in names
        ]


async def forward(play: Stage, handler: Wire, wire: Wire, *addresses: str) -> Any:
    """Lets the handler send a message to these addresses, and returns the report that is due at last."""
    wire.ask("chat", "1")
    handler.answer(await handler.get(), send_on(*addresses))
    return await wire.report("1")


async def decline(other: Listening) -> None:
    """Another server that grants no links: it takes the question for a ping."""
    there = await other.accept()
    hello = await there.get()
    assert hello["header"]["features"] == ["link", "route"]
    there.send({"header": {"status": "0"}, "payload": {"type": "dummy", "data": None, "id": hello["payload"]["id"]}})


# -- to other servers --------------------------------------------------------------------------------------------------


async def test_every_form_of_address() -> None:
    async with stages("a.example", "b.example") as (a, b):
        six = await a.listen(host="::1")
        clients = b.folder / "clients"
        servers = {"b.example": f"127.0.0.1:{b.port}", "nick": "B.example.", "far.nick": "nick", "self.ref": "self.ref"}
        federation = a.running.daemon.config.federation
        model = type(federation)
        configured = model.model_validate({"servers": {name: {"address": value} for name, value in servers.items()}})
        a.runtime.config = a.runtime.config.model_copy(update={"federation": configured})
        (a.folder / "near").symlink_to(clients)
        sender, receiver, wire = await a.attach("chat"), await b.attach("chat"), await a.login()

        async def received() -> None:
            for _ in range(6):
                request = await receiver.get()
                assert (request["payload"]["type"], request["payload"]["data"]) == ("chat", None)
                assert request["header"]["from"] == {"user": None, "server": None, "verified": False}
                assert (request["header"]["scope"], request["header"]["hops"]) == ("server", 1)
                receiver.answer(request, DONE)
            await decline(six)
            other = await six.accept()
            assert await other.get() == server_message("chat", "1", hops=1)
            other.send({"header": GOOD, "payload": {"id": "1"}})

        addresses = [
            f"127.0.0.1:{b.port}",
            f"localhost:{b.port}",
            f"unix:{clients}",
            "unix:near",
            "B.EXAMPLE.",
            "far.nick",
            f"[::1]:{six.port}",
        ]
        payload, _ = await asyncio.gather(forward(a, sender, wire, *addresses, addresses[0]), received())
        assert result_of(payload) == [(address, "sent", None) for address in addresses]
        assert a.server.federation.sent == 7


async def test_what_is_no_address() -> None:
    async with stages("a.example", "b.example") as (a, b):
        sender, receiver, wire = await a.attach("chat"), await b.attach("chat"), await a.login()
        bad = [
            "",
            "a b",
            "host:0",
            "host:65536",
            "host:x",
            "[::1]",
            "[x]:1",
            "unix:",
            "a:1:2",
            "x" * 513,
            "unix:" + "x" * 108,
        ]
        good = f"127.0.0.1:{b.port}"

        async def received() -> None:
            receiver.answer(await receiver.get(), DONE)

        payload, _ = await asyncio.gather(forward(a, sender, wire, *bad, good), received())
        assert result_of(payload) == [*((text, "failed", "badAddress") for text in bad), (good, "sent", None)]
        assert payload["error"]["code"] == "badAddress"


async def test_data_goes_byte_for_byte_all_the_way() -> None:
    data = rb'{"b": 1.0,  "a": 123456789012345678901234567890, "e": 1e400, "s": "\u00e9"}'
    async with stages("a.example", "b.example") as (a, b):
        sender, receiver = await a.attach("chat"), await b.attach("chat")
        wire, there = await a.login(), await b.login("g")
        wire.send(b'{"payload": {"type": "chat", "id": "1", "data": ' + data + b"}}")
        body = await sender.body()
        assert data in body
        address = f"127.0.0.1:{b.port}"
        head = {"id": json.loads(body)["header"]["id"], "status": "0", "command": send_on(address)}
        sender.send(b'{"header": ' + json.dumps(head).encode() + b', "payload": {"data": ' + data + b"}}")
        body = await receiver.body()
        assert data in body
        head = {"id": json.loads(body)["header"]["id"], "status": "0", "command": to("g")}
        receiver.send(b'{"header": ' + json.dumps(head).encode() + b', "data": ' + data + b"}")
        assert data in await there.body()
        assert result_of(await wire.good("1")) == [(address, "sent", None)]


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
async def test_a_reply_to_a_server(kind: str) -> None:
    async with stages("a.example", "b.example") as (a, b):
        address = f"127.0.0.1:{b.port}" if kind == "tcp4" else f"unix:{b.folder / 'clients'}"
        here, there = Handler(a.running.handlers_path), Handler(b.running.handlers_path)

        @here.on("chat")
        def send(message: Request) -> Response:
            return SendServers([address], message.data)

        @there.on("chat")
        def receive(message: Request) -> Response:
            return [SendClients(["g"], message.data), Reply("first"), Reply("thank you")]

        async with here, there, Client(a.running.url("t")) as t, Client(b.running.url("g")) as g:
            report = (await t.send("chat", "hello")).raise_for_status()
            assert report.data is None
            assert (await g.receive(PATIENCE_S)).data == "hello"
        wire, handler = await b.connect(kind), await b.attach("other")
        wire.send(server_message("other"))
        handler.answer(await handler.get(), {"type": "reply", "payload": {"data": 1}}, {"type": "reply"}, data=2)
        assert await wire.good("s") == {"id": "s", "data": 2}
        await wire.closed()


async def test_a_loop_between_servers_ends() -> None:
    async with stages("a.example", "b.example") as plays:
        asked = 0
        async with AsyncExitStack() as stack:
            for play, other in (plays, reversed(plays)):
                handler = Handler(play.running.handlers_path)

                @handler.on("chat")
                def chat(message: Request, address: str = f"127.0.0.1:{other.port}") -> Response:
                    nonlocal asked
                    assert message.hops == asked
                    asked += 1
                    return SendServers([address], message.data)

                await stack.enter_async_context(handler)
            async with Client(plays[0].running.url("t")) as client:
                report = await client.send("chat", "round", timeout=PATIENCE_S)
        assert asked == 17
        assert report.error is not None
        assert report.error.code == "serverRefused"  # each quotes the one behind it
        for play in plays:
            assert play.runtime.exchange.reports.under_way == 0
        assert sum(play.runtime.exchange.batch.counters.bad.get("tooManyHops", 0) for play in plays) == 1


async def test_a_message_of_too_many_hops() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        wire = await play.connect()
        wire.send(server_message("chat", hops=16))
        handler.answer(await handler.get(), send_on("a.example"))
        assert result_of(await wire.report("s")) == [("a.example", "failed", "tooManyHops")]
        for type, hops, code in (
            ("none", 99, "noHandler"),
            ("chat", 17, "tooManyHops"),
            ("chat", 10**30, "tooManyHops"),
        ):
            wire = await play.connect()
            wire.send(server_message(type, hops=hops))
            assert await wire.bad("s") == code


# -- other servers that fail -------------------------------------------------------------------------------------------

REFUSED = {"header": BAD, "payload": {"error": {"code": "noHandler", "message": "no\none"}}}
REPORTS: dict[str, tuple[Any, str, str | None]] = {
    "good": ({"header": GOOD, "payload": {"id": "1"}}, "sent", None),
    "classic good": ({"header": {"status": "0"}}, "sent", None),
    "nothing": (None, "sent", None),
    "bad": (
        {"header": BAD, "payload": {"error": {"code": "noHandler", "message": "no\none"}}},
        "failed",
        "serverRefused",
    ),
    "fatal": ({"header": {"messageType": "fatal", "status": "bad"}}, "failed", "serverRefused"),
    "no status": ({"header": {}}, "failed", "serverRefused"),
    "garbage": (b"garbage", "failed", "serverRefused"),
    "no object": (b"[]", "failed", "serverRefused"),
}


@pytest.mark.parametrize("case", REPORTS)
async def test_what_another_server_reports(case: str) -> None:
    report, status, code = REPORTS[case]
    async with stage() as play:
        other = await play.listen("other")
        handler, wire = await play.attach("chat"), await play.login()

        async def answer() -> None:
            await decline(other)
            there = await other.accept()
            assert (await there.get())["header"] == {"scope": "server", "hops": 1}
            if report is not None:
                there.send(report)
            else:
                await there.leave()

        payload, _ = await asyncio.gather(forward(play, handler, wire, "unix:other"), answer())
        assert result_of(payload) == [("unix:other", status, code)]
        if case == "bad":
            assert payload["error"]["message"].endswith("noHandler: noone")


async def test_a_report_that_is_no_frame() -> None:
    async with stage() as play:
        other = await play.listen("other")
        handler, wire = await play.attach("chat"), await play.login()

        async def answer() -> None:
            await decline(other)
            (await other.accept()).writer.write(b"\0\0\0\0")
            (await other.accept()).writer.write(b"\xff\xff\xff\xff")

        task = asyncio.create_task(answer())
        for _ in range(2):
            payload = await forward(play, handler, wire, "unix:other")
            assert result_of(payload) == [("unix:other", "failed", "serverRefused")]
        await task


async def test_servers_that_cannot_be_reached() -> None:
    async with stage({"federation": {"servers": {"k.example": {"address": "unix:nobody"}}}}) as play:
        handler, wire = await play.attach("chat"), await play.login()
        gone = await play.listen()
        await gone.close()
        addresses = [f"127.0.0.1:{gone.port}", "unix:nobody", "k.example", "unix:besterControl/x"]
        payload = await forward(play, handler, wire, *addresses)
        assert result_of(payload) == [(address, "queued", None) for address in addresses]
        assert play.server.federation.queued == 4
        wire.ask("chat", "2")
        handler.answer(await handler.get(), send_on(*addresses, transient=True))
        assert result_of(await wire.good("2")) == [(address, "skipped", None) for address in addresses]


async def test_a_server_that_hangs() -> None:
    async with stage({"federation": {"reportTimeout": 0.05}}) as play:
        other = await play.listen("other")
        handler, wire = await play.attach("chat"), await play.login()
        payload, _ = await asyncio.gather(forward(play, handler, wire, "unix:other"), decline(other))
        assert result_of(payload) == [("unix:other", "failed", "serverUnreachable")]
        assert len(other.wires) == 2


async def test_a_server_that_does_not_even_read() -> None:
    async with stage({"federation": {"connectTimeout": 0.1}}) as play:
        await play.listen("other")
        handler, wire = await play.attach("chat"), await play.login()
        wire.ask("chat", "1")
        handler.answer(await handler.get(), send_on("unix:other"), data="x" * 1_000_000)
        assert result_of(await wire.report("1")) == [("unix:other", "queued", None)]


async def test_a_destination_gets_its_messages_in_order_and_reports_in_any() -> None:
    async with stage() as play:
        other = await play.listen("other")
        handler, wire = await play.attach("chat"), await play.login()
        for id in range(70):
            wire.ask("chat", str(id))
            handler.answer(await handler.get(), send_on("unix:other"))
        await decline(other)
        there = [await other.accept() for _ in range(64)]
        for id, one in enumerate(there):
            assert (await one.get())["payload"]["id"] == str(id)
        assert other.accepted.empty()  # the others wait
        for id in reversed(range(64)):
            there[id].send({"header": GOOD})
            await wire.good(str(id))
        for id in range(64, 70):
            one = await other.accept()
            assert (await one.get())["payload"]["id"] == str(id)
            one.send({"header": GOOD})
            await wire.good(str(id))


# -- from other servers ------------------------------------------------------------------------------------------------


async def test_one_message_per_connection() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        for where in ("unix", "tcp4"):
            wire = await play.connect(where)
            wire.send(server_message("chat"), server_message("chat"), b"garbage")
            handler.answer(await handler.get(), to("nobody"))
            assert result_of(await wire.report("s")) == [("nobody", "failed", "unknownAccount")]
            await wire.closed()
        assert play.runtime.exchange.batch.counters.accepted == 2


async def test_a_server_that_does_not_wait_for_the_report() -> None:
    async with stage() as play:
        handler, g = await play.attach("chat"), await play.login("g")
        for how in ("close", "reset", "half"):
            wire = await play.connect("tcp4")
            wire.send({"header": {"scope": "server"}, "payload": {"type": "chat"}})
            request = await handler.get()
            assert request["payload"]["id"] == ""
            if how == "half":
                wire.end_input()
            elif how == "close":
                await wire.leave()
            else:
                wire.reset()
            handler.answer(request, to("g"))
            assert (await g.get())["payload"]["type"] == "chat"
            if how == "half":
                await wire.good("")
                await wire.closed()


async def test_first_messages_without_a_handler() -> None:
    async with stage() as play:
        wire = await play.connect()
        wire.send({"header": {"scope": "server", "server": "k.example"}})
        assert await wire.good() == {"id": ""}
        await wire.closed()
        wire = await play.connect()
        wire.send(server_message("dummy"))
        assert (await wire.get())["header"] == {"status": "0"}
        await wire.closed()
        for type, code in (("builtin", "notAllowed"), ("none", "noHandler")):
            wire = await play.connect()
            wire.send(server_message(type))
            assert await wire.bad("s") == code
            await wire.closed()


@pytest.mark.parametrize(
    ("policy", "remote", "code"),
    [
        ("local", None, "noHandler"),
        ("local", FAR, "serverUnverified"),
        ("open", FAR, "noHandler"),
        ("verified", None, "serverUnverified"),
    ],
)
async def test_who_is_let_in(policy: str, remote: Remote | None, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if remote is not None:
        monkeypatch.setattr("bester.server.connections.connection.remote_of", lambda transport: remote)
    async with stage({"federation": {"policy": policy}}) as play:
        large = "x" * 100_000 if code == "noHandler" else ""
        wire = await play.connect("tcp4")
        wire.send(server_message("none", data=large))
        assert await wire.bad("s" if code == "noHandler" else "") == code
        await wire.closed()
        if code == "serverUnverified":
            wire = await play.connect("tcp4")
            wire.writer.write((16 * 1024 + 1).to_bytes(4, "little"))
            assert await wire.fatal() == "tooLarge"


async def test_the_rate_under_the_policy_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage({"federation": {"policy": "open", "rate": 0.5, "burst": 2}}) as play:

        async def code() -> str:
            wire = await play.connect("tcp4")
            wire.send(server_message("none"))
            return await wire.bad("s")

        assert [await code() for _ in range(4)] == ["noHandler"] * 4  # loopback
        monkeypatch.setattr("bester.server.connections.connection.remote_of", lambda transport: FAR)
        assert [await code() for _ in range(3)] == ["noHandler", "noHandler", "throttled"]
        play.later(2.1)
        assert [await code() for _ in range(2)] == ["noHandler", "throttled"]
