"""A SQLite database that one worker owns, usually a thread (:mod:`bester.store.worker`).

The event loop hands jobs to the worker. It takes all waiting jobs as one batch, runs them in order in one transaction,
commits once (one fsync for all of them), and wakes the loop once with all results. While it commits, the next batch
collects: the busier it is, the less a write costs. Each write has a savepoint of its own, so a failure undoes only that
write. No job has a result before its transaction is on disk.

Work that adds is refused while less than the reserve is free on the file system. The reserve is for removals, which
need some space before they free any. If something else fills the disk, a ballast file is removed to make space.

A commit that fails because the disk is full changed nothing in the file. A commit that fails otherwise (an fsync) has
an unknown outcome: then nothing more is served, and the owner is told, so that it can stop (docs/protocol.md, section
4). An fsync that fails in a checkpoint changes no outcome: the log remains valid until the checkpoint has succeeded.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import TypeVar

from bester.errors import BesterError, Internal, StorageFull
from bester.store.disk_space import DiskSpace
from bester.store.opening import Lock, Migration, connect, disconnect, refusals
from bester.store.schema import MIGRATIONS
from bester.store.worker import Job, Outcome, Serving, Worker, make_worker

log = logging.getLogger("bester.database")

RESERVE = 64 * 1024 * 1024

COMMIT_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds by which commits are counted, in seconds."""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""Runs on the worker, in a transaction if it writes, which it neither begins nor ends. It may run again after its
transaction was rolled back."""


class Database:
    """Runs work on one SQLite database, which several stores can share.

    Args:
        path: the file; created with mode 0600 if it does not exist.
        migrations: the one at index N leads from version N of the schema to N + 1; new ones are only appended.
        on_lost: called on the loop when a commit's outcome is unknown, before its jobs fail.
        reserve: how many bytes of the file system are kept free for work that does not add.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        migrations: Sequence[Migration] = MIGRATIONS,
        on_lost: Callable[[BaseException], None] | None = None,
        reserve: int = RESERVE,
    ) -> None:
        self.path = os.fspath(path)
        self._migrations = migrations
        self._on_lost = on_lost
        self._space = DiskSpace(self.path, reserve)
        self._worker: Worker | None = None
        self._users = 0
        self._accepts = False
        self._lost: BaseException | None = None
        self.commits = [0] * (len(COMMIT_BOUNDS_S) + 1)
        """Commits by how long they took: up to each of the bounds, and longer. Written only by the worker."""
        self.commit_seconds = 0.0

    async def open(self) -> None:
        """Starts the worker, and migrates the schema; only counts the user if already open.

        Raises:
            BadConfiguration: the file cannot be used; the message names it and says what to do.
        """
        self._users += 1
        if self._users == 1:
            self._loop = asyncio.get_running_loop()
            self._ended: asyncio.Future[None] = self._loop.create_future()
            self._opened: asyncio.Future[None] = self._loop.create_future()
            self._worker = make_worker.get()(self._resolve)
            self._accepts = True
            self._worker.start(self._serving(self._worker))
        try:
            await asyncio.shield(self._opened)
        except Exception:
            await self.close()
            raise

    async def close(self) -> None:
        """Finishes all submitted jobs and ends the worker, unless other users have it open.

        Must be called once for each :meth:`open`; with one user, further calls do nothing.
        """
        self._users = max(0, self._users - 1)
        if self._worker is None or self._users:
            return
        if self._accepts:
            self._accepts = False
            self._worker.finish()
        await asyncio.shield(self._ended)
        self._opened.exception()  # the callers of open() have it
        self._worker.join()  # it has nothing left to do

    @property
    def waiting(self) -> int:
        """About how many jobs the worker has not begun."""
        return 0 if self._worker is None else self._worker.waiting

    def write(self, work: Work[T], *, adds: bool = False) -> asyncio.Future[T]:
        """Runs work that changes something; the result comes when it is on disk.

        Args:
            work: a function of the connection.
            adds: whether it needs space that it does not free again; refused when space is low.

        Raises:
            StorageFull: the disk, or the file's largest size, is full; nothing was changed.
            Internal: anything else that SQLite says, or the database is closed.
        """
        return self._submit(work, True, adds)

    def read(self, work: Work[T]) -> asyncio.Future[T]:
        """Runs work that changes nothing; it sees the effects of all work submitted before it.

        Raises:
            Internal: anything that SQLite says, or the database is closed.
        """
        return self._submit(work, False, False)

    def _submit(self, work: Work[T], writes: bool, adds: bool) -> asyncio.Future[T]:
        if self._worker is None or not self._accepts:
            raise Internal("the database is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._worker.submit(Job(work, writes, adds, future))
        return future

    # -- on the worker -------------------------------------------------------------------------------------------

    def _serving(self, worker: Worker) -> Serving:
        try:
            with refusals(self.path):
                lock = Lock(self.path)
            try:
                opened = connect(self.path, self._migrations)
            except BaseException:
                lock.release()
                raise
        except Exception as error:
            worker.deliver([Outcome(self._opened, None, error), Outcome(self._ended, None, None)])
            return
        with closing(opened) as connection:
            worker.deliver([Outcome(self._opened, None, None)])
            while batch := (yield):
                self._serve(worker, connection, batch)
            self._space.remove_ballast()
            disconnect(connection, clean=self._lost is None)
        lock.release()
        worker.deliver([Outcome(self._ended, None, None)])

    def _serve(self, worker: Worker, connection: sqlite3.Connection, batch: list[Job]) -> None:
        if self._lost is not None:
            worker.deliver(self._all_failed(batch, self._lost))
            return
        if any(job.adds for job in batch) and self._space.is_low(connection):
            # These fail at once, and not when the others are on disk.
            worker.deliver([Outcome(job.future, None, StorageFull()) for job in batch if job.adds])
            batch = [job for job in batch if not job.adds]
        try:
            worker.deliver(self._transact(connection, batch))
        except sqlite3.Error as error:
            if not _is_full(error):
                worker.deliver(self._all_failed(batch, error))
                return
            # Work that adds took the space that removals need.
            worker.deliver(self._all_failed([job for job in batch if job.adds], error))
            for job in batch:
                if not job.adds:
                    self._serve_on_full_disk(worker, connection, job)

    def _serve_on_full_disk(self, worker: Worker, connection: sqlite3.Connection, job: Job) -> None:
        """Runs separately a job that did not fit with others, in the space of the log, which is emptied before."""
        if self._lost is not None:  # with one before it
            worker.deliver(self._all_failed([job], self._lost))
            return
        try:
            self._space.remove_ballast()
            self._space.checkpoint(connection)
            worker.deliver(self._transact(connection, [job]))
            self._space.checkpoint(connection)
        except sqlite3.Error as error:
            worker.deliver(self._all_failed([job], error))

    def _transact(self, connection: sqlite3.Connection, batch: list[Job]) -> list[Outcome]:
        """Runs jobs and commits. Raises sqlite3.Error if all of them were rolled back."""
        several = sum(job.writes for job in batch) > 1
        try:
            outcomes = [_attempt(connection, job, several, self.path) for job in batch]
        except sqlite3.Error:
            _roll_back(connection)
            raise
        if connection.in_transaction:
            began = time.perf_counter()
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                _roll_back(connection)
                if not _is_full(error):
                    self._lost = error
                raise
            took_s = time.perf_counter() - began
            self.commits[bisect_left(COMMIT_BOUNDS_S, took_s)] += 1
            self.commit_seconds += took_s
        return outcomes

    def _all_failed(self, batch: list[Job], cause: BaseException) -> list[Outcome]:
        return [Outcome(job.future, None, _translated(cause, self.path)) for job in batch]

    # -- on the loop ---------------------------------------------------------------------------------------------

    def _resolve(self, outcomes: list[Outcome]) -> None:
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


class SqliteStore:
    """A store in a database that other stores may share; the base class of the SQLite drivers.

    Args:
        database: the database, or the path of its file.
        on_lost: as for :class:`Database`, if a path is given.
    """

    def __init__(
        self, database: Database | str | os.PathLike[str], on_lost: Callable[[BaseException], None] | None = None
    ) -> None:
        self.database = database if isinstance(database, Database) else Database(database, on_lost=on_lost)
        self._is_open = False

    async def open(self) -> None:
        if not self._is_open:
            self._is_open = True  # also when this is cancelled, so that it is closed then
            try:
                await self.database.open()
            except Exception:
                self._is_open = False
                raise

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            await self.database.close()


def _attempt(connection: sqlite3.Connection, job: Job, several: bool, path: str) -> Outcome:
    """Runs one job of a batch. Raises sqlite3.Error if the batch's whole transaction was rolled back."""
    if job.writes:
        if not connection.in_transaction:
            connection.execute("BEGIN IMMEDIATE")
        if several:
            connection.execute("SAVEPOINT job")
    began = connection.in_transaction
    try:
        value = job.work(connection)
    except Exception as error:
        # Some failures, such as a full disk, make SQLite roll back the whole transaction by itself. And on a full disk,
        # the others may succeed without the job that failed.
        if isinstance(error, sqlite3.Error) and _is_full(error):
            raise
        if began and not connection.in_transaction:
            raise error if isinstance(error, sqlite3.Error) else sqlite3.DatabaseError("undone") from error
        if job.writes:
            if several:
                connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
            else:
                connection.execute("ROLLBACK")
        return Outcome(job.future, None, _translated(error, path))
    if job.writes and several:
        connection.execute("RELEASE job")
    return Outcome(job.future, value, None)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _translated(error: BaseException, path: str) -> Exception:
    if not isinstance(error, sqlite3.Error):
        assert isinstance(error, Exception)
        return error
    if _is_full(error):
        translated: BesterError = StorageFull()
    else:
        log.error("the database %s failed: %s", path, error)
        translated = Internal("the database failed; the log says how")
    translated.__cause__ = error
    return translated


def _is_full(error: sqlite3.Error) -> bool:
    return _primary_code(error) == sqlite3.SQLITE_FULL


def _primary_code(error: sqlite3.Error) -> int:
    # Errors that Python's module raises by itself, such as for wrong arguments, have no code.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
