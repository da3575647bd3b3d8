"""Answers in parts, as a client takes them (docs/protocol.md, section 2.9)."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from tests.sdk.conftest import Connection, Peer
from tests.waiting import PATIENCE_S

from bester import Client, ClientError, ConnectionClosed, Refused
from bester.client import stream as streams
from bester.client.stream import Stream

FEATURES = ["replyTo", "parts"]


async def opened(peer: Peer, features: list[str] = FEATURES, **options: Any) -> tuple[Client, Connection]:
    client = Client(peer.url, **options)
    _, connection = await asyncio.gather(client.open(), peer.welcome(features=features))
    return client, connection


def send_parts(connection: Connection, id: str, *data: Any) -> None:
    header = {"messageType": "receivedMessage", "partOf": id, "more": True}
    connection.send(*({"header": header, "payload": {"type": "count", "data": one}} for one in data))


async def asked(connection: Connection) -> str:
    message = await connection.receive()
    assert message["payload"]["type"] == "count"
    return str(message["payload"]["id"])


def cancel(id: str) -> Any:
    return {"header": {"messageType": "cancel"}, "payload": {"id": id}}


async def collected(stream: Stream) -> list[Any]:
    return [part.data async for part in stream]


async def test_parts_come_in_order_and_the_report_ends_them(peer: Peer) -> None:
    client, connection = await opened(peer)
    stream = client.stream("count", 3, window=4)
    reading = asyncio.create_task(collected(stream))
    message = await connection.receive()
    assert message["header"] == {"parts": 4}
    id = message["payload"]["id"]
    assert stream.report is None
    send_parts(connection, id, 1, 2, 3)
    connection.report(id)
    assert await reading == [1, 2, 3]
    assert stream.report is not None
    assert stream.report.good
    assert await collected(stream) == []
    await client.close()


async def test_the_last_answers_own_reply_is_the_last_item(peer: Peer) -> None:
    client, connection = await opened(peer, features=[*FEATURES, "ack"])
    reading = asyncio.create_task(collected(client.stream("count")))
    id = await asked(connection)
    send_parts(connection, id, 1)
    connection.deliver("count", "sum", replyTo=id, deliveryId="d")
    connection.report(id)
    assert await reading == [1, "sum"]
    assert await connection.receive() == {"header": {"messageType": "ack"}, "payload": {"ids": ["d"]}}
    await client.close()


async def test_more_is_granted_as_parts_are_taken(peer: Peer) -> None:
    client, connection = await opened(peer)
    stream = client.stream("count", window=4)
    async with stream:
        id = await asked(connection)
        send_parts(connection, id, 1, 2, 3, 4)
        assert [(await anext(stream)).data] == [1]
        assert [(await anext(stream)).data] == [2]
        assert await connection.receive() == {"header": {"messageType": "more"}, "payload": {"id": id, "parts": 2}}
        assert [(await anext(stream)).data, (await anext(stream)).data] == [3, 4]
        assert await connection.receive() == {"header": {"messageType": "more"}, "payload": {"id": id, "parts": 2}}
        connection.report(id)
        assert await collected(stream) == []
    await client.close()
    assert await connection.at_end()


async def test_a_bad_report_comes_after_the_parts(peer: Peer) -> None:
    client, connection = await opened(peer)
    stream = client.stream("count")
    found = []

    async def read() -> None:
        async for part in stream:
            found.append(part.data)  # noqa: PERF401

    reading = asyncio.create_task(read())
    id = await asked(connection)
    send_parts(connection, id, 1, 2)
    connection.report(id, error={"code": "handlerError", "message": "no", "reason": "count.tired"})
    with pytest.raises(Refused) as caught:
        await reading
    assert (found, caught.value.reason) == ([1, 2], "count.tired")
    assert stream.report is caught.value.report
    assert await collected(stream) == []
    await client.close()


class Wrong(Exception):
    pass


async def leave_by_break(client: Client) -> None:
    async for _ in client.stream("count"):
        break


async def leave_by_an_exception(client: Client) -> None:
    async def read() -> None:
        async for _ in client.stream("count"):
            raise Wrong

    with pytest.raises(Wrong):
        await read()


async def leave_by_aclose(client: Client) -> None:
    stream = client.stream("count")
    await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert await collected(stream) == []


async def leave_the_block(client: Client) -> None:
    async with client.stream("count") as stream:
        async for _ in stream:
            break
    assert await collected(stream) == []


async def leave_by_a_cancellation(client: Client) -> None:
    stream = client.stream("count")
    await anext(stream)
    waiting = asyncio.create_task(stream.take())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await collected(stream) == []


async def leave_by_the_time_limit(client: Client) -> None:
    stream = client.stream("count", timeout=0.05)
    await anext(stream)
    with pytest.raises(TimeoutError):
        await anext(stream)
    assert await collected(stream) == []


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_break,
        leave_by_an_exception,
        leave_by_aclose,
        leave_the_block,
        leave_by_a_cancellation,
        leave_by_the_time_limit,
    ],
)
async def test_a_stream_that_is_left_is_cancelled(peer: Peer, leave: Any) -> None:
    client, connection = await opened(peer)
    leaving = asyncio.create_task(leave(client))
    id = await asked(connection)
    send_parts(connection, id, 1)
    await leaving
    gc.collect()
    assert await connection.receive() == cancel(id)
    send_parts(connection, id, 2)
    connection.report(id, error={"code": "cancelled", "message": "the sender has cancelled the message"})
    connection.deliver("news", "after it")
    assert (await client.receive(PATIENCE_S)).data == "after it"
    await client.close()
    assert await connection.at_end()


async def test_a_reader_that_waits_is_ended_by_a_cancel_elsewhere(peer: Peer) -> None:
    client, connection = await opened(peer)
    stream = client.stream("count")
    reading = asyncio.create_task(collected(stream))
    id = await asked(connection)
    with pytest.raises(RuntimeError, match="read already"):
        await stream.take()
    stream.cancel()
    assert await reading == []
    assert await connection.receive() == cancel(id)
    connection.report(id, error={"code": "cancelled", "message": "-"})
    await client.close()


async def test_a_stream_that_has_ended_is_not_cancelled(peer: Peer) -> None:
    client, connection = await opened(peer)
    async with client.stream("count") as stream:
        connection.report(await asked(connection))
        assert await collected(stream) == []
    del stream
    client.stream("count").cancel()  # nor one that never began
    await client.close()
    assert await connection.at_end()


async def test_a_lost_connection_ends_it_and_it_is_not_sent_again(peer: Peer) -> None:
    client, connection = await opened(peer, reconnect=True, retry_first_s=0.01)
    stream = client.stream("count", window=2)
    async with stream:
        send_parts(connection, await asked(connection), 1, 2)
        assert (await anext(stream)).data == 1
        await connection.receive()  # the grant
        await connection.close()
        connection = await peer.welcome(features=FEATURES)
        assert (await anext(stream)).data == 2
        with pytest.raises(ConnectionClosed):
            await anext(stream)
    assert stream.report is None
    await client.close()
    assert await connection.at_end()
    with pytest.raises(ConnectionClosed):
        await anext(client.stream("count"))


async def test_streams_hold_up_neither_each_other_nor_receive(peer: Peer) -> None:
    client, connection = await opened(peer, max_queued=1)
    slow, quick = client.stream("count", "slow", window=8), client.stream("count", "quick", window=8)
    async with slow, quick:
        ids = [await asked(connection), await asked(connection)]
        send_parts(connection, ids[0], *range(8))
        send_parts(connection, ids[1], "a", "b")
        connection.report(ids[1])
        assert await collected(quick) == ["a", "b"]
        connection.deliver("news", 1)
        assert (await client.receive(PATIENCE_S)).data == 1
        connection.report(ids[0])
        assert await collected(slow) == list(range(8))
    await client.close()


async def test_a_server_that_does_not_know_parts_sends_all_replies_at_the_end(peer: Peer) -> None:
    client, connection = await opened(peer, features=["replyTo"])
    reading = asyncio.create_task(collected(client.stream("count", window=1)))
    message = await connection.receive()
    assert message["header"] == {}
    id = message["payload"]["id"]
    for number in range(3):
        connection.deliver("count", number, replyTo=id)
    connection.report(id)
    assert await reading == [0, 1, 2]
    await leave_by_break_of_old(client, connection)
    await client.close()
    assert await connection.at_end()


async def leave_by_break_of_old(client: Client, connection: Connection) -> None:
    leaving = asyncio.create_task(leave_by_break(client))
    id = await asked(connection)
    connection.deliver("count", 1, replyTo=id)
    await leaving
    connection.report(id)


async def test_a_server_that_does_not_know_replies_is_told_nothing(peer: Peer) -> None:
    client, connection = await opened(peer, features=[])
    with pytest.raises(ClientError, match="replyTo"):
        await anext(client.stream("count"))
    await client.close()
    assert await connection.at_end()


async def test_too_many_messages_end_a_stream(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_WINDOW", 8)
    client, connection = await opened(peer)
    async with client.stream("count", window=2) as stream:
        id = await asked(connection)
        send_parts(connection, id, *range(10))
        connection.report("x")
        assert await connection.receive() == cancel(id)
        with pytest.raises(ClientError, match="slowConsumer"):
            await anext(stream)
        connection.report(id, error={"code": "cancelled", "message": "-"})
    await client.close()


@pytest.mark.parametrize("window", [0, 65_537, -1])
def test_a_window_that_no_server_takes(window: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 65536"):
        Client("bester://t:s@localhost").stream("count", window=window)


async def test_data_that_has_no_json_form(peer: Peer) -> None:
    client, connection = await opened(peer)
    stream = client.stream("count", object())
    with pytest.raises(TypeError):
        await anext(stream)
    assert not client._session.questions._streams
    await client.close()
    assert await connection.at_end()


# -- messages that nobody waits for any more ----------------------------------------------------------------------


@pytest.mark.parametrize("call", ["ask", "send"])
async def test_the_time_limit_cancels_a_message(peer: Peer, call: str) -> None:
    client, connection = await opened(peer)
    calling = asyncio.create_task(getattr(client, call)("count", timeout=0.05))
    id = await asked(connection)
    with pytest.raises(TimeoutError):
        await calling
    assert await connection.receive() == cancel(id)
    connection.report(id, error={"code": "cancelled", "message": "-"})
    await client.close()


@pytest.mark.parametrize(("call", "options"), [("ask", {}), ("send", {}), ("send", {"id": "mine"})])
async def test_a_cancelled_task_cancels_its_message(peer: Peer, call: str, options: Any) -> None:
    client, connection = await opened(peer)
    calling = asyncio.create_task(getattr(client, call)("count", **options))
    id = await asked(connection)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert await connection.receive() == cancel(id)
    await client.close()


@pytest.mark.parametrize(("features", "once"), [(FEATURES, True), (["replyTo"], False)])
async def test_once_messages_and_other_servers_are_left_alone(peer: Peer, features: list[str], once: bool) -> None:
    client, connection = await opened(peer, features=features)
    with pytest.raises(TimeoutError):
        await client.send("count", once=once, timeout=0.01)
    await asked(connection)
    await client.close()
    assert await connection.at_end()


async def test_a_message_is_cancelled_by_its_id(peer: Peer) -> None:
    client, connection = await opened(peer)
    report = await client.post("count", id="7")
    assert await asked(connection) == "7"
    assert client.cancel("7")
    assert await connection.receive() == cancel("7")
    connection.report("7", error={"code": "cancelled", "message": "-"})
    assert (await report).error is not None
    assert not client.cancel("7")
    await client.close()
    assert not client.cancel("7")
