"""Reads the project's Markdown documents as their tests need them."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
_PART = re.compile(r"^<!--(?P<mark>.*?)-->$|^```(?P<language>\S*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """A fenced block or an HTML comment of a document, the only parts that its tests look at."""

    line: int
    mark: str | None = None
    """A comment's text; None for a block."""
    language: str = ""
    text: str = ""


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def parts_of() -> Callable[[str], list[Part]]:
    """Returns a document's blocks and comments, in their order."""

    def read(name: str) -> list[Part]:
        document = (ROOT / name).read_text(encoding="utf-8")
        found = []
        for match in _PART.finditer(document):
            line = document.count("\n", 0, match.start()) + 1
            if match["mark"] is not None:
                found.append(Part(line, mark=" ".join(match["mark"].split())))
            else:
                found.append(Part(line, language=match["language"], text=match["text"]))
        return found

    return read


@pytest.fixture(scope="session")
def table_of() -> Callable[[str, str], list[list[str]]]:
    """Returns the rows of the table that begins with this header's first cells, without the header."""

    def read(name: str, header: str) -> list[list[str]]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        start = next(index for index, line in enumerate(lines) if line.startswith(header))
        rows = []
        for line in lines[start + 2 :]:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        return rows

    return read


# -- documents that tell what to type ---------------------------------------------------------------------------------

PATIENCE_S = 60.0
_PORT = re.compile(r"\b(?:222[3-9]|252[56])\b")
_NEEDS = re.compile(r"(?:^|, )needs: (.+)$")


class Program:
    """A command that goes on running, with the lines that it prints."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._seen: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.decode().rstrip("\n"))
        self._lines.put(None)

    def wait_for(self, text: str) -> None:
        """Reads on until a line has this text."""
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE_S)
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"it did not print {text!r}, but:\n" + "\n".join(self._seen))
            self._seen.append(line)
            if text in line:
                return

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Reader:
    """Somebody who follows a document: writes its files, types its commands, and looks at what comes.

    What to do with a block is told by the comment before it: ``file: NAME``, ``start: NAME, until: TEXT``, ``run``,
    ``prints: NAME``, or ``shown`` if there is nothing to do. The document's ports are replaced by free ones.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: dict[str, Program] = {}
        self.ports: dict[str, str] = {}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BESTER_")}
        # As "activate" does it.
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self.environment = inherited | {"PATH": path, "LC_ALL": "C.UTF-8"}

    def follow(self, parts: list[Part]) -> None:
        """Does all that the document tells; every block must be marked."""
        mark: str | None = None
        for part in parts:
            if part.mark is not None:
                mark = part.mark
                continue
            if mark is not None:
                self.step(mark, self.local(part.text), part.line)
            mark = None

    def step(self, mark: str, text: str, line: int) -> None:
        what, _, more = mark.partition(", ")
        if needed := _NEEDS.search(more):
            if any(shutil.which(one, path=self.environment["PATH"]) is None for one in needed[1].split()):
                return
            more = more[: needed.start()]
        kind, _, name = what.partition(": ")
        if kind == "file":
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif kind == "start":
            program = self.programs[name] = Program(text, self.folder, self.environment)
            program.wait_for(more.removeprefix("until: "))
        elif kind == "prints":
            for expected in text.splitlines():
                self.programs[name].wait_for(expected)
        elif kind == "run":
            self.run(text, line, more)
        elif kind != "shown":
            raise AssertionError(f"line {line}: not a mark: {mark}")

    def run(self, console: str, line: int, how: str = "") -> None:
        """Types each line that begins with ``$``, and compares what comes with the lines below it.

        Args:
            console: the block.
            line: its line in the document.
            how: ``whatever it prints``: it need only succeed; ``which fails: TEXT``: it must fail and print this.
        """
        for typed in console.split("$ ")[1:]:
            command, _, expected = typed.partition("\n")
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE_S,
            )
            told = f"line {line}: {command}\n{done.stdout.decode()}{done.stderr.decode()}"
            if how == "whatever it prints":
                assert done.returncode == 0, told
            elif how:
                assert done.returncode != 0, told
                assert how.removeprefix("which fails: ") in done.stdout.decode(), told
            else:
                assert done.stdout.decode() == expected, told

    def local(self, text: str) -> str:
        """Returns the text with ports of this reader's own."""
        return _PORT.sub(lambda match: self.ports.setdefault(match[0], str(free_port())), text)

    def end(self) -> None:
        for program in reversed(self.programs.values()):
            program.end()


@pytest.fixture
def reader() -> Iterator[Reader]:
    """Somebody in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="bester-docs-") as folder:  # short: sockets are in it
        reader = Reader(Path(folder))
        yield reader
        reader.end()
