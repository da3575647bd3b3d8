"""Clients and what they send, good and bad (docs/protocol.md, sections 1, 2 and 12)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.server.peers import Wire, hello, stage, to
from tests.waiting import PATIENCE_S, until

from bester import Client, Handler, Request, Response, SendClients
from bester.protocol.framing import frame
from bester.testing import PASSWORD

FATAL = {"messageType": "fatal", "status": "bad"}
DEEP = b'{"payload": {"type": "x", "data": ' + b"[" * 127 + b"]" * 127 + b"}}"
DEEPEST = b'{"payload": {"type": "x", "data": ' + b"[" * 126 + b"]" * 126 + b"}}"


def authenticating(username: Any, **proof: Any) -> Any:
    return {"header": {"scope": "client", "authentication": {"username": username, **proof}}}


# -- the first message -------------------------------------------------------------------------------------------------

FIRST: dict[str, tuple[bytes, str]] = {
    "empty": (b"\0\0\0\0", "malformed"),
    "too long for any": (b"\xff\xff\xff\xff", "tooLarge"),
    "longer than maxMessage": ((1 << 20 | 1).to_bytes(4, "little"), "tooLarge"),
    "not UTF-8": (frame(b'{"header": {"scope": "\xff"}}'), "malformed"),
    "not JSON": (frame(b"{"), "malformed"),
    "something behind": (frame(b"{} {}"), "malformed"),
    "a byte order mark": (frame(b"\xef\xbb\xbf{}"), "malformed"),
    "NaN": (frame(b'{"header": {"scope": "client"}, "payload": {"type": "x", "data": NaN}}'), "malformed"),
    "too deep": (frame(DEEP), "malformed"),
    "an array": (frame(b"[]"), "malformed"),
    "a number": (frame(b"5"), "malformed"),
    "null": (frame(b"null"), "malformed"),
    "no scope": (frame(b'{"header": {}}'), "badScope"),
    "no header": (frame(b"{}"), "badScope"),
    "an unknown scope": (frame(b'{"header": {"scope": "Client"}}'), "badScope"),
    "a handler's": (frame(b'{"header": {"scope": "handler"}}'), "badScope"),
    "a number as scope": (frame(b'{"header": {"scope": 5}}'), "malformed"),
    "null as header": (frame(b'{"header": null}'), "malformed"),
    "a number as username": (frame(json.dumps(authenticating(5, password="x")).encode()), "malformed"),
    "null as username": (frame(json.dumps(authenticating(None, password="x")).encode()), "malformed"),
    "a number as token": (frame(json.dumps(authenticating("t", token=5)).encode()), "malformed"),
    "no username": (frame(b'{"header": {"scope": "client", "authentication": {"password": "x"}}}'), "malformed"),
    "a number as id": (frame(json.dumps(hello(payload={"type": "dummy", "id": 5})).encode()), "malformed"),
    "no type": (frame(json.dumps(hello(payload={"id": "5"})).encode()), "malformed"),
    "a lone surrogate": (frame(b'{"header": {"scope": "\\ud800"}}'), "malformed"),
    "negative hops": (frame(b'{"header": {"scope": "server", "hops": -1}, "payload": {"type": "x"}}'), "malformed"),
    "login without password": (
        frame(
            b'{"header": {"scope": "client"}, "payload": {"type": "builtin", "data":'
            b' {"command": {"type": "login", "args": {"username": "t"}}}}}'
        ),
        "malformed",
    ),
}


@pytest.mark.parametrize("where", ["unix", "tcp4"])
async def test_first_messages_that_are_fatal(where: str) -> None:
    """Each is told, also where the server has not read everything, and nobody else is concerned."""
    async with stage() as play:
        beside = await play.login("beside")
        for name, (data, code) in FIRST.items():
            wire = await play.connect(where)
            wire.writer.write(data + b"\0" * 300_000)
            assert (name, await wire.fatal()) == (name, code)
            await wire.leave()
        await until(lambda: len(play.server.connections.all) == 1)
        assert len(play.server.limits) == 0
        assert sum(play.runtime.counts.refused.values()) == len(FIRST)
        beside.ask("dummy", "p")
        assert (await beside.get())["payload"]["id"] == "p"


async def test_too_long_for_a_first_message() -> None:
    async with stage({"federation": {"policy": "verified"}}) as play:
        wire = await play.connect()
        wire.writer.write((16 * 1024 + 1).to_bytes(4, "little"))
        assert await wire.fatal() == "tooLarge"
    async with stage() as play:
        wire = await play.connect()  # an unproven server might send that much, and the scope is not known before
        wire.send(hello(payload={"type": "x", "data": "x" * 16 * 1024}))
        await wire.good("auth_special")
        assert await wire.bad("") == "noHandler"


BAD: dict[str, tuple[Any, str]] = {
    "a wrong password": (hello(password="wrong"), "authenticationFailed"),
    "no password": (authenticating("t"), "authenticationFailed"),
    "an invalid name": (hello("\u202et"), "authenticationFailed"),
    "a wrong token": (authenticating("t", token="wrong"), "authenticationFailed"),
    "no authentication": ({"header": {"scope": "client"}}, "authenticationRequired"),
    "null as authentication": ({"header": {"scope": "client", "authentication": None}}, "authenticationRequired"),
    "a message": ({"header": {"scope": "client"}, "payload": {"type": "x", "id": "1"}}, "authenticationRequired"),
    "a ping": ({"header": {"scope": "client"}, "payload": {"type": "dummy"}}, "authenticationRequired"),
    "another command": (
        {"header": {"scope": "client"}, "payload": {"type": "builtin", "data": {"command": {"type": "serverInfo"}}}},
        "authenticationRequired",
    ),
    "no command": ({"header": {"scope": "client"}, "payload": {"type": "builtin"}}, "authenticationRequired"),
}


@pytest.mark.parametrize("case", BAD)
async def test_first_messages_that_are_refused(case: str) -> None:
    message, code = BAD[case]
    async with stage() as play:
        await play.server.accounts.add("t", PASSWORD)
        wire = await play.connect("tcp4")
        wire.send(message, *[{"payload": {"type": "x"}}] * 3)
        wire.writer.write(b"\0" * 300_000)
        assert await wire.bad("auth_special") == code
        await wire.closed()


async def test_the_first_message_is_handled_after_its_report() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        wire = await play.connect()
        wire.send(hello(payload={"type": "chat", "id": "1", "data": [1]}))
        await wire.good("auth_special")
        handler.answer(await handler.get(), {"type": "done"})
        await wire.good("1")
        for payload in (None, {"type": "dummy", "id": "2"}):
            wire = await play.connect()
            wire.send(hello(payload=payload), {"payload": {"type": "dummy", "id": "3"}})
            await wire.good("auth_special")
            assert (await wire.get())["payload"]["id"] == "3"


async def test_unknown_features_and_members_are_ignored() -> None:
    async with stage() as play:
        wire = await play.connect()
        wire.send(hello(features=["ack", "route", "token", "x"], server="me", more=[{}]) | {"more": None})
        welcome = await wire.good("auth_special")
        assert welcome["features"] == ["ack", "route", "token"]
        assert len(welcome["token"]) >= 43
        # Of a repeated key the last value counts, also where an earlier one is of a wrong type.
        wire.send(b'{"payload": 5, "header": {"scope": 1, "authentication": 2}, "payload": {"type": 5, "type": "x"}}')
        assert await wire.bad("") == "noHandler"


# -- later messages ----------------------------------------------------------------------------------------------------

LATER: dict[str, tuple[bytes, str]] = {
    "empty": (b"\0\0\0\0", "malformed"),
    "too long": ((1 << 20 | 1).to_bytes(4, "little"), "tooLarge"),
    "not UTF-8": (frame(b'{"payload": {"type": "x", "data": "\xc3"}}'), "malformed"),
    "not JSON": (frame(b'{"payload": {"type": "x", "data": [1,]}}'), "malformed"),
    "too deep": (frame(DEEP), "malformed"),
    "an array": (frame(b"[]"), "malformed"),
    "no payload": (frame(b"{}"), "malformed"),
    "no type": (frame(b'{"payload": {}}'), "malformed"),
    "a number as type": (frame(b'{"payload": {"type": 1}}'), "malformed"),
    "null as id": (frame(b'{"payload": {"type": "x", "id": null}}'), "malformed"),
    "a number as id": (frame(b'{"payload": {"type": "x", "id": 1}}'), "malformed"),
    "a lone surrogate": (frame(b'{"payload": {"type": "x", "id": "\\udc00"}}'), "malformed"),
}


@pytest.mark.parametrize("where", ["unix", "tcp4"])
async def test_later_messages_that_are_fatal(where: str) -> None:
    """What came before is handled; what comes after is not."""
    async with stage() as play:
        for name, (data, code) in LATER.items():
            wire = await play.login(where=where)
            good = frame(b'{"payload": {"type": "dummy", "id": "p"}}')
            wire.writer.write(good + data + good + b"\0" * 300_000)
            assert (await wire.get())["payload"]["id"] == "p"
            assert (name, await wire.fatal()) == (name, code)
        await until(lambda: not play.runtime.exchange.presence.session_count)


async def test_what_is_just_allowed() -> None:
    async with stage() as play:
        wire = await play.login()
        wire.send(DEEPEST, b' {"payload":{"type":"x","data":"\\ud800"}}\n', b'{"header": {}, "payload": {"type": "x"}}')
        for _ in range(3):
            assert await wire.bad("") == "noHandler"
        head = b'{"payload": {"type": "x", "id": "1", "data": "'
        wire.send(head + b"x" * ((1 << 20) - len(head) - 3) + b'"}}')
        assert await wire.bad("1") == "noHandler"


async def test_a_frame_that_is_cut_off_by_the_end() -> None:
    async with stage() as play:
        for data in (b"", b"\5", b"\5\0\0\0", b"\5\0\0\0{}"):
            first = await play.connect()
            first.writer.write(data)
            first.end_input()
            await first.closed()
            later = await play.login()
            later.writer.write(data)
            later.end_input()
            await later.closed()
        await until(lambda: not play.server.connections.all)


async def test_split_at_every_byte() -> None:
    """However the stream is cut, the conversation is the same."""
    messages = [hello(), {"payload": {"type": "dummy", "id": "1"}}, {"payload": {"type": "no", "id": "2"}}]
    stream = b"".join(frame(json.dumps(message).encode()) for message in messages)
    async with stage() as play:
        await play.login()

        async def conversation(*parts: bytes) -> list[str]:
            wire = await play.connect()
            for part in parts:
                wire.writer.write(part)
                await asyncio.sleep(0)
                await asyncio.sleep(0)  # the server's turn
            return [(await wire.get())["payload"]["id"] for _ in messages]

        expected = ["auth_special", "1", "2"]
        assert await conversation(stream) == expected
        assert await conversation(*(stream[i : i + 1] for i in range(len(stream)))) == expected
        first = len(frame(json.dumps(messages[0]).encode()))
        for cut in [*range(1, 6), *range(first - 2, first + 6), *range(len(stream) - 3, len(stream))]:
            assert await conversation(stream[:cut], stream[cut:]) == expected


async def test_pipelined_behind_the_first() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        wire = await play.connect()
        wire.send(
            hello(payload={"type": "chat", "id": "0"}), *({"payload": {"type": "chat", "id": str(i)}} for i in (1, 2))
        )
        wire.end_input()
        await wire.good("auth_special")
        for i in range(3):
            request = await handler.get()
            assert request["payload"]["id"] == str(i)
            handler.answer(request, {"type": "done"})
            await wire.good(str(i))
        await wire.closed()


# -- reports, sessions, order ------------------------------------------------------------------------------------------


async def test_a_ping_overtakes_reports() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        wire = await play.login()
        wire.ask("chat", "1")
        wire.ask("dummy", "2", {"ignored": True})
        assert await wire.get() == {"header": {"status": "0"}, "payload": {"type": "dummy", "data": None, "id": "2"}}
        handler.answer(await handler.get(), to("t"), data="x")
        assert (await wire.get())["payload"] == {"type": "chat", "data": "x"}
        await wire.good("1")


async def test_every_session_of_an_account() -> None:
    async with stage() as play:
        handler = Handler(play.running.handlers_path)

        @handler.on("chat")
        def chat(message: Request) -> Response:
            return [SendClients(["G"], message.data)]

        url = play.running.url
        async with handler, Client(url("t")) as t, Client(url("g")) as one, Client(play.running.unix_url("Ｇ")) as two:
            report = (await t.send("chat", 1)).raise_for_status()
            assert [(result.to, result.status) for result in report.results] == [("G", "delivered")]
            for g in (one, two):
                assert (await g.receive(PATIENCE_S)).data == 1


async def test_sessions_per_account_are_limited() -> None:
    async with stage({"limits": {"maxSessionsPerAccount": 2}}) as play:
        first = await play.login()
        await play.login()
        third = await play.connect()
        third.send(hello())
        assert await third.bad("auth_special") == "throttled"
        await third.closed()
        await first.leave()
        await until(lambda: play.runtime.exchange.presence.session_count == 1)
        await play.login()


async def test_many_in_flight_and_their_order() -> None:
    """Those of one session and type reach the handler in order, and are answered in any."""
    count = 1500
    async with stage() as play:
        one, two = await play.attach("one", concurrency=2000), await play.attach("two", concurrency=2000)
        wire = await play.login()
        wire.send(
            *({"payload": {"type": kind, "id": f"{kind}{i}"}} for i in range(count // 2) for kind in ("one", "two"))
        )
        seen: dict[Wire, list[Any]] = {one: [], two: []}
        limit = play.runtime.exchange.batch.limits.max_in_flight
        for handler, name in ((one, "one"), (two, "two")):
            for i in range(limit // 2):
                request = await handler.get()
                assert request["payload"]["id"] == f"{name}{i}"
                seen[handler].append(request)
        ids: set[str] = set()
        for handler in (two, one):
            for request in reversed(seen[handler]):
                handler.answer(request, {"type": "done"})
        for handler, name in ((one, "one"), (two, "two")):
            for i in range(limit // 2, count // 2):
                request = await handler.get()
                assert request["payload"]["id"] == f"{name}{i}"
                handler.answer(request, {"type": "done"})
        for _ in range(count):
            ids.add((await wire.good())["id"])
        assert len(ids) == count


async def test_a_sender_that_is_too_fast_is_slowed_down_and_loses_nothing() -> None:
    async with stage({"limits": {"maxInFlight": 4}}) as play:
        handler = await play.attach("chat", concurrency=1)
        wire = await play.login()
        data = "x" * 10_000
        wire.send(*({"payload": {"type": "chat", "id": str(i), "data": data}} for i in range(200)))
        (session,) = play.runtime.exchange.presence.sessions("t")
        await until(lambda: session.paused)
        assert session.held_bytes < 256 * 1024 + 300_000
        for i in range(200):
            request = await handler.get()
            assert request["payload"]["id"] == str(i)
            handler.answer(request, {"type": "done"})
            await wire.good(str(i))
        assert not session.paused
        assert session.held_bytes == 0


async def test_after_half_of_it_is_closed_reports_still_come() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        for where in ("unix", "tcp4"):
            wire = await play.login(where=where)
            wire.ask("chat", "1")
            wire.ask("chat", "2")
            wire.end_input()
            requests = [await handler.get(), await handler.get()]
            handler.answer(requests[1], to("t"), data=1)
            assert (await wire.get())["payload"]["data"] == 1
            await wire.good("2")
            handler.answer(requests[0], {"type": "done"})
            await wire.good("1")
            await wire.closed()


async def test_what_a_session_sent_goes_on_after_its_end() -> None:
    async with stage() as play:
        handler = await play.attach("chat")
        gone, g = await play.login(where="tcp4"), await play.login("g")
        gone.ask("chat", "1")
        request = await handler.get()
        gone.reset()
        await until(lambda: play.runtime.exchange.presence.session_count == 1)
        handler.answer(request, to("g"), {"type": "reply"})
        assert (await g.get())["payload"]["type"] == "chat"
        await until(lambda: play.runtime.exchange.reports.under_way == 0)


async def test_features_that_were_not_granted() -> None:
    async with stage() as play:
        wire = await play.login()
        for header in ({"route": True}, {"dryRun": True}):
            wire.send({"header": header, "payload": {"type": "chat", "id": "1"}})
            assert await wire.bad("1") == "notAllowed"
        wire.send({"header": {"once": True, "scope": "x"}, "payload": {"type": "chat", "id": "1"}})
        assert await wire.bad("1") == "noHandler"
