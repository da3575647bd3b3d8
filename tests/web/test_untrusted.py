"""Requests of those who do not keep to HTTP, or want to find what fails (docs/web.md)."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from tests import rawhttp
from tests.rawhttp import BODIES, NAMES, VALUES, Asker, check
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
