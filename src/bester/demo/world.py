"""The real servers and handlers of the stories, in their own temporary folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bester import ClientError, Informer
from bester.demo.events import EVENTS, SERVER
from bester.demo.stage import Stage
from bester.timeouts import within

START_S = 20.0
"""How long a server or handler may take to be ready, on a busy machine."""
STOP_S = 8.0
BESTERD = "import sys; sys.argv[0] = 'besterd'; from bester.cli.besterd import main; main()"


class StoryError(Exception):
    """An error for a story that did not go as it should; ``str(error)`` says what is missing."""


@dataclass(frozen=True)
class Played:
    """A handler's program, and the type that it serves."""

    type: str
    program: str
    classic: bool = False
    """Whether the server starts the handler, in the classic form; otherwise it attaches."""
    environment: dict[str, str] = field(default_factory=dict)


class Place:
    """One server's folder and addresses."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.port = 0

    @property
    def address(self) -> str:
        """The address for other servers."""
        return f"127.0.0.1:{self.port}"

    @property
    def unix(self) -> str:
        """The address of its Unix socket, known before it has started."""
        return f"unix:{self.folder / 'besterUNIXSock'}"

    def url(self, user: str) -> str:
        """Returns the URL for a client."""
        return f"bester://{user}@{self.address}"


class World:
    """All processes of one story; leaving the context ends them and removes the folder."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.folder = Path(tempfile.mkdtemp(prefix="bester-"))
        self._processes: list[asyncio.subprocess.Process] = []
        self._audience = stage.audience(self.folder / "events")

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._audience, self.stage.overhear)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # Handlers first, so that none complains that its server is gone.
            await asyncio.gather(*(_end(process) for process in reversed(self._processes)))
        finally:
            asyncio.get_running_loop().remove_reader(self._audience)
            self.stage.leave(self._audience)
            shutil.rmtree(self.folder, ignore_errors=True)

    def place(self, name: str) -> Place:
        """Creates a new server's folder, and returns its place."""
        folder = self.folder / name
        folder.mkdir()
        return Place(name, folder)

    async def start(self, place: Place, handlers: list[Played], peers: dict[str, str] | None = None) -> None:
        """Starts a server with its handlers, and returns when each of them answers.

        Raises:
            StoryError: the server or a handler does not start.
        """
        folder = place.folder
        config = folder / "server.conf"
        config.write_text(json.dumps(self._configuration(place, handlers, peers or {}), indent=1))
        process = await self._spawn(_besterd(), str(config), log=folder / "besterd.log", output=True)
        assert process.stdout is not None
        try:
            async with within(START_S):
                while line := (await process.stdout.readline()).decode():
                    if " on tcp4://" in line:
                        place.port = int(line.rpartition(":")[2])
                    if line.endswith("is ready\n"):
                        break
        except TimeoutError:
            line = ""
        if not line:
            raise StoryError(f"the server {place.name} did not start:\n{_tail(folder / 'besterd.log')}")
        self.stage.show(place.name, f"is ready on tcp4://{place.address} and {place.unix} (pid {process.pid})")
        attached = [handler for handler in handlers if not handler.classic]
        await together(*(self._attach(place, handler) for handler in attached))
        await self._await_types(place, [handler.type for handler in handlers])
        for handler in handlers:
            how = "started by the server, classic form" if handler.classic else "attached"
            self.stage.show(place.name, f"has a handler for {handler.type} ({how})")

    def _configuration(self, place: Place, handlers: list[Played], peers: dict[str, str]) -> dict[str, Any]:
        kinds: dict[str, Any] = {}
        for handler in handlers:
            if handler.classic:
                script = place.folder / f"{handler.type}.sh"
                script.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {handler.program}\n")
                script.chmod(0o755)
                kinds[handler.type] = {
                    "handlerBinary": f"./{script.name}",
                    "unixDomainSocketPath": f"{handler.type}Sock",
                    "environment": self._environment(place, handler),
                }
            else:
                kinds[handler.type] = {}
        return {
            "server": {"name": place.name},
            "network": {
                "types": ["unix", "tcp4"],
                "unix": {"address": "besterUNIXSock"},
                "tcp4": {"port": "0", "address": "127.0.0.1"},
            },
            "handlers": {"availableTypes": list(kinds), "typeMap": kinds},
            "federation": {"servers": {name: {"address": address} for name, address in peers.items()}},
            "accounts": {"registration": "firstUse"},
            "admin": {"info": {"purpose": "demo"}},
        }

    def _environment(self, place: Place, handler: Played) -> dict[str, str]:
        told = {EVENTS: str(self.folder / "events"), SERVER: place.name}
        return {**told, "BESTER_INFORMER": str(place.folder / "bInformer"), **handler.environment}

    async def _attach(self, place: Place, handler: Played) -> None:
        environment = self._environment(place, handler)
        environment |= {"BESTER_HANDLERS": str(place.folder / "besterHandlers"), "BESTER_TYPE": handler.type}
        log = place.folder / f"{handler.type}.log"
        await self._spawn([sys.executable], "-m", handler.program, log=log, environment=environment)

    async def _await_types(self, place: Place, types: list[str]) -> None:
        missing = set(types)
        with contextlib.suppress(TimeoutError, ClientError):
            async with within(START_S), Informer(place.folder / "bInformer") as informer:
                while missing := set(types) - set(await informer.list_types()):
                    if any(process.returncode is not None for process in self._processes):
                        break  # a process has ended, so not all types will appear
                    await asyncio.sleep(0.02)
        if missing:
            logs = "\n".join(_tail(place.folder / f"{name}.log") for name in sorted(missing))
            raise StoryError(f"{place.name} has no handler for {', '.join(sorted(missing))}:\n{logs}")

    async def _spawn(
        self,
        program: list[str],
        *arguments: str,
        log: Path,
        output: bool = False,
        environment: dict[str, str] | None = None,
    ) -> asyncio.subprocess.Process:
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if output else errors,
                stderr=errors,
                env=_clean_environment() | (environment or {}),
                start_new_session=True,  # the terminal's ^C goes only to us, and we end the processes
            )
        self._processes.append(process)
        return process


async def together(*work: Coroutine[Any, Any, object]) -> None:
    """Runs several coroutines at once; if one fails, cancels the others before raising its exception."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _clean_environment() -> dict[str, str]:
    """Returns our environment without the variables that Bester commands and handlers read."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BESTER_")}


def _besterd() -> list[str]:
    installed = Path(sys.executable).with_name("besterd")
    return [str(installed)] if installed.is_file() else [sys.executable, "-c", BESTERD]


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with within(STOP_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _tail(log: Path) -> str:
    if not log.is_file():
        return ""
    return "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-20:])
