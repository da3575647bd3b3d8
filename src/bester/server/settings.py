"""From the configuration to what the rooms need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from bester.config import Config, HandlerConfig, ListenerConfig
from bester.core.limits import Limits
from bester.core.rules import OTHERS, Allow, TypeRules
from bester.errors import InvalidName
from bester.net.listeners import Listener, Tcp4Listener, Tcp6Listener, TlsListener, UnixListener
from bester.protocol.messages import COMMANDS
from bester.protocol.names import username
from bester.server.telemetry.receipts import bounds_of
from bester.store.ports import AccountStore, LeaseStore, MessageStore
from bester.store.receipts import ReceiptStore, SqliteReceipts
from bester.tls import server_context

if TYPE_CHECKING:
    from bester.bus.connection import Bus
    from bester.config.cluster import Cluster
    from bester.config.handlers import CommandName
    from bester.store.database import Database
    from bester.store.jetstream.partitions import Layout

EVERYONE = frozenset({"accounts", "servers"})


def exchange_limits(config: Config) -> Limits:
    """The bounds that the exchange keeps."""
    limits = config.limits
    return Limits(max_hops=limits.max_hops, max_in_flight=limits.max_in_flight, max_recipients=limits.max_recipients)


def type_rules(config: Config) -> dict[str, TypeRules]:
    """What the configuration says of each type that is available."""
    return {name: _rules(handler) for name, handler in config.served_types().items()}


def attached_rules(config: Config) -> dict[str, TypeRules]:
    """What the configuration says of each type where a handler attaches, whether it is available without or not; and of
    those that it does not name."""
    every = config.handlers.model_copy(update={"available_types": None}).served(config.limits.handler_timeout)
    rules = {name: replace(_rules(handler), classic_socket=None) for name, handler in every.items()}
    return rules | {OTHERS: TypeRules(may=_may(config.handlers.may))}


def _rules(handler: HandlerConfig) -> TypeRules:
    return TypeRules(
        timeout_s=handler.timeout_s,
        classic_socket=str(handler.socket) if handler.socket is not None else None,
        classic_concurrency=handler.concurrency,
        transient=handler.delivery == "transient",
        allow=None if frozenset(handler.allow) >= EVERYONE else _allow(handler.allow),
        may=_may(handler.may),
    )


def _may(names: tuple[CommandName, ...]) -> dict[str, type]:
    return {name: kind for name, kind in COMMANDS.items() if name in names or name == "done"}


def _allow(entries: tuple[str, ...]) -> Allow:
    others = [entry for entry in entries if entry not in EVERYONE]
    return Allow(
        accounts="accounts" in entries,
        servers="servers" in entries,
        roles=frozenset(entry.removeprefix("role:") for entry in others if entry.startswith("role:")),
        names=frozenset(_canonical(entry) for entry in others if not entry.startswith("role:")),
    )


def _canonical(name: str) -> str:
    try:
        return username(name)
    except InvalidName:
        return name.lower()  # a server's name that cannot be an account's


def make_listener(listener: ListenerConfig, shared: bool = False) -> Listener:
    """Returns the listener of a configured kind, not yet bound; its port may be ``shared`` with other processes."""
    made: Tcp4Listener
    match listener.kind:
        case "unix":
            return UnixListener(listener.address)
        case "tcp4":
            made = Tcp4Listener(listener.address, listener.port or 0)
        case "tcp6":
            made = Tcp6Listener(listener.address, listener.port or 0)
        case "tls":
            context = server_context(str(listener.certificate), str(listener.key))
            made = TlsListener(listener.address, listener.port or 0, context)
        case _:
            raise AssertionError(listener.kind)
    made.shared = shared
    return made


def make_stores(
    config: Config, on_lost: Callable[[BaseException], None] | None = None, bus: Bus | None = None
) -> tuple[AccountStore, MessageStore]:
    """Returns the configured drivers, not yet opened, which share one database where both are embedded.

    Each of them is opened and closed; ``on_lost`` is told when they cannot go on. With a ``bus``, which is open before
    they are, they are those of a cluster.
    """
    if bus is not None and config.cluster is not None:
        from bester.store.jetstream.accounts import JetStreamAccounts
        from bester.store.jetstream.messages import JetStreamMessages
        from bester.store.jetstream.names import Names

        names, layout = Names(config.server.name), layout_of(config.cluster)
        return JetStreamAccounts(bus, names, layout), JetStreamMessages(bus, names, layout)
    from bester.store.messages import SqliteMessages

    database = _database(config, on_lost)
    return _accounts(config, database), SqliteMessages(database)


def layout_of(cluster: Cluster) -> Layout:
    """Returns how the configuration distributes the streams of a cluster."""
    from bester.store.jetstream.partitions import Layout

    return Layout(cluster.replicas, cluster.partitions)


def make_leases(config: Config, bus: Bus) -> LeaseStore:
    """Returns the driver for what only one node of a cluster does, not yet opened; ``bus`` is open before it is."""
    from bester.store.jetstream.leases import JetStreamLeases
    from bester.store.jetstream.names import Names

    assert config.cluster is not None
    return JetStreamLeases(bus, Names(config.server.name), config.cluster.replicas)


@asynccontextmanager
async def open_stores(config: Config, messages: bool = True) -> AsyncIterator[tuple[AccountStore, MessageStore]]:
    """Opens the stores of a server that does not run, on this machine at least; they are closed at the end.

    Where ``messages`` are not wanted, theirs is not opened.

    Raises:
        BadConfiguration: they cannot be opened.
    """
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(config, "bester")) if config.cluster is not None else None
        stores = make_stores(config, bus=bus)
        for store in stores if messages else stores[:1]:
            stack.push_async_callback(store.close)
            await store.open()
        yield stores


@asynccontextmanager
async def open_bus(config: Config, what: str) -> AsyncIterator[Bus]:
    """Connects to the NATS of the configuration's ``cluster``; ``what`` is shown to its operators.

    Raises:
        BadConfiguration: it cannot be reached or entered.
    """
    from bester.bus.connection import Bus
    from bester.server.cluster.node import bus_options

    assert config.cluster is not None
    bus = Bus(bus_options(config.cluster), f"{config.server.name} {what}")
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()


def make_receipts(config: Config, now: Callable[[], float], bus: Bus | None = None, node: str = "") -> ReceiptStore:
    """Returns what keeps receipts, not yet opened: a file of this server's, or a stream that its nodes share.

    ``now`` is the steady clock by which the file's receipts grow old.
    """
    if bus is not None and config.cluster is not None:
        from bester.store.jetstream.names import Names
        from bester.store.jetstream.receipts import JetStreamReceipts

        names, replicas = Names(config.server.name), config.cluster.replicas
        return JetStreamReceipts(bus, names, node, bounds_of(config), replicas)
    return SqliteReceipts(config.storage.receipts, now)


def _database(config: Config, on_lost: Callable[[BaseException], None] | None) -> Database:
    from bester.store.database import Database

    return Database(config.storage.path, on_lost=on_lost, reserve=config.storage.reserve)


def _accounts(config: Config, database: Database) -> AccountStore:
    if config.database.type == "redis":
        from bester.store.redis import RedisAccounts

        redis = config.database.redis
        return RedisAccounts(
            redis.address,
            redis.port,
            database=redis.database,
            username=redis.username,
            password=redis.password,
            prefix=redis.prefix,
        )
    from bester.store.sqlite import SqliteAccounts

    return SqliteAccounts(database)
