"""Decides where a request comes from, and whether to trust it (see :mod:`bester.web.origins`)."""

from __future__ import annotations

from aiohttp import web

from bester.config import ListenerConfig
from bester.net.peers import Remote, remote_of
from bester.server.runtime import Runtime
from bester.web.origins import is_listed, is_own, is_proxied, is_rebound, names_of, parse_host


class Guard:
    """Checks the requests of one listener.

    Args:
        runtime: holds the configuration with the server's name.
        configured: the listener, with its list of origins.
    """

    def __init__(self, runtime: Runtime, configured: ListenerConfig) -> None:
        self._runtime = runtime
        self._configured = configured
        self.secure = configured.certificate is not None
        """Whether all requests come over TLS."""

    def remote(self, request: web.BaseRequest) -> Remote:
        """Returns the other end of a request's connection."""
        transport = request.transport
        return remote_of(transport) if transport is not None else Remote("unknown", False)

    def is_at_this_machine(self, request: web.Request) -> bool:
        """Returns whether a request certainly comes from this machine: not via a proxy or another site's page."""
        headers = request.headers
        if not self.remote(request).local or is_proxied(headers) or "Origin" in headers or not is_own(headers):
            return False
        host = parse_host(headers.get("Host", ""))
        return host is not None and host.is_this_machine

    def is_own(self, request: web.Request) -> bool:
        """Returns whether a request comes from one of this server's own pages, or from no page."""
        return is_own(request.headers) and not self._is_rebound(request)

    def may_open_websocket(self, request: web.Request) -> bool:
        """Returns whether a request comes from a page that may open WebSockets here, or from no page."""
        return is_listed(request.headers, self._configured.origins) or self.is_own(request)

    def _is_rebound(self, request: web.Request) -> bool:
        if self.secure or not self.remote(request).local:
            return False
        known = {self._runtime.config.server.name} | names_of(self._configured.origins)
        return is_rebound(request.headers, known)
