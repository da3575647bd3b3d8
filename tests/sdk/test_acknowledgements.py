"""Acknowledgements: what the application is done with, once, and nothing else (docs/protocol.md, section 4)."""

from __future__ import annotations

import asyncio
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.waiting import PATIENCE_S, until

from bester import BadNumber, Client, ConnectError, ConnectionClosed, ReceivedMessage

if TYPE_CHECKING:
    from tests.sdk.conftest import Connection, Peer


async def opened(peer: Peer, **options: Any) -> tuple[Client, Connection]:
    client = Client(peer.url, features=["ack"], **options)
    _, connection = await asyncio.gather(client.open(), peer.welcome(features=["ack"]))
    return client, connection


async def again(peer: Peer, client: Client) -> Connection:
    _, connection = await asyncio.gather(client.open(), peer.welcome(features=["ack"]))
    return connection


async def acked(connection: Connection) -> list[str]:
    message = await connection.receive()
    assert message["header"] == {"messageType": "ack"}
    ids: list[str] = message["payload"]["ids"]
    return ids


async def test_what_is_taken_in_one_turn_is_one_acknowledgement(peer: Peer) -> None:
    client, connection = await opened(peer)
    for number in range(20):
        connection.deliver("chat", number, deliveryId=str(number))
    inbox = client._session.inbox
    await until(lambda: len(inbox) == 20)
    assert [(await client.receive(PATIENCE_S)).data for _ in range(20)] == list(range(20))
    assert await acked(connection) == [str(number) for number in range(19)]
    await client.close()
    assert await acked(connection) == ["19"]
    assert await connection.at_end()


async def test_an_acknowledgement_is_bounded(peer: Peer) -> None:
    got: list[Any] = []
    client, connection = await opened(peer, on_message=got.append)
    for number in range(2000):
        connection.deliver("chat", number, deliveryId=str(number))
    ids: list[str] = []
    while len(ids) < 2000:
        more = await acked(connection)
        assert len(more) <= 500
        ids += more
    assert ids == [str(number) for number in range(2000)]
    assert [message.data for message in got] == list(range(2000))
    await client.close()


async def test_what_comes_with_the_welcome_is_acknowledged(peer: Peer) -> None:
    got: list[Any] = []
    client = Client(peer.url, features=["ack"], on_message=got.append)
    opening = asyncio.ensure_future(client.open())
    connection = await peer.accept()
    await connection.receive()
    good = {"messageType": "statusReport", "status": "good"}
    connection.send(
        {"header": good, "payload": {"id": "auth_special", "features": ["ack"]}},
        {"header": {"messageType": "receivedMessage"}, "payload": {"type": "chat", "data": 1, "deliveryId": "a"}},
    )
    await opening
    assert await acked(connection) == ["a"]
    assert [message.data for message in got] == [1]
    await client.close()


async def test_a_message_that_on_message_failed_with_is_given_out_again(peer: Peer) -> None:
    tries = 0

    def take(message: ReceivedMessage) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ValueError("not yet")

    client, connection = await opened(peer, on_message=take)
    for _ in range(3):
        connection.deliver("chat", 1, deliveryId="a")
    assert await acked(connection) == ["a"]
    connection.deliver("chat", 1, deliveryId="a")  # and now it is done with
    assert await acked(connection) == ["a"]
    assert tries == 3
    await client.close()


async def test_what_was_held_when_the_block_failed_is_given_out_again(peer: Peer) -> None:
    client = Client(peer.url, features=["ack"])
    welcoming = asyncio.ensure_future(peer.welcome())

    async def use() -> None:
        async with client:
            (await welcoming).deliver("chat", 0, deliveryId="a")
            await client.receive()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    connection = await again(peer, client)
    connection.deliver("chat", 0, deliveryId="a")
    assert (await client.receive(PATIENCE_S)).data == 0
    await client.close()
    assert await acked(connection) == ["a"]


async def test_repeats_over_another_connection(peer: Peer) -> None:
    client, first = await opened(peer)
    for id in "abc":
        first.deliver("chat", id, deliveryId=id)
    assert (await client.receive(PATIENCE_S)).data == "a"
    assert (await client.receive(PATIENCE_S)).data == "b"
    assert await acked(first) == ["a"]
    await first.close()
    await until(lambda: not client.connected)
    second = await again(peer, client)
    for id in "abcd":  # the first acknowledgement was lost, the second is still to come, the third waits to be taken
        second.deliver("chat", id, deliveryId=id)
    assert await acked(second) == ["a"]
    assert [(await client.receive(PATIENCE_S)).data for _ in range(2)] == ["c", "d"]
    assert await acked(second) == ["b", "c"]
    await client.close()
    assert await acked(second) == ["d"]


async def test_what_was_done_without_a_connection_is_acknowledged_when_it_comes_again(peer: Peer) -> None:
    client, first = await opened(peer)
    first.deliver("chat", 1, deliveryId="a")
    await client.receive(PATIENCE_S)
    await first.close()
    with pytest.raises(ConnectionClosed):
        await client.receive(PATIENCE_S)
    second = await again(peer, client)
    second.deliver("chat", 1, deliveryId="a")
    assert await acked(second) == ["a"]
    await client.close()


# -- across restarts --------------------------------------------------------------------------------------------


async def test_the_seen_file_outlives_the_client(peer: Peer, folder: Path) -> None:
    path = folder / "seen"
    client, connection = await opened(peer, seen_file=path)
    connection.deliver("chat", 1, deliveryId="a")
    connection.deliver("chat", 2, deliveryId="b")
    await client.receive(PATIENCE_S)
    await client.receive(PATIENCE_S)
    assert await acked(connection) == ["a"]
    assert path.read_bytes() == b'"a"\n'  # before it was acknowledged, and the other is not done with
    await client.close()
    assert await acked(connection) == ["b"]

    client, connection = await opened(peer, seen_file=path)
    for id in "abc":
        connection.deliver("chat", id, deliveryId=id)
    assert (await client.receive(PATIENCE_S)).data == "c"
    assert await acked(connection) == ["a", "b"]
    await client.close()


async def test_the_seen_file_has_one_client(peer: Peer, folder: Path) -> None:
    path = folder / "seen"
    client, _ = await opened(peer, seen_file=path)
    with pytest.raises(BlockingIOError, match="in use by another client"):
        await Client(peer.url, seen_file=path).open()
    await client.close()
    failed = Client(f"bester+unix://t:p@{folder}/none", seen_file=path)
    with pytest.raises(ConnectError, match="No such file"):
        await failed.open()
    client, _ = await opened(peer, seen_file=path)  # neither of them keeps it
    await client.close()


async def test_what_cannot_be_recorded_is_not_acknowledged(peer: Peer, folder: Path) -> None:
    got: list[Any] = []
    client, first = await opened(peer, seen_file=folder / "seen", on_message=got.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
        first.deliver("chat", 1, deliveryId="a")
        assert await first.at_end()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    with pytest.raises(ConnectionClosed, match="seen"):
        await client.receive(PATIENCE_S)
    second = await again(peer, client)  # there is room again
    assert await acked(second) == ["a"]
    second.deliver("chat", 1, deliveryId="a")
    assert await acked(second) == ["a"]
    assert len(got) == 1
    await client.close()


def huge(delivery_id: str) -> bytes:
    """A message with a number that Python does not hold."""
    payload = f'{{"type":"chat","deliveryId":"{delivery_id}","data":1e9999999999999999999}}'
    return f'{{"header":{{"messageType":"receivedMessage"}},"payload":{payload}}}'.encode()


async def test_a_number_that_nobody_holds_is_not_delivered_again(peer: Peer) -> None:
    connections: list[Connection] = []

    async def read_all() -> None:
        async with Client(peer.url, features=["ack"]) as client:
            while True:
                _ = (await client.receive(PATIENCE_S)).data

    async def deliver() -> None:
        connections.append(await peer.welcome(features=["ack"]))
        connections[0].deliver("chat", 1, deliveryId="1")
        connections[0].send_body(huge("2"))

    with pytest.raises(BadNumber, match="data is a number"):
        await asyncio.gather(read_all(), deliver())
    done = await acked(connections[0])
    while len(done) < 2:
        done += await acked(connections[0])
    assert done == ["1", "2"]


async def test_on_message_that_fails_for_a_number_goes_on(peer: Peer) -> None:
    got: list[Any] = []
    client, connection = await opened(peer, on_message=lambda message: got.append(message.data))
    connection.send_body(huge("1"))
    connection.deliver("chat", 2, deliveryId="2")
    done = await acked(connection)
    while len(done) < 2:
        done += await acked(connection)
    assert (done, got) == (["1", "2"], [2])
    await client.close()
