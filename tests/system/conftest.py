"""The installed commands as real processes; what they print is awaited, and none outlives its test."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import forking
from tests.waiting import until_sync

BIN = Path(sys.executable).parent
TIMEOUT_S = 30.0
PASSWORD = "correct horse"


def environment(**more: str) -> dict[str, str]:
    """The test's own environment without what a command would take from it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BESTER_")}
    return kept | {"COLUMNS": "200", "NO_COLOR": "1"} | more


class Process:
    """A command that runs on; its standard output can be awaited."""

    def __init__(self, command: list[str], folder: Path, **more: str) -> None:
        self.lines: list[str] = []
        self.log = folder / f"process-{time.monotonic_ns()}.log"
        with self.log.open("wb") as errors:
            self.popen = forking.start(command, folder, environment(**more), stderr=errors)
        assert self.popen.stdout is not None
        self.output = self.popen.stdout
        self._rest = b""

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_for(self, text: str, timeout_s: float = TIMEOUT_S) -> str:
        """Returns the next line of the output with this text in it."""
        return self.wait_until(lambda line: text in line, repr(text), timeout_s)

    def wait_until(self, wanted: Callable[[str], bool], what: str, timeout_s: float = TIMEOUT_S) -> str:
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            while True:
                while b"\n" in self._rest:
                    line, _, self._rest = self._rest.partition(b"\n")
                    self.lines.append(line.decode())
                    if wanted(self.lines[-1]):
                        return self.lines[-1]
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    pytest.fail(f"no {what} within {timeout_s} s\n{self.told()}")
                data = os.read(self.output.fileno(), 65536)
                if not data:
                    pytest.fail(f"no {what} before the end of the output\n{self.told()}")
                self._rest += data

    def wait_for_log(self, text: str) -> None:
        """Returns when the text stands in the standard error."""
        until_sync(
            lambda: text in self.log.read_text(errors="replace") or self.popen.poll() is not None, tell=self.told
        )
        assert text in self.log.read_text(errors="replace"), self.told()

    def told(self) -> str:
        return "\n".join([*self.lines, self.log.read_text(errors="replace")])

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.popen.send_signal(number)

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """Returns the exit status; what is still in the output goes to ``lines``."""
        status = self.popen.wait(timeout_s)
        if not self.output.closed:
            self.lines += (self._rest + self.output.read()).decode().splitlines()
            self._rest = b""
        return status

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send_signal(number)
        return self.wait()

    def end(self) -> None:
        """Whatever the test did: nothing is left of it."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(15)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        self.output.close()


class Commands:
    """Runs ``bester`` and ``besterd`` in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Process] = []

    def bester(
        self, *arguments: str, input: str | bytes = b"", password: str | None = PASSWORD
    ) -> subprocess.CompletedProcess[str]:
        """Runs ``bester`` to its end."""
        more = {"BESTER_PASSWORD": password} if password is not None else {}
        return self._run("bester", arguments, input.encode() if isinstance(input, str) else input, **more)

    def besterd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs ``besterd`` to its end."""
        return self._run("besterd", arguments, b"")

    def _run(
        self, program: str, arguments: tuple[str, ...], input: bytes, **more: str
    ) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / program), *arguments]
        return forking.run(command, self.folder, environment(**more), input, TIMEOUT_S)

    def installed(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end as it is installed, from the start of its interpreter."""
        return subprocess.run(
            [str(BIN / program), *arguments],
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
        )

    def start(self, program: str, *arguments: str, **more: str) -> Process:
        """Starts a command that runs on; it is ended after the test."""
        process = Process([str(BIN / program), *arguments], self.folder, **more)
        self._running.append(process)
        return process

    def serve(self, config: str = "server.conf") -> Process:
        """Starts a server, and returns when it is ready."""
        process = self.start("besterd", config)
        process.wait_for("is ready")
        return process

    def configure(self, name: str = "server.conf", **more: Any) -> Path:
        """Writes a configuration: a Unix socket for clients, and what else is given."""
        config = {"server": {"name": "a.example"}, "network": {"unix": {"address": "socket"}}} | more
        path = self.folder / name
        path.write_text(json.dumps(config))
        return path

    @property
    def url(self) -> str:
        return f"bester+unix:{self.folder / 'socket'}"

    def end(self) -> None:
        for process in reversed(self._running):
            process.end()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path that is short enough for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="bester-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def commands(folder: Path) -> Iterator[Commands]:
    """The commands; what runs is ended after the test."""
    made = Commands(folder)
    try:
        yield made
    finally:
        made.end()
