"""The answers of all our HTTP listeners, including those that aiohttp would otherwise give by itself.

A request that cannot be parsed is its sender's mistake: it is answered with 400 and counted, and many of them share one
line in the log. Every answer has the same headers, and no answer names the software's version.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import HttpVersion10, HttpVersion11
from aiohttp.web_protocol import RequestHandler

from bester.accepting import LogThrottle

__all__ = ["HEADERS", "ProtocolFactory", "add_headers"]

log = logging.getLogger("bester.http")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "bester",
}
"""The headers of every answer."""


async def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Adds the headers of every answer; for an application's ``on_response_prepare``."""
    response.headers.update(HEADERS)


class ProtocolFactory:
    """Makes the aiohttp protocol of each connection to one listener.

    Args:
        name: the listener's name in the log.
        server: the server of the application's runner.
        refusal: returns the answer to input that is not a request (400), to a request with an unsupported ``Expect``
            (417), and to a request that failed (500).
        unreadable: called for each request that cannot be parsed.
        settings: for :class:`~aiohttp.web_protocol.RequestHandler`.
    """

    def __init__(
        self,
        name: str,
        server: web.Server,
        refusal: Callable[[int], web.Response],
        unreadable: Callable[[], None] = lambda: None,
        **settings: Any,
    ) -> None:
        self._handle, server.request_handler = server.request_handler, self._expecting
        self._refusal = refusal
        self._name = name
        self._server = server
        self._unreadable = unreadable
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._throttle = LogThrottle()

    def __call__(self) -> RequestHandler:
        return _Protocol(self, self._server, loop=self._loop, access_log=None, **self._settings)

    async def _expecting(self, request: Any) -> web.StreamResponse:
        """Refuses requests that aiohttp would answer with something that is not HTTP, or not answer at all."""
        if request.version not in (HttpVersion10, HttpVersion11):
            self.note_unreadable(request.remote, ValueError("neither HTTP/1.0 nor HTTP/1.1"))
            raise _UnanswerableError
        if request.headers.get("Expect", "100-continue").lower() != "100-continue":
            return self.refuse(417)
        return await self._handle(request)

    def refuse(self, status: int) -> web.Response:
        """Returns a refusal, after which the connection is closed."""
        response = self._refusal(status)
        response.headers.update(HEADERS)
        response.force_close()
        return response

    def note_unreadable(self, address: str | None, error: Exception) -> None:
        """Counts a request that cannot be parsed, and logs a line unless there was one recently."""
        self._unreadable()
        if count := self._throttle.due():
            why = ascii(str(error).partition("\n")[0])[:120]
            text = "%s: %d requests could not be read since the last such line; this one from %s: %s"
            log.info(text, self._name, count, address, why)


class _UnanswerableError(Exception):
    """The request has an unknown version of HTTP, in which its answer would have to be."""


class _Protocol(RequestHandler):
    """The protocol of one connection."""

    __slots__ = ("_of",)

    def __init__(self, of: ProtocolFactory, server: web.Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._of = of

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers a request that did not reach the application, or that the application failed to answer."""
        gone = self.transport is None or self.transport.is_closing()
        if isinstance(exc, _UnanswerableError) or (gone and isinstance(exc, ConnectionError)):
            raise ConnectionError("there is nobody to be answered")
        if isinstance(exc, (HttpProcessingError, web.RequestPayloadError)):
            self._of.note_unreadable(request.remote, exc)
            status = 400
        else:
            log.error("a request failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has been begun already")
        return self._of.refuse(status)
