"""Starts configured classic handlers, keeps them running, and stops them (docs/protocol.md, section 10).

A handler that something already answers for is left alone. One that ends is started again after a pause that grows
from 0.2 s to 30 s, and shrinks back once it has run for a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bester.config import HandlerConfig
    from bester.server.hall import Hall

log = logging.getLogger("bester.supervisor")

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
SETTLED_S = 60.0
STARTING_S = 5.0
"""How long a message waits for the socket of a handler that has just been started."""
STOP_S = 3.0
"""How long a handler may take to end after SIGTERM."""
MAX_LINE = 4096
"""The longest line of a handler's output that goes to the log, in bytes; the rest of it is dropped."""


class Supervisor:
    """The handler processes of one server."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self._kept: dict[str, _Kept] = {}

    def state(self, type: str) -> dict[str, object] | None:
        """What is known of a type's process; None if there is none of ours."""
        kept = self._kept.get(type)
        if kept is None:
            return None
        return {"pid": kept.pid, "starts": kept.starts, "lastExit": kept.last_exit}

    def unreachable(self, type: str) -> bool:
        """A type's socket could not be connected to; true if its handler is just starting, and it is worth a wait."""
        kept = self._kept.get(type)
        if kept is None:
            return False
        kept.unreachable.set()
        return kept.pid is not None and self.hall.clock() < kept.starting_until

    async def apply(self, handlers: dict[str, HandlerConfig]) -> None:
        """Starts what is new, stops what is gone, restarts what has changed."""
        wanted = {name: handler for name, handler in handlers.items() if _executable(handler)}
        gone = [kept for name, kept in self._kept.items() if wanted.get(name) != kept.config]
        for kept in gone:
            del self._kept[kept.type]
        await asyncio.gather(*(kept.stop() for kept in gone))
        started: list[_Kept] = []
        for name, handler in wanted.items():
            if name not in self._kept:
                kept = self._kept[name] = _Kept(self.hall, name, handler)
                started.append(kept)
                kept.start()
        await asyncio.gather(*(kept.tried.wait() for kept in started))

    async def stop(self) -> None:
        """Stops all of them."""
        await self.apply({})


def _executable(handler: HandlerConfig) -> bool:
    path = handler.binary
    return path is not None and handler.socket is not None and os.access(path, os.X_OK) and path.is_file()


def _answers(path: str) -> bool:
    """Whether somebody listens there; only asked before a start: a simple handler may trip on an empty connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == 0


def _remove_socket(path: str) -> None:
    """Removes the socket of a handler that is gone, so that a simple one can bind there again."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)


class _Kept:
    """One handler that is kept running."""

    def __init__(self, hall: Hall, type: str, config: HandlerConfig) -> None:
        self.hall = hall
        self.type = type
        self.config = config
        self.pid: int | None = None
        self.starts = 0
        self.last_exit: int | None = None
        self.tried = asyncio.Event()
        """Set when it has been started, or was found to be running already, or could not be started."""
        self.unreachable = asyncio.Event()
        """Set when a message could not be handed over."""
        self.starting_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self.hall.spawn(self._keep())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        path = str(self.config.socket)
        while True:
            if _answers(path):
                log.info("type %s: something answers on %s already; nothing is started", ascii(self.type), path)
                self.tried.set()
                self.unreachable.clear()
                await self.unreachable.wait()
                continue
            _remove_socket(path)
            began = self.hall.clock()
            await self._run(path)
            self.tried.set()
            if self.hall.clock() - began > SETTLED_S:
                pause_s = FIRST_PAUSE_S
            log.warning("type %s: its handler ended with %s; again in %.1f s", self.type, self.last_exit, pause_s)
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _run(self, path: str) -> None:
        """Runs the handler once, until it ends; ends it if this is cancelled."""
        environment = os.environ | self.config.environment | {"BESTER_TYPE": self.type, "BESTER_SOCKET": path}
        try:
            process = await asyncio.create_subprocess_exec(
                str(self.config.binary),
                cwd=self.hall.config.base,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=MAX_LINE,
                start_new_session=True,  # so that its own children end with it, and the terminal's ^C is ours alone
            )
        except OSError as error:
            log.error("type %s: %s cannot be started: %s", self.type, self.config.binary, error)
            self.last_exit = None
            return
        self.pid = process.pid
        self.starts += 1
        self.starting_until = self.hall.clock() + STARTING_S
        log.info("type %s: started %s, pid %d", ascii(self.type), self.config.binary, process.pid)
        assert process.stdout is not None
        reading = asyncio.get_running_loop().create_task(self._log_output(process.stdout))
        self.tried.set()
        try:
            self.last_exit = await process.wait()
        finally:
            await _end(process)
            self.pid = None
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    async def _log_output(self, output: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await output.readline()
            except ValueError:
                continue  # longer than the limit: dropped by the reader
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
            log.info("type %s: %s", ascii(self.type), shown)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends a handler and what it started: SIGTERM, and SIGKILL for what does not listen to that."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
