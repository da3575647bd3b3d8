"""The database of a SQLite server, as it is read to be moved into a cluster (:mod:`bester.store.importing`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bester.clock import SavedTime
from bester.errors import BadConfiguration
from bester.store.opening import BUSY_TIMEOUT_S, Lock, problems_of
from bester.store.schema import MIGRATIONS

PAGE = 250
PAGE_BYTES = 8 * 1024 * 1024

Row = tuple[Any, ...]


class Source:
    """The database of a SQLite server that does not run.

    Args:
        path: the file, which is locked until :meth:`close`.
        page_rows: how many rows a page has at most.

    Raises:
        BadConfiguration: the database is in use, cannot be read, is damaged, or is of another release.
    """

    def __init__(self, path: Path, page_rows: int = PAGE) -> None:
        self.path = path
        self._page_rows = page_rows
        if not path.is_file():
            raise BadConfiguration(f"there is no database {path}")
        try:
            self._lock = Lock(str(path))
        except OSError as error:
            raise BadConfiguration(
                f"the database {path} cannot be held: {error.strerror}; its folder must be writable"
            ) from error
        try:
            self._connection = self._opened()
        except BaseException:
            self._lock.release()
            raise

    def _opened(self) -> sqlite3.Connection:
        # Without a log that has to be read, SQLite needs no files beside this one either.
        mode = "mode=ro" if self.path.with_name(f"{self.path.name}-wal").exists() else "immutable=1"
        try:
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?{mode}", uri=True, timeout=BUSY_TIMEOUT_S)
        except sqlite3.Error as error:
            raise BadConfiguration(f"the database {self.path} cannot be read: {error}") from error
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            problems = problems_of(connection)
        except sqlite3.Error as error:
            connection.close()
            raise BadConfiguration(f"the database {self.path} cannot be read: {error}") from error
        if version == len(MIGRATIONS) and not problems:
            return connection
        connection.close()
        if problems:
            raise BadConfiguration(f"the database {self.path} is damaged: {problems[0]}")
        raise BadConfiguration(
            f"the database {self.path} is of another release: start and stop a server of this release with it first"
        )

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """Returns at most a page of rows, by number and by bytes; the last column is the largest."""
        found: list[Row] = []
        size = 0
        try:
            with closing(self._connection.execute(statement, values)) as rows:
                for row in rows:
                    found.append(row)
                    size += len(row[-1]) if isinstance(row[-1], bytes) else 0
                    if size > PAGE_BYTES or len(found) == self._page_rows:
                        break
        except sqlite3.Error as error:
            raise BadConfiguration(f"the database {self.path} cannot be read: {error}") from error
        return found

    def kept_time(self) -> SavedTime | None:
        """Returns the time of its server's clock when it stopped."""
        found = self.rows("SELECT steady, wall, elapsed, boot FROM clock")
        return SavedTime(*found[0]) if found else None

    def count(self, table: str) -> int:
        """Returns how many rows a table has."""
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])

    def close(self) -> None:
        """Closes the database, and unlocks it."""
        self._connection.close()
        self._lock.release()


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the database, which is read in the order of its key."""

    name: str
    key: tuple[str, ...]
    first: Row
    check: tuple[str, ...]
    """Columns that must also be equal in the row where an earlier run ended; else that was another database."""
    columns: str

    def page(self, source: Source, after: Row) -> list[Row]:
        keys = ", ".join(self.key)
        marks = ", ".join("?" * len(self.key))
        columns = ", ".join((*self.key, *self.check, self.columns))
        return source.rows(
            f"SELECT {columns} FROM {self.name} WHERE ({keys}) > ({marks}) ORDER BY {keys}",
            after,
        )

    def place(self, row: Row) -> list[Any]:
        return [one.hex() if isinstance(one, bytes) else one for one in row[: len(self.key) + len(self.check)]]

    def found(self, source: Source, place: Sequence[Any]) -> Row | None:
        """Returns the key at which an earlier run ended; None if this database has no such row."""
        columns = (*self.key, *self.check)
        if len(place) != len(columns):
            return None
        wanted = [bytes.fromhex(one) if name == "key" else one for name, one in zip(columns, place, strict=True)]
        condition = " AND ".join(f"{name} = ?" for name in columns)
        there = source.rows(f"SELECT 1 FROM {self.name} WHERE {condition}", wanted)
        return tuple(wanted[: len(self.key)]) if there else None

    def done(self, source: Source, after: Row) -> int:
        """Returns how many rows there are up to a key, included."""
        keys, marks = ", ".join(self.key), ", ".join("?" * len(self.key))
        ((count,),) = source.rows(f"SELECT count(*) FROM {self.name} WHERE ({keys}) <= ({marks})", after)
        return int(count)


ACCOUNTS = Table("account", ("username",), ("",), ("created",), "password_hash, roles")
LETTERS = Table("letter", ("position",), (0,), ("username", "delivery_id"), "expires, type, data")
OUTGOING = Table(
    "outgoing",
    ("position",),
    (0,),
    ("destination", "message_id"),
    "created, dead, tries, next_try, last_error, hops, trace, type, data",
)
TRUST = Table("trust", ("holder", "sender"), ("", ""), (), "created")
HELD = Table("held", ("position",), (0,), ("holder", "id"), "created, released, head, data")
ONCE = Table("once", ("created", "key"), (float("-inf"), b""), (), "digest, report")
