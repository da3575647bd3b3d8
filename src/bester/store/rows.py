"""Inserts many rows with few statements.

Python gives up its lock around each statement, and the thread has to wait for it again when the event loop is busy. A
thread that inserts row by row would spend most of its time waiting.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

SIZES = (64, 8, 1)
"""How many rows a statement inserts: few sizes, so that all of them stay prepared."""


def insert_rows(connection: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]], otherwise: str = "") -> int:
    """Inserts rows in their order, and returns how many of them were not ignored.

    Args:
        connection: is in a transaction.
        into: the statement up to its values, such as ``INSERT OR IGNORE INTO t (a, b)``.
        rows: one value for each column.
        otherwise: what the statement says after its values, such as ``ON CONFLICT DO NOTHING``.
    """
    inserted = at = 0
    for size in SIZES:
        while len(rows) - at >= size:
            some = rows[at : at + size]
            statement = _statement(into, size, len(some[0]), otherwise)
            inserted += connection.execute(statement, [*chain.from_iterable(some)]).rowcount
            at += size
    return inserted


@cache
def _statement(into: str, rows: int, columns: int, otherwise: str) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"{into} VALUES {', '.join([row] * rows)} {otherwise}"
