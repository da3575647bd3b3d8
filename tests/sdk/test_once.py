"""Messages that are sent until there is a report, and clients that connect by themselves."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw
from tests.waiting import PATIENCE_S, until

from bester import AuthenticationError, Client, ConnectError, ConnectionClosed, Handler, Reply, Request
from bester.errors import TooLarge
from bester.net.keepalive import keep_alive
from bester.testing import server

if TYPE_CHECKING:
    from tests.sdk.conftest import Connection, Peer

QUICK: dict[str, Any] = {"retry_first_s": 0.001, "retry_max_s": 0.01}
NO = {"code": "authenticationFailed", "message": "no", "temporary": False}


async def opened(peer: Peer, welcome: dict[str, Any] | None = None, **options: Any) -> tuple[Client, Connection]:
    client = Client(peer.url, **(QUICK | options))
    _, connection = await asyncio.gather(client.open(), peer.welcome(**(welcome or {})))
    return client, connection


async def refuse(peer: Peer, error: dict[str, Any]) -> Any:
    """Turns a client away; returns how it wanted to authenticate."""
    connection = await peer.accept()
    hello = await connection.receive()
    connection.report("auth_special", error=error)
    await connection.close()
    return hello["header"]["authentication"]


# -- sent again -------------------------------------------------------------------------------------------------


async def test_sent_again_until_there_is_a_report(peer: Peer) -> None:
    client, connection = await opened(peer)
    sending = asyncio.ensure_future(client.send("chat", Raw(b'{"n":  1.0}'), once=True))
    bodies = []
    for _ in range(3):
        bodies.append(await connection.receive_body())
        await connection.close()
        connection = await peer.welcome()
    bodies.append(await connection.receive_body())
    assert set(bodies) == {bodies[0]}
    assert b'"once":true' in bodies[0]
    assert b'{"n":  1.0}' in bodies[0]
    id = bodies[0].split(b'"id":"')[1].split(b'"')[0].decode()
    connection.report(id, results=[{"to": "g", "status": "delivered"}])
    report = await sending
    assert (report.good, report.id, report.results[0].status) == (True, id, "delivered")
    assert client.connected
    await client.close()


async def test_in_their_order_and_only_those_without_a_report(peer: Peer) -> None:
    client, first = await opened(peer)
    futures = [await client.post("chat", number, once=True, id=f"m{number}") for number in range(6)]
    plain = await client.post("chat")
    for _ in range(7):
        await first.receive()
    first.report("m1", error={"code": "handlerTimeout", "message": "", "temporary": True})
    first.report("m3")
    assert not (await futures[1]).good  # a bad report is a report, and whoever asked decides
    assert (await futures[3]).good
    await first.close()
    with pytest.raises(ConnectionClosed):
        await plain
    later = await client.post("chat", 6, once=True, id="m6")  # without a connection it waits for one
    with pytest.raises(ConnectionClosed):
        await client.post("chat")
    second = await peer.welcome()
    received = [(await second.receive())["payload"] for _ in range(5)]
    assert [payload["id"] for payload in received] == ["m0", "m2", "m4", "m5", "m6"]
    assert [payload["data"] for payload in received] == [0, 2, 4, 5, 6]
    for payload in received:
        second.report(payload["id"])
    assert all([(await future).good for future in (futures[0], *futures[4:], later)])
    await second.close()
    with pytest.raises(ConnectionClosed):  # nothing waits any more: it does not connect again
        await client.receive()
    assert not client._session.needed
    await client.close()


async def test_ids_are_unique_among_clients(peer: Peer) -> None:
    ids = []
    for _ in range(2):
        client, connection = await opened(peer)
        for _ in range(2):
            await client.post("chat", once=True)
            ids.append((await connection.receive())["payload"]["id"])
        await client.close()
    assert len(set(ids)) == 4
    assert all(len(id) > 32 for id in ids)


async def test_one_id_has_one_message(peer: Peer) -> None:
    client, connection = await opened(peer)
    first = await client.post("chat", once=True, id="a")
    with pytest.raises(ValueError, match="no report yet"):
        await client.send("chat", once=True, id="a")
    first.cancel()
    second = await client.post("chat", once=True, id="a")
    await asyncio.sleep(0)  # the first one's end is looked at
    await connection.close()
    connection = await peer.welcome()
    assert (await connection.receive())["payload"]["id"] == "a"
    connection.report("a")
    assert (await second).good
    await client.close()


async def test_the_time_limit(peer: Peer) -> None:
    client, connection = await opened(peer)
    with pytest.raises(TimeoutError):
        await client.send("chat", "a", once=True, timeout=0.001)
    await connection.close()
    await until(lambda: not client.connected)
    with pytest.raises(TimeoutError):
        await client.send("chat", "b", once=True, timeout=0.001)
    kept = await client.post("chat", "c", once=True)
    connection = await peer.welcome()
    payload = (await connection.receive())["payload"]
    assert payload["data"] == "c"
    connection.report(payload["id"])
    assert (await kept).good
    await client.close()


async def test_close_ends_it(peer: Peer) -> None:
    client, connection = await opened(peer)
    waiting = [await client.post("chat", once=True) for _ in range(2)]
    await connection.close()
    await until(lambda: not client.connected)
    waiting.append(await client.post("chat", once=True))
    await client.close()
    for future in waiting:
        with pytest.raises(ConnectionClosed, match="is closed"):
            await future
    with pytest.raises(ConnectionClosed, match="is closed"):
        await client.send("chat", once=True)
    with pytest.raises(ConnectionClosed, match="is closed"):
        await Client(peer.url).send("chat", once=True)


async def test_close_while_it_connects(peer: Peer) -> None:
    client, connection = await opened(peer)
    future = await client.post("chat", once=True)
    await connection.close()
    connection = await peer.accept()
    await connection.receive()
    await client.close()
    assert await connection.at_end()
    with pytest.raises(ConnectionClosed):
        await future


async def test_a_server_that_is_away_for_a_while(peer: Peer) -> None:
    client, _ = await opened(peer)
    sending = asyncio.ensure_future(client.send("chat", once=True))
    await peer.connections[0].receive()
    await peer.close()
    Path(peer.path).unlink(missing_ok=True)
    await until(lambda: client._session.cause is not None or not client.connected)
    with pytest.raises(ConnectionClosed):
        await client.send("chat")
    await peer.open()
    temporary = {"message": "not now", "temporary": True}
    await refuse(peer, {"code": "throttled", **temporary})
    connection = await peer.accept()
    connection.fatal("overloaded", "full")
    await connection.close()
    connection = await peer.welcome()
    connection.report((await connection.receive())["payload"]["id"])
    assert (await sending).good
    await client.close()


async def test_a_token_that_ended_and_the_password(peer: Peer) -> None:
    client, connection = await opened(peer, {"token": "abc"})
    sending = asyncio.ensure_future(client.send("chat", once=True))
    await connection.receive()
    await connection.close()
    assert await refuse(peer, NO) == {"username": "t", "token": "abc"}
    connection = await peer.accept()
    hello = await connection.receive()
    assert hello["header"]["authentication"] == {"username": "t", "password": "secret"}
    connection.report("auth_special", token="def")
    connection.report((await connection.receive())["payload"]["id"])
    assert (await sending).good
    assert client.token == "def"
    await client.close()


async def test_an_account_that_is_not_let_in_any_more(peer: Peer) -> None:
    told: list[tuple[bool, str]] = []
    client, connection = await opened(peer, reconnect=True, on_connection=lambda *event: told.append(event))
    sending = [asyncio.ensure_future(client.send("chat", once=True)) for _ in range(2)]
    receiving = asyncio.ensure_future(client.receive())
    await connection.receive()
    connection.fatal("sessionEnded", "gone")
    await connection.close()
    await refuse(peer, NO)
    for future in sending:
        with pytest.raises(AuthenticationError, match="no"):
            await future
    with pytest.raises(ConnectionClosed, match="authenticationFailed"):
        await receiving
    with pytest.raises(ConnectionClosed, match="authenticationFailed"):
        await client.send("chat", once=True)
    assert told == [(True, ""), (False, "gone"), (False, "no")]
    await asyncio.gather(client.open(), peer.welcome())  # it can be tried again, by hand
    assert client.connected
    await client.close()


@pytest.mark.parametrize("code", ["malformed", "tooLarge"])
async def test_what_the_server_cannot_take_is_not_sent_for_ever(peer: Peer, code: str) -> None:
    client, connection = await opened(peer)
    sending = asyncio.ensure_future(client.send("chat", Raw(b"garbage"), once=True))
    await connection.receive_body()
    connection.fatal(code, "bad")
    await connection.close()
    with pytest.raises(ConnectionClosed, match=code):
        await sending
    await client.close()


async def test_a_server_that_takes_less_than_it_did(peer: Peer) -> None:
    client, connection = await opened(peer)
    large, small = [await client.post("chat", data, once=True) for data in ("x" * 1000, "y")]
    await connection.receive()
    await connection.close()
    connection = await peer.welcome(limits={"maxMessage": 500})
    payload = (await connection.receive())["payload"]
    assert payload["data"] == "y"
    connection.report(payload["id"])
    assert (await small).good
    with pytest.raises(TooLarge):
        await large
    await client.close()


async def test_what_waits_is_bounded(peer: Peer) -> None:
    client, connection = await opened(peer)
    await connection.close()
    await until(lambda: not client.connected)
    posted: list[asyncio.Future[Any]] = []

    async def post() -> None:
        while len(posted) < 40:
            posted.append(await client.post("chat", "x" * 1_000_000, once=True))

    posting = asyncio.ensure_future(post())
    await until(lambda: len(posted) == 17)
    connection = await peer.welcome()
    for _ in range(40):
        connection.report((await connection.receive())["payload"]["id"])
    await posting
    assert all([(await future).good for future in posted])
    await client.close()


async def test_nobody_who_logged_out_is_logged_in_again(peer: Peer) -> None:
    client, connection = await opened(peer, reconnect=True)
    leaving = asyncio.ensure_future(client.logout())
    connection.report((await connection.receive())["payload"]["id"])
    await leaving
    sending = asyncio.ensure_future(client.send("chat", once=True))
    await connection.receive()
    connection.fatal("authenticationTimeout", "too long")
    await connection.close()
    with pytest.raises(ConnectionClosed, match="too long"):
        await sending
    with pytest.raises(ConnectionClosed, match="too long"):
        await client.receive()
    with pytest.raises(ConnectionClosed, match="too long"):
        await client.send("chat", once=True)
    await client.close()


async def test_a_reader_waits_on_after_a_vain_try_by_hand(peer: Peer) -> None:
    client, connection = await opened(peer, reconnect=True, retry_first_s=0.1)
    receiving = asyncio.ensure_future(client.receive())
    await connection.close()
    await until(lambda: not client.connected)
    busy = {"code": "overloaded", "message": "full", "temporary": True}
    refused, _ = await asyncio.gather(client.open(), refuse(peer, busy), return_exceptions=True)
    assert isinstance(refused, AuthenticationError)
    connection = await peer.welcome()
    connection.deliver("chat", 1)
    assert (await receiving).data == 1
    await client.close()


async def test_opened_by_hand_while_it_tries(peer: Peer) -> None:
    client, connection = await opened(peer, retry_first_s=3600.0)
    sending = asyncio.ensure_future(client.send("chat", once=True))
    await connection.receive()
    await connection.close()
    await until(lambda: not client.connected)
    _, refused = await asyncio.gather(refuse(peer, NO), client.open(), return_exceptions=True)
    assert isinstance(refused, AuthenticationError)
    assert not sending.done()
    _, connection = await asyncio.gather(client.open(), peer.welcome())
    connection.report((await connection.receive())["payload"]["id"])
    assert (await sending).good
    await client.close()


# -- connected again --------------------------------------------------------------------------------------------


async def test_iteration_goes_on(peer: Peer) -> None:
    told: list[tuple[bool, str]] = []
    client, connection = await opened(
        peer, reconnect=True, on_connection=lambda connected, why: told.append((connected, why))
    )
    numbers = []

    async def read() -> None:
        async for message in client:
            numbers.append(message.data)  # noqa: PERF401 - looked at while it grows

    reading = asyncio.ensure_future(read())
    for number in range(3):
        connection.deliver("chat", number)
        await until(lambda number=number: len(numbers) == number + 1)
        asking = asyncio.ensure_future(client.ask("chat"))
        await connection.receive()
        await connection.close()
        with pytest.raises(ConnectionClosed):
            await asking
        connection = await peer.welcome()
    await until(lambda: client.connected)
    await client.close()
    await reading
    assert numbers == [0, 1, 2]
    lost = (False, "the connection was lost: closed by the server")
    assert told == [(True, ""), lost, (True, ""), lost, (True, ""), lost, (True, "")]


async def test_the_first_connection_is_tried_once(folder: Path) -> None:
    with pytest.raises(ConnectError):
        await Client(f"bester+unix://t:p@{folder}/none", reconnect=True, **QUICK).open()


async def test_on_connection_that_fails(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    def fail(connected: bool, why: str) -> None:
        raise ValueError("bad one")

    client, connection = await opened(peer, reconnect=True, on_connection=fail)
    await connection.close()
    await peer.welcome()
    await until(lambda: client.connected)
    assert "bad one" in caplog.text
    await client.close()


async def test_a_connection_that_is_half_open(peer: Peer) -> None:
    client, connection = await opened(peer, reconnect=True, idle_ping_s=0.03)
    receiving = asyncio.ensure_future(client.receive())
    assert (await connection.receive())["payload"]["type"] == "dummy"  # and nobody answers
    second = await peer.welcome()
    ping = (await second.receive())["payload"]
    second.send({"header": {"status": "0"}, "payload": {"type": "dummy", "data": None, "id": ping["id"]}})
    assert (await second.receive())["payload"]["id"] != ping["id"]  # it goes on to look
    second.deliver("chat", 1)
    assert (await receiving).data == 1
    await client.close()


async def test_nobody_is_asked_who_need_not_be(peer: Peer) -> None:
    client, connection = await opened(peer, idle_ping_s=0.003)
    sending = asyncio.ensure_future(client.send("chat", once=True))
    id = (await connection.receive())["payload"]["id"]
    assert (await connection.receive())["payload"]["type"] == "dummy"
    connection.report(id)
    assert (await sending).good
    await until(lambda: client._session.supervisor._timer is None)
    assert client.connected
    await client.close()


async def test_a_client_that_does_not_read_stays_connected(peer: Peer) -> None:
    client, connection = await opened(peer, reconnect=True, idle_ping_s=0.003, max_queued=1)
    connection.deliver("chat", 1)
    await until(lambda: client._session.inbox.paused)
    for _ in range(20):
        timer = client._session.supervisor._timer
        await until(lambda timer=timer: client._session.supervisor._timer is not timer)
    assert client.connected
    assert (await client.receive(PATIENCE_S)).data == 1
    await client.close()


def test_keep_alive() -> None:
    with socket.socket() as tcp:
        keep_alive(tcp)
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
    with socket.socket(socket.AF_UNIX) as other:
        keep_alive(other)
        assert not other.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# -- with a real server -----------------------------------------------------------------------------------------


async def test_over_a_server_that_cuts_connections(tmp_path: Path) -> None:
    async with server() as running:
        handler = Handler(running.handlers_path)

        @handler.on("echo")
        def echo(message: Request) -> Reply:
            return Reply(message.data)

        url = running.url("t")
        async with handler, Client(url, features=["token"], reconnect=True, **QUICK) as client:
            assert client.token is not None
            for number in range(3):
                sending = [asyncio.ensure_future(client.send("echo", [number, n], once=True)) for n in range(20)]
                await asyncio.sleep(0)
                channel = client._session.channel
                assert channel is not None
                channel.abort()
                assert all([(await one).good for one in sending])
            wanted = {(number, n) for number in range(3) for n in range(20)}
            async with asyncio.timeout(PATIENCE_S):
                async for message in client:
                    wanted.discard(tuple(message.data))
                    if not wanted:
                        break
