"""Workers: each runs one database's jobs in order, a batch at a time, apart from the code that submits them.

:class:`~bester.store.database.Database` says what is done with a batch; a worker says where and when. A server has a
:class:`ThreadWorker`. A simulation chooses another with :data:`make_worker`, in its own context.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, Protocol

MAX_BATCH = 1024
"""The most jobs in one batch, so that the first of them do not wait for long."""


class Job(NamedTuple):
    """Work that waits for the database, with the future of its result."""

    work: Callable[[sqlite3.Connection], Any]
    writes: bool
    adds: bool
    """Whether it needs space that it does not free again."""
    future: asyncio.Future[Any]


class Outcome(NamedTuple):
    """The result of one job."""

    future: asyncio.Future[Any]
    value: Any
    error: Exception | None


Serving = Generator[None, list[Job], None]
"""Opens the database when it is started, serves each batch that it is sent, and closes the database when it is sent an
empty one. It ends at once if the database cannot be opened."""
Resolve = Callable[[list[Outcome]], None]
"""Gives outcomes to the futures; runs on the loop."""


class Worker(Protocol):
    """Runs a :data:`Serving`."""

    @property
    def waiting(self) -> int:
        """About how many jobs it has not begun."""

    def start(self, serving: Serving) -> None:
        """Starts the serving, once."""

    def submit(self, job: Job) -> None:
        """Appends a job; called on the loop, after :meth:`start`."""

    def deliver(self, outcomes: list[Outcome]) -> None:
        """Has outcomes resolved on the loop; called by the serving, in any number for a batch."""

    def finish(self) -> None:
        """Ends the serving after all jobs submitted so far; called once, and nothing is submitted after it."""

    def join(self) -> None:
        """Frees what the worker has; called after the serving delivered its last outcomes."""


class ThreadWorker:
    """Runs batches on a thread of its own: while it commits one, the next collects."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()

    @property
    def waiting(self) -> int:
        return self._jobs.qsize()

    def start(self, serving: Serving) -> None:
        # A daemon, so that a program that fails without closing can still exit; completed writes are on disk.
        self._thread = Thread(target=self._run, args=(serving,), name="bester-database", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        self._jobs.put(job)

    def finish(self) -> None:
        self._jobs.put(None)

    def join(self) -> None:
        self._thread.join()

    # -- on the thread -------------------------------------------------------------------------------------------

    def deliver(self, outcomes: list[Outcome]) -> None:
        if outcomes:
            with suppress(RuntimeError):  # the loop is closed, and no caller waits
                self._loop.call_soon_threadsafe(self._resolve, outcomes)

    def _run(self, serving: Serving) -> None:
        with suppress(StopIteration):
            next(serving)
            more = True
            while more:
                batch, more = self._next_batch()
                if batch:
                    serving.send(batch)
            serving.send([])

    def _next_batch(self) -> tuple[list[Job], bool]:
        batch: list[Job] = []
        job = self._jobs.get()
        with suppress(Empty):
            while job is not None:
                batch.append(job)
                if len(batch) == MAX_BATCH:
                    return batch, True
                job = self._jobs.get_nowait()
            return batch, False
        return batch, True


make_worker: ContextVar[Callable[[Resolve], Worker]] = ContextVar("make_worker", default=ThreadWorker)
"""Makes the worker of each database that is opened in this context; called on the loop."""
