"""Messages for accounts that are away: how fast they are put on disk."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from bench.figures import OURS
from bench.run import Run
from bester.store.messages import SqliteMessages
from bester.store.ports import Letter, MailboxBounds

BATCHES = (64, 256, 1024)
SIZE = 512
"""Bytes of data in each."""
ACCOUNTS = 1000
BARE = "bare sqlite3"
BOUNDS = MailboxBounds(messages=10**9, bytes=10**15, lifetime_s=86_400.0)


def keeping(run: Run, stack: ExitStack) -> None:
    """Measures ours, and a loop that only inserts, with the same batches and as safe on disk."""
    for batch in BATCHES:
        scenario = f"keeping, {batch} at a time"
        for _ in range(run.rounds):
            for peer, measure in ((OURS, _ours), (BARE, _bare)):
                run.progress(f"{scenario}: {peer}")
                run.figures.add(scenario, peer, "letters/s", measure(run.peers.new_folder(), batch, run.seconds))


def _batches(batch: int) -> Iterator[list[Letter]]:
    """Letters to one account after the other."""
    data = b'"' + b"x" * (SIZE - 2) + b'"'
    numbers = itertools.count()
    while True:
        yield [
            Letter(f"user{number % ACCOUNTS}", f"{number:032x}", "text", data)
            for number in itertools.islice(numbers, batch)
        ]


def _ours(folder: Path, batch: int, seconds: float) -> float:
    async def measure() -> float:
        store = SqliteMessages(folder / "messages.db")
        await store.open()
        try:
            batches = _batches(batch)
            began, count = time.perf_counter(), 0
            pending = asyncio.ensure_future(store.deposit(next(batches), BOUNDS, 1.0))
            while time.perf_counter() - began < seconds:
                # As a server does: the next batch gathers while the last one is written.
                following = asyncio.ensure_future(store.deposit(next(batches), BOUNDS, 1.0))
                await pending
                count += batch
                pending = following
            took_s = time.perf_counter() - began
            await pending
            return count / took_s
        finally:
            await store.close()

    return asyncio.run(measure())


def _bare(folder: Path, batch: int, seconds: float) -> float:
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").close()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE letter (position INTEGER PRIMARY KEY, username, delivery_id, type, data)")
        batches = _batches(batch)

        def write() -> None:
            rows = [(one.username, one.delivery_id, one.type, one.data) for one in next(batches)]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO letter (username, delivery_id, type, data) VALUES (?, ?, ?, ?)", rows
            ).close()
            connection.execute("COMMIT")

        return _rate(write, batch, seconds)


def _rate(write: Callable[[], None], batch: int, seconds: float) -> float:
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        write()
        count += batch
    return count / (time.perf_counter() - began)
