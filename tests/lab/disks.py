"""A simulated disk and its processes, for tests without a world."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from bester.lab.disk import Disk
from bester.lab.vfs import simulated


class Process:
    """An owner of open files."""

    def __init__(self) -> None:
        self.alive = True


class Machine:
    """A folder whose databases are on a simulated disk; :attr:`process` runs. Its connections are closed at the end."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.folder = folder.resolve()
        self.disk = Disk(Random(f"{seed} disk"))
        self.process = Process()
        self.random = Random(f"{seed} sqlite")
        self.now = 1e9
        self.connections: list[sqlite3.Connection] = []
        self.path = str(self.folder / "numbers.db")

    @contextmanager
    def running(self) -> Iterator[Machine]:
        with simulated(self.find, self.running_process, self.random, lambda: self.now):
            try:
                yield self
            finally:
                for connection in self.connections:
                    connection.close()

    def find(self, path: str) -> Disk | None:
        return self.disk if path.startswith(f"{self.folder}/") or path == str(self.folder) else None

    def running_process(self) -> Process:
        return self.process

    def kill(self) -> None:
        """Kills the process; another one begins."""
        self.process.alive = False
        self.process = Process()

    def lose_power(self) -> None:
        self.kill()
        self.disk.cut()

    def connect(self, synchronous: str = "FULL", journal: str = "WAL") -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=0.2, isolation_level=None)
        self.connections.append(connection)
        connection.execute(f"PRAGMA journal_mode = {journal}").close()
        connection.execute(f"PRAGMA synchronous = {synchronous}").close()
        connection.execute("CREATE TABLE IF NOT EXISTS number (n INTEGER PRIMARY KEY, filler BLOB)")
        return connection


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM number ORDER BY n")]
