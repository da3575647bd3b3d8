"""Copying the embedded database while it is in use."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from bester.errors import BadConfiguration
from bester.store.opening import BUSY_TIMEOUT_S, problems_of

PAGES_PER_STEP = 1024


class BackedUp(NamedTuple):
    """The result of a backup."""

    bytes: int
    seconds: float


def back_up(source: Path, target: Path, on_progress: Callable[[int, int], None] = lambda done, total: None) -> BackedUp:
    """Copies a snapshot of a database, checks the copy, and puts it in place atomically, with mode 0600.

    Writers to the source continue; until this returns, the log grows by everything that they write. A file at
    ``target`` is replaced at the end, or stays unchanged. ``on_progress`` receives the pages done, and their total.

    Raises:
        BadConfiguration: the database does not exist, it or the copy is damaged, or the copy cannot be written.
    """
    began = time.monotonic()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise BadConfiguration(f"{target} cannot be written: {error.strerror}") from error
    try:
        _copy(source, partial, on_progress)
        _sync(partial)
        size = partial.stat().st_size
        os.replace(partial, target)
        _sync(target.parent)
    except OSError as error:
        raise BadConfiguration(f"{target} cannot be written: {error.strerror}") from error
    finally:
        for left in (partial, *(partial.with_name(partial.name + end) for end in ("-journal", "-wal", "-shm"))):
            with suppress(FileNotFoundError):
                left.unlink()
    return BackedUp(size, time.monotonic() - began)


def _copy(source: Path, target: Path, on_progress: Callable[[int, int], None]) -> None:
    try:
        original = sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S)
    except sqlite3.Error as error:
        raise BadConfiguration(f"there is no database {source} that can be read: {error}") from error
    with closing(original), closing(sqlite3.connect(target, isolation_level=None)) as copy:
        original.isolation_level = None
        try:
            # One snapshot for all steps: otherwise SQLite would restart whenever another process writes between steps.
            original.execute("BEGIN")
            (tables,) = original.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error as error:
            raise BadConfiguration(f"the database {source} cannot be read: {error}") from error
        if not tables:
            raise BadConfiguration(f"the database {source} is empty")
        copy.execute("PRAGMA synchronous = OFF")  # the whole file is synced at the end
        try:
            original.backup(
                copy, pages=PAGES_PER_STEP, progress=lambda _, left, total: on_progress(total - left, total)
            )
            original.rollback()
            copy.execute("PRAGMA journal_mode = DELETE").close()  # one file, with nothing beside it
            problems = problems_of(copy)
        except sqlite3.Error as error:
            raise BadConfiguration(f"the database {source} could not be copied: {error}") from error
        if problems:
            raise BadConfiguration(f"the database {source} is damaged, and was not copied: {problems[0]}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
