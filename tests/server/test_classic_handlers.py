"""Classic handlers: a connection per message (docs/protocol.md, section 3)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.server.peers import Stage, Wire, classic, result_of, stage, to
from tests.waiting import until

from bester.protocol.framing import frame

DONE = {"type": "done"}


def good(*commands: Any, **members: Any) -> Any:
    """Returns an answer."""
    return {"header": {"status": "0", "commands": commands}, **members}


class Both(dict[str, Any]):
    """The configuration of the type that is to fail, and of a healthy one beside it."""

    def __init__(self, **more: Any) -> None:
        types = {"classic": {"unixDomainSocketPath": "classic", **more}, "healthy": {"unixDomainSocketPath": "healthy"}}
        super().__init__(handlers={"typeMap": types})


async def test_a_connection_carries_the_data_and_nothing_else() -> None:
    async with stage(classic()) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        every: list[bytes] = [b'{"a":  [1, 1e400], "a": "\\u00e9"}', b"null", b"5", b'"x"', b"[ ]"]
        for data in every:
            wire.send(b'{"payload": {"type": "classic", "id": "1", "data": %s}}' % data)
            handler = await listening.accept()
            assert await handler.body() == data
            handler.send(b'{"header": {"status": "0", "command": {"type": "reply"}}, "data": %s}' % data)
            assert (await wire.body()).endswith(b'"data":' + data + b"}}")
            await wire.good("1")
            await handler.closed()
        wire.send({"payload": {"type": "classic", "id": "2"}})
        handler = await listening.accept()
        assert await handler.body() == b"null"
        handler.send(good(DONE))
        assert await wire.good("2") == {"id": "2"}


@pytest.mark.parametrize("status", ["0", 0, 0.0])
async def test_success(status: Any) -> None:
    async with stage(classic()) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        wire.ask("classic", "1")
        handler = await listening.accept()
        handler.send({"header": {"status": status, "command": DONE}})
        await wire.good("1")


async def test_which_data_and_which_type() -> None:
    own, shared, top = {"data": "own"}, {"data": "shared"}, {"data": "top"}
    cases: list[tuple[Any, str, Any]] = [
        (good({"type": "reply", "payload": own}, payload=shared, **top), "classic", "own"),
        (good({"type": "reply", "payload": {}}, payload=shared, **top), "classic", "shared"),
        (good({"type": "reply"}, **top), "classic", "top"),
        (good({"type": "reply"}), "classic", None),
        (good({"type": "reply"}, payload={"data": None}, **top), "classic", None),
        (good({"type": "reply"}, payload={"type": "shared"}, **top), "shared", "top"),
        (good({"type": "reply", "payload": {"type": "own"}}, payload={"type": "shared", **shared}), "own", "shared"),
    ]
    async with stage(classic()) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        for answer, type, data in cases:
            wire.ask("classic", "1", "asked")
            (await listening.accept()).send(answer)
            assert (await wire.get())["payload"] == {"type": type, "data": data}
            await wire.good("1")


async def test_recipients() -> None:
    async with stage(classic()) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        await play.server.accounts.add("away", "x")
        wire.ask("classic", "1")
        names = ("T", "t", "away", "AWAY", "nobody", "nobody", "a b")
        (await listening.accept()).send(good(to(*names), to("away", "nobody", transient=True), to(), DONE))
        assert (await wire.get())["payload"]["type"] == "classic"
        payload = await wire.report("1")
        assert result_of(payload) == [
            ("T", "delivered", None),
            ("away", "stored", None),
            ("nobody", "failed", "unknownAccount"),
            ("a b", "failed", "unknownAccount"),
            ("away", "skipped", None),
            ("nobody", "failed", "unknownAccount"),
        ]
        assert payload["error"]["code"] == "unknownAccount"  # the first that came


async def test_delivery_transient_in_the_configuration() -> None:
    async with stage(classic(delivery="transient")) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        await play.server.accounts.add("away", "x")
        wire.ask("classic", "1")
        (await listening.accept()).send(good(to("away")))
        assert result_of(await wire.good("1")) == [("away", "skipped", None)]


# -- handlers that fail ------------------------------------------------------------------------------------------------

Act = Callable[[Wire], Awaitable[None]]


def answering(data: bytes) -> Act:
    async def act(handler: Wire) -> None:
        await handler.body()
        handler.writer.write(data)

    return act


async def dies(handler: Wire) -> None:
    await handler.body()
    await handler.leave()


async def dies_in_its_answer(handler: Wire) -> None:
    handler.writer.write(b"\x20\0\0\0{")
    await handler.leave()


async def closes_without_reading(handler: Wire) -> None:
    handler.reset()


async def hangs(handler: Wire) -> None:
    pass


async def hangs_in_its_answer(handler: Wire) -> None:
    handler.writer.write(b"\x20\0\0\0{")


def framed(message: Any) -> Act:
    return answering(frame(json.dumps(message).encode()))


BAD_HANDLERS: dict[str, tuple[Act, str]] = {
    "dies": (dies, "handlerUnavailable"),
    "dies in its answer": (dies_in_its_answer, "handlerUnavailable"),
    "closes without reading": (closes_without_reading, "handlerUnavailable"),
    "hangs": (hangs, "handlerTimeout"),
    "hangs in its answer": (hangs_in_its_answer, "handlerTimeout"),
    "an empty frame": (answering(b"\0\0\0\0"), "badResponse"),
    "too long": (answering(((1 << 20) + (64 << 10) + 1).to_bytes(4, "little")), "badResponse"),
    "garbage": (answering(b"HTTP/1.1 200 OK\r\n\r\n"), "badResponse"),
    "not JSON": (answering(frame(b"{")), "badResponse"),
    "not UTF-8": (
        answering(frame(b'{"header": {"status": "0", "command": {"type": "done"}}, "x": "\xff"}')),
        "badResponse",
    ),
    "an array": (framed([]), "badResponse"),
    "no header": (framed({}), "badResponse"),
    "another status": (framed({"header": {"status": "1", "command": DONE}}), "handlerError"),
    "no status": (framed({"header": {"command": DONE}}), "handlerError"),
    "false as status": (framed({"header": {"status": False, "command": DONE}}), "handlerError"),
    "an object as status": (framed({"header": {"status": {}, "command": DONE}}), "handlerError"),
    "no command": (framed({"header": {"status": "0"}}), "badResponse"),
    "both forms": (framed({"header": {"status": "0", "command": DONE, "commands": [DONE]}}), "badResponse"),
    "an unknown command": (framed(good(to("t"), {"type": "sendclients", "data": ["t"]})), "badResponse"),
    "names that are no list": (framed(good(to("t"), {"type": "sendClients", "data": "t"})), "badResponse"),
    "a number as name": (framed(good(to("t"), {"type": "sendClients", "data": [5]})), "badResponse"),
    "no names": (framed(good(to("t"), {"type": "sendClients"})), "badResponse"),
    "a list of handlers": (framed(good(to("t"), {"type": "sendHandler", "data": ["x"]})), "badResponse"),
    "a handler that nobody is": (framed(good({"type": "sendHandler", "data": "x"})), "noHandler"),
}


@pytest.mark.parametrize("case", BAD_HANDLERS)
async def test_a_handler_that_fails(case: str) -> None:
    """One message fails; another type, the same type and the session go on."""
    act, code = BAD_HANDLERS[case]
    more = {"timeout": 0.05} if code == "handlerTimeout" else {}
    async with stage(Both(**more)) as play:
        listening, healthy = await play.listen("classic"), await play.listen("healthy")
        wire, other = await play.login(), await play.login("g")
        wire.ask("classic", "1")
        await act(await listening.accept())
        other.ask("healthy", "2")
        (await healthy.accept()).send(good(to("g")))
        assert (await other.get())["payload"]["type"] == "healthy"
        await other.good("2")
        assert await wire.bad("1") == code  # and nothing was delivered
        chat = play.runtime.exchange.dispatcher.types["classic"]
        assert chat.metrics.failed == (0 if code == "noHandler" else 1)
        assert chat.active == 0
        assert not play.server.classic.open
        wire.ask("classic", "3")
        (await listening.accept()).send(good(DONE))
        await wire.good("3")


async def test_answers_of_which_only_the_first_counts() -> None:
    async with stage(classic()) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        wire.ask("classic", "1")
        (await listening.accept()).send(good(DONE), good(to("t")), b"garbage")
        await wire.good("1")
        wire.ask("dummy", "p")
        assert (await wire.get())["payload"]["id"] == "p"


async def test_an_answer_without_reading_the_question() -> None:
    """A handler may answer whatever it is asked, also if the question is larger than the socket's buffer."""
    async with stage(classic()) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        wire.ask("classic", "1", "x" * 1_000_000)
        (await listening.accept()).send(good(DONE))
        await wire.good("1")


async def test_a_handler_that_is_behind_with_accepting() -> None:
    """Its queue of connections is full; the server tries again until it is not."""
    async with stage(classic()) as play:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(play.folder / "classic"))
            listening.listen(0)
            listening.setblocking(False)
            wires = [await play.login(f"t{number}") for number in range(4)]
            for wire in wires:
                wire.ask("classic", "1")
            await until(lambda: any(call._retry for call in play.server.classic.open))
            for _ in wires:
                accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
                handler = Wire(*await asyncio.open_unix_connection(sock=accepted))
                await handler.get()
                handler.send(good(DONE))
                await handler.leave()
            for wire in wires:
                await wire.good("1")
        assert not play.server.classic.away


async def test_nobody_is_there() -> None:
    async with stage(Both()) as play:
        wire = await play.login()
        wire.ask("classic", "1")
        assert await wire.bad("1") == "handlerUnavailable"
        dead = await play.listen("classic")
        await dead.close()
        wire.ask("classic", "2")
        assert await wire.bad("2") == "handlerUnavailable"
        (play.folder / "healthy").write_text("no socket", encoding="utf-8")
        wire.ask("healthy", "3")
        assert await wire.bad("3") == "handlerUnavailable"
        wire.ask("unknown", "4")
        assert await wire.bad("4") == "noHandler"


async def test_a_type_that_is_configured_and_has_nobody_to_ask() -> None:
    types = {"chat": {}, "other": {"unixDomainSocketPath": "other"}}
    async with stage({"handlers": {"typeMap": types, "availableTypes": ["chat"]}}) as play:
        wire = await play.login()
        wire.ask("chat", "1")
        assert await wire.bad("1") == "handlerUnavailable"
        wire.ask("other", "2")
        assert await wire.bad("2") == "noHandler"


# -- chains, recipients, order -----------------------------------------------------------------------------------------


async def test_a_chain() -> None:
    """The last handler's type is the outgoing one, and there is one report."""
    async with stage(Both()) as play:
        listening, healthy = await play.listen("classic"), await play.listen("healthy")
        wire = await play.login()
        wire.ask("classic", "1")
        (await listening.accept()).send(
            good({"type": "sendHandler", "data": "healthy"}, payload={"type": "x", "data": 1})
        )
        second = await healthy.accept()
        assert await second.body() == b"1"
        second.send(good(to("t")))
        assert (await wire.get())["payload"] == {"type": "healthy", "data": None}
        assert result_of(await wire.good("1")) == [("t", "delivered", None)]


async def test_a_loop_ends() -> None:
    async with stage(classic() | {"limits": {"maxHops": 5}}) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        wire.ask("classic", "1", 0)
        for hops in range(6):
            handler = await listening.accept()
            assert await handler.get() == hops
            handler.send(good({"type": "sendHandler", "data": "classic"}, data=hops + 1))
        assert await wire.bad("1") == "tooManyHops"


async def test_too_many_recipients() -> None:
    async with stage(classic() | {"limits": {"maxRecipients": 2}}) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        wire.ask("classic", "1")
        (await listening.accept()).send(good(to("a", "b", "c"), to("t")))
        await wire.get()
        payload = await wire.report("1")
        assert payload["error"]["code"] == "badResponse"
        assert result_of(payload) == [("t", "delivered", None)]


async def test_concurrency() -> None:
    """So many connections at once, of different sessions; one at a time per session."""
    async with stage(classic(concurrency=2)) as play:
        listening = await play.listen("classic")
        wires = [await play.login(f"t{i}") for i in range(3)]
        for wire in wires:
            wire.ask("classic", "1", "first")
            wire.ask("classic", "2", "second")
        await until(lambda: play.runtime.exchange.reports.under_way == 6)
        most = 0
        reports = [asyncio.create_task(wire.good("1")) for wire in wires]
        for asked in range(6):
            handler = await listening.accept()
            most = max(most, play.runtime.exchange.dispatcher.types["classic"].active)
            if asked < 2:
                assert await handler.get() == "first"
            handler.send(good(DONE))
        assert most <= 2
        await asyncio.gather(*reports)
        for wire in wires:
            await wire.good("2")


async def test_queued_messages_wait_as_long_as_the_type_goes_on() -> None:
    async with stage(classic(concurrency=1, timeout=20)) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        for id in "123":
            wire.ask("classic", id)
        for id in "123":  # together longer than the time limit
            handler = await listening.accept()
            play.later(15)
            await swept(play)
            handler.send(good(DONE))
            await wire.good(id)


async def test_queued_messages_of_a_hanging_type_fail() -> None:
    async with stage(classic(concurrency=1, timeout=20)) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        for id in "12":
            wire.ask("classic", id)
        await listening.accept()
        play.later(21)
        assert {(await wire.report())["id"] for _ in range(2)} == {"1", "2"}
        assert play.runtime.exchange.batch.counters.bad == {"handlerTimeout": 2}


async def swept(play: Stage) -> None:
    """Returns after the server has looked at its deadlines."""
    looked: list[float] = []
    play.runtime.on_sweep(looked.append)
    await until(lambda: looked)


async def test_who_may_send() -> None:
    types = {"classic": {"unixDomainSocketPath": "classic", "allow": ["role:chef", "G"]}}
    async with stage({"handlers": {"typeMap": types}}) as play:
        listening = await play.listen("classic")
        t, g = await play.login(), await play.login("g")
        t.ask("classic", "1")
        assert await t.bad("1") == "notAllowed"
        server = await play.connect()
        server.send({"header": {"scope": "server"}, "payload": {"type": "classic", "id": "s"}})
        assert await server.bad("s") == "notAllowed"
        await play.server.accounts.set_roles("t", ("chef",))
        for wire in (t, g):
            wire.ask("classic", "2")
            (await listening.accept()).send(good(DONE))
            await wire.good("2")
