"""The stores and the bus that a configuration names; drivers are imported where they are configured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from bester.bus.connection import Bus
from bester.bus.options import BusOptions
from bester.config import Config
from bester.config.cluster import Cluster
from bester.server.settings import receipt_bounds
from bester.store.ports import AccountStore, LeaseStore, MessageStore
from bester.store.receipts import ReceiptStore, SqliteReceipts

if TYPE_CHECKING:
    from bester.store.database import Database
    from bester.store.jetstream.partitions import Layout


def bus_options(cluster: Cluster) -> BusOptions:
    """Returns how NATS is reached, as the configuration says."""
    return BusOptions(
        cluster.nats,
        cluster.user,
        cluster.password,
        cluster.token,
        cluster.credentials,
        cluster.nkey,
        cluster.ca,
        cluster.certificate,
        cluster.key,
    )


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
    """Returns how the streams of a cluster keep things, as the configuration says."""
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
        return JetStreamReceipts(bus, names, node, receipt_bounds(config), replicas)
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
