"""The asyncio client against a server that the test plays."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography import x509
from tests.waiting import PATIENCE_S, until

from bester import AuthenticationError, Client, ConnectError, ConnectionClosed, ReceivedMessage, Refused
from bester.errors import TooLarge
from bester.net.fingerprints import fingerprints
from bester.protocol.framing import frame

if TYPE_CHECKING:
    from tests.sdk.conftest import Connection, Peer


async def opened(peer: Peer, welcome: dict[str, Any] | None = None, **options: Any) -> tuple[Client, Connection]:
    client = Client(peer.url, **options)
    _, connection = await asyncio.gather(client.open(), peer.welcome(**(welcome or {})))
    return client, connection


# -- connecting -------------------------------------------------------------------------------------------------


async def test_connects_and_authenticates(peer: Peer) -> None:
    async def admit() -> Any:
        connection = await peer.accept()
        hello = await connection.receive()
        connection.report("auth_special", server="j.example", features=["ack"], token="abc", limits={"maxMessage": 99})
        return hello

    client, hello = await asyncio.gather(Client.connect(peer.url, features=["ack", "token"]), admit())
    assert hello["header"]["authentication"] == {"username": "t", "password": "secret"}
    assert hello["header"]["features"] == ["ack", "token", "replyTo", "parts"]
    assert (client.connected, client.server, client.features, client.token) == (True, "j.example", ("ack",), "abc")
    assert client.max_message == 99
    assert "secret" not in repr(client)
    with pytest.raises(RuntimeError):
        await client.open()
    await client.close()
    await client.close()
    assert not client.connected


async def test_the_token_stands_in_for_the_password_when_opened_again(peer: Peer) -> None:
    client, first = await opened(peer, {"token": "abc"})
    await first.close()
    with pytest.raises(ConnectionClosed):
        await client.receive()

    async def admit() -> Any:
        connection = await peer.accept()
        hello = await connection.receive()
        connection.report("auth_special")
        return hello["header"]["authentication"]

    _, authentication = await asyncio.gather(client.open(), admit())
    assert authentication == {"username": "t", "token": "abc"}
    await client.close()


async def test_registers(peer: Peer) -> None:
    async def admit() -> Any:
        connection = await peer.accept()
        hello = await connection.receive()
        connection.report("auth_special")
        return hello["payload"]

    client, payload = await asyncio.gather(Client.connect(peer.url, register=True), admit())
    assert payload["data"]["command"]["type"] == "register"
    await client.close()


async def test_a_wrong_password(peer: Peer) -> None:
    async def refuse() -> None:
        connection = await peer.accept()
        await connection.receive()
        connection.report("auth_special", error={"code": "authenticationFailed", "message": "no", "temporary": False})
        await connection.close()

    client = Client(peer.url)
    refused, _ = await asyncio.gather(client.open(), refuse(), return_exceptions=True)
    assert isinstance(refused, AuthenticationError)
    assert (refused.code, refused.temporary) == ("authenticationFailed", False)
    assert not client.connected


async def test_turned_away(peer: Peer) -> None:
    async def refuse() -> None:
        connection = await peer.accept()
        await connection.receive()
        connection.fatal("overloaded", "full")
        await connection.close()

    refused, _ = await asyncio.gather(Client(peer.url).open(), refuse(), return_exceptions=True)
    assert isinstance(refused, ConnectError)
    assert refused.code == "overloaded"


async def test_no_answer_in_time(peer: Peer) -> None:
    with pytest.raises(ConnectError, match="no answer"):
        await Client(peer.url, connect_timeout=0.3).open()


async def test_nobody_there(folder: Path) -> None:
    with pytest.raises(ConnectError, match="No such file") as caught:
        await Client(f"bester+unix://t:p@{folder}/none").open()
    assert caught.value.temporary
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectError, match="Connection refused"):
            await Client(f"bester://t:p@127.0.0.1:{free.getsockname()[1]}").open()


async def test_nobody_connects_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*args: Any, **options: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("bester.dialling.connected", never)
    with pytest.raises(ConnectError, match="no connection within"):
        await Client("bester://t:p@localhost", connect_timeout=0.01).open()


# -- TLS --------------------------------------------------------------------------------------------------------


async def test_tls(folder: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(int.from_bytes(await reader.readexactly(4), "little"))
            good = {"header": {"messageType": "statusReport", "status": "good"}, "payload": {"id": "auth_special"}}
            writer.write(frame(json.dumps(good).encode()))
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"besters://t:p@localhost:{server.sockets[0].getsockname()[1]}"
    try:
        for options in (
            {"cafile": str(folder / "ca.pem")},
            {"fingerprint": f"sha256:{hashlib.sha256(der).hexdigest()}"},
            {"fingerprint": fingerprints(x509.load_der_x509_certificate(der)).key},
            {"tls": ssl.create_default_context(cafile=str(folder / "ca.pem"))},
        ):
            async with Client(url, **options) as client:
                assert client.connected
        with pytest.raises(ConnectError, match="pin it by its fingerprint, or name its authority"):
            await Client(url).open()
        with pytest.raises(ConnectError, match="another certificate"):
            await Client(url, fingerprint="00" * 32).open()
        with pytest.raises(ConnectError, match=r"none\.pem cannot be read: No such file"):
            await Client(url, cafile=str(folder / "none.pem")).open()
        (folder / "empty.pem").touch()
        with pytest.raises(ConnectError, match=r"empty\.pem cannot be read"):
            await Client(url, cafile=str(folder / "empty.pem")).open()
    finally:
        server.close()


# -- sending ----------------------------------------------------------------------------------------------------


async def test_many_in_flight_reported_out_of_order(peer: Peer) -> None:
    client, connection = await opened(peer)

    async def serve() -> None:
        ids = [(await connection.receive())["payload"]["id"] for _ in range(200)]
        for id in reversed(ids):
            connection.report(id, data=id)

    *reports, _ = await asyncio.gather(*(client.send("chat", number) for number in range(200)), serve())
    assert [report.data for report in reports if report] == [str(number) for number in range(1, 201)]
    await client.close()


async def test_a_bad_report_is_returned(peer: Peer) -> None:
    client, connection = await opened(peer)
    sending = asyncio.ensure_future(client.send("chat", {"a": 1}, id="mine", route=True))
    message = await connection.receive()
    assert message == {
        "header": {"route": True},
        "payload": {"type": "chat", "id": "mine", "data": {"a": 1}},
    }
    connection.report("mine", error={"code": "noHandler", "message": "none"})
    report = await sending
    with pytest.raises(Refused, match="noHandler"):
        report.raise_for_status()
    await client.close()


async def test_ids(peer: Peer) -> None:
    client, connection = await opened(peer)
    with pytest.raises(ValueError, match="auth_special"):
        await client.send("chat", id="auth_special")
    first = await client.post("chat", id="same")
    with pytest.raises(ValueError, match="no report yet"):
        await client.send("chat", id="same")
    first.cancel()  # nobody waits for that report any more
    second = await client.post("chat", id="same")
    once = await client.post("chat", once=True)
    ids = [(await connection.receive())["payload"]["id"] for _ in range(3)]
    assert ids[:2] == ["same", "same"]
    assert len(ids[2]) > 32
    for id in (*ids, "unknown"):
        connection.report(id)
    assert (await second).good
    assert (await once).good
    await client.close()


async def test_the_timeout_of_one_message(peer: Peer) -> None:
    client, connection = await opened(peer)
    with pytest.raises(TimeoutError):
        await client.send("chat", timeout=0.001)
    late = await connection.receive()
    connection.report(late["payload"]["id"])
    sending = asyncio.ensure_future(client.send("chat", timeout=PATIENCE_S))
    connection.report((await connection.receive())["payload"]["id"])
    assert (await sending).good
    await client.close()


async def test_too_large_is_not_sent(peer: Peer) -> None:
    client, _ = await opened(peer, {"limits": {"maxMessage": 100}})
    with pytest.raises(TooLarge):
        await client.send("chat", "x" * 100)
    assert client.connected
    await client.close()


async def test_writing_waits_for_a_server_that_does_not_read(peer: Peer) -> None:
    client, connection = await opened(peer)
    data = "x" * 500_000
    posted = 0

    async def post() -> None:
        nonlocal posted
        for _ in range(20):
            await client.post("chat", data)
            posted += 1

    posting = asyncio.ensure_future(post())
    channel = client._session.channel
    assert channel is not None
    await until(lambda: channel.full)
    assert posted < 20
    sending = asyncio.ensure_future(client.send("chat", "last"))
    bodies = [await connection.receive() for _ in range(21)]
    await posting
    for body in bodies:
        connection.report(body["payload"]["id"])
    assert (await sending).good
    await client.close()


async def test_a_lost_connection_fails_what_is_under_way(peer: Peer) -> None:
    client, connection = await opened(peer)
    posted = await client.post("chat")
    sending = asyncio.ensure_future(client.send("chat"))
    pinging = asyncio.ensure_future(client.ping())
    receiving = asyncio.ensure_future(client.receive())
    asking = asyncio.ensure_future(client.ask("chat"))
    for _ in range(4):
        await connection.receive()
    connection.fatal("shuttingDown", "bye")
    await connection.close()
    for waiting in (posted, sending, pinging, receiving, asking):
        with pytest.raises(ConnectionClosed, match="bye") as caught:
            await waiting
        assert caught.value.code == "shuttingDown"
    for call in (client.send("chat"), client.ping(), client.builtin("listTypes"), client.receive()):
        with pytest.raises(ConnectionClosed):
            await call
    with pytest.raises(ConnectionClosed):
        async for _ in client:
            pass
    await client.close()


async def test_a_server_that_says_garbage(peer: Peer) -> None:
    client, connection = await opened(peer)
    connection.send_body(b"garbage")
    with pytest.raises(ConnectionClosed, match="lost"):
        await client.receive()
    await client.close()
    client, connection = await opened(peer, max_frame_bytes=200)
    connection.send_body(b"x" * 201)
    with pytest.raises(ConnectionClosed, match="201 bytes"):
        await client.receive()
    await client.close()


async def test_calls_before_the_client_is_open(peer: Peer) -> None:
    with pytest.raises(ConnectionClosed, match="is closed"):
        await Client(peer.url).send("chat")


# -- receiving --------------------------------------------------------------------------------------------------


async def test_messages_come_in_order_until_the_client_is_closed(peer: Peer) -> None:
    client, connection = await opened(peer)
    for number in range(3):
        connection.deliver("chat", {"n": number})
    numbers = []
    async for message in client:
        assert message.type == "chat"
        numbers.append(message.data["n"])
        if len(numbers) == 3:
            await client.close()
    assert numbers == [0, 1, 2]
    with pytest.raises(ConnectionClosed, match="is closed"):
        await client.receive()


async def test_receive_times_out_and_loses_nothing(peer: Peer) -> None:
    client, connection = await opened(peer)
    with pytest.raises(TimeoutError):
        await client.receive(timeout=0.001)
    connection.deliver("chat", 1)
    assert (await client.receive(PATIENCE_S)).data == 1
    await client.close()


async def test_a_reader_that_is_cancelled_at_the_last_moment_loses_nothing(peer: Peer) -> None:
    client, _ = await opened(peer)
    one, other = asyncio.ensure_future(client.receive()), asyncio.ensure_future(client.receive())
    await asyncio.sleep(0)
    client._session.inbox.put(ReceivedMessage("chat"))
    one.cancel()
    assert (await other).type == "chat"
    assert one.cancelled()
    await client.close()


async def test_a_full_inbox_stops_reading(peer: Peer) -> None:
    client, connection = await opened(peer, max_queued=4)
    size = 50_000
    count = 100
    for number in range(count):
        connection.deliver("chat", [number, "x" * size])
    sending = asyncio.ensure_future(connection.writer.drain())
    inbox = client._session.inbox
    await until(lambda: len(inbox) >= 4)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(inbox) < 20  # those that came with the same read
    assert [(await client.receive(PATIENCE_S)).data[0] for _ in range(count)] == list(range(count))
    await sending
    await client.close()


async def test_messages_that_nobody_took_survive_the_connection(peer: Peer) -> None:
    client, connection = await opened(peer, max_queued=1)
    connection.deliver("chat", 1)
    await until(lambda: len(client._session.inbox) == 1)
    await client.close()
    await asyncio.gather(client.open(), peer.welcome())
    assert (await client.receive(PATIENCE_S)).data == 1
    peer.connections[-1].deliver("chat", 2)
    assert (await client.receive(PATIENCE_S)).data == 2
    await client.close()


async def test_on_message(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    taken: list[Any] = []

    def take(message: ReceivedMessage) -> None:
        taken.append(message.data)
        if message.data == "bad":
            raise ValueError("bad one")

    client, connection = await opened(peer, on_message=take)
    connection.deliver("chat", "bad", deliveryId="a")
    connection.deliver("chat", "good", deliveryId="b")
    assert (await connection.receive())["payload"]["ids"] == ["b"]
    assert taken == ["bad", "good"]
    assert "bad one" in caplog.text
    await client.close()


async def test_acknowledgement_when_the_next_is_asked_for(peer: Peer) -> None:
    async with asyncio.timeout(PATIENCE_S):
        client, connection = await opened(peer, features=["ack"])
        connection.deliver("chat", 1, deliveryId="a")
        connection.deliver("chat", 1, deliveryId="a")  # again, before it is acknowledged
        connection.deliver("chat", 2, deliveryId="b")
        assert [(await client.receive()).data, (await client.receive()).data] == [1, 2]
        assert (await connection.receive())["payload"]["ids"] == ["a"]
        connection.deliver("chat", 1, deliveryId="a")  # again, afterwards: not given out, but acknowledged
        assert (await connection.receive())["payload"]["ids"] == ["a"]
        await client.close()
        assert (await connection.receive())["payload"]["ids"] == ["b"]


async def test_no_acknowledgement_after_an_error(peer: Peer) -> None:
    client = Client(peer.url, features=["ack"])
    welcoming = asyncio.ensure_future(peer.welcome())

    async def use() -> None:
        async with client:
            (await welcoming).deliver("chat", 0, deliveryId="a")
            await client.receive()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    assert await welcoming.result().at_end()


async def test_acknowledgement_at_the_end_of_the_block(peer: Peer) -> None:
    client = Client(peer.url, features=["ack"])
    welcoming = asyncio.ensure_future(peer.welcome())
    async with client:
        connection = await welcoming
        connection.deliver("chat", 0, deliveryId="a")
        await client.receive()
    assert (await connection.receive())["payload"]["ids"] == ["a"]


async def test_ping(peer: Peer) -> None:
    client, connection = await opened(peer)
    pinging = asyncio.ensure_future(client.ping())
    id = (await connection.receive())["payload"]["id"]
    connection.send({"header": {"status": "0"}, "payload": {"type": "dummy", "data": None, "id": "unknown"}})
    connection.send({"header": {"status": "0"}, "payload": {"type": "dummy", "data": None, "id": id}})
    assert await pinging >= 0
    with pytest.raises(TimeoutError):
        await client.ping(timeout=0.001)
    await client.close()


async def test_built_in_commands(peer: Peer) -> None:
    client, connection = await opened(peer, {"token": "abc"})

    async def answered(call: Any, data: Any = None, **more: Any) -> tuple[Any, Any, str]:
        calling = asyncio.ensure_future(call)
        payload = (await connection.receive())["payload"]
        connection.report(payload["id"], data=data, **more)
        return await calling, payload["data"]["command"], payload["id"]

    result, command, _ = await answered(client.list_types(), ["chat"])
    assert (result, command) == (["chat"], {"type": "listTypes"})
    result, command, _ = await answered(client.server_info(), {"clientCount": 1})
    assert (result, command) == ({"clientCount": 1}, {"type": "serverInfo"})
    _, command, _ = await answered(client.register("g", "pw"))
    assert command == {"type": "register", "args": {"username": "g", "password": "pw"}}
    _, command, _ = await answered(client.change_password("a", "b"))
    assert command == {"type": "changePassword", "args": {"old": "a", "new": "b"}}
    _, command, _ = await answered(client.logout())
    assert command == {"type": "logout"}
    assert client.token is None
    _, command, id = await answered(client.login("g", "pw"), token="new")
    assert command == {"type": "login", "args": {"username": "g", "password": "pw"}}
    assert id == "auth_special"
    assert str(client.token) == "new"

    calling = asyncio.ensure_future(client.builtin("kick", username="g"))
    payload = (await connection.receive())["payload"]
    connection.report(payload["id"], error={"code": "notAllowed", "message": "no"})
    with pytest.raises(Refused, match="notAllowed"):
        await calling
    await client.close()


async def test_close_does_not_wait_for_ever(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.client.session._CLOSE_TIMEOUT_S", 0.01)
    client, _ = await opened(peer)
    await client.post("chat", "x" * 900_000)  # more than the socket takes while nobody reads
    await client.close()
    assert not client.connected
