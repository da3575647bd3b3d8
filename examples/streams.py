"""Answers that come piece by piece. Each ends early when its client leaves, and waits when its client is slow."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Literal

from bester import Handler

handler = Handler(name="streams")


@handler.on("tokens")
async def tokens(prompt: str) -> AsyncIterator[str]:
    """Answers as a language model does, token by token: your model's stream takes the place of split()."""
    for token in f"You said: {prompt}".split():
        await asyncio.sleep(0.01)
        yield token


@handler.on("export", thread=True)
def export(since: int) -> Iterator[list[tuple[int, str]]]:
    """Exports a table of any length, 500 rows a part; threads take turns, so none of them owns the connection."""
    with closing(sqlite3.connect("export.db", check_same_thread=False)) as book:
        rows = book.execute("SELECT id, text FROM line WHERE id >= ? ORDER BY id", [since])
        while some := rows.fetchmany(500):
            yield some


@handler.on("tail")
async def tail(log: Literal["access.log", "error.log"]) -> AsyncIterator[str]:
    """Tells the lines of a log, and from then on each new one, until the client has seen enough."""
    with open(log, encoding="utf-8") as lines:
        while True:
            if line := lines.readline():
                yield line.rstrip("\n")
            else:
                await asyncio.sleep(0.2)
