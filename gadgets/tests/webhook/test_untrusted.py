"""Requests to the incoming half from those who do not keep to HTTP, or want to find what fails."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any
from urllib.parse import urlsplit

import pytest
from gadgets.tests.webhook.sites import PATIENCE_S, SECRET, TOKEN, taking
from hypothesis import HealthCheck, given, settings
from tests import rawhttp
from tests.rawhttp import BODIES, NAMES, VALUES, Asker, check

from bester.testing import server

HOOKS: dict[str, dict[str, Any]] = {
    "bell": {"type": "bell", "to": "any", "servers": "any", "token": TOKEN},
    "door": {"type": "bell", "to": ["g"], "secret": SECRET},
}
AS_BELL = b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"


async def test_nothing_makes_it_fail(caplog: pytest.LogCaptureFixture) -> None:
    async with server() as s, taking(s, **HOOKS) as url:
        port = urlsplit(url).port
        assert port is not None

        def ask() -> None:
            asker = Asker(port, 0.1)
            sent = [
                b"POST /push/"
                + hook
                + b" HTTP/1.1\r\n"
                + name
                + b": "
                + value
                + b"\r\n"
                + b"Host: x\r\n" * (name != b"Host")
                + b"Content-Length: 2\r\n" * (name not in (b"Content-Length", b"Transfer-Encoding"))
                + AS_BELL * (hook == b"bell" and name != b"Authorization")
                + b"\r\n{}"
                for hook, name, value in itertools.product((b"bell", b"door"), NAMES, VALUES)
            ]
            head = b"POST /push/bell HTTP/1.1\r\nHost: x\r\n" + AS_BELL
            sent += [head + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in BODIES]
            for one in sent:
                answer = asker.ask(one)
                if answer is not None:
                    check(answer)
            asker.close()

        @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
        @given(rawhttp.requests([b"/push/bell", b"/push/door", b"/push/"]))
        def ask_more(sent: bytes) -> None:
            asker = Asker(port, 0.1)
            answer = asker.ask(sent)
            if answer is not None:
                check(answer)
            asker.close()

        await asyncio.to_thread(ask)
        await asyncio.to_thread(ask_more)
        rawhttp.nothing_failed(caplog)


@pytest.mark.parametrize("behind", [b"Content-Length: 9\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"])
async def test_who_goes_away_within_a_body_is_no_failure(behind: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with server() as s, taking(s, **HOOKS) as url:
        port = urlsplit(url).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /push/bell HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + AS_BELL + behind)
        await reader.readuntil(b"100 Continue\r\n\r\n")
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert b" 404 " in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        rawhttp.nothing_failed(caplog)
