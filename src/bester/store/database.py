"""One SQLite file that is owned by one thread.

The event loop puts jobs into a queue; the thread takes all that are waiting as one batch, runs them in their order in
one transaction, commits once (one fsync for all of them), and wakes the loop once with all the results. While it
commits, the next batch gathers: the busier it is, the less a write costs. Each write has a savepoint of its own, so
one that fails takes back only itself. Nothing is answered before its transaction is on disk.

A commit that fails for want of room took nothing into the file. One that fails otherwise (an fsync) has an unknown
outcome: then nothing more is served, and the owner is told, so that it can stop (docs/protocol.md, section 4).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar

from bester.errors import BadConfiguration, Internal, StorageFull

BUSY_TIMEOUT_S = 5.0
"""How long another process, such as a backup, can hold the file before jobs fail."""
MAX_BATCH = 1024
"""The most jobs in one transaction, so that the first of them do not wait for long."""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""Runs on the thread, in a transaction if it writes; it neither begins nor ends one."""
Migration = Sequence[str]
"""The statements that lead from one version of the schema to the next."""


class Database:
    """Runs work on one SQLite file.

    Args:
        path: the file; made with mode 0600 where there is none.
        migrations: the one at index N leads from version N of the schema to N + 1; only ever appended to.
        on_lost: called on the loop, before those who wait learn of it, when a commit's outcome is unknown.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        migrations: Sequence[Migration],
        on_lost: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self._migrations = migrations
        self._on_lost = on_lost
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._accepts = False
        self._lost: BaseException | None = None

    async def open(self) -> None:
        """Starts the thread, and brings the schema up to date.

        Raises:
            BadConfiguration: the file cannot be used; the message names it and says what to do.
        """
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        opened: asyncio.Future[None] = self._loop.create_future()
        # A daemon, so that a program that fails without closing can still exit; what was answered is on disk.
        self._thread = Thread(target=self._run, args=(opened,), name="bester-database", daemon=True)
        self._accepts = True
        self._thread.start()
        try:
            await opened
        except Exception:
            await self.close()
            raise

    async def close(self) -> None:
        """Finishes all jobs that were submitted, and ends the thread; more than once does no harm."""
        if self._thread is None:
            return
        if self._accepts:
            self._accepts = False
            self._jobs.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()  # it has nothing left to do

    def write(self, work: Work[T]) -> asyncio.Future[T]:
        """Runs work that changes something; the result comes when it is on disk.

        Raises:
            StorageFull: the disk, or the file's largest size, is full; nothing was changed.
            Internal: anything else that SQLite says, or the database is closed.
        """
        return self._submit(work, True)

    def read(self, work: Work[T]) -> asyncio.Future[T]:
        """Runs work that changes nothing; it sees all that was submitted before it.

        Raises:
            Internal: anything that SQLite says, or the database is closed.
        """
        return self._submit(work, False)

    def _submit(self, work: Work[T], writes: bool) -> asyncio.Future[T]:
        if not self._accepts:
            raise Internal("the database is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, writes, future))
        return future

    # -- on the thread -------------------------------------------------------------------------------------------

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            connection = connect(self.path, self._migrations)
        except Exception as error:
            self._deliver([_Outcome(opened, None, error), _Outcome(self._ended, None, None)])
            return
        self._deliver([_Outcome(opened, None, None)])
        more = True
        while more:
            batch, more = self._next_batch()
            self._deliver(self._serve(connection, batch))
        with suppress(sqlite3.Error):  # what is committed stays in the log and is found there
            connection.close()
        self._deliver([_Outcome(self._ended, None, None)])

    def _next_batch(self) -> tuple[list[_Job], bool]:
        batch: list[_Job] = []
        job = self._jobs.get()
        with suppress(Empty):
            while job is not None:
                batch.append(job)
                if len(batch) == MAX_BATCH:
                    return batch, True
                job = self._jobs.get_nowait()
            return batch, False
        return batch, True

    def _serve(self, connection: sqlite3.Connection, batch: list[_Job]) -> list[_Outcome]:
        if self._lost is not None:
            return _all_failed(batch, self._lost)
        try:
            outcomes = [_attempt(connection, job) for job in batch]
        except sqlite3.Error as error:
            _roll_back(connection)
            return _all_failed(batch, error)
        if connection.in_transaction:
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                _roll_back(connection)
                if not _is_full(error):
                    self._lost = error
                return _all_failed(batch, error)
        return outcomes

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        if outcomes:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._resolve, outcomes)

    # -- on the loop ---------------------------------------------------------------------------------------------

    def _resolve(self, outcomes: list[_Outcome]) -> None:
        if self._lost is not None and self._on_lost is not None:
            on_lost, self._on_lost = self._on_lost, None
            on_lost(self._lost)
        for future, value, error in outcomes:
            if future.done():  # cancelled
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)


class _Job(NamedTuple):
    work: Work[Any]
    writes: bool
    future: asyncio.Future[Any]


class _Outcome(NamedTuple):
    future: asyncio.Future[Any]
    value: Any
    error: Exception | None


def connect(path: str, migrations: Sequence[Migration]) -> sqlite3.Connection:
    """Opens the file for the thread that calls, made and brought up to date where needed.

    Raises:
        BadConfiguration: it cannot be used; the message names the file and says what to do.
    """
    try:
        _make_private(path)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=256)
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves it in the disk's cache
            connection.execute("PRAGMA foreign_keys = ON")
            _migrate(connection, path, migrations)
        except BaseException:
            connection.close()
            raise
    except OSError as error:
        raise BadConfiguration(
            f"the database {path} cannot be opened: {error.strerror}; check storage.path and who may write there"
        ) from error
    except sqlite3.Error as error:
        raise BadConfiguration(f"the database {path} {_advice(error)}") from error
    return connection


def _make_private(path: str) -> None:
    # SQLite would make the file readable for all; its log and index files take the mode of the file.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if os.stat(path).st_mode & 0o077 and os.path.isfile(path):
            os.chmod(path, 0o600)


def _migrate(connection: sqlite3.Connection, path: str, migrations: Sequence[Migration]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= len(migrations):
        raise BadConfiguration(
            f"the database {path} has version {version} of the schema, and this Bester knows versions up to "
            f"{len(migrations)}; run the newer Bester that wrote it, or restore a copy from before"
        )
    for migration in migrations[version:]:
        for statement in migration:
            connection.execute(statement)
    if version < len(migrations):
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
    connection.execute("COMMIT")


def _advice(error: sqlite3.Error) -> str:
    match _primary_code(error):
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return "is damaged, or not a database; restore a copy, or move it away to begin with an empty one"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return "cannot be opened for writing; check the owner and mode of the file and of its folder"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "is held by another process; stop that one first"
        case sqlite3.SQLITE_FULL:
            return "cannot be written: its disk is full"
        case _:
            return f"cannot be used: {error}"


def _attempt(connection: sqlite3.Connection, job: _Job) -> _Outcome:
    """Runs one job of a batch. Raises sqlite3.Error if the batch's whole transaction was undone."""
    if job.writes:
        if not connection.in_transaction:
            connection.execute("BEGIN IMMEDIATE")
        connection.execute("SAVEPOINT job")
    began = connection.in_transaction
    try:
        value = job.work(connection)
    except Exception as error:
        # Some failures, such as a full disk, make SQLite undo the whole transaction by itself.
        if began and not connection.in_transaction:
            raise error if isinstance(error, sqlite3.Error) else sqlite3.DatabaseError("undone") from error
        if job.writes:
            connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
        return _Outcome(job.future, None, _translated(error))
    if job.writes:
        connection.execute("RELEASE job")
    return _Outcome(job.future, value, None)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _all_failed(batch: list[_Job], cause: BaseException) -> list[_Outcome]:
    return [_Outcome(job.future, None, _translated(cause)) for job in batch]


def _translated(error: BaseException) -> Exception:
    if not isinstance(error, sqlite3.Error):
        assert isinstance(error, Exception)
        return error
    translated = StorageFull() if _is_full(error) else Internal("the database failed; the log says how")
    translated.__cause__ = error
    return translated


def _is_full(error: sqlite3.Error) -> bool:
    return _primary_code(error) == sqlite3.SQLITE_FULL


def _primary_code(error: sqlite3.Error) -> int:
    # Errors that Python's module raises by itself, such as for wrong arguments, have no code.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
