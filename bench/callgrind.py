"""Counting a process's instructions in user space, with valgrind's callgrind.

A process runs some fifty times slower there, so only what it does between two moments is counted, and by messages, not
by time. Its instructions are those of its own code and libraries; the kernel's are not among them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

NEEDED = "valgrind", "vgdb"


def missing() -> str | None:
    """Returns why nothing can be counted here, if so."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    return f"{absent[0]} is not installed" if absent else None


class Callgrind:
    """Runs one process, and counts what it does between :meth:`zero` and :meth:`total`.

    The process is to be idle at both, but for what it is to be measured with: both take some tenths of a second.
    """

    def __init__(self, folder: Path) -> None:
        self._out = folder / "callgrind.out"
        self._dumps = 0

    def command(self, *command: str) -> tuple[str, ...]:
        """Returns the command that runs another so that it can be counted, which it is not yet."""
        options = ("-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={self._out}")
        # Sets and dictionaries are in the same order in every run. What is asked of Python otherwise would be counted.
        clean = [f"--unset={name}" for name in os.environ if name.startswith("PYTHON") and name != "PYTHONPATH"]
        return ("env", *clean, "PYTHONHASHSEED=0", "valgrind", *options, *command)

    def start(self, pid: int) -> None:
        """Watches the process from now on."""
        self._tell(pid, "instrumentation", "on")

    def zero(self, pid: int) -> None:
        """Counts from here."""
        self._tell(pid, "zero")

    def total(self, pid: int) -> int:
        """Returns how many instructions there were since, and counts from here; :attr:`latest` says which.

        Raises:
            RuntimeError: callgrind did not say.
        """
        self._tell(pid, "dump")
        self._dumps += 1
        for line in self.latest.read_text().splitlines():
            if line.startswith("totals:"):
                return int(line.split()[1])
        raise RuntimeError(f"{self.latest} has no total")

    @property
    def latest(self) -> Path:
        """The file of the last :meth:`total`, for ``callgrind_annotate``."""
        return self._out.with_name(f"{self._out.name}.{self._dumps}")

    def _tell(self, pid: int, *what: str) -> None:
        subprocess.run(["vgdb", f"--pid={pid}", *what], check=True, capture_output=True, timeout=60)
