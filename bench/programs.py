"""Starting and ending the processes of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class Program:
    """A process that was started, whose standard output is read by lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    @property
    def _lines(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def line(self) -> str:
        """Returns the next line.

        Raises:
            RuntimeError: there is none: the process has failed.
        """
        line = self._lines.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self._process.args))[:200]} ended")  # type: ignore[arg-type]
        return line.rstrip("\n")

    def until(self, wanted: Callable[[str], bool]) -> str:
        """Reads lines up to the wanted one, and returns it."""
        while not wanted(line := self.line()):
            pass
        return line

    def result(self) -> dict[str, Any]:
        """Returns the next line, which is JSON."""
        found: dict[str, Any] = json.loads(self.line())
        return found

    def rest(self) -> list[dict[str, Any]]:
        """Ends the process, and returns the lines of JSON that it wrote until then."""
        self._process.terminate()
        return [json.loads(line) for line in self._lines if line.endswith("\n")]

    def tell(self, line: str) -> None:
        """Writes a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


@contextmanager
def program(
    *command: str, cores: frozenset[int] | None = None, log: Path | None = None, cwd: Path | None = None
) -> Iterator[Program]:
    """Runs a command, on some cores if they are given; at the end it is terminated.

    Args:
        command: what is run.
        cores: the only ones that it may use.
        log: where its standard error goes; this process's own if there is none.
        cwd: its working folder.
    """
    before = os.sched_getaffinity(0)
    with open(log or os.devnull, "ab") as errors:
        if cores is not None:
            os.sched_setaffinity(0, cores)  # which the child inherits
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors if log else None,
                cwd=cwd,
                text=True,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
            )
        finally:
            os.sched_setaffinity(0, before)
    try:
        yield Program(process)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """Returns the command that runs one of the load programs."""
    return (sys.executable, "-m", f"bench.load.{name}", *arguments)
