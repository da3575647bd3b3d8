"""The gadget's own SQLite file: mails that wait, notices for their senders, and what was delivered.

What a method has answered is on disk (``synchronous = FULL``): a kill or a loss of power takes nothing back. The file
has one owner, and one thread that works on it.

A *mail* has *recipients* for as long as something is to be done for them, and goes with the last one. A recipient that
failed leaves a *notice*, in the same transaction, which goes when the sender's account has it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from msgspec.json import decode, encode

from bester.clock import CLOCK_SCHEMA, SteadyClock, read_saved_time, save_time, save_time_when_due
from bester_gadgets.mail.compose import Composed
from bester_gadgets.settings import SettingsError

T = TypeVar("T")

REMEMBERED = 100_000
REMEMBERED_S = 30 * 86400.0
FORGET_EVERY = 100
"""After so many that are remembered those beyond the bounds are forgotten."""
MAX_BATCH = 1000
"""Recipients that are looked at together."""

_SCHEMA = """
CREATE TABLE mails (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    sender TEXT NOT NULL,
    message_id TEXT NOT NULL,
    content BLOB NOT NULL,
    utf8 INTEGER NOT NULL,
    created REAL NOT NULL
);
CREATE TABLE recipients (
    id INTEGER PRIMARY KEY,
    mail INTEGER NOT NULL REFERENCES mails ON DELETE CASCADE,
    address TEXT NOT NULL,
    account TEXT,
    tries INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL,
    last_error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX recipients_by_mail ON recipients (mail);
CREATE INDEX recipients_by_time ON recipients (account IS NULL, next_try);
CREATE TABLE notices (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    data BLOB NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL
);
CREATE TABLE delivered (
    key BLOB PRIMARY KEY,
    account TEXT NOT NULL,
    message_id TEXT NOT NULL,
    thread TEXT NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX delivered_by_id ON delivered (account, message_id);
CREATE INDEX delivered_by_time ON delivered (at);
"""
_MIGRATIONS = (_SCHEMA, f"{CLOCK_SCHEMA};")
"""The one at index N leads from version N of the schema to N + 1; only ever appended to. Times go by a steady clock."""


class Full(Exception):
    """The queue, or the disk, has no room for one more mail."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody whom a mail must still reach."""

    id: int
    address: str
    account: str | None
    """The account here, for an address of ours."""
    tries: int
    """How often it was tried."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A mail with those of its recipients whose time has come."""

    id: int
    account: str
    sender: str
    message_id: str
    utf8: bool
    created: float
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """An outcome that the sender of a mail is still to be told."""

    id: int
    account: str
    data: bytes
    tries: int


class Store:
    """Opened once, used from the event loop, and closed; every method waits for the disk."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.clock = SteadyClock()
        """By which mails are tried again, given up and forgotten."""
        self._executor = ThreadPoolExecutor(1, "mail-store")
        self._remembered = 0
        self._connection: sqlite3.Connection
        self._lock = -1

    async def open(self) -> None:
        """Makes the file where there is none.

        Raises:
            SettingsError: it cannot be used, or another process has it.
        """
        try:
            await self._do(self._open)
        except OSError as error:
            raise SettingsError(f"database: {self.path} cannot be opened: {error.strerror or error}") from error
        except sqlite3.Error as error:
            raise SettingsError(f"database: {self.path} cannot be used: {error}") from error

    def _open(self) -> None:
        self._lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(f"database: {self.path} is in use by another process") from error
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._connection = db = sqlite3.connect(self.path, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")
        db.execute("PRAGMA foreign_keys = ON")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise SettingsError(f"database: {self.path} was written by a newer version (schema {version})")
        for number, statements in enumerate(_MIGRATIONS[version:], version + 1):
            db.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {number}; COMMIT;")
        self.clock.resume(read_saved_time(db))

    async def close(self) -> None:
        """Finishes what is under way; can be called again."""
        if self._lock >= 0:
            await self._do(self._close)
        self._executor.shutdown()

    def _close(self) -> None:
        if hasattr(self, "_connection"):
            with suppress(sqlite3.Error):
                save_time(self._connection, self.clock.moment())
            self._connection.close()
        os.close(self._lock)
        self._lock = -1

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def write() -> T:
            db = self._connection
            db.execute("BEGIN IMMEDIATE")
            try:
                result = work(db)
                save_time_when_due(db, self.clock)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return result

        return await self._do(write)

    # -- mails that wait ----------------------------------------------------------------------------------------------

    async def add(
        self,
        account: str,
        mail: Composed,
        local: dict[str, list[str]],
        thread: Sequence[str],
        max_queued: int,
        max_bytes: int,
    ) -> int:
        """Puts a mail into the queue, and returns its id.

        Args:
            account: whose it is.
            mail: the mail.
            local: the accounts, for each address that is one of ours.
            thread: the ids of the mails that it answers, oldest first.
            max_queued: how many mails may wait.
            max_bytes: how many bytes of them.

        Raises:
            Full: there is no room; nothing was kept.
        """

        def add(db: sqlite3.Connection) -> int:
            count, size = db.execute("SELECT count(*), coalesce(sum(length(content)), 0) FROM mails").fetchone()
            if count >= max_queued or size + len(mail.content) > max_bytes:
                raise Full("the queue of mails is full")
            now = self.clock.now()
            row = (account, mail.sender, mail.message_id, mail.content, mail.utf8, now)
            id = db.execute(
                "INSERT INTO mails (account, sender, message_id, content, utf8, created) VALUES (?, ?, ?, ?, ?, ?)", row
            ).lastrowid
            db.executemany(
                "INSERT INTO recipients (mail, address, account, next_try) VALUES (?, ?, ?, ?)",
                [(id, address, one, now) for address in mail.recipients for one in local.get(address, [None])],
            )
            self._remember(db, mail.message_id.encode(), account, mail.message_id, [*thread, mail.message_id])
            return id or 0

        try:
            return await self._write(add)
        except sqlite3.OperationalError as error:
            raise Full(f"the queue of mails cannot be written: {error}") from error

    async def due(self, local: bool) -> list[Queued]:
        """Returns the oldest mails whose time has come, for recipients here or elsewhere; at most a batch.

        Their contents are read when they are needed.
        """

        def due() -> list[Queued]:
            where = f"(account IS NULL) = {int(not local)}"
            rows = self._connection.execute(
                f"SELECT mail, id, address, account, tries FROM recipients WHERE next_try <= ? AND {where} "
                "ORDER BY next_try, id LIMIT ?",
                (self.clock.now(), MAX_BATCH),
            ).fetchall()
            found: dict[int, list[Recipient]] = {}
            for mail, *one in rows:
                found.setdefault(mail, []).append(Recipient(*one))
            return [self._mail(id, recipients) for id, recipients in found.items()]

        return await self._do(due)

    def _mail(self, id: int, recipients: Sequence[Recipient]) -> Queued:
        account, sender, message_id, utf8, created = self._connection.execute(
            "SELECT account, sender, message_id, utf8, created FROM mails WHERE id = ?", (id,)
        ).fetchone()
        return Queued(id, account, sender, message_id, bool(utf8), created, tuple(recipients))

    async def content(self, mail: int) -> bytes:
        """Returns a mail as it is sent."""

        def content() -> bytes:
            (found,) = self._connection.execute("SELECT content FROM mails WHERE id = ?", (mail,)).fetchone()
            return bytes(found)

        return await self._do(content)

    async def next_time(self, local: bool) -> float | None:
        """Returns when something is to be done next, here or elsewhere, or None if nothing waits."""
        where = "(account IS NULL) = 1"
        if local:
            where = "(account IS NULL) = 0 UNION ALL SELECT min(next_try) FROM notices"

        def next_time() -> float | None:
            (at,) = self._connection.execute(
                f"SELECT min(at) FROM (SELECT min(next_try) AS at FROM recipients WHERE {where})"
            ).fetchone()
            return None if at is None else float(at)

        return await self._do(next_time)

    async def settle(
        self,
        mail: int,
        done: Iterable[int] = (),
        later: Iterable[tuple[int, float, str]] = (),
        notice: tuple[str, bytes] | None = None,
    ) -> None:
        """Notes what became of some recipients of a mail, all at once.

        Args:
            mail: its id.
            done: the recipients for whom nothing more is to be done.
            later: those that are tried again, with the time and the reason.
            notice: what an account is to be told.
        """
        done, later = list(done), list(later)

        def settle(db: sqlite3.Connection) -> None:
            if notice is not None:
                db.execute(
                    "INSERT INTO notices (account, data, next_try) VALUES (?, ?, ?)", (*notice, self.clock.now())
                )
            db.executemany("DELETE FROM recipients WHERE id = ?", [(id,) for id in done])
            db.executemany(
                "UPDATE recipients SET tries = tries + 1, next_try = ?, last_error = ? WHERE id = ?",
                [(at, why, id) for id, at, why in later],
            )
            db.execute(
                "DELETE FROM mails WHERE id = ? AND NOT EXISTS (SELECT 1 FROM recipients WHERE mail = mails.id)",
                (mail,),
            )

        await self._write(settle)

    async def waiting(self) -> int:
        """Returns how many recipients and notices wait."""

        def waiting() -> int:
            (count,) = self._connection.execute(
                "SELECT (SELECT count(*) FROM recipients) + (SELECT count(*) FROM notices)"
            ).fetchone()
            return int(count)

        return await self._do(waiting)

    # -- notices ------------------------------------------------------------------------------------------------------

    async def notices(self) -> list[Notice]:
        """Returns the notices whose time has come; at most a batch."""

        def notices() -> list[Notice]:
            rows = self._connection.execute(
                "SELECT id, account, data, tries FROM notices WHERE next_try <= ? ORDER BY next_try, id LIMIT ?",
                (self.clock.now(), MAX_BATCH),
            ).fetchall()
            return [Notice(*row) for row in rows]

        return await self._do(notices)

    async def told(self, id: int, again_at: float | None = None) -> None:
        """Removes a notice, or puts it off."""

        def told(db: sqlite3.Connection) -> None:
            if again_at is None:
                db.execute("DELETE FROM notices WHERE id = ?", (id,))
            else:
                db.execute("UPDATE notices SET tries = tries + 1, next_try = ? WHERE id = ?", (again_at, id))

        await self._write(told)

    # -- what was delivered -------------------------------------------------------------------------------------------

    async def was_delivered(self, key: bytes) -> bool:
        """Says whether an account has this mail already."""
        return await self._do(
            lambda: self._connection.execute("SELECT 1 FROM delivered WHERE key = ?", (key,)).fetchone() is not None
        )

    async def remember(self, key: bytes, account: str, message_id: str, thread: Sequence[str]) -> None:
        """Notes that an account has, or sent, a mail, and the thread that it stands in, itself included.

        At most :data:`REMEMBERED`, and none longer than :data:`REMEMBERED_S`.
        """
        await self._write(lambda db: self._remember(db, key, account, message_id, thread))

    def _remember(
        self, db: sqlite3.Connection, key: bytes, account: str, message_id: str, thread: Sequence[str]
    ) -> None:
        row = (key, account, message_id, encode(list(thread)).decode(), self.clock.now())
        db.execute("INSERT OR REPLACE INTO delivered VALUES (?, ?, ?, ?, ?)", row)
        if self._remembered % FORGET_EVERY == 0:
            _forget(db, self.clock.now() - REMEMBERED_S)
        self._remembered += 1

    async def thread(self, account: str, message_id: str) -> list[str]:
        """Returns the thread of a mail that an account received or sent, the mail's own id last; else only that id."""

        def thread() -> list[str]:
            row = self._connection.execute(
                "SELECT thread FROM delivered WHERE account = ? AND message_id = ? ORDER BY at DESC LIMIT 1",
                (account, message_id),
            ).fetchone()
            return [message_id] if row is None else decode(row[0], type=list[str])

        return await self._do(thread)


def _forget(db: sqlite3.Connection, before: float) -> None:
    db.execute("DELETE FROM delivered WHERE at < ?", (before,))
    (count,) = db.execute("SELECT count(*) FROM delivered").fetchone()
    db.execute(
        "DELETE FROM delivered WHERE key IN (SELECT key FROM delivered ORDER BY at LIMIT ?)",
        (max(0, count - REMEMBERED),),
    )
