"""The listener ``web``: its socket and its routes.

aiohttp serves HTTP; every connection passes through a :class:`~bester.web.front.Front`. A server without this listener
imports nothing from this package.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web

from bester.accepting import Arrival
from bester.config import ListenerConfig
from bester.errors import BesterError, Malformed
from bester.http import ProtocolFactory, add_headers
from bester.net.identity import Expiry, read_certificates
from bester.net.listeners import Listener, Tcp4Listener
from bester.server.web import WebServices
from bester.tls import server_context
from bester.web.answers import refusal, refused
from bester.web.console import Console
from bester.web.files import Files
from bester.web.front import Front, Fronts
from bester.web.guard import Guard
from bester.web.health import Health
from bester.web.metrics import Metrics
from bester.web.pages import find_pages

log = logging.getLogger("bester.web")

KEEP_ALIVE_S = 20.0
"""How long a connection may stay open without a complete request."""
PING_S = 30.0
"""How often silent WebSockets are pinged."""
CLOSE_S = 1.0
SUBPROTOCOL = "bester"
_REFUSALS = {
    400: "this request cannot be read\n",
    417: "nothing but 100-continue may be expected\n",
    500: "something failed inside the server\n",
}
_WEBSOCKET_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class HttpListener(Tcp4Listener):
    """A TCP socket of either family, with TLS or without."""

    kind = "web"

    def __init__(self, address: str, port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(address, port)
        self.tls = tls
        if ":" in address:
            self.family = socket.AF_INET6

    @property
    def url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}"


class Site:
    """Serves one configured listener ``web``.

    Raises:
        OSError, ssl.SSLError: the certificate or its key cannot be used.
    """

    def __init__(self, services: WebServices, configured: ListenerConfig) -> None:
        self.services = services
        self.runtime = services.runtime
        self.configured = configured
        tls = None
        if configured.certificate is not None:
            tls = server_context(str(configured.certificate), str(configured.key))
        self.listener: Listener = HttpListener(configured.address, configured.port or 0, tls)
        self.fronts = Fronts(services.connections)
        self._guard = Guard(services.runtime, configured)
        self.expiry: Expiry | None = None
        self._pinger: asyncio.TimerHandle | None = None
        self.console = Console(services, self._guard)
        self.health = Health(services)
        self.metrics = Metrics(services)
        self._runner = web.AppRunner(
            self._application(),
            handler_cancellation=True,
            shutdown_timeout=CLOSE_S,
        )

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._stay, _errors_in_json])
        app.on_response_prepare.append(add_headers)
        app.router.add_get("/ws", self._websocket)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self.health.process)
        app.router.add_get("/readyz", self.health.ready)
        self.console.add_to(app.router)
        app.router.add_get("/{path:.*}", Files(find_pages()).serve)
        return app

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Starts to listen and serve.

        Raises:
            BadConfiguration: the address cannot be used.
        """
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        await asyncio.to_thread(self.note_certificate)
        timeout_s = self.runtime.config.limits.authentication_timeout
        conversations = ProtocolFactory(
            "the web listener",
            server,
            lambda status: web.Response(status=status, text=_REFUSALS[status]),
            lambda: self.runtime.counts.refuse(Malformed.code),
            keepalive_timeout=KEEP_ALIVE_S,
            auto_decompress=False,
        )

        def welcome(arrival: Arrival) -> Front | None:
            front = Front(self.fronts, conversations)
            return front if front.arrive(arrival) else None

        self.listener.open(welcome, handshake_timeout_s=timeout_s, starved=self.services.connections.limits.starved)
        self._ping_later()

    def note_certificate(self) -> None:
        """Reads the certificate's expiry from its file."""
        path = self.configured.certificate
        if path is not None:
            ends = read_certificates(path)[0].not_valid_after_utc
            self.expiry = Expiry(f"the certificate {path.name} of the web listener", ends)

    async def close(self) -> None:
        """Closes everything that is still open; does nothing when called again."""
        self.listener.close()
        if self._pinger is not None:
            self._pinger.cancel()
            self._pinger = None
        self.console.close()
        await self._runner.cleanup()
        self.fronts.abort()

    def _ping_later(self) -> None:
        self._pinger = asyncio.get_running_loop().call_later(PING_S, self._ping)

    def _ping(self) -> None:
        self._ping_later()
        self.fronts.look()

    @web.middleware
    async def _stay(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.fronts.stay(request.protocol)
        return await handler(request)

    # -- requests --------------------------------------------------------------------------------------------------

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        headers = request.headers
        if not self._guard.may_open_websocket(request):
            raise web.HTTPForbidden(text="this origin may not open WebSockets here (network.web.origins)\n")
        if "websocket" not in headers.get("Upgrade", "").lower() or request.version < (1, 1):
            raise web.HTTPUpgradeRequired(text="this is for WebSockets\n", headers={"Upgrade": "websocket"})
        if headers.get("Sec-WebSocket-Version") != "13":
            raise web.HTTPUpgradeRequired(text="WebSocket version 13\n", headers={"Sec-WebSocket-Version": "13"})
        key = headers.get("Sec-WebSocket-Key", "")
        if not _is_key(key) or "upgrade" not in headers.get("Connection", "").lower():
            raise web.HTTPBadRequest(text="not the handshake of a WebSocket\n")
        front = self.fronts.by_handler.get(request.protocol)
        if front is None:
            raise web.HTTPBadRequest(text="the connection is gone\n")
        accepted = base64.b64encode(hashlib.sha1(key.encode() + _WEBSOCKET_KEY).digest()).decode()  # noqa: S324
        answer = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accepted}",
        ]
        offered = [name.strip() for name in headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if SUBPROTOCOL in offered:
            answer.append(f"Sec-WebSocket-Protocol: {SUBPROTOCOL}")
        front.upgrade("\r\n".join([*answer, "", ""]).encode())
        # The front cancels this task as soon as it waits: the response has been sent.
        never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        return await never

    async def _metrics(self, request: web.Request) -> web.Response:
        if not (
            self._guard.is_at_this_machine(request)
            or self.metrics.knows(request.headers.get("Authorization", ""), self.configured.metrics_token)
            or await self.console.signed_in(request) is not None
        ):
            raise web.HTTPForbidden(text="metrics are for this machine, network.web.metricsToken, and admins\n")
        return await self.metrics.answer(request)


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


@web.middleware
async def _errors_in_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Converts errors under ``/api/`` to one shape, without details that belong only in the log."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if request.path.startswith("/api/") and error.status >= 400:
            response = refusal(error.status, "badRequest", error.text or error.reason)
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        raise
    except BesterError as error:
        return refused(error)
    except (ConnectionError, web.RequestPayloadError):
        raise  # the client is gone, or violated HTTP: the conversation handles it
    except Exception:
        log.exception("%s %s failed", request.method, ascii(request.path))
        return refusal(500, "internal", "something failed inside the server; its log says what", True)
