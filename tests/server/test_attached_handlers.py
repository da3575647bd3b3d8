"""Attached handlers (docs/protocol.md, section 6)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.peers import GOOD, attaching, classic, result, stage, to
from tests.waiting import PATIENCE_S, until

from bester import Client, Handler, HandlerError, Reply, Request, Response, SendClients
from bester.core.metrics import Drop
from bester.protocol.framing import frame

DONE = {"type": "done"}


# -- attaching ---------------------------------------------------------------------------------------------------------

FATAL: dict[str, tuple[bytes, str]] = {
    "empty": (b"\0\0\0\0", "malformed"),
    "too long": (((1 << 20) + (64 << 10) + 1).to_bytes(4, "little"), "tooLarge"),
    "not JSON": (frame(b"x"), "malformed"),
    "no scope": (frame(b"{}"), "badScope"),
    "a client's": (frame(b'{"header": {"scope": "client"}}'), "badScope"),
    "a number as type": (frame(b'{"header": {"scope": "handler"}, "payload": {"type": 1}}'), "malformed"),
    "a number as id": (frame(b'{"header": {"scope": "handler"}, "payload": {"type": "attach", "id": 1}}'), "malformed"),
}


@pytest.mark.parametrize("case", FATAL)
async def test_attach_messages_that_are_fatal(case: str) -> None:
    data, code = FATAL[case]
    async with stage() as play:
        wire = await play.connect("handlers")
        wire.writer.write(data + b"\0" * 100_000)
        assert await wire.fatal() == code
        assert not play.runtime.exchange.dispatcher.handlers


ATTACH: dict[str, tuple[Any, str]] = {
    "no type": (attaching(), "badArguments"),
    "too many types": (attaching(*map(str, range(257))), "badArguments"),
    "no concurrency": (attaching("chat", concurrency=0), "badArguments"),
    "too much concurrency": (attaching("chat", concurrency=65_537), "badArguments"),
    "no data": ({"header": {"scope": "handler"}, "payload": {"type": "attach", "id": "a"}}, "badArguments"),
    "another message": ({"header": {"scope": "handler"}, "payload": {"type": "detach", "id": "a"}}, "badArguments"),
    "no name": (attaching("chat", ""), "invalidName"),
    "a long name": (attaching("x" * 129), "invalidName"),
    "a control character": (attaching("a\nb"), "invalidName"),
    "a ping": (attaching("chat", "dummy"), "notAllowed"),
    "built-in": (attaching("builtin"), "notAllowed"),
}


NO_TYPES: list[Any] = [None, 5, [], {}, {"types": None}, {"types": "chat"}, {"types": [1]}, {"types": ["a"], "name": 1}]
ATTACH |= {
    f"the data {data}": (
        {"header": {"scope": "handler"}, "payload": {"type": "attach", "id": "a", "data": data}},
        "badArguments",
    )
    for data in NO_TYPES
}


@pytest.mark.parametrize("case", ATTACH)
async def test_attach_messages_that_are_refused(case: str) -> None:
    message, code = ATTACH[case]
    async with stage() as play:
        wire = await play.connect("handlers")
        wire.send(message)
        assert await wire.bad("a") == code
        await wire.closed()
        assert not play.runtime.exchange.dispatcher.types


async def test_attaching() -> None:
    async with stage() as play:
        await play.attach(*[f"t{i}" for i in range(255)], "x" * 128, concurrency=65_536, name="n" * 200)
        wire = await play.connect("handlers")
        wire.send(attaching("b", "a", "b") | {"more": 1})
        await wire.good("a")
        one, two = play.runtime.exchange.dispatcher.handlers
        assert one.name == "n" * 128
        assert (two.name, two.concurrency) == ("b", 64)
        assert [kind.name for kind in two.types] == ["b", "a"]


async def test_handlers_are_limited() -> None:
    async with stage({"limits": {"maxHandlers": 1}}) as play:
        first = await play.attach("chat")
        second = await play.connect("handlers")
        assert await second.fatal() == "overloaded"
        await first.leave()
        await until(lambda: not play.runtime.exchange.dispatcher.handlers)
        await play.attach("chat")


async def test_handlers_are_limited_when_they_attach(caplog: pytest.LogCaptureFixture) -> None:
    async with stage({"limits": {"maxHandlers": 2}}) as play:
        wires = [await play.connect("handlers") for _ in range(3)]
        assert await wires[0].fatal() == "overloaded"  # as many may be about to
        await play.attach("chat")
        await until(lambda: len(play.server.connections.unattached) == 1)
        third = await play.connect("handlers")
        await until(lambda: len(play.server.connections.unattached) == 2)
        for wire in (wires[2], third):
            wire.send(attaching("chat"))
        await wires[2].good("a")
        assert await third.fatal() == "overloaded"
        assert len(play.runtime.exchange.dispatcher.handlers) == 2
    assert all(one.exc_info is None for one in caplog.records)


async def test_attaching_takes_too_long() -> None:
    async with stage() as play:
        silent, attached = await play.connect("handlers"), await play.attach("chat")
        await until(lambda: play.server.connections.unattached)
        play.later(11)
        assert await silent.fatal() == "authenticationTimeout"
        attached.send({"payload": {"type": "detach", "id": "d"}})
        await attached.good("d")


# -- requests and answers ----------------------------------------------------------------------------------------------


async def test_a_request() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        wire = await play.login("\uff34")
        wire.send(b'{"payload": {"type": "chat", "id": "tag", "data": {"from":  "me"}}}')
        body = await handler.body()
        assert b'{"from":  "me"}' in body
        handler.send({"header": {"id": "1", "status": "0", "command": {"type": "reply"}}, "data": 5})
        assert (await wire.get())["payload"] == {"type": "chat", "data": 5}
        await wire.good("tag")


async def test_the_sdk_with_a_server() -> None:
    async with stage() as play:
        handler = Handler(play.running.handlers_path)

        @handler.on("chat")
        def chat(message: Request) -> Response:
            if message.data == "raise":
                raise HandlerError("no")
            return [SendClients(["t"], message.data), Reply("thank you")]

        async with handler, Client(play.running.url("t")) as client:
            for data in ({"a": 1}, None, [True]):
                assert (await client.send("chat", data)).good
                assert (await client.receive(PATIENCE_S)).data == data
                assert (await client.receive(PATIENCE_S)).data == "thank you"
            report = await client.send("chat", "raise")
            assert report.error is not None
            assert report.error.code == "handlerError"
            assert (await handler.push(SendClients(["t"], "hot"), type="oven")).good
            assert (await client.receive(PATIENCE_S)).type == "oven"


BAD_ANSWERS: dict[str, tuple[Any, str]] = {
    "another status": ({"header": {"status": "1"}}, "handlerError"),
    "no status": ({"header": {"command": DONE}}, "handlerError"),
    "no command": ({"header": {"status": "0"}}, "badResponse"),
    "both forms": ({"header": {"status": "0", "command": DONE, "commands": []}}, "badResponse"),
    "an unknown command": ({"header": {"status": "0", "commands": [to("t"), {"type": "x"}]}}, "badResponse"),
    "names that are no list": (
        {"header": {"status": "0", "commands": [to("t"), {"type": "sendServers"}]}},
        "badResponse",
    ),
    "a number as command": ({"header": {"status": "0", "command": 5}}, "badResponse"),
    "a number as payload": ({"header": {"status": "0", "command": to("t")}, "payload": 5}, "badResponse"),
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
async def test_answers_that_fail_one_request(case: str) -> None:
    answer, code = BAD_ANSWERS[case]
    async with stage() as play:
        handler = await play.attach("chat")
        wire = await play.login()
        for id in "12":
            wire.ask("chat", id)
        bad, good = await handler.get(), await handler.get()
        answer["header"]["id"] = bad["header"]["id"]
        handler.send(answer)
        assert await wire.bad("1") == code
        handler.answer(good, DONE)
        await wire.good("2")


ENDS: dict[str, tuple[bytes, str]] = {
    "empty": (b"\0\0\0\0", "malformed"),
    "too long": (b"\xff\xff\xff\x7f", "tooLarge"),
    "not JSON": (frame(b'{"header": {"id": "1", "status": "0"'), "malformed"),
    "not UTF-8": (frame(b'{"header": {"id": "1", "status": "\xff"}}'), "malformed"),
    "an array": (frame(b"[]"), "malformed"),
    "no id": (frame(b'{"header": {"status": "0"}}'), "malformed"),
    "a number as id": (frame(b'{"header": {"id": 1, "status": "0"}}'), "malformed"),
    "another type": (frame(b'{"header": {}, "payload": {"type": "attach", "id": "x"}}'), "malformed"),
}


@pytest.mark.parametrize("case", ENDS)
async def test_frames_that_end_the_handler(case: str) -> None:
    """Its requests fail; another handler of the type goes on."""
    data, code = ENDS[case]
    async with stage() as play:
        bad, beside = await play.attach("chat"), await play.attach("chat")
        wire = await play.login()
        wire.ask("chat", "1")
        wire.ask("chat", "2")
        await bad.get()
        kept = await beside.get()
        bad.writer.write(data + b"\0" * 100_000)
        assert await bad.fatal() == code
        assert await wire.bad("1") == "handlerUnavailable"
        beside.answer(kept, DONE)
        await wire.good("2")
        wire.ask("chat", "3")
        beside.answer(await beside.get(), DONE)
        await wire.good("3")


async def test_answers_that_are_dropped() -> None:
    """Late, twice, unknown: the handler stays, and nothing is delivered."""
    async with stage({"limits": {"handlerTimeout": 20}}) as play:
        handler = await play.attach("chat")
        wire = await play.login()
        wire.ask("chat", "1")
        late = await handler.get()
        play.later(21)
        assert await wire.bad("1") == "handlerTimeout"
        handler.answer(late, to("t"))
        wire.ask("chat", "2")
        twice = await handler.get()
        handler.answer(twice, DONE)
        handler.answer(twice, to("t"))
        handler.send({"header": {"id": "no", "status": "0", "command": to("t")}})
        handler.send({"header": {"id": "no", "status": "0", "command": 5}})
        await wire.good("2")
        admin = await play.admin()
        await until(lambda: play.runtime.exchange.batch.counters.drops.get(Drop.ANSWER_LATE) == 4)
        assert (await result(admin, "status"))["dropped"]["answer"] == {"unmatched": 4}
        wire.ask("dummy", "p")
        assert (await wire.get())["payload"]["id"] == "p"


async def test_a_handler_that_hangs_fails_only_its_own() -> None:
    types = {"hangs": {"timeout": 0.05}, "chat": {}}
    async with stage({"handlers": {"typeMap": types}}) as play:
        hanging, chat = await play.attach("hangs"), await play.attach("chat")
        wire = await play.login()
        wire.ask("hangs", "1")
        wire.ask("chat", "2")
        request = await chat.get()
        await hanging.get()
        assert await wire.bad("1") == "handlerTimeout"
        chat.answer(request, DONE)
        await wire.good("2")


async def test_many_requests_in_any_order() -> None:
    async with stage() as play:
        handler = await play.attach("chat", concurrency=100)
        wires = [await play.login(f"t{i}") for i in range(5)]
        for wire in wires:
            for id in range(20):
                wire.ask("chat", str(id), id)
        requests = [await handler.get() for _ in range(100)]
        assert len({request["header"]["id"] for request in requests}) == 100
        for request in reversed(requests):
            handler.answer(request, to(request["header"]["from"]["user"]), data=request["payload"]["data"])
        for wire in wires:
            messages = [await wire.get() for _ in range(40)]
            got = [message["payload"]["data"] for message in messages if "data" in message["payload"]]
            reports = [message["payload"]["id"] for message in messages if "id" in message["payload"]]
            assert got == list(map(int, reports)) == list(reversed(range(20)))


# -- several processes, coming and going -------------------------------------------------------------------------------


async def test_the_one_with_the_fewest_requests_is_asked() -> None:
    async with stage() as play:
        one, two = await play.attach("chat", concurrency=2), await play.attach("chat", concurrency=1)
        wire = await play.login()
        for id in "1234":
            wire.ask("chat", id)
        first, second, third = await one.get(), await two.get(), await one.get()
        assert [each["payload"]["id"] for each in (first, second, third)] == ["1", "2", "3"]
        assert play.runtime.exchange.dispatcher.types["chat"].ready  # the fourth waits
        two.answer(second, DONE)
        await wire.good("2")
        fourth = await two.get()
        assert fourth["payload"]["id"] == "4"
        for handler, request in ((one, first), (one, third), (two, fourth)):
            handler.answer(request, DONE)
        for _ in range(3):
            await wire.good()
        one.answer(first, DONE)


async def test_waiting_senders_take_turns() -> None:
    async with stage() as play:
        handler = await play.attach("chat", concurrency=1)
        busy, other = await play.login(), await play.login("g")
        for id in range(10):
            busy.ask("chat", str(id))
        await until(lambda: play.runtime.exchange.reports.under_way == 10)
        other.ask("chat", "mine")
        await until(lambda: play.runtime.exchange.reports.under_way == 11)
        seen = []
        for _ in range(11):
            request = await handler.get()
            seen.append(request["payload"]["id"])
            handler.answer(request, DONE)
        assert seen.index("mine") <= 3
        assert [id for id in seen if id != "mine"] == [str(id) for id in range(10)]


async def test_plugged_in_and_out() -> None:
    """An attached handler wins over a classic one for as long as it is there."""
    async with stage(classic()) as play:
        listening = await play.listen("classic")
        wire = await play.login()
        answer = {"header": {"status": "0", "command": DONE}}
        wire.ask("classic", "1")
        (await listening.accept()).send(answer)
        await wire.good("1")
        handler = await play.attach("classic", "hot")
        assert await result(wire, "listTypes") == ["classic", "hot"]
        for type in ("classic", "hot"):
            wire.ask(type, "2")
            handler.answer(await handler.get(), DONE)
            await wire.good("2")
        await handler.leave()
        await until(lambda: not play.runtime.exchange.dispatcher.handlers)
        assert await result(wire, "listTypes") == ["classic"]
        wire.ask("hot", "3")
        assert await wire.bad("3") == "noHandler"
        wire.ask("classic", "4")
        (await listening.accept()).send(answer)
        await wire.good("4")


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_handler_that_goes_away(how: str) -> None:
    """What it was asked fails, and what waits for the last one of the type."""
    async with stage() as play:
        handler = await play.attach("chat", concurrency=1)
        wire = await play.login()
        wire.ask("chat", "1")
        wire.ask("chat", "2")
        await handler.get()
        if how == "close":
            handler.writer.close()
        else:
            handler.reset()
        assert {(await wire.report())["id"] for _ in range(2)} == {"1", "2"}
        assert play.runtime.exchange.batch.counters.bad == {"handlerUnavailable": 2}
        assert not play.runtime.exchange.dispatcher.types


async def test_what_waits_goes_to_another_process() -> None:
    async with stage() as play:
        handler = await play.attach("chat", concurrency=1)
        wire = await play.login()
        wire.ask("chat", "1")
        wire.ask("chat", "2")
        await handler.get()
        other = await play.attach("chat")
        request = await other.get()
        assert request["payload"]["id"] == "2"
        await handler.leave()
        assert await wire.bad("1") == "handlerUnavailable"
        other.answer(request, DONE)
        await wire.good("2")


async def test_detach() -> None:
    async with stage() as play:
        leaving, staying = await play.attach("chat"), await play.attach("chat")
        wire = await play.login()
        wire.ask("chat", "1")
        request = await leaving.get()
        leaving.send({"header": {}, "payload": {"type": "detach", "id": "d"}})
        assert await leaving.get() == {"header": GOOD, "payload": {"id": "d"}}
        leaving.send({"payload": {"type": "detach"}})
        await leaving.good("")
        for id in "23":
            wire.ask("chat", id)
            staying.answer(await staying.get(), DONE)
            await wire.good(id)
        leaving.answer(request, DONE)
        await wire.good("1")


async def test_a_type_whose_name_no_handler_may_have_is_one_that_nobody_serves() -> None:
    async with stage() as play:
        wire = await play.login()
        for name in ("x" * 129, "", "a\nb", "x" * 100_000):
            wire.ask(name, "1")
            assert await wire.bad("1") == "noHandler"
