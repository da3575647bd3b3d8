"""A disk that forgets what was not synced, whose syncs fail, and that counts them (``shim/disk.c``)."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from faults.run import Run, Skipped

SOURCE = Path(__file__).parent / "shim" / "disk.c"
SECTOR = 512
"""The size of the unit that a disk writes as a whole or not at all, in bytes."""
SYNC_US = 3000
"""How long a sync takes; so a cut often comes between a write and its sync."""
FILES = ("bester.db", "bester.db-wal", "bester.db-journal")


class Counts(NamedTuple):
    """A server's requests to the disk."""

    syncs: int
    writes: int
    bytes: int
    failed: int
    """Syncs that failed."""
    failed_logs: int
    """Failed syncs of the log, which decide on the outcome of a write."""


class Disk:
    """A layer between a server and the file system of its folder."""

    def __init__(self, run: Run, folder: Path, *, forgets: bool = False) -> None:
        """Makes the layer; with ``forgets``, it keeps a copy of the files that a loss of power would leave.

        Raises:
            Skipped: there is no compiler here.
        """
        self.folder = folder.resolve()
        self.durable = run.folder()
        self._forgets = forgets
        self._counts = run.folder() / "counts"
        self._counts.write_bytes(bytes(64))
        self._library = library(run)
        self._random = run.random

    def environment(self, fail_at: int = 0) -> dict[str, str]:
        """Returns the environment that makes a server use it; its sync with this number fails."""
        self._counts.write_bytes(bytes(64))
        found = {"LD_PRELOAD": str(self._library), "FAULTS_FOLDER": str(self.folder)}
        found["FAULTS_COUNTS"] = str(self._counts)
        if self._forgets:
            found["FAULTS_DURABLE"] = str(self.durable)
            found["FAULTS_SYNC_US"] = str(SYNC_US)
        if fail_at:
            found["FAULTS_FAIL_AT"] = str(fail_at)
        return found

    def counts(self) -> Counts:
        """Returns the counts since the server's start."""
        return Counts(*struct.unpack("<5Q", self._counts.read_bytes()[:40]))

    def cut(self, kept: float = 0.0) -> None:
        """Cuts the power, after the server's process has ended: only synced data remains.

        Args:
            kept: the chance of each sector that was written and not synced to remain, as a disk may write them in any
                order.
        """
        for name in FILES:
            live, durable = self.folder / name, self.durable / name
            found = durable.read_bytes() if durable.exists() else None
            if kept and live.exists():
                found = _mixed(found or b"", live.read_bytes(), kept, self._random)
            for file in (live, durable):
                if found is None:
                    file.unlink(missing_ok=True)
                else:
                    file.write_bytes(found)
        (self.folder / "bester.db-shm").unlink(missing_ok=True)

    def copy(self, to: Path) -> Path:
        """Copies the database, to be looked at; returns its path there."""
        for name in FILES:
            if (self.folder / name).exists():
                shutil.copy(self.folder / name, to / name)
        return to / FILES[0]


def _mixed(old: bytes, new: bytes, kept: float, random: random.Random) -> bytes:
    found = bytearray(old)
    for at in range(0, len(new), SECTOR):
        sector = new[at : at + SECTOR]
        if old[at : at + SECTOR] != sector and random.random() < kept:
            if len(found) < at:
                found.extend(bytes(at - len(found)))
            found[at : at + len(sector)] = sector
    return bytes(found)


def library(run: Run) -> Path:
    """Makes the shared library, and returns its path.

    Raises:
        Skipped: that cannot be done here.
    """
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        raise Skipped("the disk that forgets is made with cc, on Linux")
    made = run.folder() / "disk.so"
    command = [compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl", "-lpthread"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise Skipped(f"cc does not make the disk that forgets: {result.stderr[:200]}")
    return made
