"""Inserting many rows with few statements."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from bester.store.rows import SIZES, insert_rows


@pytest.mark.parametrize("count", [0, 1, SIZES[1], SIZES[0] - 1, SIZES[0], 2 * SIZES[0] + SIZES[1] + 3])
def test_all_rows_are_inserted_in_their_order(count: int) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
        rows = [(None, b"%d" % number) for number in range(count)]
        assert insert_rows(connection, "INSERT INTO t (a, b)", rows) == count
        assert connection.execute("SELECT b FROM t ORDER BY a").fetchall() == [(data,) for _, data in rows]


def test_rows_that_are_ignored_do_not_count() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        into = "INSERT OR IGNORE INTO t (a, b)"
        assert insert_rows(connection, into, [(number, "first") for number in range(0, 100, 2)]) == 50
        assert insert_rows(connection, into, [(number, "second") for number in range(100)]) == 50
        assert connection.execute("SELECT count(*) FROM t WHERE b = 'first'").fetchone() == (50,)
