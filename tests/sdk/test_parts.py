"""Generators: parts where the sender takes them, one answer where not; and requests that are given up."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.waiting import PATIENCE_S

from bester import Account, CallNext, Handler, Refuse, Reply, Request, Response, SendClients, Sender
from bester.handler import parts as parts_module
from bester.protocol.framing import frame
from bester.testing import call, call_async

if TYPE_CHECKING:
    from tests.sdk.conftest import Connection, Peer


def make(peer: Peer) -> tuple[Handler, list[str]]:
    handler, said = Handler(peer.path), []

    @handler.on("count")
    async def count(number: int) -> AsyncIterator[int]:
        try:
            for one in range(number):
                await asyncio.sleep(0)
                yield one
        finally:
            said.append("closed")

    @handler.on("plain")
    def plain(number: int) -> Iterator[int]:
        try:
            yield from range(number)
        finally:
            said.append(f"closed in the main thread: {threading.current_thread() is threading.main_thread()}")

    handler.on("thread", thread=True)(plain)

    @handler.on("commands")
    async def commands(request: Request) -> AsyncIterator[Response]:
        yield SendClients(["g"])
        yield [SendClients(["g"], 1, type="more"), Reply(2), Reply(3)]
        yield None
        yield SendClients(["h"])

    @handler.on("refused")
    async def refused() -> AsyncIterator[str]:
        yield "one"
        raise Refuse("no more", code="shop.over")

    @handler.on("stuck")
    async def stuck() -> AsyncIterator[str]:
        try:
            yield "one"
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    @handler.on("slow")
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            said.append("slow is cancelled")

    return handler, said


async def started(handler: Handler, peer: Peer) -> Connection:
    starting = asyncio.ensure_future(handler.start(PATIENCE_S))
    connection = await peer.accept()
    attach = await connection.receive()
    assert attach["header"]["features"] == ["dryRun", "parts", "cancel"]
    connection.report(attach["payload"]["id"])
    await starting
    return connection


async def answers(connection: Connection, number: int) -> list[tuple[Any, ...]]:
    found = [await connection.receive() for _ in range(number)]
    return [
        (one["header"]["status"], one["header"].get("more", False), (one.get("payload") or {}).get("data"))
        for one in found
    ]


async def test_parts_are_sent_as_they_come_and_as_far_as_they_are_taken(peer: Peer) -> None:
    handler, said = make(peer)
    connection = await started(handler, peer)
    for type in ("count", "plain", "thread"):
        connection.request("1", type, 5, parts=2)
        assert await answers(connection, 2) == [("0", True, 0), ("0", True, 1)]
        assert said == []
        connection.send({"header": {"messageType": "more", "id": "other", "parts": 1}})
        connection.send({"header": {"messageType": "more", "id": "1", "parts": 1}})
        assert await answers(connection, 1) == [("0", True, 2)]
        connection.send({"header": {"messageType": "more", "id": "1", "parts": 10}})
        assert await answers(connection, 3) == [("0", True, 3), ("0", True, 4), ("0", False, None)]
        closed = {"count": "closed", "plain": "closed in the main thread: True"}
        assert said == [closed.get(type, "closed in the main thread: False")]
        said.clear()
    await peer.close()
    await handler.stop()


async def test_each_part_has_one_reply_and_what_is_none_goes_with_the_next(peer: Peer) -> None:
    handler, _ = make(peer)
    connection = await started(handler, peer)
    connection.request("1", "commands", "x", parts=2)
    first, second, last = [(await connection.receive())["header"] for _ in range(3)]
    send = {"type": "sendClients", "data": ["g"]}
    assert first["commands"] == [
        send,
        {**send, "payload": {"type": "more", "data": 1}},
        {"type": "reply", "payload": {"data": 2}},
    ]
    assert second == {"id": "1", "status": "0", "more": True, "command": {"type": "reply"}}
    assert last == {"id": "1", "status": "0", "command": {"type": "sendClients", "data": ["h"]}}
    await peer.close()
    await handler.stop()


async def test_all_others_get_one_answer(peer: Peer) -> None:
    handler, _ = make(peer)
    connection = await started(handler, peer)
    connection.request("1", "count", 2)
    answer = await connection.receive()
    assert [one["payload"]["data"] for one in answer["header"]["commands"]] == [0, 1]
    assert "more" not in answer["header"]
    connection.request("2", "count", 0)
    assert (await connection.receive())["header"]["command"] == {"type": "done"}
    connection.request("3", "refused", None)
    assert (await connection.receive())["header"]["error"]["code"] == "shop.over"
    connection.request("4", "refused", None, parts=9)
    assert await answers(connection, 2) == [("0", True, "one"), ("1", False, None)]
    connection.request("5", "count", "x", parts=9)
    assert (await connection.receive())["header"]["error"]["code"] == "badPayload"
    await peer.close()
    await handler.stop()


async def test_what_is_given_up_is_cancelled(peer: Peer) -> None:
    handler, said = make(peer)
    connection = await started(handler, peer)
    connection.request("1", "stuck", None, parts=9)
    connection.request("2", "slow", None)
    connection.request("3", "count", 9, parts=1)
    assert await answers(connection, 2) == [("0", True, "one"), ("0", True, 0)]
    for id in ("0", "1", "2", "3", "1"):
        connection.send({"header": {"messageType": "cancel", "id": id}})
    assert await answers(connection, 3) == [("1", False, None)] * 3
    assert sorted(said) == ["cancelled", "closed", "slow is cancelled"]
    await peer.close()
    await handler.stop()


async def test_a_thread_is_not_given_up(peer: Peer) -> None:
    handler, _ = make(peer)
    begun, gate = threading.Event(), threading.Event()

    @handler.on("blocking", thread=True)
    def blocking() -> str:
        begun.set()
        gate.wait(PATIENCE_S)
        return "done"

    @handler.on("steps", thread=True)
    def steps() -> Iterator[str]:
        begun.set()
        gate.wait(PATIENCE_S)
        yield "not sent"

    connection = await started(handler, peer)
    for type, expected in (("blocking", ("0", False, "done")), ("steps", ("1", False, None))):
        connection.request("1", type, None, parts=9)
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        connection.send({"header": {"messageType": "cancel", "id": "1"}})
        connection.request("2", "count", 0)
        assert await answers(connection, 1) == [("0", False, None)], "the cancel was read"
        gate.set()
        assert await answers(connection, 1) == [expected]
        begun.clear()
        gate.clear()
    await peer.close()
    await handler.stop()


async def test_what_is_collected_is_bounded(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "MAX_COMMANDS", 3)
    handler, said = make(peer)

    @handler.on("large")
    async def large() -> AsyncIterator[str]:
        for _ in range(3):
            yield "x" * 500_000

    assert len(await call_async(handler, "count", 3)) == 3
    for type, data in (("count", 4), ("large", None)):
        with pytest.raises(Refuse, match="more than 3 parts or 1,114,112 bytes") as caught:
            await call_async(handler, type, data)
        assert caught.value.code == "tooManyParts"
    assert said == ["closed"] * 2


def test_what_was_yielded_stays_as_it_was() -> None:
    handler = Handler()

    @handler.on("same")
    async def same() -> AsyncIterator[list[int]]:
        found: list[int] = []
        for one in range(2):
            found.append(one)
            yield found

    @handler.on("iterated")
    def iterated(number: int) -> AsyncIterator[int]:
        return Numbers(number)

    commands = call(handler, "same")
    assert [bytes(one.data) for one in commands if isinstance(one, Reply)] == [b"[0]", b"[0,1]"]
    assert len(call(handler, "iterated", 2)) == 2


class Numbers:
    """An iterator that is no generator."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __aiter__(self) -> Numbers:
        return self

    async def __anext__(self) -> int:
        if self._left == 0:
            raise StopAsyncIteration
        self._left -= 1
        return self._left


async def test_middleware_and_error_handlers_are_around_all_parts(peer: Peer) -> None:
    handler, said = make(peer)

    @handler.middleware
    async def around(request: Request, call_next: CallNext) -> Response:
        said.append("begins")
        response = await call_next(request)
        said.append("ends")
        return response

    @handler.error(Refuse)
    def instead(error: Refuse, request: Request) -> Response:
        return Reply(error.message)

    connection = await started(handler, peer)
    connection.request("1", "count", 1, parts=9)
    assert await answers(connection, 2) == [("0", True, 0), ("0", False, None)]
    assert said == ["begins", "closed", "ends"]
    connection.request("2", "refused", None, parts=9)
    assert await answers(connection, 2) == [("0", True, "one"), ("0", False, "no more")]
    await peer.close()
    await handler.stop()


@pytest.mark.parametrize(
    ("type", "data", "expected"),
    [
        ("count", 2, [0, 1]),
        ("sender", None, None),
        ("account", None, "notAllowed"),
        ("typed", "x", "badPayload"),
    ],
)
async def test_the_classic_form(folder: Path, type: str, data: object, expected: object) -> None:
    handler = Handler(classic=folder / "c")

    async def count(number: int) -> AsyncIterator[int]:
        for one in range(number):
            yield one

    def sender(sender: Sender) -> str | None:
        assert not sender.told
        return sender.user

    def account(sender: Account) -> str:
        return sender.user

    def typed(number: int) -> int:
        return number

    functions: dict[str, Any] = {"count": count, "sender": sender, "account": account, "typed": typed}
    handler.on(type)(functions[type])
    async with handler:
        reader, writer = await asyncio.open_unix_connection(folder / "c")
        writer.write(frame(json.dumps(data).encode()))
        answer = json.loads((await reader.read())[4:])
        writer.close()
    header = answer["header"]
    if isinstance(expected, list):
        assert [one["payload"]["data"] for one in header["commands"]] == expected
    elif expected is None:
        assert header["command"] == {"type": "done"}
    else:
        assert header["error"]["code"] == expected
