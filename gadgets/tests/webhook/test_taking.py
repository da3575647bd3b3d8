"""Who speaks HTTP pushes into Bester: what it may, once, and only if it is who it says."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest
from gadgets.tests.two import two_servers
from gadgets.tests.webhook.sites import KEY, PATIENCE_S, SECRET, TOKEN, settings, signed, taking, until

from bester import Client, Handler
from bester.testing import server
from bester_gadgets.webhook.remembering import Conflict, Full, Outcome, Remembered
from bester_gadgets.webhook.settings import Listen
from bester_gadgets.webhook.taking import Endpoint

BELL: dict[str, Any] = {"type": "bell", "to": ["g"], "token": TOKEN}
SIGNED: dict[str, Any] = {"type": "bell", "to": ["g"], "secret": SECRET}
AS_BELL = {"authorization": f"Bearer {TOKEN}"}


async def posted(url: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """Returns status, body and headers of the answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.post(url, data=content, headers=names) as response:
        assert response.content_type == "application/json"
        return response.status, await response.json(), response.headers


async def codes(url: str, body: Any = None, **headers: str) -> tuple[int, str]:
    status, answer, _ = await posted(url, body, **headers)
    assert answer["status"] == "bad", answer
    return status, answer["error"]["code"]


async def test_a_push_and_its_report() -> None:
    async with server() as s, Client(s.url("g")) as g, taking(s, bell=BELL) as url:
        status, answer, _ = await posted(f"{url}/bell", {"data": {"who": "the postman"}}, **AS_BELL)
        assert (status, answer) == (200, {"status": "good", "results": [{"to": "g", "status": "delivered"}]})
        message = await g.receive()
        assert (message.type, message.data) == ("bell", {"who": "the postman"})
        status, answer, _ = await posted(f"{url}/bell", b"{}", authorization=f"bearer  {TOKEN}")
        assert status == 200
        assert (await g.receive()).data is None


async def test_who_is_not_let_in() -> None:
    async with server() as s, Client(s.url("g")) as g, taking(s, bell=BELL, door=SIGNED) as url:
        refused = (401, "authenticationFailed")
        assert await codes(f"{url}/bell", {}) == refused
        assert await codes(f"{url}/bell", {}, authorization="Bearer wrong") == refused
        assert await codes(f"{url}/bell", {}, authorization=TOKEN) == refused
        assert await codes(f"{url}/bell", {}, authorization=f"Basic {TOKEN}") == refused
        assert await codes(f"{url}/bell", {}, authorization="Bearer ") == refused
        assert await codes(f"{url}/none", {}, **AS_BELL) == refused
        assert await codes(f"{url}/door", {}, **AS_BELL) == refused  # this one signs
        assert await codes(f"{url}/bell", b"{}", **signed(b"{}")) == refused  # this one does not
        assert await codes(url.removesuffix("/push"), {}) == (404, "notFound")
        async with aiohttp.ClientSession() as session, session.get(f"{url}/bell") as response:
            assert (response.status, response.headers["allow"]) == (405, "POST")
        status, _, _ = await posted(f"{url}/bell", {"data": "only this"}, **AS_BELL)
        assert (status, (await g.receive()).data) == (200, "only this")


async def test_signed_requests_are_taken_once_and_not_forged() -> None:
    body, other = b'{"data": 1}', b'{"data": 2}'
    async with server() as s, Client(s.url("g")) as g, taking(s, door=SIGNED) as url:
        headers = signed(body)
        first = await posted(f"{url}/door", body, **headers)
        again = await posted(f"{url}/door", body, **headers)  # replayed, or sent again by who lost the answer
        assert first[:2] == again[:2] == (200, {"status": "good", "results": [{"to": "g", "status": "delivered"}]})
        refused = (401, "authenticationFailed")
        assert await codes(f"{url}/door", other, **signed(body, "msg_2")) == refused
        assert await codes(f"{url}/door", body, **signed(body, key=b"x" * 32)) == refused
        assert await codes(f"{url}/door", body, **(signed(body) | {"webhook-id": "msg_3"})) == refused
        assert await codes(f"{url}/door", body, **signed(body, "msg_4", at=time.time() + 1000)) == refused
        assert await codes(f"{url}/door", body, **signed(body, "msg_5", at=time.time() - 1000)) == refused
        # What was signed before this process may have been taken by the one before it.
        status, answer, more = await posted(f"{url}/door", body, **signed(body, "msg_6", at=time.time() - 100))
        assert (status, answer["error"]["code"], more["retry-after"]) == (503, "unavailable", "1")
        assert await codes(f"{url}/door", other, **signed(other)) == (422, "idConflict")
        assert (await posted(f"{url}/door", other, **signed(other, "msg_7")))[0] == 200
        assert [(await g.receive()).data for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("by_s", [-3600.0, 3600.0])
async def test_a_clock_that_was_set_decides_what_was_signed_before_the_start(
    monkeypatch: pytest.MonkeyPatch, by_s: float
) -> None:
    body, real = b'{"data": 1}', time.time
    async with server() as s, Client(s.url("g")), taking(s, door=SIGNED) as url:
        monkeypatch.setattr(time, "time", lambda: real() + by_s)
        assert (await posted(f"{url}/door", body, **signed(body)))[0] == 200
        assert (await posted(f"{url}/door", body, **signed(body, "msg_2", at=time.time() - 100)))[0] == 503


async def test_what_a_hook_may_send() -> None:
    choosing = {"types": ["bell", "alarm"], "to": "any", "token": TOKEN}
    async with (
        server() as s,
        Client(s.url("G")) as g,
        Client(s.url("h")) as h,
        taking(s, bell=BELL | {"to": ["g", "t"], "burst": 50}, any=choosing) as url,
    ):
        assert (await posted(f"{url}/bell", {"data": 1, "to": ["G"]}, **AS_BELL))[0] == 200
        forbidden = (403, "notAllowed")
        assert await codes(f"{url}/bell", {"to": ["h"]}, **AS_BELL) == forbidden
        assert await codes(f"{url}/bell", {"to": ["g", "h"]}, **AS_BELL) == forbidden
        assert await codes(f"{url}/bell", {"to": ["\n"]}, **AS_BELL) == forbidden
        assert await codes(f"{url}/bell", {"type": "chat"}, **AS_BELL) == forbidden
        assert await codes(f"{url}/bell", {"servers": ["k.example"]}, **AS_BELL) == forbidden
        assert await codes(f"{url}/bell", {"servers": ["::"]}, **AS_BELL) == (400, "badAddress")
        assert await codes(f"{url}/bell", {"to": []}, **AS_BELL) == (400, "badArguments")
        assert (await posted(f"{url}/any", {"data": 2, "to": ["h"], "type": "alarm"}, **AS_BELL))[0] == 200
        assert await codes(f"{url}/any", {"to": ["h"]}, **AS_BELL) == (400, "badArguments")
        assert await codes(f"{url}/any", {"type": "bell"}, **AS_BELL) == (400, "badArguments")
        assert await codes(f"{url}/any", {"type": "bell", "to": ["h"] * 1001}, **AS_BELL) == (400, "badArguments")
        assert ((await g.receive()).data, (await h.receive()).data) == (1, 2)


async def test_the_code_follows_the_report() -> None:
    nobody = BELL | {"to": ["nobody"]}
    async with server({"limits": {"mailboxMessages": 1}}) as s, taking(s, nobody=nobody, bell=BELL) as url:
        async with Client(s.url("g")):
            pass  # the account is made
        status, answer, headers = await posted(f"{url}/nobody", {}, **AS_BELL)
        assert (status, answer["results"][0]["status"]) == (404, "failed")
        assert "retry-after" not in headers
        assert (await posted(f"{url}/bell", {}, idempotency_key="one", **AS_BELL))[0] == 200
        for _ in range(2):
            status, answer, headers = await posted(f"{url}/bell", {}, idempotency_key="two", **AS_BELL)
            assert (status, answer["error"]["code"], answer["error"]["temporary"]) == (503, "mailboxFull", True)
            assert int(headers["retry-after"]) > 0
        async with Client(s.url("g")) as g:
            assert (await g.receive()).type == "bell"
            # What was not taken for now is not remembered.
            assert (await posted(f"{url}/bell", {}, idempotency_key="two", **AS_BELL))[0] == 200
        await s.daemon.stop()
        status, answer, headers = await posted(f"{url}/nobody", {}, **AS_BELL)
        assert (status, answer["error"]["code"], answer["error"]["temporary"]) == (503, "unavailable", True)


@pytest.mark.parametrize("body", [b"", b"[]", b"x", b'{"data": 1, "more": 2}', b'{"to": "g"}', b"\xff", b"[" * 2000])
async def test_bodies_that_are_wrong(body: bytes) -> None:
    async with server() as s, taking(s, bell=BELL | {"rate": 1000, "burst": 1000}, plain=BELL | {"raw": True}) as url:
        assert await codes(f"{url}/bell", body, **AS_BELL) == (400, "malformed")
        if body not in (b"[]", b'{"data": 1, "more": 2}', b'{"to": "g"}'):
            assert await codes(f"{url}/plain", body, **AS_BELL) == (400, "malformed")


async def test_the_whole_body_can_be_the_data() -> None:
    async with server() as s, Client(s.url("g")) as g, taking(s, plain=BELL | {"raw": True}) as url:
        body = {"to": ["root"], "type": "chat", "zen": "no"}
        assert (await posted(f"{url}/plain", body, **AS_BELL))[0] == 200
        message = await g.receive()
        assert (message.type, message.data) == ("bell", body)


async def test_bounds_of_size_rate_and_time() -> None:
    small = BELL | {"maxBody": 100, "rate": 0.01, "burst": 2}
    async with server() as s, Client(s.url("g")), taking(s, small=small) as url:
        assert await codes(f"{url}/small", {"data": "x" * 100}, **AS_BELL) == (413, "tooLarge")

        async def endless() -> Any:
            while True:
                yield b"x" * 60

        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/small", data=endless(), headers=AS_BELL) as response,
        ):
            assert response.status == 413
        assert await codes(f"{url}/small", b"{}", content_encoding="gzip", **AS_BELL) == (415, "malformed")
        assert await codes(f"{url}/small", b"{}", idempotency_key="x" * 300, **AS_BELL) == (400, "badArguments")
        for _ in range(2):
            assert (await posted(f"{url}/small", {}, **AS_BELL))[0] == 200
        status, answer, headers = await posted(f"{url}/small", {}, **AS_BELL)
        assert (status, answer["error"]["code"]) == (429, "throttled")
        assert 50 < int(headers["retry-after"]) <= 100


async def test_what_is_no_http_learns_nothing() -> None:
    async with server() as s, taking(s, bell=BELL) as url:
        host, port = url.split("/")[2].split(":")

        def talk(data: bytes) -> bytes:
            with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as wire:
                wire.sendall(data)
                wire.shutdown(socket.SHUT_WR)
                found = b""
                while part := wire.recv(65536):
                    found += part
            return found

        for data in (
            b"\x00\x01",
            b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n",
            b"POST /push/bell\r\n\r\n",
        ):
            told = await asyncio.to_thread(talk, data)
            assert b"Traceback" not in told
            assert b"/site-packages/" not in told


async def test_the_same_key_is_the_same_message() -> None:
    async with server() as s, Client(s.url("g")) as g, taking(s, bell=BELL) as url:
        answers = await asyncio.gather(
            *(posted(f"{url}/bell", {"data": 1}, idempotency_key="one", **AS_BELL) for _ in range(5))
        )
        assert {(status, json.dumps(answer)) for status, answer, _ in answers} == {
            (200, '{"status": "good", "results": [{"to": "g", "status": "delivered"}]}')
        }
        assert await codes(f"{url}/bell", {"data": 2}, idempotency_key="one", **AS_BELL) == (422, "idConflict")
        await posted(f"{url}/bell", {"data": 3}, idempotency_key="two", **AS_BELL)
        assert [(await g.receive()).data for _ in range(2)] == [1, 3]


async def test_to_another_server(tmp_path: Path) -> None:
    async with two_servers(tmp_path) as (here, there):
        got: asyncio.Queue[Any] = asyncio.Queue()
        handler = Handler(there.handlers_path)
        handler.on("bell")(lambda message: got.put_nowait((message.data, message.sender)))
        push = {"type": "bell", "servers": ["l.example"], "to": ["g"], "token": TOKEN}
        async with handler, Client(here.url("g")) as g, taking(here, both=push) as url:
            status, answer, _ = await posted(f"{url}/both", {"data": 1}, **AS_BELL)
            assert (status, [one["status"] for one in answer["results"]]) == (200, ["delivered", "sent"])
            data, sender = await asyncio.wait_for(got.get(), PATIENCE_S)
            assert (data, sender.server, sender.user) == (1, "j.example", None)
            assert (await g.receive()).data == 1


async def test_over_tls() -> None:
    import trustme

    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        server() as s,
        Client(s.url("g")),
        taking(s, served, bell=BELL) as url,
        aiohttp.ClientSession() as session,
        session.post(f"{url}/bell", json={}, headers=AS_BELL, ssl=trusting) as response,
    ):
        assert response.status == 200


async def test_memory_is_bounded_and_forgets_only_what_it_may() -> None:
    now, done = 0.0, []

    async def work(key: str, status: int = 200) -> Outcome:
        done.append(key)
        return Outcome(status, {"key": key})

    def once(memory: Remembered, key: str, status: int = 200, digest: bytes = b"d") -> Any:
        return memory.once(key, digest, lambda: work(key, status))

    memory = Remembered(2, 0.0, lambda: now)
    for key in ("a", "b", "c", "c", "b", "a"):
        assert (await once(memory, key)).body == {"key": key}
    assert done == ["a", "b", "c", "a"]
    with pytest.raises(Conflict):
        await once(memory, "a", digest=b"other")

    done.clear()
    memory = Remembered(2, 600.0, lambda: now)
    await once(memory, "temporary", 503)
    await once(memory, "temporary", 200)
    await once(memory, "b")
    with pytest.raises(Full):
        await once(memory, "c")
    now = 601.0
    await once(memory, "c")
    assert done == ["temporary", "temporary", "b", "c"]


def test_hooks_that_are_wrong() -> None:
    for wrong in (
        BELL | {"token": "short"},
        BELL | {"token": None},
        BELL | {"secret": SECRET},
        BELL | {"to": []},
        BELL | {"type": None},
        BELL | {"types": ["a"]},
        BELL | {"type": "builtin"},
        BELL | {"type": None, "types": ["a", "builtin"]},
        BELL | {"raw": True, "to": "any"},
        BELL | {"to": ["a b"]},
        BELL | {"servers": ["::"]},
        SIGNED | {"secret": "whsec_AAAA"},
    ):
        with pytest.raises(ValueError, match="validation error"):
            settings(None, bell=wrong)
    with pytest.raises(ValueError, match="the type builtin is the server's own"):
        settings(None, bell=BELL | {"type": None, "types": ["builtin"]})
    with pytest.raises(ValueError, match="1 to 64 letters"):
        settings(None, **{"a/b": BELL})
    assert settings(None, door=SIGNED).push["door"].keys == [KEY]


@asynccontextmanager
async def listening(most: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Runs an endpoint that takes so many requests at a time, and gives its port."""

    listen = Listen.model_validate({"port": 0, "maxRequests": most, "timeout": 1.0})
    endpoint = Endpoint(listen, {}, AsyncMock(), tls)
    working = asyncio.ensure_future(endpoint.run())
    try:
        await until(lambda: endpoint.port)
        yield endpoint.port
    finally:
        working.cancel()
        await asyncio.wait([working])


async def is_open(port: int) -> bool:
    """Connects, says nothing, and tells whether the connection stays for a moment; it stays until the test's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    opened.append((reader, writer))
    try:
        async with asyncio.timeout(0.05):
            return await reader.read(1) != b""
    except TimeoutError:
        return True


opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []


@pytest.mark.parametrize("secure", [False, True])
async def test_connections_are_limited_from_when_they_are_accepted(
    secure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if secure else None
    async with listening(1, context) as port:
        assert [await is_open(port) for _ in range(4)] == [True] * 4
        async with asyncio.timeout(PATIENCE_S):
            for reader, _ in opened[:2]:  # they made room for the others
                assert await reader.read() == b""
            assert len([one for one in caplog.messages if "had to make room" in one]) == 1
            if secure:  # and a handshake ends with its time
                assert await opened[3][0].read() == b""
    for _, writer in opened:
        writer.close()
    opened.clear()
