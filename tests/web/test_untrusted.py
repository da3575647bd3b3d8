"""Requests of those who do not keep to HTTP, or want to find what fails (docs/web.md)."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re

import pytest
from hypothesis import HealthCheck, given, settings
from tests import rawhttp
from tests.rawhttp import BODIES, NAMES, VALUES, Answer, Asker, check
from tests.waiting import PATIENCE_S
from tests.web.browsers import browsing

UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
PATHS = [
    b"/",
    b"/ws",
    b"/metrics",
    b"/healthz",
    b"/readyz",
    b"/bester.js",
    b"/api/session",
    b"/api/events",
    b"/api/login",
    b"/api/logout",
    b"/api/command",
]


async def test_no_header_makes_the_server_fail(caplog: pytest.LogCaptureFixture) -> None:
    web = {"metricsToken": "a-token-of-the-scraper"}
    async with browsing(web=web) as play:
        port = play.port_of("web")

        def ask() -> None:
            asker, silent = Asker(port, 0.1), 0
            for path in (b"/ws", b"/metrics", b"/bester.js", b"/api/session"):
                for name, value in itertools.product(NAMES, VALUES):
                    head = b"GET " + path + b" HTTP/1.1\r\n" + b"Host: 127.0.0.1\r\n" * (name != b"Host")
                    head += b"X-Forwarded-For: x\r\n" + UPGRADE * (path == b"/ws")
                    answer = asker.ask(head + name + b": " + value + b"\r\n\r\n")
                    if answer is not None:
                        check(answer)
                    silent += answer is None
            asker.close()
            assert silent < 100  # WebSockets, and bodies that are still to come

        await asyncio.to_thread(ask)
        rawhttp.nothing_failed(caplog)


async def test_no_body_makes_the_server_fail(caplog: pytest.LogCaptureFixture) -> None:
    async with browsing() as play:
        await play.sign_in()
        (cookie,) = play.http.cookie_jar
        port = play.port_of("web")

        def ask() -> None:
            asker = Asker(port)
            for path in (b"login", b"command", b"logout"):
                for body in BODIES:
                    head = b"POST /api/" + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Bester: 1\r\nCookie: bester="
                    head += cookie.value.encode() + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
                    answer = asker.ask(head + body)
                    assert answer is not None
                    check(answer)
            asker.close()

        await asyncio.to_thread(ask)
        rawhttp.nothing_failed(caplog)


async def test_nothing_makes_the_server_fail(caplog: pytest.LogCaptureFixture) -> None:
    async with browsing() as play:
        port = play.port_of("web")

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(rawhttp.requests(PATHS))
        def ask(sent: bytes) -> None:
            asker = Asker(port, 0.1)
            answer = asker.ask(sent)
            if answer is not None:
                check(answer)
                assert answer.status == 400 or answer.behind == b"" or answer.behind.startswith(b"HTTP/1"), answer
            asker.close()

        await asyncio.to_thread(ask)
        rawhttp.nothing_failed(caplog)


async def test_what_cannot_be_read_is_one_line_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sent = [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"GET / HTTP/9\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
    ]
    sent += [b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]
    sent += [b"{}\r\n\r\n"]
    sent += [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"]
    sent += [b"POST /api/login HTTP/1.1\r\nHost: a\r\nX-Bester: 1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"]
    async with browsing() as play:
        for one in sent:
            answer = await play.raw(one)
            check(answer)
            assert (answer.status, answer.body) == (400, b"this request cannot be read\n")
        assert play.runtime.counts.refused == {"malformed": len(sent)}
        lines = [one.getMessage() for one in caplog.records if one.name == "bester.http"]
        assert len(lines) == 1
        assert lines[0].startswith("the web listener: 1 requests could not be read since the last such line; this one ")
        assert all(one.exc_info is None for one in caplog.records)


async def test_bodies_to_sign_in_are_small() -> None:
    async with browsing() as play:
        assert (await play.post("/api/login", {"username": "t", "password": "x" * 17_000}))[0] == 413
        assert (await play.post("/api/login", {"username": "t", "password": "x" * 16_000}))[0] == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/bester.js", "/metrics", "/api/session", "/none", "/ws"])
async def test_answers_to_head_have_no_body(path: str) -> None:
    async with browsing() as play:
        answers: list[Answer] = []
        for method in ("GET", "HEAD", "HEAD", "GET"):
            request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=1-2\r\n\r\n".encode()
            answer = await play.raw(request)
            assert answer.behind == b""
            check(answer)
            answers.append(answer)
        assert len({answer.status for answer in answers}) == 1
        assert answers[0].status in (200, 401, 404, 426)  # and never a part
        assert answers[0].body
        assert not answers[1].body


async def test_there_are_no_other_methods() -> None:
    paths = ("/healthz", "/readyz", "/bester.js", "/metrics", "/api/session", "/api/events", "/ws")
    methods = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND")
    async with browsing() as play:
        for path, method in itertools.product(paths, methods):
            request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode()
            answer = await play.raw(request)
            check(answer)
            assert answer.status == 405
            assert "GET" in answer.headers["allow"]


async def test_there_is_no_way_out_of_the_files() -> None:
    async with browsing() as play:
        for path in (
            "/../../../etc/passwd",
            "/%2e%2e/%2e%2e/pyproject.toml",
            "/..%2f..%2fpyproject.toml",
            "/console/../../site.py",
            "/console/..\\..\\site.py",
            "//etc/passwd",
            "/console//index.html",
            "/.git/config",
            "/%00/bester.js",
            "/bester.js%00",
            "/" + "x" * 5000,
        ):
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
            answer = await play.raw(request)
            check(answer)
            assert answer.status in (400, 404), path


async def test_many_requests_at_once_are_answered_in_their_order() -> None:
    many = 500
    async with browsing() as play:
        reader, writer = await asyncio.open_connection("127.0.0.1", play.port_of("web"))
        for number in range(many):
            path = "healthz" if number % 2 else "none"
            writer.write(f"GET /{path}?{'x' * 3000} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            for number in range(many):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 " if number % 2 else b"HTTP/1.1 404 ")
                size = re.search(rb"Content-Length: (\d+)", head)
                assert size
                await reader.readexactly(int(size[1]))
        writer.close()
