"""A message calls a site, and the answer is executed; a site that fails harms nobody."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from gadgets.tests.two import two_servers
from gadgets.tests.webhook.sites import KEY, PATIENCE_S, SECRET, calling, commands, settings, site

from bester import Client, Handler, Report, SendServers
from bester.testing import RunningServer, server
from bester_gadgets.webhook import calling as calls
from bester_gadgets.webhook.calling import retry_after_s
from bester_gadgets.webhook.signing import verify

REPLY = {"header": {"status": "0", "command": {"type": "reply"}}, "data": "done"}


async def sent(running: RunningServer, data: Any = "hello", type: str = "shout") -> Report:
    async with Client(running.url("t"), on_message=lambda message: None) as t:
        return await t.send(type, data, timeout=PATIENCE_S)


async def test_a_message_is_posted_and_the_answer_executed() -> None:
    answer = commands(
        {"type": "sendClients", "data": ["g"], "payload": {"type": "loud", "data": "HELLO"}},
        {"type": "reply"},
        {"type": "done"},
        data={"heard": True},
    )
    async with (
        server() as s,
        site(answer) as there,
        calling(s, {"url": there.url}),
        Client(s.url("t")) as t,
        Client(s.url("g")) as g,
    ):
        reply = await t.ask("shout", {"text": "héllo", "n": 1}, timeout=PATIENCE_S)
        assert reply.data == {"heard": True}
        message = await g.receive()
        assert (message.type, message.data) == ("loud", "HELLO")
    [call] = there.calls
    assert call.headers["content-type"] == "application/json"
    assert call.headers["traceparent"] == call.message["traceparent"]
    id, _ = verify([KEY], call.headers, call.body, time.time())
    assert id.startswith("msg_")
    told = call.message
    assert told.pop("traceparent")
    assert told.pop("id")
    assert told == {
        "type": "shout",
        "scope": "client",
        "from": {"user": "t", "server": "test.example", "verified": True},
        "hops": 0,
        "data": {"text": "héllo", "n": 1},
    }


@pytest.mark.parametrize(("type", "code"), [("builtin", "handlerError"), ("shout", "notAllowed")])
async def test_who_is_called_does_not_become_the_operator(type: str, code: str) -> None:
    take_over = {"command": {"type": "addAccount", "args": {"username": "x", "password": "p", "admin": True}}}
    answer = commands(
        {"type": "sendServers", "data": ["unix:besterControl"]}, payload={"type": type, "data": take_over}
    )
    async with server() as s, site(answer) as there:
        async with calling(s, {"url": there.url, "commands": ["reply", "sendServers"]}):
            report = await sent(s)
        assert not report.good
        assert report.error is not None
        assert report.error.code == code
        assert not await s.daemon.accounts.exists("x")


async def test_204_is_done_and_data_can_be_null() -> None:
    async with server() as s, site(web.Response(status=204)) as there, calling(s, {"url": there.url}):
        assert (await sent(s)).good
    answer = commands({"type": "sendClients", "data": ["t"]})
    async with server() as s, site(answer) as there, calling(s, {"url": there.url}), Client(s.url("t")) as t:
        assert (await t.send("shout", timeout=PATIENCE_S)).good
        assert (await t.receive()).data is None


async def test_tries_again_with_the_same_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RETRY_FIRST_S", 0.01)

    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(PATIENCE_S)
        return web.Response()

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    failing = [web.Response(status=503), web.Response(status=429, headers={"retry-after": "0"}), cut, hang]
    async with server() as s, site(*failing, REPLY) as there:
        async with calling(s, {"url": there.url, "retries": 4, "timeout": 0.3}):
            assert (await sent(s)).good
        assert len(there.calls) == 5
        assert len({call.headers["webhook-id"] for call in there.calls}) == 1
        for call in there.calls:
            verify([KEY], call.headers, call.body, time.time())


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        (web.Response(status=500), 2),
        (web.Response(status=429, headers={"retry-after": "3600"}), 1),
        (web.Response(status=404), 1),
        (web.Response(status=302, headers={"location": "/elsewhere"}), 1),
        (web.Response(status=200), 1),
        (web.Response(text="not JSON"), 1),
        (web.Response(text="x" * 20_000), 1),
        (web.Response(text="[" * 10_000), 1),
        (web.Response(body=b"\x1f\x8b", headers={"content-encoding": "gzip"}), 1),
        ({"header": {"status": "1", "command": {"type": "reply"}}}, 1),
        ({"header": {"status": "1", "error": {"code": "shop.soldOut", "temporary": True}}}, 1),
        ({"header": {"status": "0"}}, 1),
        (commands({"type": "reply"}, {"type": "sendServers", "data": ["k.example"]}), 1),
        (commands({"type": "reply"}, {"type": "sendHandler", "data": "builtin"}), 1),
        (commands({"type": "sendClients", "data": "g"}), 1),
        (commands({"type": "explode"}), 1),
    ],
    ids=lambda value: value.status if isinstance(value, web.Response) else None,
)
async def test_answers_that_are_not_executed(answer: Any, calls: int) -> None:
    async def given(request: web.Request) -> web.StreamResponse:
        if isinstance(answer, web.Response):
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        return web.json_response(answer)

    async with server() as s, site(given) as there, Client(s.url("t")) as t:
        async with calling(s, {"url": there.url, "retries": 1, "maxAnswer": 10_000}):
            report = await t.send("shout", "x", timeout=PATIENCE_S)
        assert report.error is not None
        assert report.error.code == "handlerError"
        assert there.url not in repr(report)
        assert (report.error.reason, report.error.temporary) == why(answer)
        assert len(there.calls) == calls
        ping = await t.send("shout", timeout=PATIENCE_S)  # nothing was sent to us before this report
        assert ping.error is not None


def why(answer: Any) -> tuple[str, bool]:
    """Returns the reason that the sender is told, and whether it may send again."""
    if isinstance(answer, web.Response):
        away = answer.status == 429 or answer.status >= 500
        return ("webhook.unavailable", True) if away else ("webhook.badAnswer", False)
    if answer["header"]["status"] == "0":
        return "webhook.badAnswer", False
    return ("shop.soldOut", True) if "error" in answer["header"] else ("", False)


async def test_commands_that_a_hook_may_use() -> None:
    answer = commands({"type": "sendHandler", "data": "other"}, data=7)
    async with server() as s, site(answer) as there, calling(s, {"url": there.url, "commands": ["sendHandler"]}):
        other, got = Handler(s.handlers_path), []
        other.on("other")(lambda message: got.append(message.data))
        async with other:
            assert (await sent(s)).good
        assert got == [7]


async def test_all_tries_end_in_time() -> None:
    async with server() as s, site(web.Response(status=503)) as there:
        async with calling(s, {"url": there.url, "retries": 20, "within": 0.4}):
            begin = time.monotonic()
            refused = (await sent(s)).error
            assert refused is not None
            assert (refused.reason, refused.temporary) == ("webhook.unavailable", True)
            assert time.monotonic() - begin < 5
        assert 1 <= len(there.calls) < 5
    async with server() as s, calling(s, {"url": "http://127.0.0.1:1/", "retries": 1}):
        refused = (await sent(s)).error  # nobody listens there
        assert refused is not None
        assert (refused.reason, refused.temporary) == ("webhook.unavailable", True)


async def test_many_at_once_and_no_more_than_that() -> None:
    most = now = 0

    async def slow(request: web.Request) -> web.StreamResponse:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return web.json_response(REPLY)

    async with server() as s, site(slow) as there, calling(s, {"url": there.url, "concurrency": 4}):
        async with Client(s.url("t"), on_message=lambda message: None) as t:
            reports = await asyncio.gather(*(t.send("shout", n, timeout=PATIENCE_S) for n in range(20)))
        assert all(report.good for report in reports)
    assert most == 4
    assert sorted(call.message["data"] for call in there.calls) == list(range(20))


async def test_only_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with server() as s, site(REPLY, ssl_context=served) as there:
        async with calling(s, {"url": there.url}, ssl.create_default_context()):
            assert not (await sent(s)).good
        assert there.calls == []
        async with calling(s, {"url": there.url}, trusting):
            assert (await sent(s)).good


async def test_who_sent_it_from_another_server(tmp_path: Path) -> None:
    """A proven name is told; and the data cannot pretend another sender."""
    async with two_servers(tmp_path) as (here, there), site(REPLY) as hook, calling(there, {"url": hook.url}):
        handler = Handler(here.handlers_path)
        handler.on("shout")(lambda message: SendServers(["l.example"], {"from": {"user": "root"}}))
        async with handler:
            report = await sent(here)
        assert report.good, report
        assert hook.calls[0].message["from"] == {"user": None, "server": "j.example", "verified": True}
        assert hook.calls[0].message["scope"] == "server"
        reader, writer = await asyncio.open_unix_connection(there.folder / "clients")
        body = json.dumps({"header": {"scope": "server", "server": "j.example"}, "payload": {"type": "shout"}}).encode()
        writer.write(len(body).to_bytes(4, "little") + body)
        await reader.read(4)
        writer.close()
        await writer.wait_closed()
        assert hook.calls[1].message["from"] == {"user": None, "server": None, "verified": False}


def test_retry_after() -> None:
    assert retry_after_s("120", 0) == 120
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 10) == 50
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 100) == 0
    for nothing in (None, "", "soon", "-5", "9" * 30, "²"):
        assert retry_after_s(nothing, 0) is None


def test_hooks_that_are_wrong() -> None:
    for wrong in (
        {"url": "http://example.com/"},
        {"url": "ftp://127.0.0.1/"},
        {"url": "https://user:pass@example.com/"},
        {"url": "https://example.com/", "secret": "short"},
        {"url": "https://example.com/", "secret": None},
        {"url": "https://example.com/", "types": []},
        {"url": "https://example.com/", "types": ["builtin"]},
        {"url": "https://example.com/", "commands": ["explode"]},
        {"url": "https://example.com/", "secretFile": "missing"},
    ):
        with pytest.raises(ValueError, match="validation error"):
            settings(wrong)
    assert settings({"url": "http://example.com/", "plain": True}).hooks["shout"].keys == [KEY]
    assert SECRET not in repr(settings({"url": "https://example.com/"}))
