"""Handlers, attached and classic, against a server that the test plays; and their functions without one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw
from tests.waiting import PATIENCE_S

from bester import (
    ConnectionClosed,
    Done,
    Handler,
    HandlerError,
    Refused,
    Reply,
    Request,
    Response,
    SendClients,
    SendHandler,
)
from bester.errors import BadConfiguration
from bester.protocol.framing import frame
from bester.testing import call, call_async

if TYPE_CHECKING:
    from tests.sdk.conftest import Connection, Peer


def make(peer: Peer, **options: Any) -> Handler:
    options = {"retry_first_s": 0.001, "retry_max_s": 0.01, **options}
    handler = Handler(peer.path, **options)

    @handler.on("chat")
    def chat(message: Request) -> Response:
        return SendClients(["g"], message.data)

    return handler


async def started(handler: Handler, peer: Peer) -> Connection:
    connection, _ = await asyncio.gather(peer.attach(), handler.start(PATIENCE_S))
    return connection


async def stopped(handler: Handler, connection: Connection) -> None:
    stopping = asyncio.ensure_future(handler.stop())
    detach = await connection.receive()
    assert detach["payload"]["type"] == "detach"
    connection.report(detach["payload"]["id"])
    await stopping
    assert await connection.at_end()


# -- attached ---------------------------------------------------------------------------------------------------


async def test_attaches_and_answers(peer: Peer) -> None:
    handler = make(peer, name="mine", concurrency=3, dry_run=True)
    starting = asyncio.ensure_future(handler.start(PATIENCE_S))
    connection = await peer.accept()
    attach = await connection.receive()
    assert attach["header"] == {"scope": "handler", "features": ["dryRun"]}
    assert attach["payload"]["data"] == {"types": ["chat"], "name": "mine", "concurrency": 3}
    connection.report(attach["payload"]["id"])
    await starting
    for number in range(100):
        connection.request(str(number), "chat", number)
    for number in range(100):
        assert await connection.receive() == {
            "header": {"id": str(number), "status": "0", "command": {"type": "sendClients", "data": ["g"]}},
            "payload": {"data": number},
        }
    with pytest.raises(RuntimeError):
        await handler.start()
    await stopped(handler, connection)


async def test_coroutine_functions_answer_as_they_are_ready(peer: Peer) -> None:
    handler = Handler(peer.path)
    gates = {"a": asyncio.Event(), "b": asyncio.Event()}

    @handler.on("slow", "slower")
    async def slow(message: Request) -> Response:
        await gates[message.data].wait()
        return Reply(message.data)

    connection = await started(handler, peer)
    connection.request("1", "slow", "a")
    connection.request("2", "slower", "b")
    gates["b"].set()
    assert (await connection.receive())["header"]["id"] == "2"
    gates["a"].set()
    assert (await connection.receive())["header"]["id"] == "1"
    await stopped(handler, connection)


async def test_a_coroutine_function_that_never_waits_runs_in_a_task(peer: Peer) -> None:
    handler = Handler(peer.path)

    @handler.on("quick")
    async def quick(message: Request) -> Response:
        async with asyncio.timeout(PATIENCE_S):  # needs a task
            return Reply(message.data)

    connection = await started(handler, peer)
    for id in ("1", "2"):
        connection.request(id, "quick", "a")
    assert [(await connection.receive())["header"]["id"] for _ in range(2)] == ["1", "2"]
    await stopped(handler, connection)


async def test_functions_in_threads(peer: Peer) -> None:
    handler = Handler(peer.path)

    @handler.on("blocking", thread=True)
    def blocking(message: Request) -> Response:
        return Reply(threading.current_thread() is threading.main_thread())

    connection = await started(handler, peer)
    connection.request("1", "blocking", None)
    assert (await connection.receive())["payload"]["data"] is False
    await stopped(handler, connection)


async def test_a_failing_function_fails_its_message_only(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    handler = make(peer)

    @handler.on("raises")
    def raises(message: Request) -> Response:
        raise KeyError("secret cause")

    @handler.on("refuses")
    async def refuses(message: Request) -> Response:
        raise HandlerError("not today")

    @handler.on("garbage")
    def garbage(message: Request) -> Response:
        return SendClients("g")

    async def later(message: Request) -> Response:
        return Done()

    handler.on("awaits")(lambda message: later(message))
    connection = await started(handler, peer)
    for id, type in enumerate(("raises", "refuses", "garbage", "awaits", "other", "chat")):
        connection.request(str(id), type, "x")
    answers = [(await connection.receive())["header"] for _ in range(6)]
    assert {answer["id"]: answer["status"] for answer in answers} == dict(zip("012345", "111010", strict=True))
    assert "secret cause" in caplog.text
    assert "Traceback" in caplog.text
    assert "not today" in caplog.text
    await stopped(handler, connection)


async def test_push(peer: Peer) -> None:
    handler = make(peer)
    with pytest.raises(RuntimeError, match="not started"):
        await handler.push(Done())
    connection = await started(handler, peer)
    pushing = asyncio.ensure_future(handler.push(SendClients(["g"], "hot"), type="kitchen"))
    pushed = await connection.receive()
    assert pushed["header"]["command"] == {"type": "sendClients", "data": ["g"]}
    assert pushed["payload"] == {"type": "kitchen", "data": "hot"}
    connection.report(pushed["header"]["id"], results=[{"to": "g", "status": "delivered"}])
    report = await pushing
    assert report.good
    assert report.results[0].to == "g"
    with pytest.raises(TypeError):
        await handler.push(SendClients("g"))
    with pytest.raises(TimeoutError):
        await handler.push(Done(), timeout=0.001)
    await connection.receive()

    pushing = asyncio.ensure_future(handler.push(Done()))
    await connection.receive()
    await connection.close()
    with pytest.raises(ConnectionClosed):
        await pushing
    pushing = asyncio.ensure_future(handler.push(Done()))  # waits until there is a connection again
    connection = await peer.attach()
    connection.report((await connection.receive())["header"]["id"])
    assert (await pushing).good
    await stopped(handler, connection)
    with pytest.raises(ConnectionClosed):
        await handler.push(Done())


async def test_attaches_again_and_again(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    await peer.close()
    handler = make(peer)
    with pytest.raises(TimeoutError):
        await handler.start(0.001)
    await peer.open()
    connection = await peer.attach()
    connection.fatal("shuttingDown", "bye")
    await connection.close()
    connection = await peer.accept()  # does not answer the next one
    await connection.close()
    connection = await peer.accept()  # does not want it now
    connection.report((await connection.receive())["payload"]["id"], error={"code": "overloaded", "temporary": True})
    connection = await peer.attach()
    connection.request("1", "chat", 1)
    assert (await connection.receive())["header"]["id"] == "1"
    assert "bye" in caplog.text
    await stopped(handler, connection)


async def test_a_server_that_says_garbage_is_left_and_tried_again(peer: Peer) -> None:
    handler = make(peer)
    connection = await started(handler, peer)
    connection.send_body(b"garbage")
    assert await connection.at_end()
    await stopped(handler, await peer.attach())


async def test_refused_for_good(peer: Peer) -> None:
    handler = make(peer)
    serving = asyncio.ensure_future(handler.serve())
    connection = await peer.accept()
    connection.report((await connection.receive())["payload"]["id"], error={"code": "notAllowed", "message": "no"})
    with pytest.raises(Refused, match="notAllowed"):
        await serving
    starting = asyncio.ensure_future(handler.start())
    connection = await peer.accept()
    connection.report((await connection.receive())["payload"]["id"], error={"code": "notAllowed", "message": "no"})
    with pytest.raises(Refused):
        await starting
    await handler.stop()


async def test_stops_while_nobody_is_there(folder: Path) -> None:
    handler = Handler(folder / "none", retry_first_s=1000)
    handler.on("chat")(lambda message: None)
    with pytest.raises(TimeoutError):
        await handler.start(0.001)
    await handler.stop()
    await handler.stop()


async def test_a_graceful_stop_finishes_what_is_outstanding(peer: Peer) -> None:
    handler = Handler(peer.path)
    gate = asyncio.Event()

    @handler.on("slow")
    async def slow(message: Request) -> Response:
        await gate.wait()
        return None

    connection = await started(handler, peer)
    connection.request("1", "slow", 1)
    stopping = asyncio.ensure_future(handler.stop())
    detach = await connection.receive()
    connection.request("2", "slow", 2)  # was on its way
    connection.report(detach["payload"]["id"])
    gate.set()
    assert {(await connection.receive())["header"]["id"] for _ in range(2)} == {"1", "2"}
    await stopping
    assert await connection.at_end()


async def test_what_takes_too_long_fails_when_the_handler_stops(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bester.handler.attached._DETACH_TIMEOUT_S", 0.001)
    handler = Handler(peer.path, grace_s=0.001)

    @handler.on("stuck")
    async def stuck(message: Request) -> Response:
        await asyncio.Event().wait()
        return None

    connection = await started(handler, peer)
    connection.request("1", "stuck", 1)
    stopping = asyncio.ensure_future(handler.stop())
    assert (await connection.receive())["payload"]["type"] == "detach"  # and is not answered
    assert (await connection.receive())["header"] == {"id": "1", "status": "1"}
    await stopping


async def test_cancelled(peer: Peer) -> None:
    handler = make(peer)
    serving = asyncio.ensure_future(handler.serve())
    connection = await peer.attach()
    await handler.wait_attached(PATIENCE_S)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert await connection.at_end()


async def test_as_a_block(peer: Peer) -> None:
    attaching = asyncio.ensure_future(peer.attach())
    async with make(peer):
        connection = await attaching
        ending = asyncio.ensure_future(connection.receive())
        await connection.close()
    ending.cancel()

    async def enter() -> None:
        async with make(peer):
            raise AssertionError("not reached")

    await peer.close()
    entering = asyncio.ensure_future(enter())
    await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering


PROGRAM = """
import sys
from bester import Handler, SendClients
handler = Handler(sys.argv[1])
@handler.on("chat")
async def chat(message):
    return SendClients(["g"])
handler.run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run_ends_with_a_signal(peer: Peer, number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", PROGRAM, peer.path, stderr=asyncio.subprocess.PIPE
    )
    connection = await peer.attach()
    connection.request("1", "chat", 1)
    assert (await connection.receive())["payload"]["data"] == 1
    process.send_signal(number)
    connection.report((await connection.receive())["payload"]["id"])
    _, errors = await process.communicate()
    assert process.returncode == 0
    assert b"attached to" in errors
    assert b"Traceback" not in errors


async def test_run_asked_twice_ends_at_once(peer: Peer) -> None:
    program = PROGRAM.replace("    return", "    import asyncio; await asyncio.Event().wait()\n    return")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, peer.path, stderr=asyncio.subprocess.PIPE
    )
    connection = await peer.attach()
    connection.request("1", "chat", 1)
    process.send_signal(signal.SIGTERM)
    assert (await connection.receive())["payload"]["type"] == "detach"
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0


# -- classic ----------------------------------------------------------------------------------------------------


async def ask(path: str, body: bytes, *, more: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(frame(body) + more)
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        assert int.from_bytes(answer[:4], "little") == max(0, len(answer) - 4)
        return answer[4:]
    finally:
        writer.close()


async def test_classic(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(folder / "c")
    handler = Handler(classic=path, max_frame_bytes=1000)

    @handler.on("chat")
    async def chat(message: Request) -> Response:
        assert not message.sender.told
        if message.data == "bad":
            raise ValueError
        return SendClients(["g"], type=message.data if message.data == "news" else None)

    async with handler:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        head = b'{"header":{"status":"0","command":{"type":"sendClients","data":["g"]}}'
        assert await ask(path, b'{ "a":1}') == head + b',"data":{ "a":1}}'
        assert await ask(path, b'"news"') == head + b',"payload":{"type":"news","data":"news"},"data":"news"}'
        assert b'"status":"1"' in await ask(path, b'"bad"')
        assert b'"status":"1"' in await ask(path, b"{")
        assert await ask(path, b"1", more=frame(b"2")) == head + b',"data":1}'
        assert "more than one" in caplog.text
        assert await ask(path, b"x" * 1001) == b""
        other = Handler(classic=path)
        other.on("chat")(lambda message: None)
        with pytest.raises(BadConfiguration):
            await other.start()
        with pytest.raises(RuntimeError):
            await handler.push(Done())
    assert not os.path.exists(path)


async def test_classic_stops_gracefully(folder: Path) -> None:
    path = str(folder / "c")
    handler = Handler(classic=path)
    gate, asked = asyncio.Event(), asyncio.Event()

    @handler.on("slow")
    async def slow(message: Request) -> Response:
        asked.set()
        await gate.wait()
        return Reply(1)

    await handler.start()
    idle_reader, idle_writer = await asyncio.open_unix_connection(path)
    asking = asyncio.ensure_future(ask(path, b"1"))
    await asked.wait()
    stopping = asyncio.ensure_future(handler.stop())
    await asyncio.sleep(0)
    gate.set()
    assert b'"data":1' in await asking
    await stopping
    assert await idle_reader.read() == b""
    idle_writer.close()


async def test_a_classic_requester_that_goes_away(folder: Path) -> None:
    path = str(folder / "c")
    handler = Handler(classic=path)
    gate, asked = asyncio.Event(), asyncio.Event()

    @handler.on("slow")
    async def slow(message: Request) -> Response:
        asked.set()
        await gate.wait()
        return Reply(1)

    async with handler:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(frame(b"1"))
        await asked.wait()
        writer.transport.abort()
        gate.set()
        assert b'"data":1' in await ask(path, b"1")


async def test_a_dead_socket_is_replaced(folder: Path) -> None:
    path = str(folder / "c")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert os.path.exists(path)
    handler = Handler(classic=path)
    handler.on("chat")(lambda message: Reply(2))
    async with handler:
        assert b'"data":2' in await ask(path, b"1")


async def test_classic_has_one_type(folder: Path) -> None:
    handler = Handler(classic=folder / "c")
    handler.on("a", "b")(lambda message: None)
    with pytest.raises(RuntimeError, match="one type"):
        await handler.start()


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="BESTER_SOCKET"):
        Handler(classic=True)
    with pytest.raises(ValueError, match="BESTER_TYPE"):
        Handler().on()
    monkeypatch.setenv("BESTER_SOCKET", "aSock")
    monkeypatch.setenv("BESTER_TYPE", "type1")
    monkeypatch.setenv("BESTER_HANDLERS", "/run/h")
    handler = Handler(classic=True)
    handler.on()(lambda message: None)
    assert handler.types == ["type1"]
    assert handler._classic_path == "aSock"
    assert str(handler._address) == "/run/h"
    assert str(Handler("x")._address) == "x"


# -- registering and calling ------------------------------------------------------------------------------------


async def test_registering() -> None:
    handler = Handler()
    with pytest.raises(RuntimeError, match="no type"):
        await handler.start()
    with pytest.raises(RuntimeError, match="not started"):
        await handler.wait_attached()
    await handler.stop()
    handler.on("chat")(lambda message: None)
    with pytest.raises(ValueError, match="already"):
        handler.on("chat")(lambda message: None)
    for type in ("dummy", "builtin"):
        with pytest.raises(ValueError, match="cannot be handled"):
            handler.on(type)(lambda message: None)
    with pytest.raises(ValueError, match="concurrency"):
        Handler(concurrency=0)

    async def function(message: Request) -> Response:
        return None

    with pytest.raises(ValueError, match="thread"):
        handler.on("x", thread=True)(function)


def calls() -> Handler:
    handler = Handler()

    @handler.on("chat")
    def chat(message: Request) -> Response:
        if message.dry_run:
            return []
        return [SendClients(["g"], {"from": message.sender.user, "text": message.data}), SendHandler("log")]

    @handler.on("later")
    async def later(message: Request) -> Response:
        return Reply(message.raw)

    @handler.on("garbage")
    def garbage(message: Request) -> Response:
        return Reply(object())

    return handler


def test_functions_can_be_called_without_a_server() -> None:
    handler = calls()
    assert call(handler, "chat", "hi", user="t") == [
        SendClients(["g"], {"from": "t", "text": "hi"}),
        SendHandler("log"),
    ]
    assert call(handler, "chat", dry_run=True) == []
    assert call(handler, "later", [1]) == [Reply(Raw(b"[1]"))]
    with pytest.raises(TypeError):
        call(handler, "garbage")
    with pytest.raises(KeyError):
        call(handler, "other")


async def test_functions_can_be_called_in_a_loop() -> None:
    handler = calls()
    assert await call_async(handler, "later", 1) == [Reply(Raw(b"1"))]
    assert await call_async(handler, "chat", dry_run=True) == []
    with pytest.raises(KeyError):
        await call_async(handler, "other")
