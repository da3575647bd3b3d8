"""Moves a SQLite server into the cluster that a configuration names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bester.config import Config
from bester.server.stores import layout_of, open_bus
from bester.store.import_source import Source
from bester.store.importing import Import, Imported
from bester.store.jetstream.names import Names


async def run_import(
    config: Config, path: Path, on_progress: Callable[[str, int, int], None] = lambda table, done, total: None
) -> Imported:
    """Moves what a database holds and no earlier run has moved; the database is only read.

    Args:
        config: of a node, with its ``cluster``.
        path: the database.
        on_progress: takes a table, how many of its rows are done, and how many it has.

    Raises:
        BadConfiguration: the database cannot be read, or is in use; or NATS cannot be used.
        BesterError: it broke off; it can be run again.
    """
    assert config.cluster is not None
    source = Source(path)
    try:
        async with open_bus(config, "import") as bus:
            names, keeping = Names(config.server.name), layout_of(config.cluster)
            return await Import(source, bus, names, keeping, on_progress).run()
    finally:
        source.close()
