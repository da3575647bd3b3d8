"""Servers as processes of their own, which are started, killed and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

START_S = 30.0
"""How long a server may take until it is ready, before that is an error."""
STOP_S = 30.0
LOOK_S = 0.005


class Process(Protocol):
    """What is asked of a process that runs, or has ended; :class:`subprocess.Popen` has it."""

    pid: int
    stdout: IO[bytes] | None

    def poll(self) -> int | None: ...

    def send_signal(self, sig: int, /) -> None: ...


Start = Callable[[Sequence[str], Path, Mapping[str, str]], Process]
"""Starts a command in a folder with an environment; both of its outputs go to one pipe."""


def start(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts a command as any other program does."""
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )


def config(name: str = "a.example", **more: Any) -> dict[str, Any]:
    """Returns a configuration with one Unix listener; accounts come about with their first login."""
    made: dict[str, Any] = {
        "server": {"name": name},
        "network": {"unix": {"address": "clients"}},
        "accounts": {"registration": "firstUse"},
        # Configured, so that they are unavailable for now, and not unknown, while their handler is away.
        "handlers": {"typeMap": {"chat": {}, "far": {}}},
    }
    for key, value in more.items():
        made[key] = made[key] | value if isinstance(value, dict) and key in made else value
    return made


class DidNotStart(Exception):
    """The server ended before it was ready; the text is its output."""


class Besterd:
    """One besterd after the other on the same folder."""

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        start: Start = start,
    ) -> None:
        self.folder = folder
        self.environment = dict(environment or {})
        self.prefix = list(prefix)
        """The command that runs it, such as ``ip netns exec NAME``."""
        self.lines: list[str] = []
        """All lines of its output, over all starts."""
        self.up = asyncio.Event()
        """Whether it is ready, as far as is known."""
        self.configure(config)
        self._start = start
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None

    def configure(self, config: dict[str, Any]) -> None:
        """Writes the configuration, for the next start."""
        (self.folder / "server.conf").write_text(json.dumps(config))

    @property
    def clients(self) -> Path:
        return self.folder / "clients"

    @property
    def handlers(self) -> Path:
        return self.folder / "besterHandlers"

    @property
    def database(self) -> Path:
        return self.folder / "bester.db"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, **environment: str) -> float:
        """Starts it, and returns after how many seconds it was ready.

        Raises:
            DidNotStart: it ended instead.
        """
        began = time.monotonic()
        command = [*self.prefix, str(Path(sys.executable).with_name("besterd")), "server.conf"]
        process = self._process = self._start(command, self.folder, os.environ | self.environment | environment)
        ready = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(process, ready))
        async with asyncio.timeout(START_S):
            if not await ready:
                await self.ended()
                raise DidNotStart("\n".join(self.lines[-10:]))
        return time.monotonic() - began

    async def _read(self, process: Process, ready: asyncio.Future[bool]) -> None:
        assert process.stdout is not None
        output = asyncio.StreamReader(limit=2**20)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), process.stdout)
        try:
            async for raw in output:
                line = raw.decode(errors="replace").rstrip("\n")
                self.lines.append(line)
                if line.endswith("is ready") and not ready.done():
                    self.up.set()
                    ready.set_result(True)
        finally:
            transport.close()
            self.up.clear()
            if not ready.done():
                ready.set_result(False)

    def send_signal(self, number: int) -> None:
        if self.running:
            assert self._process is not None
            self._process.send_signal(number)

    async def ended(self, timeout_s: float = STOP_S) -> int:
        """Returns how the process ended.

        Raises:
            TimeoutError: it did not.
        """
        assert self._process is not None
        assert self._reading is not None
        async with asyncio.timeout(timeout_s):
            await self._reading
            while (code := self._process.poll()) is None:
                await asyncio.sleep(LOOK_S)
        return code

    async def kill(self) -> None:
        """Ends it as ``kill -9`` does; does nothing if it is not running."""
        if self._process is not None:
            self.up.clear()
            self.send_signal(signal.SIGKILL)
            await self.ended()

    async def stop(self) -> tuple[int, float]:
        """Ends it with SIGTERM; returns its status and the seconds that it took."""
        began = time.monotonic()
        self.send_signal(signal.SIGTERM)
        code = await self.ended()
        return code, time.monotonic() - began

    def memory_kib(self) -> int:
        """Returns its resident memory."""
        return _status_kib(self.pid, "VmRSS:")

    def peak_kib(self) -> int:
        """Returns the most resident memory that it had."""
        return _status_kib(self.pid, "VmHWM:")


def _status_kib(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise KeyError(name)
