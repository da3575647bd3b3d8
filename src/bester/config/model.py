"""The configuration as one frozen object."""

from __future__ import annotations

from pathlib import Path

from bester.config.cluster import Cluster
from bester.config.handlers import HandlerConfig, Handlers
from bester.config.network import ListenerConfig, Network
from bester.config.parts import (
    Accounts,
    Admin,
    Control,
    Database,
    Informer,
    Limits,
    Log,
    Server,
    Storage,
    Tracing,
)
from bester.config.peers import Federation
from bester.config.values import Block, block, field, optional_block


class Config(Block):
    """A checked configuration: every path is absolute, every default filled in (docs/protocol.md, section 10).

    ``base`` is the folder at which relative paths start, and ``path`` the file, if there is one. ``warnings`` are lines
    for the operator about oddities that do not prevent a start. ``siblings`` are the Unix sockets of all nodes on this
    machine and of their handlers, if ``besterd --nodes`` started them.
    """

    server: Server = block("The server's name.")
    network: Network = block("The listeners. At least one is required.")
    handlers: Handlers = block("The types and their handlers.")
    informer: Informer = block("The informer.")
    control: Control = block("The operator's socket.")
    storage: Storage = block("The embedded store.")
    database: Database = block("The database of accounts.")
    accounts: Accounts = block("How accounts are created.")
    federation: Federation = block("The other servers.")
    limits: Limits = block("Sizes in bytes, durations in seconds or days, counts.")
    admin: Admin = block("Information about the server's administrator.")
    log: Log = block("The log.")
    tracing: Tracing | None = optional_block("OpenTelemetry spans; requires the packages of the extra `otel`.")
    cluster: Cluster | None = optional_block("Several nodes that are one server ([scale.md](scale.md)).")

    base: Path = field(Path(), "The configuration's folder.", "", internal=True)
    path: Path | None = field(None, "The configuration file.", "", internal=True)
    warnings: tuple[str, ...] = field((), "Oddities that do not prevent a start.", "", internal=True)
    siblings: tuple[Path, ...] = field((), "The sockets of all nodes, if there are several.", "", internal=True)

    def listeners(self) -> list[ListenerConfig]:
        """Returns the listeners to start, in the order of ``network.types``."""
        return self.network.listeners()

    def handler_listener(self) -> ListenerConfig | None:
        """Returns the listener for handlers on other machines; its certificate may be that of ``network.tls``."""
        tls = self.handlers.tls
        if tls is None:
            return None
        own = tls if tls.certificate is not None else self.network.tls
        certificate, key = (own.certificate, own.key) if own is not None else (None, None)
        return ListenerConfig("tls", tls.address, tls.port, certificate, key)

    def served_types(self) -> dict[str, HandlerConfig]:
        """Returns the types of ``handlers.typeMap`` that ``availableTypes`` admits, with their timeouts."""
        return self.handlers.served(self.limits.handler_timeout)
