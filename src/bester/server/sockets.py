"""The sockets that a server listens on: its configured listeners, and those of handlers, informer and operators."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial

from bester.config import Config, ListenerConfig
from bester.errors import BadConfiguration
from bester.net.identity import Expiry, Identities, read_certificates
from bester.net.listeners import Listener, TlsListener, UnixListener
from bester.server.connections.control import ControlConnection
from bester.server.connections.handler import HandlerConnection
from bester.server.connections.informer import InformerConnection
from bester.server.connections.listener import welcome
from bester.server.connections.remote_handler import HandlerDoor
from bester.server.connections.services import Services
from bester.server.settings import handler_context, make_handler_listener, make_listener
from bester.server.web import Web
from bester.tls import server_context

Say = Callable[[str], None]
"""Is told of each address in a line."""
OpenWeb = Callable[[ListenerConfig], Web]
"""Makes what serves the listener ``web``; raises BadConfiguration if this program cannot."""


class Sockets:
    """All sockets of one server that accept connections.

    Args:
        services: what the connections may need.
        shared: whether the TCP ports are those of other nodes on this machine, too.
    """

    def __init__(self, services: Services, shared: bool) -> None:
        self._services = services
        self._shared = shared
        self.listeners: list[Listener] = []
        """The listeners that the configuration names, in its order."""
        self._local: list[Listener] = []
        """The sockets for handlers, informer, operators; they stay open while the server drains."""
        self._remote: TlsListener | None = None
        """The listener for handlers on other machines."""
        self._remote_expiry: Expiry | None = None
        self.web: Web | None = None

    def open_local(self, config: Config, say: Say) -> None:
        """Opens the sockets for handlers, informer and operators.

        Raises:
            BadConfiguration: one cannot be opened.
        """
        for address, connection, what in (
            (config.control.address, ControlConnection, "control"),
            (config.handlers.address, HandlerConnection, "handlers"),
            (config.informer.address, InformerConnection, "informer"),
        ):
            socket = UnixListener(address)
            self._local.append(socket)
            socket.open(partial(_accept, connection, self._services), starved=self._services.limits.starved)
            say(f"{what} on {socket.url}")
        self._open_remote(config, say)

    def _open_remote(self, config: Config, say: Say) -> None:
        try:
            listener = make_handler_listener(config, self._shared)
        except (OSError, ssl.SSLError) as error:
            raise _unusable("handlers.tls", error) from error
        if listener is None:
            return
        self._remote, self._remote_expiry = listener, _own_expiry(config)
        self._local.append(listener)
        services = self._services
        listener.open(
            HandlerDoor(services).welcome,
            handshake_timeout_s=config.limits.authentication_timeout,
            starved=services.limits.starved,
        )
        services.runtime.handler_urls.append(listener.url)
        say(f"handlers on {listener.url}")

    async def open_listeners(self, config: Config, make_web: OpenWeb, say: Say) -> None:
        """Opens the listeners.

        Raises:
            BadConfiguration: one cannot be opened.
        """
        services = self._services
        identities = services.federation.trust.identities
        for configured in config.listeners():
            if configured.kind == "web":
                self.web = make_web(configured)
                listener = self.web.listener
                self.listeners.append(listener)
                await self.web.open()
            else:
                listener = make_listener(configured, self._shared)
                self.listeners.append(listener)
                if listener.tls is not None and identities is not None:
                    identities.serve(listener.tls)
                listener.open(
                    partial(welcome, services),
                    handshake_timeout_s=config.limits.authentication_timeout,
                    starved=services.limits.starved,
                )
            services.runtime.listener_urls.append(listener.url)
            say(f"listening on {listener.url}")

    def silent(self) -> list[str]:
        """Returns the sockets for clients, servers and handlers through which nothing can come any more."""
        handlers = str(self._services.runtime.config.handlers.address)
        used: list[Listener] = [one for one in self._local if isinstance(one, UnixListener) and one.path == handlers]
        if self._remote is not None:
            used.append(self._remote)
        return [one.url for one in [*self.listeners, *used] if not one.listening]

    def contexts(self, config: Config, identities: Identities) -> list[tuple[Listener, ssl.SSLContext]]:
        """Returns what new connections of the listeners with TLS are to see: the certificates in the files now.

        Raises:
            BadConfiguration: one cannot be used.
        """
        found: list[tuple[Listener, ssl.SSLContext]] = []
        if self._remote is not None:
            try:
                renewed = handler_context(config)
            except (OSError, ssl.SSLError) as error:
                raise _unusable("handlers.tls", error) from error
            if renewed is not None:
                self._remote_expiry = _own_expiry(config)
                found.append((self._remote, renewed))
        for configured in config.listeners():
            for listener in self.listeners:
                if listener.kind != configured.kind or listener.tls is None:
                    continue
                try:
                    context = server_context(str(configured.certificate), str(configured.key))
                except (OSError, ssl.SSLError) as error:
                    raise _unusable(f"network.{configured.kind}", error) from error
                if configured.kind == "web":
                    assert self.web is not None
                    self.web.note_certificate()
                else:
                    identities.serve(context)
                found.append((listener, context))
        return found

    def expiries(self) -> list[Expiry]:
        """Returns the ends of the certificates that only listeners use."""
        web = self.web.expiry if self.web is not None else None
        return [one for one in (web, self._remote_expiry) if one is not None]

    def close_listeners(self) -> None:
        """Takes no more clients and servers."""
        for listener in self.listeners:
            listener.close()

    def close(self) -> None:
        """Closes all of them."""
        for listener in [*self.listeners, *self._local]:
            listener.close()


def _own_expiry(config: Config) -> Expiry | None:
    """Returns the end of the certificate of ``handlers.tls``, unless it is that of ``network.tls``."""
    tls = config.handlers.tls
    if tls is None or tls.certificate is None:
        return None
    ends = read_certificates(tls.certificate)[0].not_valid_after_utc
    return Expiry(f"the certificate {tls.certificate.name} of handlers.tls", ends)


def _unusable(place: str, error: OSError) -> BadConfiguration:
    return BadConfiguration(f"{place}: its certificate cannot be used: {error}")


LocalConnection = type[ControlConnection] | type[HandlerConnection] | type[InformerConnection]


def _accept(
    connection: LocalConnection, services: Services, arrival: object
) -> ControlConnection | HandlerConnection | InformerConnection:
    return connection(services)
