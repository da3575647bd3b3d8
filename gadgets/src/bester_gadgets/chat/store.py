"""The chat's SQLite file, which one thread owns.

The event loop puts jobs into a queue. The thread takes all that wait, runs them in their order in one transaction, each
in a savepoint of its own, and commits once; only then are they answered. So nobody is told of what is not on disk, and
the busier it is, the less a commit costs.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from bester.clock import CLOCK_SCHEMA, SteadyClock, read_saved_time, save_time, save_time_when_due
from bester.errors import BadConfiguration
from bester_gadgets.settings import reason

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
MAX_BATCH = 256

MIGRATIONS = (
    """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE people (user TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE messages (
        ref INTEGER PRIMARY KEY, sender TEXT NOT NULL, id TEXT NOT NULL, target TEXT NOT NULL,
        time INTEGER NOT NULL, text TEXT NOT NULL, n INTEGER, UNIQUE (sender, id, target));
    CREATE INDEX messages_time ON messages (time);
    CREATE TABLE entries (
        owner TEXT NOT NULL, pos INTEGER NOT NULL, changed INTEGER NOT NULL, talk TEXT NOT NULL,
        ref INTEGER NOT NULL REFERENCES messages, mine INTEGER NOT NULL, state INTEGER NOT NULL,
        reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (owner, pos)) WITHOUT ROWID;
    CREATE INDEX entries_of_talk ON entries (owner, talk, pos);
    CREATE INDEX entries_changed ON entries (owner, changed);
    CREATE INDEX entries_of_message ON entries (ref, owner);
    CREATE TABLE talks (
        owner TEXT NOT NULL, talk TEXT NOT NULL, changed INTEGER NOT NULL, contact INTEGER NOT NULL DEFAULT 0,
        last INTEGER NOT NULL DEFAULT 0, delivered INTEGER NOT NULL DEFAULT 0, read INTEGER NOT NULL DEFAULT 0,
        status TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', by_whom TEXT NOT NULL DEFAULT '',
        topic TEXT NOT NULL DEFAULT '', PRIMARY KEY (owner, talk)) WITHOUT ROWID;
    CREATE INDEX talks_changed ON talks (owner, changed);
    CREATE INDEX talks_of_room ON talks (talk, status);
    CREATE TABLE rooms (
        room TEXT PRIMARY KEY, maker TEXT NOT NULL DEFAULT '', owner TEXT NOT NULL, topic TEXT NOT NULL,
        open INTEGER NOT NULL, version INTEGER NOT NULL, n INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
    CREATE TABLE members (
        place INTEGER PRIMARY KEY, room TEXT NOT NULL, member TEXT NOT NULL, invited INTEGER NOT NULL DEFAULT 0,
        UNIQUE (room, member));
    CREATE INDEX members_of ON members (member, room);
    CREATE TABLE blocked (owner TEXT NOT NULL, who TEXT NOT NULL, PRIMARY KEY (owner, who)) WITHOUT ROWID;
    CREATE TABLE outgoing (
        place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, server TEXT NOT NULL, body BLOB NOT NULL,
        ref INTEGER, made INTEGER NOT NULL, due INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX outgoing_due ON outgoing (due);
    CREATE INDEX outgoing_server ON outgoing (server);
    CREATE TABLE seen (
        server TEXT NOT NULL, key TEXT NOT NULL, time INTEGER NOT NULL, refused TEXT NOT NULL,
        PRIMARY KEY (server, key)) WITHOUT ROWID;
    CREATE INDEX seen_time ON seen (time);
    """,
    # A message's time is shown, and how long it is kept goes by the steady clock, as all times that are not shown.
    f"""
    ALTER TABLE messages ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
    UPDATE messages SET kept = time;
    DROP INDEX messages_time;
    CREATE INDEX messages_kept ON messages (kept);
    {CLOCK_SCHEMA};
    """,
)
"""The one at index N leads from version N of the schema to N + 1; only ever appended to."""


def connect(path: Path | str) -> sqlite3.Connection:
    """Opens a file, made with mode 0600 where there is none, and brings its schema up to date.

    Raises:
        BadConfiguration: it is of a newer version.
        OSError, sqlite3.Error: it cannot be used.
    """
    if path != ":memory:":
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        db.close()
        raise BadConfiguration(f"{path} is of version {version}, and this program knows {len(MIGRATIONS)}")
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        db.executescript(f"BEGIN; {statements} PRAGMA user_version = {number}; COMMIT;")
    return db


class Store:
    """Runs jobs on one file; :meth:`open` it first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.clock = SteadyClock()
        """By which everything ends that is in the file."""
        self._jobs: SimpleQueue[tuple[Job[Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._lock = -1

    async def open(self) -> None:
        """Opens the file.

        Raises:
            BadConfiguration: it cannot be used, or another process uses it.
        """
        self._loop = asyncio.get_running_loop()
        try:
            # Beside the database: to close any descriptor of that would drop SQLite's own locks.
            self._lock = os.open(f"{self._path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            db = connect(self._path)
            self.clock.resume(read_saved_time(db))
        except BlockingIOError as error:
            self._release()
            raise BadConfiguration(f"another process uses {self._path}") from error
        except (OSError, sqlite3.Error) as error:
            self._release()
            raise BadConfiguration(f"{self._path}: {reason(error)}") from error
        self._thread = Thread(target=self._serve, args=(db,), name="chat.db", daemon=True)
        self._thread.start()

    def submit(self, job: Job[T]) -> asyncio.Future[T]:
        """Takes a job, whose turn is after those that were taken before.

        The future has what it returned, once that is on disk; or what it raised, and then what it changed is undone;
        or sqlite3.Error, where nothing could be changed.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, future))
        return future

    async def close(self) -> None:
        """Does what waits, and closes the file."""
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self._release()

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # -- on the thread --------------------------------------------------------------------------------------------

    def _serve(self, db: sqlite3.Connection) -> None:
        going = True
        while going:
            batch = [self._jobs.get()]
            while len(batch) < MAX_BATCH:
                try:
                    batch.append(self._jobs.get_nowait())
                except Empty:
                    break
            going = None not in batch
            done = self._run(db, [one for one in batch if one is not None])
            self._loop.call_soon_threadsafe(_settle, done)
        with suppress(sqlite3.Error):
            save_time(db, self.clock.moment())
        db.close()

    def _run(self, db: sqlite3.Connection, batch: list[tuple[Job[Any], asyncio.Future[Any]]]) -> list[_Done]:
        done: list[_Done] = []
        try:
            db.execute("BEGIN IMMEDIATE")
            for job, future in batch:
                db.execute("SAVEPOINT job")
                try:
                    done.append((future, job(db), None))
                except Exception as error:
                    db.execute("ROLLBACK TO job")
                    done.append((future, None, error))
                db.execute("RELEASE job")
            save_time_when_due(db, self.clock)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            return [(future, None, error) for _, future in batch]
        return done


_Done = tuple[asyncio.Future[Any], Any, Exception | None]


def _settle(done: list[_Done]) -> None:
    for future, result, error in done:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
