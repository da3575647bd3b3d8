"""The listener ``web`` as a whole: the socket, the routes, who may ask what.

aiohttp answers HTTP; every connection goes through a :class:`~bester.web.front.Front`. Nothing of this is imported by
a server that has no such listener.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from bester.accepting import Arrival
from bester.config import ListenerConfig
from bester.errors import BesterError, Malformed
from bester.http import Conversations, add_headers
from bester.net.identity import Expiry, read_certificates
from bester.net.listeners import Listener, Tcp4Listener
from bester.net.peers import Remote, remote_of
from bester.server.connections.services import Services
from bester.tls import server_context
from bester.web.answers import refusal, refused
from bester.web.console import Console
from bester.web.files import Files
from bester.web.front import Front
from bester.web.gateway import Gateway
from bester.web.health import Health
from bester.web.metrics import Metrics
from bester.web.origins import is_listed, is_own, is_passed_on, is_rebound, names_of, parse_host

log = logging.getLogger("bester.web")

KEEP_ALIVE_S = 20.0
"""How long a connection may be without a whole request."""
MAX_HTTP = 2000
"""The most connections that are not WebSockets."""
MAX_HTTP_PER_ADDRESS = 100
"""The same from one address; this machine's are exempt, because a proxy's come from there."""
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
    """What serves one configured listener ``web``.

    Raises:
        OSError, ssl.SSLError: the certificate or its key cannot be used.
    """

    def __init__(self, services: Services, configured: ListenerConfig) -> None:
        self.services = services
        self.runtime = runtime = services.runtime
        self.configured = configured
        tls = None
        if configured.certificate is not None:
            tls = server_context(str(configured.certificate), str(configured.key))
        self.listener: Listener = HttpListener(configured.address, configured.port or 0, tls)
        self.fronts: dict[RequestHandler, Front] = {}
        """The connections that speak HTTP, by aiohttp's handlers."""
        self.gateways: set[Gateway] = set()
        self._http: dict[Front, str] = {}
        """Them, too, with the addresses that they are counted for."""
        self._per_address: Counter[str] = Counter()
        self._expiry: Expiry | None = None
        self._pinger: asyncio.TimerHandle | None = None
        self.console = Console(self)
        self.health = Health(runtime)
        self.metrics = Metrics(runtime)
        self._runner = web.AppRunner(
            self._application(),
            handler_cancellation=True,
            shutdown_timeout=CLOSE_S,
        )

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._asked, _told_in_json])
        app.on_response_prepare.append(add_headers)
        app.router.add_get("/ws", self._websocket)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self.health.process)
        app.router.add_get("/readyz", self.health.ready)
        self.console.add_to(app.router)
        app.router.add_get("/{path:.*}", Files().serve)
        return app

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Listens and serves.

        Raises:
            BadConfiguration: the address cannot be had.
        """
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        await asyncio.to_thread(self.note_certificate)
        timeout_s = self.runtime.config.limits.authentication_timeout
        conversations = Conversations(
            "the web listener",
            server,
            lambda status: web.Response(status=status, text=_REFUSALS[status]),
            lambda: self.runtime.counts.refuse(Malformed.code),
            keepalive_timeout=KEEP_ALIVE_S,
            auto_decompress=False,
        )

        def welcome(arrival: Arrival) -> Front | None:
            front = Front(self, conversations)
            return front if front.arrive(arrival) else None

        self.listener.open(welcome, handshake_timeout_s=timeout_s, starved=self.services.limits.starved)
        self._ping_later()

    def note_certificate(self) -> None:
        """Says when the certificate ends that is in the file now."""
        path = self.configured.certificate
        if path is not None:
            ends = read_certificates(path)[0].not_valid_after_utc
            expiry = Expiry(f"the certificate {path.name} of the web listener", ends)
            self.runtime.more_expiries = [one for one in self.runtime.more_expiries if one is not self._expiry] + [
                expiry
            ]
            self._expiry = expiry

    async def close(self) -> None:
        """Ends what is still open; the second time it does nothing."""
        self.listener.close()
        if self._pinger is not None:
            self._pinger.cancel()
            self._pinger = None
        self.console.close()
        await self._runner.cleanup()
        for gateway in list(self.gateways):
            gateway.abort()
        for front in list(self._http):
            if front.socket is not None:
                front.socket.abort()

    def _ping_later(self) -> None:
        self._pinger = asyncio.get_running_loop().call_later(PING_S, self._ping)

    def _ping(self) -> None:
        self._ping_later()
        for gateway in list(self.gateways):
            gateway.look()

    # -- connections -----------------------------------------------------------------------------------------------

    def arrive(self, front: Front) -> bool:
        """Counts a connection that was accepted; false if there are too many, or none are taken any more."""
        remote = front.remote
        crowded = not remote.local and self._per_address[remote.address] >= MAX_HTTP_PER_ADDRESS
        if self.runtime.stopping or crowded or len(self._http) >= MAX_HTTP:
            self.runtime.counts.refuse("shuttingDown" if self.runtime.stopping else "overloaded")
            return False
        if not self.services.limits.arrive(front, told=False):
            return False
        self._http[front] = remote.address
        self._per_address[remote.address] += 1
        return True

    def leave(self, front: Front) -> None:
        """A connection is closed, or has become a WebSocket, which counts as one of the server's own."""
        self.services.limits.gone(front)
        address = self._http.pop(front, None)
        if address is not None:
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    def remote(self, request: web.BaseRequest) -> Remote:
        """Says who is at the other end of a request's connection."""
        transport = request.transport
        return remote_of(transport) if transport is not None else Remote("unknown", False)

    @web.middleware
    async def _asked(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Lets a connection stay once a whole request has come on it: from then on aiohttp's times hold."""
        front = self.fronts.get(request.protocol)
        if front is not None:
            self.services.limits.leave(front)
        return await handler(request)

    def is_secure(self) -> bool:
        """Whether everything here goes over TLS."""
        return self.listener.tls is not None

    # -- what is asked ---------------------------------------------------------------------------------------------

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        headers = request.headers
        if not (is_listed(headers, self.configured.origins) or self.is_own(request)):
            raise web.HTTPForbidden(text="this origin may not open WebSockets here (network.web.origins)\n")
        if "websocket" not in headers.get("Upgrade", "").lower() or request.version < (1, 1):
            raise web.HTTPUpgradeRequired(text="this is for WebSockets\n", headers={"Upgrade": "websocket"})
        if headers.get("Sec-WebSocket-Version") != "13":
            raise web.HTTPUpgradeRequired(text="WebSocket version 13\n", headers={"Sec-WebSocket-Version": "13"})
        key = headers.get("Sec-WebSocket-Key", "")
        if not _is_key(key) or "upgrade" not in headers.get("Connection", "").lower():
            raise web.HTTPBadRequest(text="not the handshake of a WebSocket\n")
        front = self.fronts.get(request.protocol)
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
        # The front ends this task as soon as it waits: there is nothing left to be answered.
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def _metrics(self, request: web.Request) -> web.Response:
        if not (
            self._is_at_this_machine(request)
            or self.metrics.knows(request.headers.get("Authorization", ""), self.configured.metrics_token)
            or await self.console.signed_in(request) is not None
        ):
            raise web.HTTPForbidden(text="metrics are for this machine, network.web.metricsToken, and admins\n")
        return await self.metrics.answer(request)

    def _is_at_this_machine(self, request: web.Request) -> bool:
        """Whether a request is from here for certain, and not passed on by a proxy, or sent by another site's page."""
        headers = request.headers
        if not self.remote(request).local or is_passed_on(headers) or "Origin" in headers or not is_own(headers):
            return False
        host = parse_host(headers.get("Host", ""))
        return host is not None and host.is_this_machine

    def is_own(self, request: web.Request) -> bool:
        """Whether a request is from one of this server's own pages, or from no page at all."""
        return is_own(request.headers) and not self._is_rebound(request)

    def _is_rebound(self, request: web.Request) -> bool:
        if self.is_secure() or not self.remote(request).local:
            return False
        return is_rebound(request.headers, {self.runtime.config.server.name} | names_of(self.configured.origins))


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


@web.middleware
async def _told_in_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Tells errors under ``/api/`` in one shape, and none with its inside."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if request.path.startswith("/api/") and error.status >= 400:
            told = refusal(error.status, "badRequest", error.text or error.reason)
            if "Allow" in error.headers:
                told.headers["Allow"] = error.headers["Allow"]
            return told
        raise
    except BesterError as error:
        return refused(error)
    except (ConnectionError, web.RequestPayloadError):
        raise  # who asked is gone, or did not keep to HTTP: that is for the conversation
    except Exception:
        log.exception("%s %s failed", request.method, ascii(request.path))
        return refusal(500, "internal", "something failed inside the server; its log says what", True)
