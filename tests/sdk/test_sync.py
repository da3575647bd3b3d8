"""The blocking client against a server that answers by itself, in a loop of another thread."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.waiting import PATIENCE_S

from bester import AuthenticationError, ConnectError, ConnectionClosed
from bester.sync import Client

if TYPE_CHECKING:
    from tests.sdk.conftest import Connection, Peer


flaky: set[str] = set()
"""The ids of the messages at which a connection was closed, once each."""

cancelled: queue.Queue[str] = queue.Queue()


async def serve(connection: Connection) -> None:
    hello = await connection.receive()
    user = hello["header"]["authentication"]["username"]
    if user != "t":
        connection.report("auth_special", error={"code": "authenticationFailed", "message": "no"})
        await connection.close()
        return
    connection.report("auth_special", server="j.example", features=["ack", "replyTo", "parts"], token="abc")
    while True:
        payload = (await connection.receive()).get("payload", {})
        id = payload.get("id", "")
        match payload.get("type"):
            case "dummy":
                connection.send({"header": {"status": "0"}, "payload": {"type": "dummy", "data": None, "id": id}})
            case "builtin":
                name = payload["data"]["command"]["type"]
                connection.report(id, data={"listTypes": ["chat"], "serverInfo": {"clientCount": 1}}.get(name))
            case "echo":
                connection.deliver("echo", payload["data"], replyTo=id)
                connection.report(id)
            case "count":
                parts = {"messageType": "receivedMessage", "partOf": id, "more": True}
                for number in range(payload["data"]):
                    connection.send({"header": parts, "payload": {"type": "count", "data": number}})
                if payload["data"] < 4:
                    connection.report(id)
            case None if set(payload) == {"id"}:
                cancelled.put(payload["id"])
                connection.report(payload["id"], error={"code": "cancelled", "message": "-"})
            case None:  # an acknowledgement, or a grant
                pass
            case "deliver":
                connection.deliver("chat", payload["data"], deliveryId=payload["data"])
                connection.report(id)
            case "flaky" if id not in flaky:
                flaky.add(id)
                await connection.close()
                return
            case "end":
                await connection.close()
                return
            case _:
                connection.report(id, data=payload["data"])


@pytest.fixture
def path(folder: Path, make_peer: type[Peer]) -> Iterator[str]:
    path = str(folder / "s")
    ready = threading.Event()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        peer = make_peer(path)
        await peer.open()
        ready.set()
        tasks = set()
        stopping = asyncio.ensure_future(stop.wait())
        while not stopping.done():
            accepting = asyncio.ensure_future(peer.accept())
            await asyncio.wait((accepting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if accepting.done():
                tasks.add(asyncio.ensure_future(serve(accepting.result())))
            else:
                accepting.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await peer.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    yield path
    loop.call_soon_threadsafe(stop.set)
    thread.join()


def test_everything_in_turn(path: str) -> None:
    client = Client(f"bester+unix://t:secret@{path}")
    assert "bester.sync.Client" in repr(client)
    with client:
        assert (client.connected, client.server, client.features, client.token) == (
            True,
            "j.example",
            ("ack", "replyTo", "parts"),
            "abc",
        )
        assert client.send("chat", {"a": 1}).data == {"a": 1}
        assert client.ask("echo", "there?").data == "there?"
        assert client.ping() >= 0
        assert client.list_types() == ["chat"]
        assert client.server_info() == {"clientCount": 1}
        client.register("g", "pw")
        client.change_password("a", "b")
        client.logout()
        client.login("t", "secret")
        assert client.builtin("other") is None
        client.send("echo", 1)
        client.send("echo", 2)
        assert client.receive(timeout=10).data == 1
        for message in client:
            assert message.data == 2
            break
        with pytest.raises(TimeoutError):
            client.receive(timeout=0.001)
    assert not client.connected
    assert list(client) == []
    with pytest.raises(ConnectionClosed):
        client.send("chat")
    client.close()


def test_iteration_ends_when_the_client_is_closed(path: str) -> None:
    client = Client.connect(f"bester+unix://t:secret@{path}")
    client.send("echo", 1)
    threads = threading.active_count()
    for message in client:
        assert message.data == 1
        client.close()
    assert threading.active_count() == threads - 1


def test_a_lost_connection(path: str) -> None:
    with Client(f"bester+unix://t:secret@{path}") as client:
        with pytest.raises(ConnectionClosed):
            client.send("end")
        with pytest.raises(ConnectionClosed):
            next(client)
        assert not client.connected
        client.open()
        assert client.send("chat", 1).good


def test_refusals_leave_no_thread(path: str) -> None:
    threads = threading.active_count()
    with pytest.raises(AuthenticationError):
        Client.connect(f"bester+unix://x:secret@{path}")
    with pytest.raises(ConnectError):
        Client.connect(f"bester+unix://t:secret@{path}.none")
    assert threading.active_count() == threads


def test_closed_inside_the_block(path: str) -> None:
    with Client(f"bester+unix://t:secret@{path}") as client:
        client.close()


def test_a_message_that_is_sent_until_there_is_a_report(path: str) -> None:
    with Client(f"bester+unix://t:secret@{path}", retry_first_s=0.001) as client:
        assert client.send("flaky", 1, once=True).data == 1
        assert client.connected


def test_reconnecting(path: str) -> None:
    events: queue.SimpleQueue[bool] = queue.SimpleQueue()
    with Client(
        f"bester+unix://t:secret@{path}",
        retry_first_s=0.001,
        reconnect=True,
        on_connection=lambda connected, why: events.put(connected),
    ) as client:
        with pytest.raises(ConnectionClosed):
            client.send("end")
        assert [events.get(timeout=10) for _ in range(3)] == [True, False, True]
        client.send("echo", 1)
        for message in client:
            assert message.data == 1
            break


def test_what_waits_fails_when_the_client_is_closed(path: str) -> None:
    client = Client.connect(f"bester+unix://t:secret@{path}", retry_first_s=3600.0)
    found: list[BaseException] = []

    def send() -> None:
        try:
            client.send("flaky", once=True)
        except ConnectionClosed as error:
            found.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(ConnectionClosed):
        client.receive()
    client.close()
    thread.join()
    assert "is closed" in str(found[0])


def test_the_seen_file(path: str, folder: Path) -> None:
    options = {"features": ["ack"], "seen_file": folder / "seen"}
    with Client(f"bester+unix://t:secret@{path}", **options) as client:
        client.send("deliver", "a")
        client.send("deliver", "b")
        assert [client.receive(10).data for _ in range(2)] == ["a", "b"]
    assert (folder / "seen").read_bytes() == b'"a"\n"b"\n'
    with Client(f"bester+unix://t:secret@{path}", **options) as client:
        with pytest.raises(BlockingIOError):
            Client.connect(f"bester+unix://t:secret@{path}", **options)
        for id in "abc":
            client.send("deliver", id)
        assert client.receive(10).data == "c"


def test_answers_in_parts(path: str) -> None:
    with Client(f"bester+unix://t:secret@{path}") as client:
        stream = client.stream("count", 3)
        assert [part.data for part in stream] == [0, 1, 2]
        assert stream.report is not None
        assert stream.report.good
        assert list(stream) == []
        assert not client.cancel("1")
        with client.stream("count", 0) as stream:
            assert list(stream) == []


def test_a_stream_that_is_left_is_cancelled(path: str) -> None:
    with Client(f"bester+unix://t:secret@{path}") as client:
        for part in client.stream("count", 4):
            assert part.data == 0
            break
        assert cancelled.get(timeout=PATIENCE_S)
        with client.stream("count", 5) as stream:
            next(stream)
        assert cancelled.get(timeout=PATIENCE_S)
        assert list(stream) == []
        with client.stream("count", 4, timeout=0.05) as stream, pytest.raises(TimeoutError):
            list(stream)
        assert cancelled.get(timeout=PATIENCE_S)
        with client.stream("count", 4) as stream:
            client.close()
