"""The whole configuration as one frozen object."""

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

    ``base`` is the folder that relative paths were relative to, and ``path`` the file, where there was one.
    ``warnings`` are lines for the operator: oddities that do not stop the start. ``siblings`` are the Unix sockets of
    all nodes on this machine and of their handlers, where ``besterd --nodes`` has started them.
    """

    server: Server = block("What this server is called.")
    network: Network = block("Where the server listens. At least one listener is needed.")
    handlers: Handlers = block("The types and their handlers.")
    informer: Informer = block("The informer.")
    control: Control = block("The operator's socket.")
    storage: Storage = block("The embedded store.")
    database: Database = block("Where accounts are kept.")
    accounts: Accounts = block("How accounts come about.")
    federation: Federation = block("The other servers.")
    limits: Limits = block("Sizes in bytes, durations in seconds or days, counts.")
    admin: Admin = block("What the server tells of its administrator.")
    log: Log = block("The log.")
    tracing: Tracing | None = optional_block("OpenTelemetry spans; they need the packages of the extra `otel`.")
    cluster: Cluster | None = optional_block("Several nodes that are one server ([scale.md](scale.md)).")

    base: Path = field(Path(), "The configuration's folder.", "", internal=True)
    path: Path | None = field(None, "The configuration file.", "", internal=True)
    warnings: tuple[str, ...] = field((), "What is odd, but does not stop the start.", "", internal=True)
    siblings: tuple[Path, ...] = field((), "All nodes' sockets, where there are several.", "", internal=True)

    def listeners(self) -> list[ListenerConfig]:
        """Returns the listeners to start, in the order of ``network.types``."""
        return self.network.listeners()

    def served_types(self) -> dict[str, HandlerConfig]:
        """Returns the types of ``handlers.typeMap`` that ``availableTypes`` lets be served, with their timeouts."""
        return self.handlers.served(self.limits.handler_timeout)
