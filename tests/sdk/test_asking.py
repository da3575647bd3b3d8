"""Answers go to whoever asked, and to nobody else (docs/protocol.md, section 2.4)."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import Any

import pytest
from tests.sdk.conftest import Connection, Peer
from tests.waiting import PATIENCE_S

from bester import (
    Client,
    ClientError,
    ConnectionClosed,
    Handler,
    HandlerError,
    NoReply,
    Refused,
    Reply,
    Request,
    Response,
    SendClients,
    SendHandler,
)
from bester.sync import Client as SyncClient
from bester.testing import RunningServer, server


class Slow:
    """A handler whose answers wait until the test lets them go."""

    def __init__(self, running: RunningServer) -> None:
        self.handler = Handler(running.handlers_path)
        self.asked: asyncio.Queue[tuple[str, asyncio.Future[Response]]] = asyncio.Queue()
        self.handler.on("slow")(self._slow)

    async def _slow(self, message: Request) -> Response:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait((message.data, answer))
        with suppress(asyncio.CancelledError):
            return await asyncio.shield(answer)
        return await answer  # it answers all the same

    async def take(self) -> tuple[str, asyncio.Future[Response]]:
        async with asyncio.timeout(PATIENCE_S):
            return await self.asked.get()


async def opened(peer: Peer, **options: Any) -> tuple[Client, Connection]:
    client = Client(peer.url, **options)
    _, connection = await asyncio.gather(client.open(), peer.welcome())
    return client, connection


@pytest.mark.parametrize("features", [[], ["ack"]])
async def test_answers_come_to_those_who_asked_in_any_order(features: list[str]) -> None:
    async with server() as running:
        slow = Slow(running)
        async with (
            slow.handler,
            Client(running.url("t"), features=features) as t,
            Client(running.url("t"), features=features) as other,
        ):
            clients = [t, other, t, t]
            asking = [asyncio.ensure_future(one.ask("slow", str(at))) for at, one in enumerate(clients)]
            waiting = dict([await slow.take() for _ in clients])
            for name in ("2", "0", "3", "1"):
                waiting[name].set_result(Reply({"answer to": name}))
                await asking[int(name)]
            assert [(await one).data["answer to"] for one in asking] == ["0", "1", "2", "3"]
            with pytest.raises(TimeoutError):
                await t.receive(0.01)


async def test_a_late_answer_is_for_nobody_else() -> None:
    async with server() as running:
        slow = Slow(running)
        async with slow.handler, Client(running.url("t"), features=["ack"]) as t:
            with pytest.raises(TimeoutError):
                await t.ask("slow", "first", timeout=0.05)
            _, late = await slow.take()
            asking = asyncio.ensure_future(t.ask("slow", "second"))
            _, answer = await slow.take()
            late.set_result(Reply("late"))
            await t.ping()
            answer.set_result([Reply("in time"), Reply("once more")])
            assert (await asking).data == "in time"
            assert (await asyncio.gather(t.ping(), t.list_types()))[1] == ["slow"]
            with pytest.raises(TimeoutError):
                await t.receive(0.01)
        async with Client(running.url("t")) as t:  # what was dropped was acknowledged
            with pytest.raises(TimeoutError):
                await t.receive(0.05)


async def test_what_else_a_client_is_sent_is_no_answer() -> None:
    async with server() as running:
        handler = Handler(running.handlers_path)
        handler.on("echo")(lambda message: [SendClients(["t"], "to all", "echo"), Reply(message.data, "other type")])
        got: list[object] = []
        async with (
            handler,
            Client(running.url("t")) as t,
            Client(running.url("t"), on_message=lambda message: got.append((message.data, message.reply_to))) as other,
        ):
            answer = await t.ask("echo", 1)
            assert (answer.type, answer.data) == ("other type", 1)
            assert answer.reply_to
            message = await t.receive(PATIENCE_S)
            assert (message.data, message.reply_to) == ("to all", None)
            assert (await other.ask("echo", 2)).data == 2  # although it has on_message
            assert got == [("to all", None), ("to all", None)]
            await t.receive(PATIENCE_S)
            # Who sends with an own id can tell answers apart too.
            await t.send("echo", 3, id="mine")
            await t.receive(PATIENCE_S)
            assert (await t.receive(PATIENCE_S)).reply_to == "mine"


async def test_an_answer_counts_although_another_recipient_failed() -> None:
    async with server() as running:
        handler = Handler(running.handlers_path)
        handler.on("half")(lambda message: [SendClients(["nobody"]), Reply("done")])
        handler.on("chain")(lambda message: SendHandler("half"))
        async with handler, Client(running.url("t")) as t:
            assert (await t.ask("half")).data == "done"
            assert (await t.ask("chain")).data == "done"


async def test_without_an_answer() -> None:
    async with server() as running:
        handler = Handler(running.handlers_path)
        handler.on("silent")(lambda message: SendClients(["t"]))

        @handler.on("bad")
        def bad(message: Request) -> Response:
            raise HandlerError("no")

        async with handler, Client(running.url("t"), mail=False) as t:
            with pytest.raises(NoReply) as nothing:
                await t.ask("silent")
            assert nothing.value.report.results[0].status == "stored"
            with pytest.raises(Refused):
                await t.ask("bad")


async def test_without_asyncio() -> None:
    async with server() as running:
        handler = Handler(running.handlers_path)
        handler.on("echo")(lambda message: Reply(message.data))

        def ask(url: str) -> list[object]:
            with SyncClient(url, mail=False) as client:
                return [client.ask("echo", number, timeout=PATIENCE_S).data for number in range(3)]

        async with handler:
            assert await asyncio.to_thread(ask, running.url("t")) == [0, 1, 2]


async def test_over_reconnections(peer: Peer) -> None:
    back = asyncio.Event()

    def on_connection(connected: bool, why: str) -> None:
        back.set() if connected else back.clear()

    options = {"reconnect": True, "retry_first_s": 0.001, "features": ["ack"], "on_connection": on_connection}
    client, connection = await opened(peer, **options)
    asking = asyncio.ensure_future(client.ask("time"))
    first = (await connection.receive())["payload"]["id"]
    await connection.close()
    with pytest.raises(ConnectionClosed):
        await asking
    connection = await peer.welcome(features=["ack", "replyTo"])
    await back.wait()
    asking = asyncio.ensure_future(client.ask("time"))
    second = (await connection.receive())["payload"]["id"]
    assert second != first
    connection.deliver("time", "of another session", deliveryId="a", replyTo="1")
    connection.deliver("time", "late", deliveryId="b", replyTo=first)
    connection.deliver("time", "now", deliveryId="c", replyTo=second)
    connection.report(second)
    assert (await asking).data == "now"
    assert (await connection.receive())["payload"]["ids"] == ["b", "c"]
    assert (await client.receive()).data == "of another session"
    await client.close()
    async with server() as running, Client(running.url("t")) as one, Client(running.url("t")) as other:
        assert one._session.questions.begin()[0] != other._session.questions.begin()[0]


async def test_nothing_is_left_of_a_question(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    client, connection = await opened(peer)
    cancelled = asyncio.ensure_future(client.ask("time"))
    await connection.receive()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with pytest.raises(TypeError):
        await client.ask("time", object())
    await client.close()
    with pytest.raises(ConnectionClosed):
        await client.ask("time")
    assert not client._session.questions._answers
    gc.collect()
    assert not caplog.records


async def test_a_server_that_does_not_say_what_a_reply_answers(peer: Peer) -> None:
    client = Client(peer.url)
    _, _ = await asyncio.gather(client.open(), peer.welcome(features=[]))
    with pytest.raises(ClientError, match="replyTo"):
        await client.ask("time")
    await client.close()
