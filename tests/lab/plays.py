"""Handlers for plays, and what most plays begin with."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bester import Handler, Reply, Request, Response, SendClients, SendServers
from bester.testing import LabWorld, Site


def make_counter(folder: Path) -> Handler:
    """Counts in memory and in a file; passes on what another server's client is to get."""
    book = sqlite3.connect(folder / "counter.db", isolation_level=None)
    book.execute("PRAGMA journal_mode = WAL")
    book.execute("CREATE TABLE IF NOT EXISTS counted (n INTEGER PRIMARY KEY)")
    in_memory = 0
    handler = Handler()

    @handler.on("count")
    def count(_: Request) -> Response:
        nonlocal in_memory
        in_memory += 1
        return Reply([in_memory, book.execute("INSERT INTO counted VALUES (NULL)").lastrowid])

    @handler.on("far")
    def far(message: Request) -> Response:
        if message.scope == "client":
            return SendServers([message.data["server"]], message.data)
        return SendClients([message.data["user"]], [message.sender.server, message.sender.verified])

    return handler


def handler_of(function: Callable[[Request], Any], **options: Any) -> Callable[[Path], Handler]:
    """Returns a factory of handlers with one function, for the type ``do``."""

    def make(_: Path) -> Handler:
        handler = Handler()
        handler.on("do", **options)(function)
        return handler

    return make


async def started(world: LabWorld, *handlers: Callable[[Path], Handler]) -> tuple[Site, Any]:
    site = world.server("shop.example", handlers=handlers or [make_counter])
    await world.start()
    return site, await world.client(site, "ann")
