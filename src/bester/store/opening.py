"""Opens the database: locks it for one process, checks it after a crash, and migrates it.

The table ``last_stop`` shows whether the database was closed properly. After a crash nothing committed is missing, as
SQLite guarantees; but the cause may be the disk, so the complete file is checked before it is used.

The lock is on a file beside the database. The database itself is never opened for it: closing any descriptor of a file
drops this process's locks on it, SQLite's too.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Literal

from bester.errors import BadConfiguration

log = logging.getLogger("bester.database")

BUSY_TIMEOUT_S = 5.0
"""How long another process, such as an operator's sqlite3, can lock the file before jobs fail."""
MAX_PROBLEMS = 10
"""How many problems of a damaged file are searched for."""
CACHE_KIB = 16 * 1024
WAL_BYTES = 4 * 1024 * 1024
"""The log is truncated to this size; about what it contains between two checkpoints."""

Migration = Sequence[str]
"""The statements that lead from one version of the schema to the next."""


class Lock:
    """Keeps other processes, and other objects of this one, from using a database at the same time."""

    def __init__(self, path: str) -> None:
        """Locks the database.

        Raises:
            BadConfiguration: another process or object has it, or could have it under another name.
            OSError: the folder cannot be written.
        """
        self.path = os.path.realpath(path) + "-lock"
        while True:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current():
                    break
            except BlockingIOError:
                holder = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip()
                os.close(self._descriptor)
                who = f"another process ({holder})" if holder else "another process"
                raise BadConfiguration(
                    f"the database {path} is held by {who}; stop that one first, or ask it: a running server is asked "
                    "through its control socket"
                ) from None
            except BaseException:
                os.close(self._descriptor)
                raise
            os.close(self._descriptor)  # its last holder removed it in the meantime; there may be a new one
        try:
            _refuse_other_names(path)
        except BaseException:
            self.release()
            raise
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Unlocks the database."""
        try:
            os.unlink(self.path)
        except OSError:
            log.debug("%s was not removed", self.path, exc_info=True)
        os.close(self._descriptor)


def _refuse_other_names(path: str) -> None:
    """Refuses a file with several names: its write-ahead log, and the lock, belong to one name."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        raise BadConfiguration(
            f"the database {path} has {found.st_nlink} names (hard links): another server could use it under each, and "
            f"what was not yet merged into it stands beside one of them. Remove the others (find -samefile {path}), or "
            "make a copy: bester backup"
        )


def connect(path: str, migrations: Sequence[Migration]) -> sqlite3.Connection:
    """Opens the file for the calling thread; creates, checks and migrates it as needed.

    Raises:
        BadConfiguration: it cannot be used; the message names the file and says what to do.
    """
    with refusals(path):
        connection = open_file(path, timeout_s=BUSY_TIMEOUT_S, synchronous="FULL")
        try:
            _refuse_without_log(connection, path)
            connection.execute("PRAGMA fullfsync = ON")  # macOS: a plain fsync leaves data in the disk's cache
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}").close()
            _refuse_newer(connection, path, migrations)
            if not _was_closed(connection):
                _check(connection, path)
            _migrate(connection, migrations)
        except BaseException:
            connection.close()
            raise
    return connection


def open_file(path: str, *, timeout_s: float, synchronous: Literal["FULL", "NORMAL"]) -> sqlite3.Connection:
    """Opens a file, or creates it with mode 0600, with a write-ahead log; transactions are the caller's.

    Args:
        path: the file.
        timeout_s: how long another process can lock it.
        synchronous: with ``FULL`` a commit is on disk when it returns.

    Raises:
        sqlite3.Error, OSError: it cannot be opened.
    """
    _make_private(path)
    connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, cached_statements=256)
    try:
        # Savepoints stay in memory, so that nothing needs a temporary file when the disk is full.
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA journal_mode = WAL").close()
        connection.execute(f"PRAGMA synchronous = {synchronous}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def refusals(path: str) -> Iterator[None]:
    """Turns errors of opening a file into ``BadConfiguration``, which names the file and says what to do."""
    try:
        yield
    except OSError as error:
        raise BadConfiguration(
            f"the database {path} cannot be opened: {error.strerror}; check storage.path and who may write there"
        ) from error
    except sqlite3.Error as error:
        raise BadConfiguration(f"the database {path} {_advice(error)}") from error


def disconnect(connection: sqlite3.Connection, *, clean: bool) -> None:
    """Closes the database; if that fails, everything committed is in the log."""
    try:
        if clean:
            connection.execute("UPDATE last_stop SET clean = 1")
    except sqlite3.Error as error:
        log.warning("the stop could not be noted, so the next start checks the database: %s", error)
    finally:
        try:
            connection.close()
        except sqlite3.Error as error:
            log.warning("the database was not closed as it should: %s", error)


def _refuse_without_log(connection: sqlite3.Connection, path: str) -> None:
    # If SQLite cannot write a log, even because a sync fails, it continues without one.
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        raise BadConfiguration(
            f"the database {path} cannot be used: SQLite cannot keep its write-ahead log there; check the disk, and "
            "that its file system is a local one"
        )


def _make_private(path: str) -> None:
    # SQLite would create the file readable for all; its log and index files take the mode of the file.
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if os.stat(path).st_mode & 0o077 and os.path.isfile(path):
            os.chmod(path, 0o600)
        return
    try:
        if os.geteuid() == 0:
            # An operator creates accounts before the first start. SQLite does the same with its other files.
            folder = os.stat(os.path.dirname(path) or ".")
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    finally:
        os.close(descriptor)


def _refuse_newer(connection: sqlite3.Connection, path: str, migrations: Sequence[Migration]) -> None:
    version = _version(connection)
    if not 0 <= version <= len(migrations):
        raise BadConfiguration(
            f"the database {path} has version {version} of the schema, and this Bester knows versions up to "
            f"{len(migrations)}; run the newer Bester that wrote it, or restore a copy from before"
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _was_closed(connection: sqlite3.Connection) -> bool:
    """Returns whether the database is new, or was closed properly."""
    if _version(connection) == 0:
        return True
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'last_stop'").fetchone() is None:
        return False  # written by a release without this table
    row: tuple[int] | None = connection.execute("SELECT clean FROM last_stop").fetchone()
    return row == (1,)


def _check(connection: sqlite3.Connection, path: str) -> None:
    log.warning("the database %s was not closed when it was used last; it is being checked", path)
    began = time.monotonic()
    problems = problems_of(connection)
    took_s = time.monotonic() - began
    if problems:
        raise BadConfiguration(
            f"the database {path} is damaged ({problems[0]}"
            + (f", and {len(problems) - 1} more" if len(problems) > 1 else "")
            + "); restore the last backup, or get out what is left: sqlite3 OLD .recover | sqlite3 NEW"
        )
    log.info("the database is good; the check took %.1f s", took_s)


def problems_of(connection: sqlite3.Connection) -> list[str]:
    """Checks the complete file, which takes about a second for each GB, and returns the first problems."""
    with closing(connection.execute(f"PRAGMA quick_check({MAX_PROBLEMS})")) as rows:
        found = [str(text) for (text,) in rows]
    return [] if found == ["ok"] else found


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection)
    for migration in migrations[version:]:
        for statement in migration:
            connection.execute(statement)
    if version < len(migrations):
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
    connection.execute("CREATE TABLE IF NOT EXISTS last_stop (clean INTEGER NOT NULL)")
    connection.execute("DELETE FROM last_stop")
    connection.execute("INSERT INTO last_stop VALUES (0)")
    connection.execute("COMMIT")


def _advice(error: sqlite3.Error) -> str:
    # Errors that Python's module raises by itself, such as for wrong arguments, have no code.
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return (
                "is damaged, or not a database; restore the last backup, get out what is left "
                "(sqlite3 OLD .recover | sqlite3 NEW), or move it away to begin with an empty one"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return "cannot be opened for writing; check the owner and mode of the file and of its folder"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "is held by another process; stop that one first"
        case sqlite3.SQLITE_FULL:
            return "cannot be written: its disk is full"
        case _:
            return f"cannot be used: {error}"
