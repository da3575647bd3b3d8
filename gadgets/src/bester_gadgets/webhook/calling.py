"""Outgoing: a message is posted to a URL, and what the URL answers is executed.

A call is tried again on what may pass: no connection, no answer in time, 429, 5xx; always with the same ``webhook-id``,
so that the other side can tell that it is the same, and with a new timestamp and signature. All tries together end
within the hook's time, before the server gives up on its handler.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from email.utils import parsedate_to_datetime
from uuid import uuid4

import aiohttp
import msgspec
from msgspec import Raw
from yarl import URL

from bester import Command, Refuse, Request
from bester.clock import wall_time
from bester.timeouts import within
from bester_gadgets.fresh import Fresh
from bester_gadgets.webhook import signing
from bester_gadgets.webhook.answers import BadAnswer, read_answer
from bester_gadgets.webhook.settings import Hook

log = logging.getLogger("bester.webhook")

RETRY_FIRST_S = 0.25
RETRY_MAX_S = 10.0


class _Again(Exception):
    """A try that may be repeated."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s
        """The wait that the other side asked for."""


class Caller:
    """Calls one hook's URL.

    Args:
        name: of the hook.
        hook: its settings.
        tls: for ``https://``.
    """

    def __init__(self, name: str, hook: Hook, tls: Fresh[ssl.SSLContext]) -> None:
        self._name = name
        self._hook = hook
        self._url = URL(hook.url)
        self._keys = hook.keys
        self._commands = frozenset(hook.commands)
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def handle(self, request: Request) -> list[Command]:
        """Handles a message: posts it, and returns the answer's commands.

        Raises:
            Refuse: there was no answer, or none that may be executed. Whoever sent the message is told what the hook
                says, and else only whether it can be tried again: where the hook is, and what is wrong there, is the
                operator's to know.
        """
        body = body_of(request)
        id = f"msg_{uuid4().hex}"
        deadline = time.monotonic() + self._hook.within
        try:
            async with within(self._hook.within):
                return await self._call(id, body, request.traceparent, deadline)
        except TimeoutError as error:
            raise self._away(f"no answer within {self._hook.within:g} s") from error

    async def _call(self, id: str, body: bytes, traceparent: str, deadline: float) -> list[Command]:
        pause_s = RETRY_FIRST_S
        for tries_left in range(self._hook.retries, -1, -1):
            try:
                return await self._try(id, body, traceparent)
            except _Again as again:
                wait_s = again.after_s if again.after_s is not None else pause_s * random.uniform(0.5, 1.0)
                if not tries_left or time.monotonic() + wait_s >= deadline:
                    raise self._away(again) from again
                log.info("the hook %s: %s; trying again in %.2f s", self._name, again, wait_s)
                await asyncio.sleep(wait_s)
                pause_s = min(pause_s * 2, RETRY_MAX_S)
        raise AssertionError

    def _away(self, why: object) -> Refuse:
        log.warning("the hook %s: %s", self._name, why)
        return Refuse("the webhook does not answer now", code="webhook.unavailable", temporary=True)

    def _bad(self, why: object) -> Refuse:
        log.warning("the hook %s: %s", self._name, why)
        return Refuse("the webhook's answer is not one that can be used", code="webhook.badAnswer")

    async def _try(self, id: str, body: bytes, traceparent: str) -> list[Command]:
        headers = signing.sign(self._keys, id, int(wall_time()), body)
        headers |= {"content-type": "application/json", "accept": "application/json", "user-agent": "bester-webhook"}
        if traceparent:
            headers["traceparent"] = traceparent
        try:
            async with (
                within(self._hook.timeout),
                self._opened().post(
                    self._url, data=body, headers=headers, allow_redirects=False, ssl=self._tls.get()
                ) as response,
            ):
                content = await self._read(response)
        except TimeoutError as error:
            raise _Again(f"no answer within {self._hook.timeout:g} s") from error
        except aiohttp.ClientSSLError as error:  # a wrong certificate is wrong the next time too
            raise self._bad(error) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Again(str(error) or type(error).__name__) from error
        if response.status == 429 or response.status >= 500:
            raise _Again(f"status {response.status}", retry_after_s(response.headers.get("retry-after"), wall_time()))
        if not 200 <= response.status < 300:
            raise self._bad(f"status {response.status}")
        if response.status == 204:
            return []
        try:
            return read_answer(content, self._commands)
        except BadAnswer as error:
            raise self._bad(error) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        most = self._hook.max_answer
        content = b""
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > most:
                raise self._bad(f"an answer of more than {most} bytes")
        return content

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._hook.concurrency)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # a small answer must not become a large one
                skip_auto_headers=("accept-encoding",),
            )
        return self._session

    async def close(self) -> None:
        """Ends the connections."""
        if self._session is not None:
            await self._session.close()


def body_of(request: Request) -> bytes:
    """Returns what is posted: the message with what the server knows of it; ``data`` byte for byte."""
    sender = request.sender
    return msgspec.json.encode(
        {
            "type": request.type,
            "id": request.id,
            "scope": request.scope,
            "from": {"user": sender.user, "server": sender.server, "verified": sender.verified},
            "hops": request.hops,
            "traceparent": request.traceparent,
            "data": request.raw if len(request.raw) else Raw(b"null"),
        }
    )


def retry_after_s(header: str | None, now_s: float) -> float | None:
    """Returns what a ``Retry-After`` asks for, in seconds; None if it asks for nothing that can be read."""
    if header is None:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit() and len(header) < 10:
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None
